/*
 * The machine's id from where systemd keeps it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_id.h"

void machine_id_read(char out[MACHINE_ID_SIZE])
{
	const char *given = getenv("TMS_MACHINE_ID");
	ssize_t len = 0;
	int fd;

	if (given && *given)
	{
		snprintf(out, MACHINE_ID_SIZE, "%s", given);
		return;
	}
	fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
	{
		len = read(fd, out, MACHINE_ID_SIZE - 1);
		close(fd);
	}
	out[len > 0 ? len : 0] = '\0';
	out[strspn(out, "0123456789abcdef")] = '\0';
	if (strlen(out) != 32)
		snprintf(out, MACHINE_ID_SIZE, "unknown");
}
