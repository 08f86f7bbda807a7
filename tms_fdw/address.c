/*
 * Which network addresses may be asked for images: checked after name resolution, so that no name server can send a backend
 * to a neighbor service of its own machine or to a cloud's metadata address.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tms_fdw/address.h"

static bool v4_refused(uint32 address, bool allow_loopback)
{
	if (address >> 24 == 127)
		return !allow_loopback;
	/* 0/8, 169.254/16, and 224/3: multicast, reserved, broadcast */
	return address >> 24 == 0 || address >> 16 == 0xA9FE || address >> 29 == 7;
}

bool tms_address_refused(const struct sockaddr *address, bool allow_loopback)
{
	const struct in6_addr *v6;
	uint32 v4;

	if (address->sa_family == AF_INET)
		return v4_refused(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr), allow_loopback);
	if (address->sa_family != AF_INET6)
		return true;
	v6 = &((const struct sockaddr_in6 *) address)->sin6_addr;
	if (IN6_IS_ADDR_LOOPBACK(v6))
		return !allow_loopback;
	if (!IN6_IS_ADDR_V4MAPPED(v6))
		return IN6_IS_ADDR_LINKLOCAL(v6) || IN6_IS_ADDR_MULTICAST(v6) || IN6_IS_ADDR_UNSPECIFIED(v6);
	memcpy(&v4, &v6->s6_addr[12], sizeof(v4));
	return v4_refused(ntohl(v4), allow_loopback);
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
