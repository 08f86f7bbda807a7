/*
 * Base URLs: checked character by character, so that whatever passes can be sent, logged and appended to.
 */
#include "postgres.h"

#include <ctype.h>
#include <string.h>

#include "tms_fdw/base_url.h"

/* Characters of a host name, an IPv4 address, or an IPv6 address between brackets. */
#define HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
#define IPV6_CHARS "abcdefABCDEF0123456789:."
#define PATH_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~!$&'()*+,;=:@%/-"

/* Steps over the host at *at; false when there is none. */
static bool skip_host(const char **at)
{
	const char *start = *at;

	if (*start == '[')
	{
		size_t len = strspn(start + 1, IPV6_CHARS);

		*at = start + 1 + len + 1;
		return len > 0 && start[1 + len] == ']';
	}
	*at += strspn(start, HOST_CHARS);
	return *at > start;
}

/* Steps over ":port" at *at, which may be absent; false for a port outside 1 to 65535. */
static bool skip_port(const char **at)
{
	int port = 0;
	int digits = 0;

	if (**at != ':')
		return true;
	for ((*at)++; isdigit((unsigned char) **at) && digits < 6; (*at)++, digits++)
		port = port * 10 + (**at - '0');
	return digits > 0 && port >= 1 && port <= 65535;
}

const char *tms_base_url_fault(const char *url)
{
	const char *at;

	if (pg_strncasecmp(url, "http://", 7) == 0)
		at = url + 7;
	else if (pg_strncasecmp(url, "https://", 8) == 0)
		at = url + 8;
	else
		return "does not begin with http:// or https://";

	if (memchr(at, '@', strcspn(at, "/?#")) != NULL)
		return "has a user name";
	if (strpbrk(at, "?#") != NULL)
		return "has a query or fragment";
	if (!skip_host(&at))
		return "has no valid host";
	if (!skip_port(&at))
		return "has a port outside 1 to 65535";
	if (*at != '\0' && *at != '/')
		return "has something between host or port and path";
	if (at[strspn(at, PATH_CHARS)] != '\0')
		return "has a character that must be percent-encoded";
	return NULL;
}

char *tms_base_url_trim(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return pnstrdup(url, len);
}

void tms_url_endpoint(const char *url, char *out, size_t size)
{
	const char *host = strstr(url, "://");
	size_t len = host == NULL ? 0 : host + 3 - url;
	size_t i;

	len += strcspn(url + len, "/?#");
	len = Min(len, size - 1);
	for (i = 0; i < len; i++)
		out[i] = pg_tolower((unsigned char) url[i]);
	out[len] = '\0';
}
