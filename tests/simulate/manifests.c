/*
 * The manifests of the simulation; see manifests.h.
 */
#include "manifests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_MAX 4096
#define LINE_SIZE 320

typedef struct Line
{
	TmsUuid ledger;
	int seq;
	int capture;
	char hex[TMS_SHA256_HEX_SIZE];
} Line;

static Line lines[LINES_MAX];
static int count;

static int same_ledger(const TmsUuid *a, const TmsUuid *b)
{
	return memcmp(a->bytes, b->bytes, TMS_UUID_SIZE) == 0;
}

void manifests_note(const TmsUuid *ledger, int seq, int capture, const char hex[TMS_SHA256_HEX_SIZE])
{
	if (count == LINES_MAX)
		return;
	lines[count] = (Line){.ledger = *ledger, .seq = seq, .capture = capture};
	memcpy(lines[count++].hex, hex, TMS_SHA256_HEX_SIZE);
}

void manifests_clear(void)
{
	count = 0;
}

/* The first line of the ledger of that number, or `count`. */
static int first_line(int number)
{
	for (int i = 0; i < count; i++)
	{
		int earlier = 0;

		for (int k = 0; k < i && !earlier; k++)
			earlier = same_ledger(&lines[k].ledger, &lines[i].ledger);
		if (!earlier && number-- == 0)
			return i;
	}
	return count;
}

char *manifests_load_sql(int number, int whole, unsigned (*below)(unsigned n))
{
	int first = first_line(number);
	char uuid[TMS_UUID_TEXT_SIZE], at[32];
	time_t now = time(NULL);
	char *sql;
	size_t used;

	if (first == count)
		return NULL;
	tms_uuid_format(&lines[first].ledger, uuid);
	strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	sql = malloc((size_t) (count + 2) * LINE_SIZE);
	used = (size_t) sprintf(sql, "SELECT tms.manifest_load(tms.device_id('sim-1'), '%s', convert_to('", uuid);
	for (int i = first; i < count; i++)
		if (same_ledger(&lines[i].ledger, &lines[first].ledger) && (whole || below(2)))
			used += (size_t) sprintf(sql + used,
									 "{\"ledger\":\"%s\",\"seq\":%d,\"path\":\"p/%d\",\"sha256\":\"%s\",\"bytes\":1000,"
									 "\"captured_at\":\"%s\"}\n",
									 uuid, lines[i].seq, lines[i].capture, lines[i].hex, at);
	strcpy(sql + used, "', 'UTF8'))");
	return sql;
}
