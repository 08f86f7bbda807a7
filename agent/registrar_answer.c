/*
 * What the path center answered; see registrar_answer.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/capture_record.h"
#include "registrar_answer.h"

/* Reads a whole number of at least `least`. */
static bool read_number(const char *text, int64_t least, int64_t *out)
{
	char *end;

	if (text == NULL || *text == '\0')
		return false;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' && *out >= least;
}

static bool read_time(const char *text, int64_t *out)
{
	return text != NULL && tms_time_parse(text, strlen(text), out);
}

bool registrar_answer_read(const char *const fields[REGISTRAR_ANSWER_FIELDS], RegistrarAnswer *answer)
{
	int64_t period;

	memset(answer, 0, sizeof(*answer));
	/* first_seq - 2, which a call with first_seq = 1 cannot bring about. */
	if (!read_number(fields[INGEST_ANSWER_ACCEPTED_SEQ], 0, &answer->accepted))
		return false;
	if (fields[INGEST_ANSWER_FORK_FROM] != NULL && !read_number(fields[INGEST_ANSWER_FORK_FROM], 1, &answer->fork_from))
		return false;
	if (read_number(fields[INGEST_ANSWER_CLEANING_PERIOD], CLEANING_PERIOD_MIN, &period) &&
		period <= CLEANING_PERIOD_MAX)
		answer->cleaning_period = period;
	if (fields[INGEST_ANSWER_REQUEST_ID] == NULL)
		return true;
	answer->has_request = true;
	return read_number(fields[INGEST_ANSWER_REQUEST_ID], 1, &answer->request_id) &&
		   read_time(fields[INGEST_ANSWER_REQUEST_SINCE], &answer->request_since) &&
		   read_time(fields[INGEST_ANSWER_REQUEST_UNTIL], &answer->request_until);
}

int64_t registrar_answer_confirmed(const RegistrarAnswer *answer, int64_t last_of_call)
{
	int64_t confirmed = answer->accepted < last_of_call ? answer->accepted : last_of_call;

	if (answer->fork_from > 0 && answer->fork_from - 1 < confirmed)
		confirmed = answer->fork_from - 1;
	return confirmed;
}
