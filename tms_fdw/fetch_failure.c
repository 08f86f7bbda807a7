/*
 * Why a request failed, in words that tell neither URL nor secret.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <openssl/x509_vfy.h>

#include "tms_fdw/fetch_failure.h"

const char *tms_fetch_duration(int milliseconds)
{
	static char text[32];

	if (milliseconds < 1000)
		snprintf(text, sizeof(text), "%d ms", milliseconds);
	else if (milliseconds % 1000 == 0)
		snprintf(text, sizeof(text), "%d s", milliseconds / 1000);
	else
		snprintf(text, sizeof(text), "%.1f s", milliseconds / 1000.0);
	return text;
}

/* Why a connection failed or broke, by its errno. */
static const char *network_reason(long os_error, const char *otherwise)
{
	static const struct
	{
		int os_error;
		const char *reason;
	} reasons[] = {
		{ECONNREFUSED, "connection refused"}, {ECONNRESET, "connection reset"},
		{EHOSTUNREACH, "no route to host"},   {ENETUNREACH, "network unreachable"},
		{ETIMEDOUT, "connection timed out"},  {EADDRNOTAVAIL, "no local port is free"},
	};
	int i;

	for (i = 0; i < lengthof(reasons); i++)
		if (reasons[i].os_error == os_error)
			return reasons[i].reason;
	return otherwise;
}

/* Why a certificate was not accepted. */
static const char *certificate_reason(CURL *easy)
{
	long result = 0;

	curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &result);
	switch (result)
	{
		case X509_V_OK:
		case X509_V_ERR_UNSPECIFIED:
			/* libcurl looks at the name, once the handshake has found the certificate good, before it notes that. */
			return "certificate is for another host";
		case X509_V_ERR_CERT_HAS_EXPIRED:
			return "certificate has expired";
		case X509_V_ERR_CERT_NOT_YET_VALID:
			return "certificate is not valid yet";
		default:
			return "certificate not trusted";
	}
}

void tms_fetch_fail(CURL *easy, CURLcode code, TmsAnswer *answer, int connect_timeout)
{
	static const struct
	{
		CURLcode code;
		TmsFetchOutcome outcome;
		const char *reason; /* when errno tells no better one */
	} reasons[] = {
		{CURLE_URL_MALFORMAT, TMS_FETCH_REFUSED, "not a URL"},
		{CURLE_UNSUPPORTED_PROTOCOL, TMS_FETCH_BROKEN, "not an HTTP answer"},
		{CURLE_COULDNT_RESOLVE_HOST, TMS_FETCH_UNREACHABLE, "host name not found"},
		{CURLE_COULDNT_CONNECT, TMS_FETCH_UNREACHABLE, "could not connect"},
		{CURLE_SSL_CONNECT_ERROR, TMS_FETCH_UNREACHABLE, "TLS handshake failed"},
		{CURLE_SSL_CACERT_BADFILE, TMS_FETCH_UNREACHABLE, "ca_file cannot be read"},
		{CURLE_GOT_NOTHING, TMS_FETCH_BROKEN, "connection closed without an answer"},
		{CURLE_WEIRD_SERVER_REPLY, TMS_FETCH_BROKEN, "not an HTTP answer"},
		{CURLE_PARTIAL_FILE, TMS_FETCH_BROKEN, "the answer broke off"},
		{CURLE_RECV_ERROR, TMS_FETCH_BROKEN, "connection broke"},
		{CURLE_SEND_ERROR, TMS_FETCH_BROKEN, "connection broke"},
		{CURLE_OUT_OF_MEMORY, TMS_FETCH_NO_MEMORY, "out of memory"},
	};
	const TmsFetch *fetch = answer->fetch;
	long os_error = 0;
	int i;

	if (code == CURLE_OPERATION_TIMEDOUT)
		tms_answer_fail(answer, TMS_FETCH_TIMED_OUT, "timed out after %s while connecting",
						tms_fetch_duration(connect_timeout));
	else if (fetch->status == 200 && fetch->bytes < Max(answer->expected_bytes, answer->announced_bytes))
		tms_answer_fail_by_size(answer, fetch->bytes);
	else if (code == CURLE_PEER_FAILED_VERIFICATION)
		tms_answer_fail(answer, TMS_FETCH_UNREACHABLE, "%s", certificate_reason(easy));
	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
	for (i = 0; i < lengthof(reasons); i++)
		if (reasons[i].code == code)
			tms_answer_fail(answer, reasons[i].outcome, "%s", network_reason(os_error, reasons[i].reason));
	tms_answer_fail(answer, TMS_FETCH_BROKEN, "%s", curl_easy_strerror(code));
}
