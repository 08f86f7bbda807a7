/*
 * One POST /v1/captures: see intake_request.h.
 *
 * The first thing that goes wrong is what the sender is told. From then on the body is read to its end and thrown away,
 * since an answer before that would often be lost, but not for longer than a photograph could have been.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "charset.h"
#include "clock.h"
#include "intake.h"
#include "intake_request.h"

#define LONGEST         (120 * CLOCK_SECOND) /* a request may take; slower than this nobody sends photographs */
#define FORM_BUFFER     65536 /* of libmicrohttpd's form parser */
#define FORM_OVERHEAD   65536 /* bytes of a form beside the photograph */
#define PART_NAME_MAX   64
#define PART_NAME_IMAGE "image"
#define KEY_HEADER      "Idempotency-Key"
#define KEY_PREFIX      "http:" /* keeps senders' keys apart from those of the spool */
#define KEY_MAX         255

struct IntakeRequest
{
	const ServiceContext *context;
	Intake *intake; /* NULL until the photograph begins, in a form */
	Record record;
	TmsStatus status; /* of the first failure */
	bool malformed; /* the failure is the record's or the form's: 400, not 422 */
	char error[RECORD_ERROR_SIZE];
	int64_t received;
	int64_t limit; /* of received: beyond it nobody listens any more */
	int64_t deadline; /* by the steady clock: beyond it neither */
	char key[sizeof KEY_PREFIX + KEY_MAX]; /* "": none */

	struct MHD_PostProcessor *form; /* NULL: the body is the photograph */
	int64_t image_len; /* of the photograph so far, in a form */
	char part[PART_NAME_MAX]; /* text part under way, or "" */
	char text[TMS_ATTRIBUTES_MAX + 1];
	size_t text_len;
};

static void fail(IntakeRequest *request, TmsStatus status)
{
	if (request->status != TMS_OK || status == TMS_OK)
		return;
	request->status = status;
	snprintf(request->error, sizeof request->error, "%s", intake_failure(status));
}

static void refuse_part(IntakeRequest *request, const char *name, const char *why)
{
	if (request->status != TMS_OK)
		return;
	request->status = TMS_INVALID;
	request->malformed = true;
	snprintf(request->error, sizeof request->error, "part \"%.*s\": %s", PART_NAME_MAX, name, why);
	for (char *c = request->error; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static void set_field(IntakeRequest *request, const char *name, const char *value, size_t len)
{
	if (request->status != TMS_OK)
		return;
	request->status =
		charset_record_set(request->context->config->charset, &request->record, name, value, len, request->error);
	request->malformed = request->status == TMS_INVALID;
}

static enum MHD_Result take_query(void *state, enum MHD_ValueKind kind, const char *name, size_t name_len,
								  const char *value, size_t value_len)
{
	IntakeRequest *request = state;

	if (strlen(name) != name_len)
		refuse_part(request, name, "a name with a NUL");
	else
		set_field(request, name, value ? value : "", value ? value_len : 0);
	return request->status == TMS_OK ? MHD_YES : MHD_NO;
}

/*
 * --- forms ---
 *
 * libmicrohttpd tells of a part that begins with offset 0, and of one whose content is not there yet with offset 0 and no bytes;
 * the content then comes with offset 0 again. So a part that has no bytes yet goes on.
 */

static void end_text_part(IntakeRequest *request)
{
	if (request->part[0])
		set_field(request, request->part, request->text, request->text_len);
	request->part[0] = '\0';
	request->text_len = 0;
}

static void take_image_part(IntakeRequest *request, uint64_t offset, const char *data, size_t len)
{
	if (offset == 0 && request->image_len > 0)
		refuse_part(request, PART_NAME_IMAGE, "comes twice; one photograph a request");
	if (request->status == TMS_OK && !request->intake)
		fail(request, intake_begin(request->context, 0, &request->intake));
	if (request->status == TMS_OK && len > 0)
		fail(request, intake_write(request->intake, data, len));
	request->image_len += (int64_t) len;
}

static void take_text_part(IntakeRequest *request, const char *name, uint64_t offset, const char *data, size_t len)
{
	if (offset == 0 && (request->text_len > 0 || strcmp(name, request->part) != 0))
	{
		end_text_part(request);
		if (strlen(name) >= sizeof request->part)
		{
			refuse_part(request, name, "the name is too long");
			return;
		}
		strcpy(request->part, name);
	}
	if (len > sizeof request->text - request->text_len)
		refuse_part(request, name, "too long");
	else
	{
		memcpy(request->text + request->text_len, data, len);
		request->text_len += len;
	}
}

/* libmicrohttpd calls this with each piece of each part. */
static enum MHD_Result take_part(void *state, enum MHD_ValueKind kind, const char *name, const char *filename,
								 const char *type, const char *encoding, const char *data, uint64_t offset, size_t len)
{
	IntakeRequest *request = state;

	if (!name || !*name)
		refuse_part(request, "", "has no name");
	else if (strcmp(name, PART_NAME_IMAGE) == 0)
	{
		end_text_part(request);
		take_image_part(request, offset, data, len);
	}
	else if (filename)
		refuse_part(request, name, "is a file; the photograph is part \"image\"");
	else
		take_text_part(request, name, offset, data, len);
	return request->status == TMS_OK ? MHD_YES : MHD_NO;
}

static bool is_form(struct MHD_Connection *connection)
{
	const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);

	return type && strncasecmp(type, MHD_HTTP_POST_ENCODING_MULTIPART_FORMDATA,
							   strlen(MHD_HTTP_POST_ENCODING_MULTIPART_FORMDATA)) == 0;
}

/* --- the request --- */

static void answer_failure(const IntakeRequest *request, IntakeAnswer *answer)
{
	static const unsigned codes[] = {
		[TMS_INVALID] = MHD_HTTP_UNPROCESSABLE_CONTENT, [TMS_CONFLICT] = MHD_HTTP_UNPROCESSABLE_CONTENT,
		[TMS_TOO_LARGE] = MHD_HTTP_CONTENT_TOO_LARGE,   [TMS_FULL] = MHD_HTTP_INSUFFICIENT_STORAGE,
		[TMS_STOPPED] = MHD_HTTP_SERVICE_UNAVAILABLE,   [TMS_MEMORY] = MHD_HTTP_SERVICE_UNAVAILABLE,
	};
	unsigned code = (size_t) request->status < sizeof codes / sizeof *codes ? codes[request->status] : 0;

	answer->status = request->malformed ? MHD_HTTP_BAD_REQUEST : code ? code : MHD_HTTP_INTERNAL_SERVER_ERROR;
	memcpy(answer->error, request->error, sizeof answer->error);
}

/* Takes the key that the sender gave, if it did: 1 to KEY_MAX printable characters, whose meaning is the sender's. */
static void take_key(IntakeRequest *request, struct MHD_Connection *connection)
{
	const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, KEY_HEADER);
	size_t len = key ? strlen(key) : 0;
	bool valid = len > 0 && len <= KEY_MAX;

	if (!key || request->status != TMS_OK)
		return;
	for (size_t i = 0; i < len; i++)
		valid = valid && key[i] >= ' ' && key[i] <= '~';
	if (valid)
		snprintf(request->key, sizeof request->key, KEY_PREFIX "%s", key);
	else
	{
		request->status = TMS_INVALID;
		request->malformed = true;
		snprintf(request->error, sizeof request->error, KEY_HEADER ": not 1 to %d printable characters", KEY_MAX);
	}
}

/* Bytes the sender announces, -1 when it does not. */
static int64_t announced(struct MHD_Connection *connection)
{
	const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return text ? strtoll(text, NULL, 10) : -1;
}

/* A request of which nothing is known yet; NULL: out of memory. */
static IntakeRequest *new_request(const ServiceContext *context)
{
	IntakeRequest *request = calloc(1, sizeof *request);

	if (!request)
		return NULL;
	request->context = context;
	request->limit = 2 * context->config->max_image_bytes + FORM_OVERHEAD;
	request->deadline = clock_steady() + LONGEST;
	record_init(&request->record);
	return request;
}

/*
 * Is the body of a request that is refused read first? A sender that does not look for an answer before it has sent it all
 * would find the connection broken instead. One that waits for "100 Continue" gets the answer now.
 */
static bool is_drained(const IntakeRequest *request, struct MHD_Connection *connection)
{
	return !MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) &&
		   announced(connection) <= request->limit;
}

IntakeRequest *intake_request_refused(const ServiceContext *context, struct MHD_Connection *connection)
{
	IntakeRequest *request = new_request(context);

	if (!request)
		return NULL;
	request->status = TMS_INVALID;
	if (is_drained(request, connection))
		return request;
	intake_request_free(request);
	return NULL;
}

IntakeRequest *intake_request_begin(const ServiceContext *context, struct MHD_Connection *connection,
									IntakeAnswer *answer)
{
	IntakeRequest *request = new_request(context);
	int64_t most = context->config->max_image_bytes, length = announced(connection);

	memset(answer, 0, sizeof *answer);
	if (!request)
	{
		answer->status = MHD_HTTP_SERVICE_UNAVAILABLE;
		snprintf(answer->error, sizeof answer->error, "%s", intake_failure(TMS_MEMORY));
		return NULL;
	}
	MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, take_query, request);
	take_key(request, connection);
	if (request->status == TMS_OK && is_form(connection))
	{
		request->form = MHD_create_post_processor(connection, FORM_BUFFER, take_part, request);
		if (!request->form)
			refuse_part(request, "", "a form without a boundary");
		else if (length > most + FORM_OVERHEAD)
			fail(request, TMS_TOO_LARGE);
	}
	else if (request->status == TMS_OK)
		fail(request, intake_begin(context, length < 0 ? 0 : length, &request->intake));
	if (request->status == TMS_OK || is_drained(request, connection))
		return request;
	answer_failure(request, answer);
	intake_request_free(request);
	return NULL;
}

bool intake_request_data(IntakeRequest *request, const char *data, size_t len)
{
	request->received += (int64_t) len;
	if (request->status == TMS_OK && request->form)
	{
		if (MHD_post_process(request->form, data, len) != MHD_YES)
			refuse_part(request, request->part, "the form is malformed");
	}
	else if (request->status == TMS_OK)
		fail(request, intake_write(request->intake, data, len));
	return request->received <= request->limit && clock_steady() < request->deadline;
}

void intake_request_end(IntakeRequest *request, IntakeAnswer *answer)
{
	memset(answer, 0, sizeof *answer);
	if (request->form)
	{
		/* Says whether the form was whole: a cut one is no capture. */
		bool whole = MHD_destroy_post_processor(request->form) == MHD_YES;

		request->form = NULL;
		end_text_part(request);
		if (!whole)
			refuse_part(request, "", "the form has no end");
		else if (!request->intake)
			refuse_part(request, PART_NAME_IMAGE, "is missing");
	}
	if (request->status == TMS_OK)
	{
		request->status = intake_finish(request->intake, &request->record, *request->key ? request->key : NULL,
										&answer->entry, request->error);
		/* Kept or not, which is logged there: the sender is told the same. */
		if (request->status == TMS_INVALID || request->status == TMS_CONFLICT)
			(void) !intake_quarantine(request->intake, "http.jpg", request->error);
	}
	answer->repeated = request->status == TMS_EXISTS;
	if (request->status == TMS_OK || answer->repeated)
		answer->status = MHD_HTTP_CREATED;
	else
		answer_failure(request, answer);
}

void intake_request_free(IntakeRequest *request)
{
	if (!request)
		return;
	if (request->form)
		MHD_destroy_post_processor(request->form);
	intake_free(request->intake);
	free(request);
}
