/*
 * Intake by spool folder: NAME.jpg, with the record in NAME.json when there is one. The record must be there before the
 * photograph is closed or moved in.
 *
 * A file is taken when it is closed after writing or moved in (inotify), and, at start and every RESCAN_SECONDS, when it has
 * lain still for QUIET_SECONDS. It is unlinked once it is durable, so what a crash leaves in the folder is either not taken
 * or was the last one taken: at start its digest is looked for among the ledger's last entries, and a capture that is there
 * is not taken twice. What cannot be used goes to quarantine/ with the reason. When the disk is full or failing, files stay
 * where they are and are tried again.
 *
 * Hidden files and names that do not end with .jpg or .jpeg are left alone: uploads under way often have such names.
 *
 * Threads: one worker owns everything in Spool.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "intake.h"
#include "log.h"
#include "service.h"
#include "worker.h"

#define QUIET_SECONDS  2
#define RESCAN_SECONDS 2
#define PIECE          65536
#define SIDE_FILE_MAX  65536
#define RECENT         256 /* entries at the ledger's end that a file left by a crash may be one of */

typedef struct Spool
{
	const ServiceContext *context;
	Worker worker;
	int folder;
	int inotify;
	bool away; /* the disk refused the last one: told once, until it works again */
	uint8_t (*recent)[TMS_SHA256_SIZE]; /* at start only */
	int recent_count;
} Spool;

/* Length of NAME in NAME.jpg or NAME.jpeg; 0 when this is no photograph's name. */
static size_t stem_length(const char *name)
{
	static const char *const endings[] = {".jpg", ".jpeg"};
	size_t len = strlen(name);

	for (size_t i = 0; name[0] != '.' && i < sizeof endings / sizeof *endings; i++)
	{
		size_t ending = strlen(endings[i]);

		if (len > ending && strcasecmp(name + len - ending, endings[i]) == 0)
			return len - ending;
	}
	return 0;
}

/* Reads the side file. TMS_NOT_FOUND: there is none. The text is the caller's. */
static TmsStatus read_side_file(const Spool *spool, const char *side, char **text, size_t *len)
{
	int fd = openat(spool->folder, side, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = 0;

	if (fd < 0)
		return errno == ENOENT ? TMS_NOT_FOUND : TMS_INVALID;
	*len = 0;
	*text = malloc(SIDE_FILE_MAX + 1);
	while (*text && *len <= SIDE_FILE_MAX && (n = read(fd, *text + *len, SIDE_FILE_MAX + 1 - *len)) > 0)
		*len += (size_t) n;
	close(fd);
	if (*text && n >= 0 && *len <= SIDE_FILE_MAX)
		return TMS_OK;
	free(*text);
	*text = NULL;
	return TMS_INVALID;
}

/* The record beside a photograph, or an empty one. */
static TmsStatus read_record(const Spool *spool, const char *side, Record *record, char error[RECORD_ERROR_SIZE])
{
	char *text;
	size_t len;
	TmsStatus status = read_side_file(spool, side, &text, &len);

	record_init(record);
	if (status == TMS_NOT_FOUND)
		return TMS_OK;
	if (status != TMS_OK)
	{
		snprintf(error, RECORD_ERROR_SIZE, "the side file cannot be read, or is longer than %d bytes", SIDE_FILE_MAX);
		return TMS_INVALID;
	}
	status = record_from_json(record, text, len, error);
	free(text);
	return status;
}

static TmsStatus copy_bytes(Intake *intake, int fd)
{
	char piece[PIECE];
	ssize_t n;
	TmsStatus status = TMS_OK;

	while (status == TMS_OK && (n = read(fd, piece, sizeof piece)) != 0)
		status = n > 0 ? intake_write(intake, piece, (size_t) n) : errno == EINTR ? TMS_OK : TMS_IO;
	return status;
}

/* Is this one of the files that a crash left after they were taken? The descriptor is at the begin afterwards. */
static bool taken_before(const Spool *spool, int fd)
{
	TmsSha256 *digest = spool->recent_count > 0 ? tms_sha256_new() : NULL;
	uint8_t sha256[TMS_SHA256_SIZE];
	char piece[PIECE];
	bool found = false, whole = digest != NULL;
	ssize_t n = 0;

	while (whole && (n = read(fd, piece, sizeof piece)) > 0)
		whole = tms_sha256_update(digest, piece, (size_t) n);
	if (whole && n == 0 && tms_sha256_final(digest, sha256))
		for (int i = 0; i < spool->recent_count && !found; i++)
			found = memcmp(spool->recent[i], sha256, TMS_SHA256_SIZE) == 0;
	tms_sha256_free(digest);
	return lseek(fd, 0, SEEK_SET) == 0 && found;
}

/* Removes a pair that is durable elsewhere. The photograph goes first: a record alone is nothing. */
static void remove_pair(const Spool *spool, const char *name, const char *side)
{
	char quoted[2 * NAME_MAX];

	if (unlinkat(spool->folder, name, 0) != 0 && errno != ENOENT)
		log_event(LOG_LEVEL_ERROR, "spool", "file=%s error=\"taken, but cannot be removed: %s\"",
				  log_quote(name, quoted, sizeof quoted), strerror(errno));
	unlinkat(spool->folder, side, 0);
}

/* A photograph or record that cannot be used: to quarantine/, with what was beside it in the reason. */
static TmsStatus set_aside(const Spool *spool, Intake *intake, const char *name, const char *side, const char *error)
{
	char reason[RECORD_ERROR_SIZE + SIDE_FILE_MAX + 32], quoted[2 * NAME_MAX], why[2 * RECORD_ERROR_SIZE];
	char *text = NULL;
	size_t len = 0;
	bool has_side = read_side_file(spool, side, &text, &len) == TMS_OK;
	TmsStatus status;

	snprintf(reason, sizeof reason, "%s%s%.*s", error, has_side ? "\nrecord: " : "", (int) len, has_side ? text : "");
	free(text);
	status = intake_quarantine(intake, name, reason);
	if (status == TMS_OK)
	{
		log_event(LOG_LEVEL_WARNING, "quarantined", "file=%s reason=%s", log_quote(name, quoted, sizeof quoted),
				  log_quote(error, why, sizeof why));
		remove_pair(spool, name, side);
	}
	return status;
}

/* Takes the bytes of an open photograph; removes the pair when it is durable here or in quarantine. */
static TmsStatus fill_intake(const Spool *spool, Intake *intake, int fd, const char *name, const char *side,
							 bool too_large)
{
	char error[RECORD_ERROR_SIZE];
	LedgerEntry entry;
	Record record;
	TmsStatus status;

	if (too_large)
		intake_lift_limit(intake);
	status = copy_bytes(intake, fd);
	if (status != TMS_OK)
		return status == TMS_TOO_LARGE ? TMS_OK : status; /* it grows: its writer will close it once more */
	if (too_large)
		return set_aside(spool, intake, name, side, intake_failure(TMS_TOO_LARGE));
	if (read_record(spool, side, &record, error) != TMS_OK)
		return set_aside(spool, intake, name, side, error);
	status = intake_finish(intake, &record, name, &entry, error);
	if (status == TMS_INVALID)
	{
		char quoted[2 * NAME_MAX];

		log_event(LOG_LEVEL_WARNING, "quarantined", "file=%s reason=\"%s\"", log_quote(name, quoted, sizeof quoted),
				  error);
		status = TMS_OK;
	}
	if (status == TMS_OK)
		remove_pair(spool, name, side);
	return status;
}

static TmsStatus take_bytes(const Spool *spool, int fd, const char *name, const char *side, int64_t size)
{
	bool too_large = size > spool->context->config->max_image_bytes;
	Intake *intake;
	TmsStatus status = intake_begin(spool->context, too_large ? 0 : size, &intake);

	if (status == TMS_OK)
	{
		status = fill_intake(spool, intake, fd, name, side, too_large);
		intake_free(intake);
	}
	return status;
}

/* Takes one photograph. `quiet`: only when nobody wrote to it for a while. TMS_OK also for what is none of our business. */
static TmsStatus take_file(Spool *spool, const char *name, bool quiet)
{
	size_t stem = stem_length(name);
	char side[NAME_MAX + 8];
	struct stat about;
	TmsStatus status = TMS_OK;
	int fd;

	if (stem == 0)
		return TMS_OK;
	fd = openat(spool->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return TMS_OK; /* gone again, or a link */
	snprintf(side, sizeof side, "%.*s.json", (int) stem, name);
	if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
		!(quiet && llabs((long long) time(NULL) - (long long) about.st_mtime) < QUIET_SECONDS))
	{
		if (quiet && taken_before(spool, fd))
			remove_pair(spool, name, side);
		else
			status = take_bytes(spool, fd, name, side, about.st_size);
	}
	close(fd);
	return status;
}

/* A disk that refuses is told once, not for every file. */
static void note_status(Spool *spool, TmsStatus status)
{
	if (status != TMS_OK && !spool->away)
		log_event(LOG_LEVEL_WARNING, "spool_waits", "status=%s error=\"%s; photographs stay in the spool\"",
				  tms_status_name(status), intake_failure(status));
	else if (status == TMS_OK && spool->away)
		log_event(LOG_LEVEL_INFO, "spool_goes_on", "status=ok");
	spool->away = status != TMS_OK;
}

/* Looks through the folder. The first refusal of the disk ends the round: the next one tries again. */
static void scan(Spool *spool)
{
	int fd = dup(spool->folder);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *item;
	TmsStatus status = TMS_OK;

	if (!folder)
	{
		if (fd >= 0)
			close(fd);
		return;
	}
	rewinddir(folder);
	while (status == TMS_OK && !worker_stopping(spool->worker.stop_fd) && (item = readdir(folder)) != NULL)
		if (stem_length(item->d_name) > 0)
		{
			status = take_file(spool, item->d_name, true);
			note_status(spool, status);
		}
	closedir(folder);
}

/* Takes what inotify tells of. False: some events were lost, or the disk refused; the folder is to be looked through. */
static bool take_events(Spool *spool)
{
	char buffer[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t len = read(spool->inotify, buffer, sizeof buffer);
	bool whole = true;

	for (ssize_t at = 0; at < len;)
	{
		const struct inotify_event *event = (const struct inotify_event *) (buffer + at);

		at += (ssize_t) sizeof *event + event->len;
		if (event->mask & IN_Q_OVERFLOW)
			whole = false;
		else if (event->len > 0 && !worker_stopping(spool->worker.stop_fd) && stem_length(event->name) > 0)
		{
			TmsStatus status = take_file(spool, event->name, false);

			note_status(spool, status);
			whole = whole && status == TMS_OK;
		}
	}
	return whole;
}

/* Digests of the ledger's last entries, for the files that a crash left. */
static void remember_recent(Spool *spool)
{
	Ledger *ledger = spool->context->ledger;
	LedgerInfo *ledgers = calloc(RECENT, sizeof *ledgers);
	LedgerEntry *entries = calloc(RECENT, sizeof *entries);
	int ledger_count = 0, count = 0;

	spool->recent = calloc(RECENT, sizeof *spool->recent);
	if (ledgers && entries && spool->recent && ledger_list(ledger, ledgers, RECENT, &ledger_count) == TMS_OK)
		for (int i = ledger_count - 1; i >= 0 && spool->recent_count < RECENT; i--)
		{
			int64_t from = ledgers[i].last_seq - (RECENT - spool->recent_count) + 1;

			if (ledger_read(ledger, &ledgers[i].ledger, from < 1 ? 1 : from, entries, RECENT - spool->recent_count,
							&count) != TMS_OK)
				continue;
			for (int k = 0; k < count; k++)
				memcpy(spool->recent[spool->recent_count++], entries[k].sha256, TMS_SHA256_SIZE);
		}
	free(ledgers);
	free(entries);
}

static void run(void *argument)
{
	Spool *spool = argument;
	struct pollfd fds[] = {{spool->worker.stop_fd, POLLIN, 0}, {spool->inotify, POLLIN, 0}};
	int64_t next_scan = clock_steady() + RESCAN_SECONDS * CLOCK_SECOND;
	int64_t recent_until = next_scan + QUIET_SECONDS * CLOCK_SECOND;

	remember_recent(spool);
	scan(spool);
	while (!worker_stopping(spool->worker.stop_fd))
	{
		int64_t now = clock_steady();

		if (now >= next_scan)
		{
			scan(spool);
			if (now >= recent_until)
				spool->recent_count = 0; /* what comes now is new, even if it looks the same */
			next_scan = clock_steady() + RESCAN_SECONDS * CLOCK_SECOND;
			continue;
		}
		if (poll(fds, 2, worker_poll_timeout(next_scan - now)) > 0 && fds[1].revents && !take_events(spool))
			next_scan = clock_steady() + RESCAN_SECONDS * CLOCK_SECOND;
	}
}

static void free_spool(Spool *spool)
{
	if (spool->inotify >= 0)
		close(spool->inotify);
	if (spool->folder >= 0)
		close(spool->folder);
	free(spool->recent);
	free(spool);
}

static bool intake_spool_wanted(const Config *config)
{
	return *config->spool_dir != '\0';
}

static TmsStatus intake_spool_start(const ServiceContext *context, void **handle)
{
	const char *folder = context->config->spool_dir;
	Spool *spool = calloc(1, sizeof *spool);
	char quoted[PATH_MAX];
	TmsStatus status = TMS_OK;

	if (!spool)
		return TMS_MEMORY;
	spool->context = context;
	spool->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	spool->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (spool->folder < 0 || spool->inotify < 0 ||
		inotify_add_watch(spool->inotify, folder, IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR) < 0)
	{
		log_event(LOG_LEVEL_ERROR, "spool", "key=intake.spool_dir folder=%s error=\"%s\"",
				  log_quote(folder, quoted, sizeof quoted), strerror(errno));
		status = TMS_IO;
	}
	if (status == TMS_OK)
		status = worker_start(&spool->worker, "spool", run, spool);
	if (status != TMS_OK)
	{
		free_spool(spool);
		return status;
	}
	*handle = spool;
	return TMS_OK;
}

static void intake_spool_stop(void *handle)
{
	Spool *spool = handle;

	worker_stop(&spool->worker);
	free_spool(spool);
}

const Service intake_spool_service = {
	.name = "intake_spool",
	.wanted = intake_spool_wanted,
	.start = intake_spool_start,
	.stop = intake_spool_stop,
};
