/*
 * Calls tms.ingest through libpq, as an agent calls it, to measure it and to try it with a fleet:
 *
 *   ingest batches CONNINFO ROWS          batches of 500 from 8 sessions against binary COPY in transactions of 500 rows from
 *                                         8 sessions into the same table, in turns; bytes per capture
 *   ingest singles CONNINFO POOL CLIENTS CALLS
 *                                         single rows, then heartbeats, CALLS of each from CLIENTS connections to POOL
 *   ingest fleet CONNINFO POOL DEVICES CALLS
 *                                         CALLS calls of a few rows from each of DEVICES connections to POOL, again and again
 *                                         until they are taken, some also after that; for tests/t/102_pgbouncer.pl
 *
 * CONNINFO is a superuser's; POOL is where the clients connect (pgbouncer). Prints lines of name, value and unit; fleet prints a
 * line for each device: its code, the SHA-256 of the digests of its captures, how often it had to connect again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../agent/ingest_call.h"
#include "../common/object_path.h"

#define SESSIONS   8
#define BATCH      500
#define ROUNDS     10
#define FLEET_ROWS 3 /* of a call */
#define STACK_SIZE (256 * 1024)
#define EPOCH_2000 (INT64_C(946684800) * 1000000)

static const char token[] = "a-token-of-the-benchmark-without-any-secrecy";

static const char copy_sql[] =
	"COPY tms.capture (captured_at, capture_id, device_id, path, image_bytes, sha256, plate,"
	" plate_class, plate_color, direction, lane, speed_kmh, violation_code, event_id, attributes)"
	" FROM STDIN (FORMAT binary)";

/* One connection with one device and one ledger. */
typedef struct Client
{
	PGconn *connection;
	char device[TMS_DEVICE_CODE_SIZE];
	int32_t device_id;
	TmsUuid ledger;
	int64_t seq; /* the last one sent */
	int64_t report_no;
	uint64_t random;
	int64_t started; /* microseconds since 1970: when its captures begin */
	bool has_prev;
	uint8_t prev_sha256[TMS_SHA256_SIZE];
	Record record;
	IngestCall call;

	/* what the thread has to do */
	int calls;
	int rows; /* of a call */
	bool copies; /* by COPY instead of tms.ingest */

	/* of a fleet */
	const char *conninfo;
	TmsSha256 *digests; /* of all its captures' digests, in the order of seq */
	int reconnects;
} Client;

/* One row, made anew for each seq, the same way for both contestants. */
typedef struct Sample
{
	IngestRow row;
	char path[TMS_STORAGE_PATH_SIZE];
	uint8_t sha256[TMS_SHA256_SIZE];
} Sample;

static void die(const char *what, PGconn *connection)
{
	fprintf(stderr, "%s: %s\n", what, connection == NULL ? strerror(errno) : PQerrorMessage(connection));
	exit(1);
}

static void print_result(const char *name, double value, int decimals, const char *unit)
{
	printf("%-52s %12.*f %s\n", name, decimals, value, unit);
	fflush(stdout);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static PGconn *connect_to(const char *conninfo)
{
	PGconn *connection = PQconnectdb(conninfo);

	if (PQstatus(connection) != CONNECTION_OK)
		die("connect", connection);
	return connection;
}

/* Runs a query that gives one value. */
static double query_number(PGconn *connection, const char *sql)
{
	PGresult *result = PQexec(connection, sql);
	double value;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die(sql, connection);
	value = atof(PQgetvalue(result, 0, 0));
	PQclear(result);
	return value;
}

/* xorshift64*: cheap, since both contestants pay for it. */
static uint64_t next_random(Client *client)
{
	client->random ^= client->random >> 12;
	client->random ^= client->random << 25;
	client->random ^= client->random >> 27;
	return client->random * UINT64_C(2685821657736338717);
}

/* The next capture of a client: a plate seen once, as a passing is recorded. */
static void make_sample(Client *client, Sample *sample)
{
	static const char *const colors[] = {"blue", "green", "yellow", "white"};
	static const char *const directions[] = {"north", "south", "east", "west"};
	uint64_t random = next_random(client);
	Record *record = &client->record;

	client->seq++;
	record->captured_at = client->started + client->seq * 1000;
	record->lane = (int) (random & 3);
	record->speed_kmh = 40 + (int) (random >> 2 & 63);
	snprintf(record->plate, sizeof(record->plate), "%c%c%05d", (char) ('A' + (random >> 8) % 26),
			 (char) ('A' + (random >> 16) % 26), (int) ((random >> 24) % 100000));
	strcpy(record->plate_class, "02");
	strcpy(record->plate_color, colors[random >> 48 & 3]);
	strcpy(record->direction, directions[random >> 50 & 3]);
	for (int i = 0; i < TMS_SHA256_SIZE; i += 8)
	{
		random = next_random(client);
		memcpy(sample->sha256 + i, &random, 8);
	}
	if (!tms_storage_path_make(record->captured_at, client->seq, tms_ledger_number(&client->ledger), sample->sha256,
							   sample->path))
		die("storage path", NULL);
	sample->row = (IngestRow){sample->path, 200000 + (int64_t) (random & 0xffff), sample->sha256, record};
}

/* --- tms.ingest --- */

/* Makes the next call, of so many rows (0: a heartbeat). */
static void make_call(Client *client, int rows)
{
	IngestHeader header = {.device = client->device,
						   .token = token,
						   .ledger = client->ledger,
						   .oldest_seq = 1,
						   .first_seq = client->seq + 1,
						   .prev_sha256 = client->has_prev ? client->prev_sha256 : NULL,
						   .report_no = ++client->report_no,
						   .status = rows > 0 ? NULL
											  : "{\"version\":\"0.1\",\"cached\":1000,\"free_bytes\":1000000000,"
												"\"image_center\":{\"ok\":true},\"path_center\":{\"ok\":true}}"};
	uint8_t last[TMS_SHA256_SIZE];

	ingest_call_begin(&client->call);
	for (int i = 0; i < rows; i++)
	{
		Sample sample;

		make_sample(client, &sample);
		ingest_call_add(&client->call, &sample.row);
		memcpy(last, sample.sha256, sizeof(last));
		if (client->digests != NULL && !tms_sha256_update(client->digests, last, sizeof(last)))
			die("SHA-256", NULL);
	}
	header.last_seq = client->seq;
	if (ingest_call_finish(&client->call, &header) != TMS_OK)
		die("encode", NULL);
	if (rows > 0)
	{
		memcpy(client->prev_sha256, last, sizeof(last));
		client->has_prev = true;
	}
}

/* Sends the call that was made. False: it failed, or nothing is known of it. An answer that takes less ends the program. */
static bool send_call(Client *client)
{
	PGresult *result = PQexecParams(client->connection, INGEST_CALL_SQL, INGEST_CALL_PARAMS, NULL, client->call.values,
									client->call.lengths, client->call.formats, 0);
	bool taken = PQresultStatus(result) == PGRES_TUPLES_OK;

	if (taken && atoll(PQgetvalue(result, 0, INGEST_ANSWER_ACCEPTED_SEQ)) != client->seq)
	{
		fprintf(stderr, "tms.ingest accepted %s, not %" PRId64 "\n", PQgetvalue(result, 0, 0), client->seq);
		exit(1);
	}
	PQclear(result);
	return taken;
}

static void ingest(Client *client, int rows)
{
	make_call(client, rows);
	if (!send_call(client))
		die("tms.ingest", client->connection);
}

/* --- COPY --- */

typedef struct CopyBuffer
{
	char data[BATCH * 512];
	size_t len;
} CopyBuffer;

static void copy_bytes(CopyBuffer *buffer, const void *data, size_t len)
{
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
}

static void copy_number(CopyBuffer *buffer, uint64_t value, size_t len)
{
	char bytes[8];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (char) (value >> (8 * (len - 1 - i)));
	copy_bytes(buffer, bytes, len);
}

static void copy_field(CopyBuffer *buffer, const void *data, size_t len)
{
	copy_number(buffer, len, 4);
	copy_bytes(buffer, data, len);
}

static void copy_number_field(CopyBuffer *buffer, uint64_t value, size_t len)
{
	copy_number(buffer, len, 4);
	copy_number(buffer, value, len);
}

static void copy_text_field(CopyBuffer *buffer, const char *text)
{
	copy_field(buffer, text, strlen(text));
}

static void copy_sample(CopyBuffer *buffer, const Client *client, const Sample *sample)
{
	const Record *record = sample->row.record;

	copy_number(buffer, 15, 2);
	copy_number_field(buffer, (uint64_t) (record->captured_at - EPOCH_2000), 8);
	copy_number_field(buffer, (uint64_t) tms_capture_id(tms_ledger_number(&client->ledger), client->seq), 8);
	copy_number_field(buffer, (uint64_t) client->device_id, 4);
	copy_text_field(buffer, sample->path);
	copy_number_field(buffer, (uint64_t) sample->row.image_bytes, 4);
	copy_field(buffer, sample->sha256, TMS_SHA256_SIZE);
	copy_text_field(buffer, record->plate);
	copy_text_field(buffer, record->plate_class);
	copy_text_field(buffer, record->plate_color);
	copy_text_field(buffer, record->direction);
	copy_number_field(buffer, (uint64_t) record->lane, 2);
	copy_number_field(buffer, (uint64_t) record->speed_kmh, 2);
	for (int i = 0; i < 3; i++)
		copy_number(buffer, UINT32_MAX, 4);
}

static void copy(Client *client, CopyBuffer *buffer, int rows)
{
	PGresult *result = PQexec(client->connection, copy_sql);

	if (PQresultStatus(result) != PGRES_COPY_IN)
		die("COPY", client->connection);
	PQclear(result);
	buffer->len = 0;
	copy_bytes(buffer, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
	for (int i = 0; i < rows; i++)
	{
		Sample sample;

		make_sample(client, &sample);
		copy_sample(buffer, client, &sample);
	}
	copy_number(buffer, UINT16_MAX, 2);
	if (PQputCopyData(client->connection, buffer->data, (int) buffer->len) != 1 ||
		PQputCopyEnd(client->connection, NULL) != 1)
		die("COPY", client->connection);
	while ((result = PQgetResult(client->connection)) != NULL)
	{
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("COPY", client->connection);
		PQclear(result);
	}
}

/* --- clients --- */

static void *client_run(void *argument)
{
	Client *client = argument;
	CopyBuffer *buffer = client->copies ? malloc(sizeof(CopyBuffer)) : NULL;

	for (int i = 0; i < client->calls; i++)
	{
		if (client->copies)
			copy(client, buffer, client->rows);
		else
			ingest(client, client->rows);
	}
	free(buffer);
	return NULL;
}

/* Lets every client do its calls at the same time; returns the seconds it took. */
static double run_clients(Client *clients, int count, int calls, int rows, void *(*run)(void *) )
{
	pthread_t *threads = calloc((size_t) count, sizeof(*threads));
	double begin = seconds_now();
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	for (int i = 0; i < count; i++)
	{
		clients[i].calls = calls;
		clients[i].rows = rows;
		if ((errno = pthread_create(&threads[i], &attributes, run, &clients[i])) != 0)
			die("thread", NULL);
	}
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	pthread_attr_destroy(&attributes);
	free(threads);
	return seconds_now() - begin;
}

/* Registers devices and connects a client for each. */
static Client *make_clients(PGconn *admin, const char *conninfo, const char *prefix, int count)
{
	Client *clients = calloc((size_t) count, sizeof(*clients));
	char sql[400];

	snprintf(sql, sizeof(sql),
			 "SELECT count(tms.register_device('%s-' || n, 'http://127.0.0.1:9', token => '%s'))"
			 " FROM generate_series(0, %d) n",
			 prefix, token, count - 1);
	query_number(admin, sql);
	for (int i = 0; i < count; i++)
	{
		Client *client = &clients[i];

		snprintf(client->device, sizeof(client->device), "%s-%d", prefix, i);
		snprintf(sql, sizeof(sql), "SELECT device_id FROM tms.device WHERE code = '%s'", client->device);
		client->device_id = (int32_t) query_number(admin, sql);
		client->random = UINT64_C(88172645463325252) + (uint64_t) i * 7919;
		client->started = ((int64_t) time(NULL) - 3600) * 1000000;
		client->record.has_captured_at = client->record.has_lane = client->record.has_speed_kmh = true;
		if (!tms_uuid_random(&client->ledger))
			die("uuid", NULL);
		ingest_call_init(&client->call);
		client->connection = connect_to(conninfo);
	}
	return clients;
}

static void free_clients(Client *clients, int count)
{
	for (int i = 0; i < count; i++)
	{
		PQfinish(clients[i].connection);
		ingest_call_free(&clients[i].call);
		tms_sha256_free(clients[i].digests);
	}
	free(clients);
}

static int64_t wal_position(PGconn *admin)
{
	return (int64_t) query_number(admin, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
}

/* Bytes that went over the clients' TCP connections, both ways, headers of TCP not counted. */
static int64_t wire_bytes(const Client *clients, int count)
{
	int64_t bytes = 0;

	for (int i = 0; i < count; i++)
	{
		struct tcp_info info = {0};
		socklen_t len = sizeof(info);

		if (getsockopt(PQsocket(clients[i].connection), IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
			bytes += (int64_t) (info.tcpi_bytes_acked + info.tcpi_bytes_received);
	}
	return bytes;
}

/* --- the two benchmarks --- */

static void bench_batches(const char *conninfo, int rows)
{
	PGconn *admin = connect_to(conninfo);
	Client *by_ingest = make_clients(admin, conninfo, "bench-ingest", SESSIONS);
	Client *by_copy = make_clients(admin, conninfo, "bench-copy", SESSIONS);
	int calls = rows / (ROUNDS * SESSIONS * BATCH);
	double seconds[2] = {0, 0};
	int64_t wal[2] = {0, 0};
	double total = 0;

	for (int i = 0; i < SESSIONS; i++)
		by_copy[i].copies = true;
	run_clients(by_ingest, SESSIONS, 1, BATCH, client_run);
	run_clients(by_copy, SESSIONS, 1, BATCH, client_run);
	for (int round = 0; round < 2 * ROUNDS; round++)
	{
		/* In turns, and each one first as often as the other: both see the same machine and the same table. */
		int which = (round + 1) / 2 % 2;
		int64_t begin = wal_position(admin);

		seconds[which] += run_clients(which == 0 ? by_ingest : by_copy, SESSIONS, calls, BATCH, client_run);
		wal[which] += wal_position(admin) - begin;
	}
	total = (double) calls * SESSIONS * BATCH * ROUNDS;
	print_result("ingest: rows, each way", total, 0, "");
	print_result("ingest: tms.ingest, 8 sessions, 500 rows a call", total / seconds[0], 0, "rows/s");
	print_result("ingest: binary COPY, 8 sessions, 500 rows each", total / seconds[1], 0, "rows/s");
	print_result("ingest: tms.ingest against COPY (at least 0.85)", seconds[1] / seconds[0], 2, "");
	print_result("ingest: WAL of tms.ingest", (double) wal[0] / total, 0, "bytes/row");
	print_result("ingest: WAL of COPY", (double) wal[1] / total, 0, "bytes/row");
	print_result("ingest: heap and indexes (at most 280)",
				 query_number(admin, "SELECT sum(pg_total_relation_size(inhrelid)) / (SELECT count(*) FROM tms.capture)"
									 " FROM pg_inherits WHERE inhparent = 'tms.capture'::regclass"),
				 1, "bytes/capture");
	free_clients(by_ingest, SESSIONS);
	free_clients(by_copy, SESSIONS);
	PQfinish(admin);
}

/* CALLS calls of so many rows (0: heartbeats), spread over the clients. */
static void bench_calls(PGconn *admin, Client *clients, int count, int calls, int rows, const char *what)
{
	int64_t wire = wire_bytes(clients, count);
	int64_t wal = wal_position(admin);
	int each = (calls + count - 1) / count;
	double seconds = run_clients(clients, count, each, rows, client_run);
	double total = (double) each * count;
	char name[80];

	snprintf(name, sizeof(name), "%s: from %d clients", what, count);
	print_result(name, total / seconds, 0, "calls/s");
	snprintf(name, sizeof(name), "%s: WAL", what);
	print_result(name, (double) (wal_position(admin) - wal) / total, 0, "bytes/call");
	snprintf(name, sizeof(name), "%s: wire, both ways", what);
	print_result(name, (double) (wire_bytes(clients, count) - wire) / total, 0, "bytes/call");
}

static void bench_singles(const char *conninfo, const char *pool, int count, int calls)
{
	PGconn *admin = connect_to(conninfo);
	char prefix[32];
	Client *clients;

	snprintf(prefix, sizeof(prefix), "bench-single-%d", count);
	clients = make_clients(admin, pool, prefix, count);
	run_clients(clients, count, 1, 1, client_run);
	bench_calls(admin, clients, count, calls, 1, "single rows");
	bench_calls(admin, clients, count, calls, 0, "heartbeats");
	free_clients(clients, count);
	PQfinish(admin);
}

/* --- a fleet that is disturbed --- */

/* Waits a moment that differs from client to client, then connects; whether that worked shows in the next call. */
static void connect_again(Client *client)
{
	usleep(50000 + (useconds_t) (next_random(client) % 200000));
	PQfinish(client->connection);
	client->connection = PQconnectdb(client->conninfo);
	if (++client->reconnects > 1000)
		die("cannot connect any more", client->connection);
}

static void *fleet_run(void *argument)
{
	Client *client = argument;

	for (int i = 0; i < client->calls; i++)
	{
		/* One in eight is sent twice, as if its answer had been lost. */
		int times = next_random(client) % 8 == 0 ? 2 : 1;

		make_call(client, client->rows);
		while (times > 0)
			if (send_call(client))
				times--;
			else
				connect_again(client);
	}
	return NULL;
}

static void run_fleet(const char *conninfo, const char *pool, int count, int calls)
{
	PGconn *admin = connect_to(conninfo);
	Client *clients = make_clients(admin, pool, "fleet", count);

	for (int i = 0; i < count; i++)
	{
		clients[i].conninfo = pool;
		clients[i].digests = tms_sha256_new();
	}
	run_clients(clients, count, calls, FLEET_ROWS, fleet_run);
	for (int i = 0; i < count; i++)
	{
		uint8_t digest[TMS_SHA256_SIZE];
		char hex[TMS_SHA256_HEX_SIZE];

		if (!tms_sha256_final(clients[i].digests, digest))
			die("SHA-256", NULL);
		tms_sha256_hex(digest, hex);
		printf("%s %s %d\n", clients[i].device, hex, clients[i].reconnects);
	}
	free_clients(clients, count);
	PQfinish(admin);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "batches") == 0)
		bench_batches(argv[2], atoi(argv[3]));
	else if (argc == 6 && strcmp(argv[1], "singles") == 0)
		bench_singles(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
	else if (argc == 6 && strcmp(argv[1], "fleet") == 0)
		run_fleet(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
	else
	{
		fprintf(stderr, "usage: ingest batches CONNINFO ROWS | ingest singles CONNINFO POOL CLIENTS CALLS\n"
						"       ingest fleet CONNINFO POOL DEVICES CALLS\n");
		return 2;
	}
	return 0;
}
