/*
 * common/sigv4: the published examples of Signature Version 4, and texts that do not fit.
 */
#include "vectors.h"

#include "common/sigv4.h"

/* What a vector's fields say, in memory of the test's. */
typedef struct Vector
{
	char *texts[64];
	int text_count;
	TmsSigv4Credentials credentials;
	TmsSigv4Field query[TMS_SIGV4_FIELDS_MAX];
	TmsSigv4Field headers[TMS_SIGV4_FIELDS_MAX];
	TmsSigv4Request request;
} Vector;

/* The next part of *rest up to a separator, without its escapes; the vector frees it. "" when there is none. */
static const char *take(Vector *vector, char **rest, const char *separator)
{
	char *part = strsep(rest, separator);

	return vector->texts[vector->text_count++] = vector_string(part != NULL ? part : "");
}

/* Splits "a=b&c=d" by its two separators; how many fields there are. */
static int take_fields(Vector *vector, char *text, const char *between, const char *within, TmsSigv4Field *out)
{
	int count = 0;

	while (text != NULL && *text != '\0')
	{
		char *field = strsep(&text, between);

		out[count].name = take(vector, &field, within);
		out[count++].value = take(vector, &field, "");
	}
	return count;
}

/* Fields as the head of tests/vectors/sigv4.tsv names them, from the credentials on. */
static Vector *vector_read(char **field)
{
	Vector *vector = calloc(1, sizeof(*vector));

	vector->credentials.access_key_id = take(vector, &field[0], " ");
	vector->credentials.secret_access_key = take(vector, &field[0], " ");
	vector->credentials.session_token = take(vector, &field[0], " ");
	vector->request.time = atoll(take(vector, &field[1], " "));
	vector->credentials.region = take(vector, &field[1], " ");
	vector->credentials.service = take(vector, &field[1], " ");
	vector->request.method = take(vector, &field[2], " ");
	vector->request.path = take(vector, &field[2], "");
	vector->request.query = vector->query;
	vector->request.query_count = take_fields(vector, field[3], "&", "=", vector->query);
	vector->request.headers = vector->headers;
	vector->request.header_count = take_fields(vector, field[4], "|", ":", vector->headers);
	vector->request.payload = take(vector, &field[5], "");
	return vector;
}

static void vector_free(Vector *vector)
{
	for (int i = 0; i < vector->text_count; i++)
		free(vector->texts[i]);
	free(vector);
}

static bool check_authorization(char **field)
{
	Vector *vector = vector_read(field + 1);
	char value[TMS_SIGV4_VALUE_SIZE];
	char *signature;
	bool ok = tms_sigv4_authorization(&vector->credentials, &vector->request, value) &&
			  (signature = strstr(value, "Signature=")) != NULL && strcmp(signature + 10, field[7]) == 0;

	if (!ok)
		print_error("%s: %s\n", field[0], value);
	vector_free(vector);
	return ok;
}

static void test_authorization(void **state)
{
	vectors_check("sigv4.tsv", 8, check_authorization);
}

static bool check_presign(char **field)
{
	Vector *vector = vector_read(field);
	char target[4096];
	bool ok = tms_sigv4_presign(&vector->credentials, &vector->request, atoll(field[6]), target, sizeof(target)) &&
			  strcmp(target, field[7]) == 0;

	if (!ok)
		print_error("%s\n", target);
	/* One byte less than it needs is refused, not cut. */
	ok = ok && !tms_sigv4_presign(&vector->credentials, &vector->request, atoll(field[6]), target, strlen(field[7]));
	vector_free(vector);
	return ok;
}

static void test_presign(void **state)
{
	vectors_check("sigv4_presign.tsv", 8, check_presign);
}

static const TmsSigv4Credentials credentials = {
	.access_key_id = "id", .secret_access_key = "secret", .region = "us-east-1", .service = "s3"};

static TmsSigv4Request example(void)
{
	return (TmsSigv4Request){.method = "GET", .path = "/a", .payload = TMS_SIGV4_UNSIGNED, .time = 1369353600};
}

/* The whole value, with its headers in order of their names however they were given. */
static void test_value(void **state)
{
	const TmsSigv4Field headers[] = {{"x-amz-date", "20130524T000000Z"}, {"host", "h"}};
	TmsSigv4Request request = example();
	char value[TMS_SIGV4_VALUE_SIZE];
	static const char expected[] =
		"AWS4-HMAC-SHA256 Credential=id/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=";

	request.headers = headers;
	request.header_count = 2;
	assert_true(tms_sigv4_authorization(&credentials, &request, value));
	assert_memory_equal(value, expected, sizeof(expected) - 1);
	assert_int_equal(strlen(value), sizeof(expected) - 1 + 64);
}

static void test_target(void **state)
{
	const TmsSigv4Field query[] = {{"b", "/"}, {"a-b", "2"}, {"a", "\xe8\xb7\xaf"}, {"a", "+ "}};
	TmsSigv4Request request = example();
	char target[128];

	request.path = "/x//y/./../z%20 \xc3\xbc";
	assert_true(tms_sigv4_target(&request, target, sizeof(target)));
	assert_string_equal(target, "/x//y/./../z%2520%20%C3%BC");
	request.query = query;
	request.query_count = 4;
	assert_true(tms_sigv4_target(&request, target, sizeof(target)));
	assert_string_equal(target, "/x//y/./../z%2520%20%C3%BC?a=%2B%20&a=%E8%B7%AF&a-b=2&b=%2F");
	assert_false(
		tms_sigv4_target(&request, target, strlen("/x//y/./../z%2520%20%C3%BC?a=%2B%20&a=%E8%B7%AF&a-b=2&b=%2F")));
}

static void test_time(void **state)
{
	char text[TMS_SIGV4_TIME_SIZE];

	assert_true(tms_sigv4_time(1369353600, text));
	assert_string_equal(text, "20130524T000000Z");
	assert_true(tms_sigv4_time(-1, text));
	assert_string_equal(text, "19691231T235959Z");
	assert_true(tms_sigv4_time(INT64_C(253402300799), text));
	assert_string_equal(text, "99991231T235959Z");
	assert_false(tms_sigv4_time(INT64_C(253402300800), text));
	assert_false(tms_sigv4_time(INT64_MAX, text));
	assert_false(tms_sigv4_time(INT64_MIN, text));
}

/* Nothing that does not fit is cut off and signed. */
static void test_too_much(void **state)
{
	static char longest[20000];
	TmsSigv4Field fields[TMS_SIGV4_FIELDS_MAX + 1];
	TmsSigv4Request request = example();
	TmsSigv4Credentials other = credentials;
	char value[TMS_SIGV4_VALUE_SIZE];
	char target[8192];

	memset(longest, 'x', sizeof(longest) - 1);
	assert_true(tms_sigv4_authorization(&credentials, &request, value));
	for (int i = 0; i <= TMS_SIGV4_FIELDS_MAX; i++)
		fields[i] = (TmsSigv4Field){"n", "v"};
	request.query = fields;
	request.query_count = TMS_SIGV4_FIELDS_MAX;
	assert_true(tms_sigv4_authorization(&credentials, &request, value));
	assert_false(tms_sigv4_presign(&credentials, &request, 60, target, sizeof(target)));
	request.query_count++;
	assert_false(tms_sigv4_authorization(&credentials, &request, value));
	assert_false(tms_sigv4_target(&request, target, sizeof(target)));
	request = example();
	request.headers = fields;
	request.header_count = TMS_SIGV4_FIELDS_MAX + 1;
	assert_false(tms_sigv4_authorization(&credentials, &request, value));

	fields[0].value = longest;
	request.header_count = 1;
	assert_false(tms_sigv4_authorization(&credentials, &request, value));
	request = example();
	request.query = fields;
	request.query_count = 1;
	assert_false(tms_sigv4_authorization(&credentials, &request, value));
	request = example();
	request.path = longest;
	assert_false(tms_sigv4_authorization(&credentials, &request, value));
	assert_false(tms_sigv4_target(&request, target, sizeof(target)));

	request = example();
	longest[TMS_SIGV4_SECRET_MAX] = '\0';
	other.secret_access_key = longest;
	assert_true(tms_sigv4_authorization(&other, &request, value));
	longest[TMS_SIGV4_SECRET_MAX] = 'x';
	assert_false(tms_sigv4_authorization(&other, &request, value));
	other = credentials;
	other.region = longest;
	assert_false(tms_sigv4_authorization(&other, &request, value));
	other = credentials;
	other.access_key_id = longest;
	assert_false(tms_sigv4_authorization(&other, &request, value));
	assert_false(tms_sigv4_presign(&other, &request, 60, target, sizeof(target)));
}

static void test_expires(void **state)
{
	TmsSigv4Request request = example();
	char target[1024];

	assert_true(tms_sigv4_presign(&credentials, &request, 1, target, sizeof(target)));
	assert_true(tms_sigv4_presign(&credentials, &request, TMS_SIGV4_EXPIRES_MAX, target, sizeof(target)));
	assert_false(tms_sigv4_presign(&credentials, &request, TMS_SIGV4_EXPIRES_MAX + 1, target, sizeof(target)));
	assert_false(tms_sigv4_presign(&credentials, &request, 0, target, sizeof(target)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_authorization), cmocka_unit_test(test_presign), cmocka_unit_test(test_value),
		cmocka_unit_test(test_target),        cmocka_unit_test(test_time),    cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_expires),
	};

	return cmocka_run_group_tests_name("sigv4", tests, NULL, NULL);
}
