/*
 * Which network addresses may be asked for images: checked after name resolution, so that no name server can send a backend
 * to a neighbor service of its own machine or to a cloud's metadata address.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tms_fdw/address.h"

/* Where clouds tell a machine its own secrets, outside the link-local addresses. */
#define METADATA_V4 0x646464C8 /* 100.100.100.200 */
static const uint8 metadata_v6[16] = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};

/* Prefixes of IPv6 addresses whose last four bytes are an IPv4 address: mapped, NAT64; ::/96 is looked at after ::1. */
static const uint8 mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const uint8 nat64_prefix[12] = {0x00, 0x64, 0xff, 0x9b};
static const uint8 compatible_prefix[12] = {0};

static bool v4_refused(uint32 address, bool allow_loopback)
{
	if (address >> 24 == 127)
		return !allow_loopback;
	/* 0/8, 169.254/16, and 224/3: multicast, reserved, broadcast */
	return address >> 24 == 0 || address >> 16 == 0xA9FE || address >> 29 == 7 || address == METADATA_V4;
}

static bool v6_refused(const struct in6_addr *address, bool allow_loopback)
{
	const uint8 *bytes = address->s6_addr;
	uint32 v4;

	if (IN6_IS_ADDR_LOOPBACK(address))
		return !allow_loopback;
	if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0 ||
		memcmp(bytes, nat64_prefix, sizeof(nat64_prefix)) == 0 ||
		memcmp(bytes, compatible_prefix, sizeof(compatible_prefix)) == 0)
	{
		memcpy(&v4, bytes + 12, sizeof(v4));
		return v4_refused(ntohl(v4), allow_loopback);
	}
	return IN6_IS_ADDR_LINKLOCAL(address) || IN6_IS_ADDR_MULTICAST(address) ||
		   memcmp(bytes, metadata_v6, sizeof(metadata_v6)) == 0;
}

bool tms_address_refused(const struct sockaddr *address, bool allow_loopback)
{
	if (address->sa_family == AF_INET)
		return v4_refused(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr), allow_loopback);
	if (address->sa_family == AF_INET6)
		return v6_refused(&((const struct sockaddr_in6 *) address)->sin6_addr, allow_loopback);
	return true;
}

bool tms_url_names_loopback(const char *url)
{
	const char *host = strstr(url, "://");
	char name[64];
	struct in_addr v4;
	size_t len;

	if (host == NULL)
		return false;
	host += 3;
	if (strncmp(host, "[::1]", 5) == 0)
		return true;
	len = strcspn(host, ":/?#");
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return pg_strcasecmp(name, "localhost") == 0 ||
		   (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}
