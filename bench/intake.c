/*
 * The agent's intake against peers that do the least there is to do with the same photographs; bench/intake.sh calls it.
 *
 *   bench-intake write FOLDER PROCESSES COUNT     each process writes photographs to FOLDER: a temporary file, fdatasync,
 *                                                 rename, fsync of the folder
 *   bench-intake post PORT PROCESSES COUNT        each process sends photographs to 127.0.0.1:PORT/v1/captures over one
 *                                                 connection, one after the other
 *   bench-intake receive FOLDER PORT PROCESSES    what `write` does with photographs that come by HTTP: nothing is hashed,
 *                                                 checked, or noted; until SIGTERM
 *
 * A photograph has 250,000 bytes: a JPEG's header, random entropy-coded data, its end. The first two print the photographs
 * per second of all processes together. Any failure ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PHOTOGRAPH_BYTES 250000

static uint8_t photograph[PHOTOGRAPH_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "bench-intake: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void draw(unsigned seed)
{
	static const uint8_t head[] = {0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 4, 0, 4, 0,  1, 1,
								   0x11, 0,    0xFF, 0xDA, 0, 8,  1, 1, 0, 0, 63, 0};
	uint64_t random = seed * UINT64_C(2654435761) + 1;

	memcpy(photograph, head, sizeof head);
	for (size_t i = sizeof head; i < PHOTOGRAPH_BYTES - 2; i++)
	{
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		photograph[i] = photograph[i - 1] == 0xFF ? 0 : (uint8_t) (random >> 56);
	}
	if (photograph[PHOTOGRAPH_BYTES - 3] == 0xFF)
		photograph[PHOTOGRAPH_BYTES - 3] = 0;
	photograph[PHOTOGRAPH_BYTES - 2] = 0xFF;
	photograph[PHOTOGRAPH_BYTES - 1] = 0xD9;
}

/* --- a photograph in a file, durable --- */

static int open_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		die(folder);
	return fd;
}

static void store(int folder, int process, int n, const uint8_t *bytes)
{
	char temporary[40], name[40];
	int fd;

	snprintf(temporary, sizeof temporary, "%d.tmp", process);
	snprintf(name, sizeof name, "%d-%d.jpg", process, n);
	fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL, 0640);
	if (fd < 0 || write(fd, bytes, PHOTOGRAPH_BYTES) != PHOTOGRAPH_BYTES || fdatasync(fd) != 0)
		die(temporary);
	close(fd);
	if (renameat(folder, temporary, folder, name) != 0 || fsync(folder) != 0)
		die(name);
}

/* --- a photograph over a connection --- */

static int connect_to(int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *) &to, sizeof to) != 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

static void send_all(int fd, struct iovec *pieces, int count)
{
	while (count > 0)
	{
		ssize_t sent = writev(fd, pieces, count);

		if (sent < 0)
			die("send");
		for (; count > 0 && (size_t) sent >= pieces->iov_len; pieces++, count--)
			sent -= (ssize_t) pieces->iov_len;
		if (count > 0)
		{
			pieces->iov_base = (char *) pieces->iov_base + sent;
			pieces->iov_len -= (size_t) sent;
		}
	}
}

static void post(int fd)
{
	char head[200], answer[2048];
	ssize_t len = 0, got;
	struct iovec pieces[] = {{head, 0}, {photograph, PHOTOGRAPH_BYTES}};

	pieces[0].iov_len =
		(size_t) snprintf(head, sizeof head,
						  "POST /v1/captures?plate=WA56660&lane=2 HTTP/1.1\r\nHost: bench\r\nContent-Type: "
						  "image/jpeg\r\nContent-Length: %d\r\n\r\n",
						  PHOTOGRAPH_BYTES);
	send_all(fd, pieces, 2);
	/* The answer's body is one JSON object, without another one inside. */
	do
	{
		got = read(fd, answer + len, sizeof answer - 1 - (size_t) len);
		if (got <= 0)
			die("answer");
		len += got;
		answer[len] = '\0';
	} while (!strchr(answer, '}'));
	if (strncmp(answer, "HTTP/1.1 201 ", 13) != 0)
	{
		fprintf(stderr, "bench-intake: %s\n", answer);
		exit(1);
	}
}

/* Receives photographs of one connection after the other. */
static void serve(int listener, int folder, int process)
{
	static const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
	static uint8_t bytes[PHOTOGRAPH_BYTES + 1024];
	int fd, n = 0;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
	{
		size_t len = 0, all = sizeof bytes - 1;
		ssize_t got;

		while ((got = read(fd, bytes + len, all - len)) > 0)
		{
			uint8_t *body;

			len += (size_t) got;
			if (all == sizeof bytes - 1 && (body = memmem(bytes, len, "\r\n\r\n", 4)) != NULL)
				all = (size_t) (body + 4 - bytes) + PHOTOGRAPH_BYTES;
			if (len < all)
				continue;
			store(folder, process, n++, bytes + all - PHOTOGRAPH_BYTES);
			if (write(fd, answer, sizeof answer - 1) < 0)
				die("answer");
			len = 0;
			all = sizeof bytes - 1;
		}
		close(fd);
	}
}

static int receive(const char *folder, int port, int processes)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *) &at, sizeof at) != 0 || listen(fd, processes) != 0)
		die("listen");
	for (int i = 0; i < processes; i++)
		if (fork() == 0)
		{
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			serve(fd, open_folder(folder), i);
			exit(0);
		}
	for (;;)
		pause();
}

/* --- the processes --- */

static void work(const char *folder, int port, int process, int count)
{
	int at = folder ? open_folder(folder) : connect_to(port);

	for (int n = 0; n < count; n++)
		if (folder)
			store(at, process, n, photograph);
		else
			post(at);
	close(at);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Starts all at once, waits for the last. */
static int run(const char *folder, int port, int processes, int count)
{
	int gate[2], status, failed = 0;
	double begin;
	char byte;

	if (pipe(gate) != 0)
		die("pipe");
	for (int i = 0; i < processes; i++)
		if (fork() == 0)
		{
			close(gate[1]);
			draw((unsigned) i);
			if (read(gate[0], &byte, 1) != 0)
				die("gate");
			work(folder, port, i, count / processes);
			exit(0);
		}
	usleep(200000); /* for all of them to have drawn their photograph */
	begin = seconds();
	close(gate[1]);
	while (wait(&status) > 0)
		failed |= status != 0;
	if (failed)
		return 1;
	printf("%.1f\n", count / processes * processes / (seconds() - begin));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "write") == 0)
		return run(argv[2], 0, atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "post") == 0)
		return run(NULL, atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "receive") == 0)
		return receive(argv[2], atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr,
			"usage: bench-intake write FOLDER PROCESSES COUNT | post PORT PROCESSES COUNT | receive FOLDER PORT "
			"PROCESSES\n");
	return 2;
}
