/*
 * Intake by spool folder: NAME.jpg, with the record in NAME.json when there is one. The record must be there before the
 * photograph is closed or moved in.
 *
 * A file is taken when it is closed after writing or moved in (inotify). At start and every RESCAN_SECONDS the folder is
 * looked through for what no event told of: files that nobody has open for writing any more (a lease tells; where the agent
 * may not take one, files that lay still for STILL_SECONDS).
 *
 * A file is removed once it is durable, unless another one has come under its name by then (spool_remove.h). What a crash
 * leaves in between is not taken twice: the ledger keeps a key of each file that was taken, made of its inode, size, time and
 * name. What cannot be used goes to quarantine/ with the reason. When the disk is full or failing, files stay where they are
 * and are tried again. One agent a folder: two would take some photographs twice.
 *
 * Hidden files and names that do not end with .jpg or .jpeg are left alone: uploads under way often have such names.
 *
 * Threads: one worker owns everything in Spool.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "charset.h"
#include "clock.h"
#include "intake.h"
#include "log.h"
#include "service.h"
#include "spool_remove.h"
#include "worker.h"

#define STILL_SECONDS  60
#define RESCAN_SECONDS 2
#define PIECE          65536
#define SIDE_FILE_MAX  65536

typedef struct Spool
{
	const ServiceContext *context;
	Worker worker;
	int folder;
	int inotify;
	bool away; /* the disk refused the last one: told once, until it works again */
} Spool;

/* A photograph in the folder. */
typedef struct SpoolFile
{
	const char *name;
	char side[NAME_MAX + 8]; /* name of its record */
	char key[NAME_MAX + 100]; /* "": none */
	struct stat about;
	struct stat side_about; /* of the record that was read; st_ino 0: none was */
} SpoolFile;

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
static TmsStatus read_side_file(const Spool *spool, SpoolFile *file, char **text, size_t *len)
{
	int fd = openat(spool->folder, file->side, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = 0;

	memset(&file->side_about, 0, sizeof file->side_about);
	if (fd < 0 && (errno == ENOENT || errno == ENAMETOOLONG))
		return TMS_NOT_FOUND;
	if (fd < 0)
	{
		(void) fstatat(spool->folder, file->side, &file->side_about, AT_SYMLINK_NOFOLLOW);
		return TMS_INVALID;
	}
	(void) fstat(fd, &file->side_about);
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
static TmsStatus read_record(const Spool *spool, SpoolFile *file, Record *record, char error[RECORD_ERROR_SIZE])
{
	char *text;
	size_t len;
	TmsStatus status = read_side_file(spool, file, &text, &len);

	record_init(record);
	if (status == TMS_NOT_FOUND)
		return TMS_OK;
	if (status != TMS_OK)
	{
		snprintf(error, RECORD_ERROR_SIZE, "the side file cannot be read, or is longer than %d bytes", SIDE_FILE_MAX);
		return TMS_INVALID;
	}
	status = charset_record_from_json(spool->context->config->charset, record, text, len, error);
	free(text);
	return status;
}

/* TMS_DAMAGED: the file cannot be read. */
static TmsStatus copy_bytes(Intake *intake, int fd)
{
	char piece[PIECE];
	ssize_t n;
	TmsStatus status = TMS_OK;

	while (status == TMS_OK && (n = read(fd, piece, sizeof piece)) != 0)
		status = n > 0 ? intake_write(intake, piece, (size_t) n) : errno == EINTR ? TMS_OK : TMS_DAMAGED;
	return status;
}

/*
 * Removes a pair that is durable elsewhere. The record goes first: left alone it would be taken for the record of the next
 * photograph of that name, while a photograph left alone is known by its key.
 */
static void remove_pair(const Spool *spool, const SpoolFile *file)
{
	if (file->side_about.st_ino != 0)
		spool_remove(spool->folder, file->side, &file->side_about);
	spool_remove(spool->folder, file->name, &file->about);
}

/* A photograph or record that cannot be used: to quarantine/, with what was beside it in the reason. */
static TmsStatus set_aside(const Spool *spool, Intake *intake, SpoolFile *file, const char *error)
{
	char reason[RECORD_ERROR_SIZE + SIDE_FILE_MAX + 32];
	char *text = NULL;
	size_t len = 0;
	bool has_side = read_side_file(spool, file, &text, &len) == TMS_OK;
	TmsStatus status;

	snprintf(reason, sizeof reason, "%s%s%.*s", error, has_side ? "\nrecord: " : "", (int) len, has_side ? text : "");
	free(text);
	status = intake_quarantine(intake, file->name, reason);
	if (status == TMS_OK)
		remove_pair(spool, file);
	return status == TMS_AGAIN ? TMS_OK : status; /* quarantine/ is full: it stays, and is in nobody's way */
}

/* Takes the bytes of an open photograph; removes the pair when it is durable here or in quarantine. */
static TmsStatus fill_intake(const Spool *spool, Intake *intake, int fd, SpoolFile *file, bool too_large)
{
	char error[RECORD_ERROR_SIZE], quoted[2 * NAME_MAX];
	struct stat now;
	LedgerEntry entry;
	Record record;
	TmsStatus status;

	if (too_large)
		intake_lift_limit(intake);
	status = copy_bytes(intake, fd);
	if (status == TMS_DAMAGED)
	{
		log_event(LOG_LEVEL_ERROR, "spool", "file=%s error=\"cannot be read\"",
				  log_quote(file->name, quoted, sizeof quoted));
		return TMS_OK; /* it is in nobody's way */
	}
	if (status != TMS_OK && status != TMS_TOO_LARGE)
		return status;
	/* It is written to again: its writer will close it once more. */
	if (status == TMS_TOO_LARGE || fstat(fd, &now) != 0 || now.st_size != file->about.st_size ||
		now.st_mtim.tv_sec != file->about.st_mtim.tv_sec || now.st_mtim.tv_nsec != file->about.st_mtim.tv_nsec)
		return TMS_OK;
	if (too_large)
		return set_aside(spool, intake, file, intake_failure(TMS_TOO_LARGE));
	if (read_record(spool, file, &record, error) != TMS_OK)
		return set_aside(spool, intake, file, error);
	status = intake_finish(intake, &record, *file->key ? file->key : NULL, &entry, error);
	if (status == TMS_INVALID)
		return set_aside(spool, intake, file, error);
	if (status == TMS_OK || status == TMS_EXISTS)
		remove_pair(spool, file);
	return status == TMS_EXISTS ? TMS_OK : status;
}

static TmsStatus take_bytes(const Spool *spool, int fd, SpoolFile *file, bool too_large)
{
	Intake *intake;
	TmsStatus status = intake_begin(spool->context, too_large ? 0 : file->about.st_size, &intake);

	if (status != TMS_OK)
		return status;
	status = fill_intake(spool, intake, fd, file, too_large);
	intake_free(intake);
	return status;
}

/* Has somebody the file open for writing? told: an event said that it was closed. */
static bool being_written(int fd, const struct stat *about, bool told)
{
	return spool_has_writer(fd, !told && llabs((long long) time(NULL) - (long long) about->st_mtime) < STILL_SECONDS);
}

/* Takes one photograph. told: an event says that it is whole. TMS_OK also for what is none of our business. */
static TmsStatus take_file(Spool *spool, const char *name, bool told)
{
	SpoolFile file = {.name = name};
	size_t stem = stem_length(name);
	TmsStatus status = TMS_OK;
	int fd;

	if (stem == 0)
		return TMS_OK;
	fd = openat(spool->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return TMS_OK; /* gone again, or a link */
	if (fstat(fd, &file.about) == 0 && S_ISREG(file.about.st_mode) && !being_written(fd, &file.about, told))
	{
		bool too_large = file.about.st_size > spool->context->config->max_image_bytes;

		snprintf(file.side, sizeof file.side, "%.*s.json", (int) stem, name);
		snprintf(file.key, sizeof file.key, "spool:%" PRIu64 ":%" PRId64 ":%" PRId64 ".%09ld:%s",
				 (uint64_t) file.about.st_ino, (int64_t) file.about.st_size, (int64_t) file.about.st_mtim.tv_sec,
				 file.about.st_mtim.tv_nsec, name);
		status = take_bytes(spool, fd, &file, too_large);
		if (status == TMS_CONFLICT && lseek(fd, 0, SEEK_SET) == 0)
		{
			/* Another photograph with all these in common, which a wrong clock can do: taken as the new one it is. */
			file.key[0] = '\0';
			status = take_bytes(spool, fd, &file, too_large);
		}
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
		if (!spool_put_back(spool->folder, item->d_name) && stem_length(item->d_name) > 0)
		{
			status = take_file(spool, item->d_name, false);
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
			TmsStatus status = take_file(spool, event->name, true);

			note_status(spool, status);
			whole = whole && status == TMS_OK;
		}
	}
	return whole;
}

static void run(void *argument)
{
	Spool *spool = argument;
	struct pollfd fds[] = {{spool->worker.stop_fd, POLLIN, 0}, {spool->inotify, POLLIN, 0}};
	int64_t next_scan = clock_steady();

	while (!worker_stopping(spool->worker.stop_fd))
	{
		int64_t now = clock_steady();

		if (now >= next_scan)
		{
			scan(spool);
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
	signal(SIGIO, SIG_IGN); /* a lease that is wanted back: it is given up anyway */
	spool->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	spool->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (spool->folder >= 0 && flock(spool->folder, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
	{
		log_event(LOG_LEVEL_ERROR, "spool",
				  "key=intake.spool_dir folder=%s error=\"another agent takes photographs from there\"",
				  log_quote(folder, quoted, sizeof quoted));
		status = TMS_EXISTS;
	}
	else if (spool->folder < 0 || spool->inotify < 0 ||
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
