/*
 * The files beside ledger.db; what they are for is said in ledger.c.
 *
 *   cache/.ledgers   "<uuid>" for each ledger and "fork <old uuid> <from> <new uuid> <base>" for each fork, in the order in
 *                    which they came about. Synced before the ledger is used. A line cut short by a crash is passed over.
 *   ledger.high      "<uuid> <seq>" of the last commit, always of the same length, written in place.
 *   ledger.placing   a path a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger_db.h"
#include "log.h"

#define CACHE_FOLDER "cache"
#define LEDGERS_FILE CACHE_FOLDER "/.ledgers"
#define HIGH_FILE    "ledger.high"
#define PLACING_FILE "ledger.placing"

#define FORK_WORD "fork"
#define LINE_SIZE 160 /* of cache/.ledgers and ledger.high */

static TmsStatus note_failed(const char *file)
{
	log_event(LOG_LEVEL_WARNING, "ledger", "file=%s error=\"%s\"", file, strerror(errno));
	return TMS_IO;
}

TmsStatus ledger_notes_open(Ledger *ledger)
{
	const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;

	ledger->high = openat(ledger->data, HIGH_FILE, flags, 0640);
	if (ledger->high < 0)
		return note_failed(HIGH_FILE);
	ledger->placing = openat(ledger->data, PLACING_FILE, flags, 0640);
	return ledger->placing < 0 ? note_failed(PLACING_FILE) : TMS_OK;
}

void ledger_notes_close(Ledger *ledger)
{
	if (ledger->high >= 0)
		close(ledger->high);
	if (ledger->placing >= 0)
		close(ledger->placing);
}

/* --- cache/.ledgers --- */

static TmsStatus add_line(Ledger *ledger, const char *line)
{
	int fd = openat(ledger->data, LEDGERS_FILE, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	ssize_t len = (ssize_t) strlen(line);
	TmsStatus status = TMS_OK;

	if (fd < 0)
		return note_failed(LEDGERS_FILE);
	if (write(fd, line, (size_t) len) != len || fsync(fd) != 0)
		status = note_failed(LEDGERS_FILE);
	close(fd);
	fd = openat(ledger->data, CACHE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0) /* the file may be new */
		status = note_failed(CACHE_FOLDER);
	if (fd >= 0)
		close(fd);
	return status;
}

/* Each line begins with a line end of its own, should the one before have been cut short. */
TmsStatus ledger_note_ledger(Ledger *ledger, const TmsUuid *uuid)
{
	char text[TMS_UUID_TEXT_SIZE], line[LINE_SIZE];

	tms_uuid_format(uuid, text);
	snprintf(line, sizeof line, "\n%s\n", text);
	return add_line(ledger, line);
}

TmsStatus ledger_note_fork(Ledger *ledger, const TmsUuid *old, int64_t from, const TmsUuid *new, int64_t base)
{
	char old_text[TMS_UUID_TEXT_SIZE], new_text[TMS_UUID_TEXT_SIZE], line[LINE_SIZE];

	tms_uuid_format(old, old_text);
	tms_uuid_format(new, new_text);
	snprintf(line, sizeof line, "\n" FORK_WORD " %s %" PRId64 " %s %" PRId64 "\n", old_text, from, new_text, base);
	return add_line(ledger, line);
}

/* Follows one fork when the capture at (*uuid, *seq) took part in it. */
static void follow_fork(const char *line, TmsUuid *uuid, int64_t *seq)
{
	char old_text[TMS_UUID_TEXT_SIZE], new_text[TMS_UUID_TEXT_SIZE];
	TmsUuid old, new;
	int64_t from, base;

	if (sscanf(line, FORK_WORD " %36s %" SCNd64 " %36s %" SCNd64, old_text, &from, new_text, &base) != 4 ||
		!tms_uuid_parse(old_text, strlen(old_text), &old) || !tms_uuid_parse(new_text, strlen(new_text), &new))
		return;
	if (memcmp(old.bytes, uuid->bytes, TMS_UUID_SIZE) != 0 || *seq < from)
		return;
	*uuid = new;
	*seq += base - from + 1;
}

/*
 * One pass does, for the lines are in the order of events: a capture is in the ledger its path speaks of, until the first
 * fork that takes it along; from there on in that one, until the next.
 */
bool ledger_noted(Ledger *ledger, int32_t number, int64_t *seq, TmsUuid *uuid)
{
	int fd = openat(ledger->data, LEDGERS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char line[LINE_SIZE];
	bool found = false;
	TmsUuid one;

	while (file && fgets(line, sizeof line, file))
	{
		if (strncmp(line, FORK_WORD " ", strlen(FORK_WORD " ")) == 0)
		{
			if (found)
				follow_fork(line, uuid, seq);
		}
		else if (!found && tms_uuid_parse(line, strcspn(line, "\n"), &one) && tms_ledger_number(&one) == number)
		{
			found = true;
			*uuid = one;
		}
	}
	if (file)
		fclose(file);
	return found;
}

/* --- ledger.high --- */

bool ledger_noted_high(Ledger *ledger, TmsUuid *uuid, int64_t *seq, int64_t *written_at)
{
	char line[LINE_SIZE] = "";
	struct stat about;
	size_t len;

	if (pread(ledger->high, line, sizeof line - 1, 0) <= 0 || fstat(ledger->high, &about) != 0)
		return false;
	len = strcspn(line, " ");
	*written_at = about.st_mtim.tv_sec * INT64_C(1000000) + about.st_mtim.tv_nsec / 1000;
	return tms_uuid_parse(line, len, uuid) && sscanf(line + len, "%" SCNd64, seq) == 1;
}

void ledger_note_high(Ledger *ledger)
{
	char uuid[TMS_UUID_TEXT_SIZE], line[LINE_SIZE];
	int len;

	tms_uuid_format(&ledger->active.uuid, uuid);
	len = snprintf(line, sizeof line, "%s %10" PRId64 "\n", uuid, ledger->active.last_seq);
	if (pwrite(ledger->high, line, (size_t) len, 0) != len)
		(void) note_failed(HIGH_FILE);
	ledger->placing_at = 0;
}

/* --- ledger.placing --- */

void ledger_note_placing(Ledger *ledger, const char *path)
{
	char line[TMS_STORAGE_PATH_SIZE + 1];
	int len = snprintf(line, sizeof line, "%s\n", path);

	if (ledger->placing_at == 0 && ftruncate(ledger->placing, 0) != 0)
		(void) note_failed(PLACING_FILE);
	if (pwrite(ledger->placing, line, (size_t) len, ledger->placing_at) != len)
		(void) note_failed(PLACING_FILE);
	ledger->placing_at += len;
}

void ledger_noted_placing(Ledger *ledger, void (*visit)(Ledger *ledger, const char *path))
{
	int fd = fcntl(ledger->placing, F_DUPFD_CLOEXEC, 0);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char path[TMS_STORAGE_PATH_SIZE + 1];

	if (!file)
		return;
	rewind(file);
	while (fgets(path, sizeof path, file))
	{
		path[strcspn(path, "\n")] = '\0';
		if (tms_storage_path_valid(path, strlen(path)))
			visit(ledger, path);
	}
	fclose(file);
}
