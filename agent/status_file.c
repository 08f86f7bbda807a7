/*
 * Writes beside and renames, so that a reader never sees half a file.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "status.h"
#include "status_file.h"
#include "status_history.h"

#define STATUS_MAX (1024 * 1024)

bool status_file_write(const ServiceContext *context)
{
	char part[4096], name[4096];
	char *text = status_json(context, true);
	ssize_t len;
	int fd;

	if (!text)
		return false;
	len = (ssize_t) strlen(text);
	snprintf(part, sizeof part, "%s/status.json.part", context->config->data_dir);
	snprintf(name, sizeof name, "%s/status.json", context->config->data_dir);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd >= 0)
	{
		bool written = write(fd, text, (size_t) len) == len;

		close(fd);
		if (!written || rename(part, name) != 0)
			unlink(part);
	}
	free(text);
	return true;
}

char *status_file_read(const char *data_dir)
{
	char name[4096];
	char *text = malloc(STATUS_MAX + 1);
	ssize_t len = -1;
	int fd;

	snprintf(name, sizeof name, "%s/status.json", data_dir);
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
	{
		len = text ? read(fd, text, STATUS_MAX) : -1;
		close(fd);
	}
	if (len <= 0)
	{
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

void status_file_restore(const char *data_dir)
{
	char *text = status_file_read(data_dir);
	json_t *status = text ? json_loads(text, 0, NULL) : NULL;

	status_history_restore(json_object_get(status, "history"));
	json_decref(status);
	free(text);
}
