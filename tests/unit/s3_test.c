/*
 * common/s3: URLs, header lines, and what refusals mean, whatever bytes they are made of.
 */
#include "vectors.h"

#include "common/s3.h"

static const TmsSigv4Credentials credentials = {
	.access_key_id = "AKIAIOSFODNN7EXAMPLE",
	.secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	.region = "us-east-1",
};

static char lines[8][TMS_S3_LINE_SIZE];
static int line_count;

static bool keep_line(void *argument, const char *line)
{
	snprintf(lines[line_count++], TMS_S3_LINE_SIZE, "%s", line);
	return line_count < (argument != NULL ? *(int *) argument : 8);
}

static TmsS3Request request_of(const char *base_url, const char *key)
{
	line_count = 0;
	return (TmsS3Request){
		.method = "GET", .base_url = base_url, .key = key, .payload = TMS_S3_NO_PAYLOAD, .time = 1369353600};
}

static const char *url_of(const char *base_url, const char *key)
{
	static char url[TMS_S3_URL_SIZE];
	TmsS3Request request = request_of(base_url, key);

	return tms_s3_sign(&credentials, &request, url, keep_line, NULL) ? url : "(refused)";
}

static void test_urls(void **state)
{
	static const struct
	{
		const char *base_url;
		const char *key;
		const char *url;
		const char *host;
	} cases[] = {
		{"http://store:9000/captures", "gate-1/a.jpg", "http://store:9000/captures/gate-1/a.jpg", "host: store:9000"},
		{"http://store:80/b", "k", "http://store:80/b/k", "host: store"},
		{"https://store:443/b", "k", "https://store:443/b/k", "host: store"},
		{"https://store:80/b", "k", "https://store:80/b/k", "host: store:80"},
		{"HTTPS://[::1]:443/b", "k", "HTTPS://[::1]:443/b/k", "host: [::1]"},
		{"http://b.store", "k", "http://b.store/k", "host: b.store"},
		{"http://store/b", NULL, "http://store/b", "host: store"},
		{"http://store", NULL, "http://store/", "host: store"},
		{"http://store/b%2fc/%E8%B7%af", "a b+\xc3\xbc", "http://store/b/c/%E8%B7%AF/a%20b%2B%C3%BC", "host: store"},
		{"http://store/b//c/../d", "k", "http://store/b//c/../d/k", "host: store"},
		{"http://store/b%", "k", "(refused)", NULL},
		{"http://store/b%4", "k", "(refused)", NULL},
		{"http://store/b%zz", "k", "(refused)", NULL},
		{"http://store/b%00", "k", "(refused)", NULL},
		{"http:///b", "k", "(refused)", NULL},
		{"http://user@store/b", "k", "(refused)", NULL},
		{"http://store?x/b", "k", "(refused)", NULL},
		{"http://store\r\nx: y/b", "k", "(refused)", NULL},
		{"http://st\xc3\xb6re/b", "k", "(refused)", NULL},
		{"ftp://store/b", "k", "(refused)", NULL},
		{"", "k", "(refused)", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		assert_string_equal(url_of(cases[i].base_url, cases[i].key), cases[i].url);
		if (cases[i].host != NULL)
			assert_string_equal(lines[0], cases[i].host);
	}
}

/* The same request as in the S3 API reference, so the same signature. */
static void test_lines(void **state)
{
	TmsSigv4Credentials with_token = credentials;
	TmsS3Request request = request_of("https://examplebucket.s3.amazonaws.com", NULL);
	const TmsSigv4Field query[] = {{"prefix", "J"}, {"max-keys", "2"}};
	char url[TMS_S3_URL_SIZE];
	int most = 3;

	request.query = query;
	request.query_count = 2;
	assert_true(tms_s3_sign(&credentials, &request, url, keep_line, NULL));
	assert_string_equal(url, "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J");
	assert_int_equal(line_count, 4);
	assert_string_equal(lines[0], "host: examplebucket.s3.amazonaws.com");
	assert_string_equal(lines[1], "x-amz-content-sha256: " TMS_S3_NO_PAYLOAD);
	assert_string_equal(lines[2], "x-amz-date: 20130524T000000Z");
	assert_non_null(strstr(lines[3], "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));

	with_token.session_token = "token";
	line_count = 0;
	assert_true(tms_s3_sign(&with_token, &request, url, keep_line, NULL));
	assert_int_equal(line_count, 5);
	assert_string_equal(lines[3], "x-amz-security-token: token");
	line_count = 0;
	assert_false(tms_s3_sign(&with_token, &request, url, keep_line, &most));
}

static void test_presign(void **state)
{
	TmsS3Request request = request_of("https://examplebucket.s3.amazonaws.com", "test.txt");
	char url[TMS_S3_URL_SIZE];

	assert_true(tms_s3_presign(&credentials, &request, 86400, url));
	assert_non_null(strstr(url, "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm="));
	assert_non_null(strstr(url, "Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"));
	assert_false(tms_s3_presign(&credentials, &request, 0, url));
}

static void test_long_texts(void **state)
{
	static char longest[5000];
	TmsSigv4Credentials other = credentials;
	TmsS3Request request;
	char url[TMS_S3_URL_SIZE];

	memset(longest, 'x', sizeof(longest) - 1);
	assert_string_equal(url_of("http://store/b", longest), "(refused)");
	memcpy(longest, "http://", 7);
	assert_string_equal(url_of(longest, "k"), "(refused)");
	memcpy(longest, "http://h/", 9);
	assert_string_equal(url_of(longest, "k"), "(refused)");
	other.session_token = longest;
	request = request_of("http://store/b", "k");
	assert_false(tms_s3_sign(&other, &request, url, keep_line, NULL));
	assert_false(tms_s3_presign(&other, &request, 60, url));
}

/* status, body, clock ahead -> problem, phrase */
static void test_refusals(void **state)
{
	static const struct
	{
		int status;
		const char *body;
		int64_t ahead;
		TmsS3Problem problem;
		const char *phrase;
	} cases[] = {
		{403, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><RequestId>x</RequestId></Error>", 0,
		 TMS_S3_MISCONFIGURED, "HTTP 403 AccessDenied: access_key_id may not do this here"},
		{403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", 1200, TMS_S3_MISCONFIGURED,
		 "HTTP 403 RequestTimeTooSkewed: the clock of this machine is 20 minutes ahead of the store's"},
		{403, "", -1260, TMS_S3_MISCONFIGURED, "HTTP 403: the clock of this machine is 21 minutes behind the store's"},
		{403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", 0, TMS_S3_MISCONFIGURED,
		 "HTTP 403 RequestTimeTooSkewed: the clocks of this machine and of the store differ too much"},
		{404, "", -1260, TMS_S3_ABSENT, "HTTP 404"},
		{404, "<Error><Code>NoSuchBucket</Code></Error>", 0, TMS_S3_MISCONFIGURED,
		 "HTTP 404 NoSuchBucket: there is no such bucket; make it, or correct url"},
		{404, "<Error><Code>NoSuchKey</Code><Message>The specified key does\n\tnot  exist.</Message></Error>", 0,
		 TMS_S3_ABSENT, "HTTP 404 NoSuchKey: The specified key does not exist."},
		{301,
		 "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.eu-1.example</Endpoint><Region>eu-1</Region></Error>", 0,
		 TMS_S3_MISCONFIGURED,
		 "HTTP 301 PermanentRedirect: the bucket is in region eu-1: set region, and url to b.s3.eu-1.example"},
		{307, "<Error><Code>TemporaryRedirect</Code><Endpoint>other</Endpoint></Error>", 0, TMS_S3_MISCONFIGURED,
		 "HTTP 307 TemporaryRedirect: the bucket is at other: set url"},
		{302, "", 0, TMS_S3_MISCONFIGURED, "HTTP 302: redirects are not followed"},
		{400, "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-1</Region></Error>", 0,
		 TMS_S3_MISCONFIGURED, "HTTP 400 AuthorizationHeaderMalformed: the bucket is in region eu-1: set region"},
		{403, "<Error><Code>SignatureDoesNotMatch</Code><Region>us-east-1</Region></Error>", 0, TMS_S3_MISCONFIGURED,
		 "HTTP 403 SignatureDoesNotMatch: secret_access_key, or region, is wrong"},
		{400, "<Error><Code>RequestTimeout</Code></Error>", 0, TMS_S3_BUSY, "HTTP 400 RequestTimeout"},
		{400, "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>", 0, TMS_S3_DAMAGED,
		 "HTTP 400 XAmzContentSHA256Mismatch: other bytes arrived than were sent"},
		{400, "<Error><Code>Whatever</Code></Error>", 0, TMS_S3_REFUSED, "HTTP 400 Whatever"},
		{409, "", 0, TMS_S3_BUSY, "HTTP 409"},
		{412, "", 0, TMS_S3_EXISTS, "HTTP 412"},
		{501, "", 0, TMS_S3_NOT_SUPPORTED, "HTTP 501"},
		{503,
		 "<Error><Code>SlowDown</Code><Message>Please reduce &quot;your&quot; rate &lt;&amp;&gt;&apos;"
		 "</Message></Error>",
		 0, TMS_S3_BUSY, "HTTP 503 SlowDown: Please reduce \"your\" rate <&>'"},
		{500, "<html><body>Internal <Code>Server</Code></body></html>", 0, TMS_S3_BUSY, "HTTP 500"},
		{403,
		 "<!DOCTYPE x [<!ENTITY a \"aa\"><!ENTITY b \"&a;&a;\">]><Error><Code>&b;</Code><Message>&b;&#10;\x01\xff"
		 "</Message></Error>",
		 0, TMS_S3_MISCONFIGURED, "HTTP 403 &b;: &b;&#10;??"},
		{400, "<Error><Code>Cut", 0, TMS_S3_REFUSED, "HTTP 400 Cut"},
		{400, "<Error><Code></Code><Message>", 0, TMS_S3_REFUSED, "HTTP 400"},
		{400, "<Error><Co", 0, TMS_S3_REFUSED, "HTTP 400"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t len = strlen(cases[i].body);
		char *body = malloc(len > 0 ? len : 1); /* of exactly its size, so that reading past it is noticed */
		TmsS3Refusal refusal;
		char phrase[256];

		memcpy(body, cases[i].body, len);
		tms_s3_refusal_read(&refusal, cases[i].status, body, len, "us-east-1", 1000000, 1000000 + cases[i].ahead);
		free(body);
		tms_s3_refusal_explain(&refusal, phrase, sizeof(phrase));
		assert_string_equal(phrase, cases[i].phrase);
		assert_int_equal(tms_s3_refusal_problem(&refusal), cases[i].problem);
		for (size_t size = 1; size < 40; size++)
		{
			char *part = malloc(size);

			tms_s3_refusal_explain(&refusal, part, size);
			assert_true(strlen(part) < size && strncmp(part, cases[i].phrase, strlen(part)) == 0);
			free(part);
		}
	}
}

/* Texts longer than their fields are cut; a store without a clock says nothing about ours. */
static void test_refusal_limits(void **state)
{
	static char body[TMS_S3_ERROR_BODY_SIZE];
	TmsS3Refusal refusal;
	char phrase[512];

	memset(body, 'A', sizeof(body));
	memcpy(body, "<Error><Message>", 16);
	tms_s3_refusal_read(&refusal, 403, body, sizeof(body), "us-east-1", 0, 1000000);
	assert_int_equal(strlen(refusal.message), sizeof(refusal.message) - 1);
	assert_int_equal(refusal.clock_ahead, 0);
	tms_s3_refusal_explain(&refusal, phrase, sizeof(phrase));
	assert_int_equal(strlen(phrase), strlen("HTTP 403: ") + sizeof(refusal.message) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),       cmocka_unit_test(test_lines),    cmocka_unit_test(test_presign),
		cmocka_unit_test(test_long_texts), cmocka_unit_test(test_refusals), cmocka_unit_test(test_refusal_limits),
	};

	return cmocka_run_group_tests_name("s3", tests, NULL, NULL);
}
