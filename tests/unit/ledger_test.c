/*
 * The ledger through its header: seqs and paths, queues and watermarks, forks, cleaning, trimming, and what a restart finds.
 */
#include <pthread.h>

#include "ledger_place.h"

#define MANY 64

static void gives_seqs_without_gaps(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), again;
	LedgerInfo info = active(place);
	TmsStoragePathParts parts;

	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(entries[i].seq, i + 1);
		assert_true(in_cache(place, entries[i].path));
		assert_true(tms_storage_path_parse(entries[i].path, &parts));
		assert_int_equal(parts.seq, i + 1);
		assert_int_equal(parts.ledger_no, tms_ledger_number(&info.ledger));
	}
	assert_int_equal(info.last_seq, 3);
	assert_int_equal(info.oldest_seq, 1);
	assert_int_equal(ledger_get(place->ledger, &info.ledger, 2, &again), TMS_OK);
	assert_string_equal(again.record.plate, "capture 2");
	assert_memory_equal(again.sha256, entries[1].sha256, TMS_SHA256_SIZE);
	assert_int_equal(ledger_get(place->ledger, &info.ledger, 4, &again), TMS_NOT_FOUND);
	free(entries);
}

static void failed_append_uses_up_no_seq(void **state)
{
	Place *place = *state;
	LedgerEntry entry;
	LedgerEntry *entries = append_many(place, 1);

	memset(&entry, 0, sizeof entry);
	entry.record.captured_at = NOW;
	assert_int_not_equal(ledger_append(place->ledger, "no such file", NULL, &entry), TMS_OK);
	assert_int_equal(append(place, "after", &entry), TMS_OK);
	assert_int_equal(entry.seq, 2);
	free(entries);
}

static void key_is_taken_once(void **state)
{
	Place *place = *state;
	LedgerEntry first, again, other;

	assert_int_equal(append_key(place, "one", "key 1", &first), TMS_OK);
	assert_int_equal(append_key(place, "one", "key 1", &again), TMS_EXISTS);
	assert_int_equal(again.seq, first.seq);
	assert_string_equal(again.path, first.path);
	assert_int_equal(append_key(place, "two", "key 1", &again), TMS_CONFLICT);
	assert_memory_equal(again.sha256, first.sha256, TMS_SHA256_SIZE);
	reopen(place);
	assert_int_equal(append_key(place, "one", "key 1", &again), TMS_EXISTS);
	assert_int_equal(again.id, first.id);
	/* A fork moves the capture; what was answered stays. */
	assert_int_equal(ledger_fork(place->ledger, &first.ledger, 1), TMS_OK);
	assert_int_equal(append_key(place, "one", "key 1", &again), TMS_EXISTS);
	assert_memory_equal(again.ledger.bytes, first.ledger.bytes, TMS_UUID_SIZE);
	assert_int_equal(again.seq, first.seq);
	assert_int_equal(append_key(place, "one", "key 2", &other), TMS_OK);
	assert_int_equal(other.seq, 2);
}

static void *append_in_thread(void *state)
{
	LedgerEntry entry;
	char text[64];

	for (int i = 0; i < MANY; i++)
	{
		snprintf(text, sizeof text, "thread %p %d", (void *) &entry, i);
		if (append(state, text, &entry) != TMS_OK)
			return state;
	}
	return NULL;
}

static void threads_share_commits(void **state)
{
	Place *place = *state;
	pthread_t threads[8];
	LedgerCounts counts;
	void *result;

	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, append_in_thread, place), 0);
	for (int i = 0; i < 8; i++)
	{
		pthread_join(threads[i], &result);
		assert_null(result);
	}
	assert_int_equal(active(place).last_seq, 8 * MANY);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.cached, 8 * MANY);
	assert_int_equal(counts.upload_backlog, 8 * MANY);
	assert_int_equal(counts.register_backlog, 8 * MANY);
}

static void watermarks_follow_uploads(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 5), next[5];
	LedgerInfo info;
	int count;

	assert_int_equal(set_uploaded(place, entries[2].id, NOW), TMS_OK);
	info = active(place);
	assert_int_equal(info.uploaded_seq, 0);
	assert_int_equal(info.uploaded_max, 3);
	assert_int_equal(set_uploaded(place, entries[0].id, NOW), TMS_OK);
	assert_int_equal(active(place).uploaded_seq, 1);
	assert_int_equal(ledger_set_aside(place->ledger, entries[1].id, "damaged"), TMS_OK);
	assert_int_equal(active(place).uploaded_seq, 3);
	assert_int_equal(ledger_next_uploads(place->ledger, false, 0, next, 5, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(next[0].seq, 4);
	assert_int_equal(next[1].seq, 5);
	/* The image center was emptied: what is found missing goes back to the queue, and the watermark with it. */
	assert_int_equal(ledger_set_missing(place->ledger, entries[0].id, "HEAD: HTTP status 404"), TMS_OK);
	assert_int_equal(active(place).uploaded_seq, 0);
	assert_int_equal(ledger_next_uploads(place->ledger, false, 0, next, 5, &count), TMS_OK);
	assert_int_equal(count, 3);
	assert_int_equal(next[0].seq, 1);
	free(entries);
}

static void upload_requests_are_a_second_queue(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 4), next[5];
	LedgerRequest requests[2 * LEDGER_REQUESTS];
	int count;

	for (int i = 0; i < 3; i++)
		assert_int_equal(set_uploaded(place, entries[i].id, NOW), TMS_OK);
	assert_int_equal(ledger_request_upload(place->ledger, 7, NOW + 1, NOW + HOUR), TMS_OK);
	assert_int_equal(ledger_request_seen(place->ledger), 7);
	assert_int_equal(ledger_next_uploads(place->ledger, true, 0, next, 5, &count), TMS_OK);
	assert_int_equal(count, 0);
	assert_int_equal(ledger_request_upload(place->ledger, 8, NOW - HOUR, NOW + 1), TMS_OK);
	assert_int_equal(ledger_next_uploads(place->ledger, true, 0, next, 5, &count), TMS_OK);
	assert_int_equal(count, 4);
	assert_int_equal(active(place).uploaded_seq, 0);
	/* Newest first. */
	assert_int_equal(next[0].seq, 4);
	assert_true(next[0].requested);
	assert_int_equal(ledger_next_uploads(place->ledger, true, next[1].id, next, 5, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(next[0].seq, 2);
	/* The first found nothing and was done at once; the second is once all are uploaded or set aside. */
	assert_int_equal(ledger_requests(place->ledger, requests, 3, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(requests[0].id, 8);
	assert_int_equal(requests[0].held, 4);
	assert_int_equal(requests[0].not_held, 0);
	assert_int_equal(requests[1].id, 7);
	assert_int_equal(requests[1].held, 0);
	assert_true(requests[1].done_at > 0);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(set_uploaded(place, entries[i].id, NOW), TMS_OK);
		assert_int_equal(ledger_requests(place->ledger, requests, 1, &count), TMS_OK);
		assert_int_equal(requests[0].done_at, 0);
	}
	assert_int_equal(ledger_set_aside(place->ledger, entries[3].id, "damaged"), TMS_OK);
	assert_int_equal(ledger_requests(place->ledger, requests, 1, &count), TMS_OK);
	assert_true(requests[0].done_at > 0);
	assert_int_equal(ledger_next_uploads(place->ledger, true, 0, next, 5, &count), TMS_OK);
	assert_int_equal(count, 0);
	/* Of those that are done the last ones are kept. */
	for (int i = 0; i < 2 * LEDGER_REQUESTS; i++)
		assert_int_equal(ledger_request_upload(place->ledger, 9 + i, NOW + 1, NOW + HOUR), TMS_OK);
	assert_int_equal(ledger_requests(place->ledger, requests, 2 * LEDGER_REQUESTS, &count), TMS_OK);
	assert_int_equal(count, LEDGER_REQUESTS);
	assert_int_equal(requests[0].id, 8 + 2 * LEDGER_REQUESTS);
	free(entries);
}

static void confirmation_goes_up_and_down(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 5), read[5];
	LedgerInfo info = active(place);
	LedgerCounts counts;
	int count;

	assert_int_equal(ledger_confirm(place->ledger, &info.ledger, 4), TMS_OK);
	assert_int_equal(active(place).confirmed, 4);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.register_backlog, 1);
	assert_int_equal(ledger_confirm(place->ledger, &info.ledger, 2), TMS_OK);
	assert_int_equal(active(place).confirmed, 2);
	assert_int_equal(ledger_confirm(place->ledger, &info.ledger, 99), TMS_OK);
	assert_int_equal(active(place).confirmed, 5);
	assert_int_equal(ledger_read(place->ledger, &info.ledger, 4, read, 5, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(read[0].seq, 4);
	free(entries);
}

static void forks_are_deterministic(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 5), entry;
	TmsUuid old = active(place).ledger, expected;
	LedgerInfo infos[4], info;
	int count;

	assert_int_equal(ledger_confirm(place->ledger, &old, 5), TMS_OK);
	assert_true(tms_ledger_fork_uuid(&old, 4, entries[3].sha256, &expected));
	assert_int_equal(ledger_fork(place->ledger, &old, 4), TMS_OK);
	info = active(place);
	assert_memory_equal(info.ledger.bytes, expected.bytes, TMS_UUID_SIZE);
	assert_int_equal(info.last_seq, 2);
	assert_int_equal(info.confirmed, 0);
	assert_int_equal(ledger_get(place->ledger, &expected, 1, &entry), TMS_OK);
	assert_string_equal(entry.path, entries[3].path);
	assert_int_equal(ledger_list(place->ledger, infos, 4, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_true(infos[0].sealed);
	assert_int_equal(infos[0].last_seq, 3);
	assert_int_equal(infos[0].confirmed, 3);
	/* A repeated answer changes nothing; what comes now goes on behind what was moved. */
	assert_int_equal(ledger_fork(place->ledger, &old, 4), TMS_OK);
	assert_int_equal(ledger_list(place->ledger, infos, 4, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(append(place, "after the fork", &entry), TMS_OK);
	assert_int_equal(entry.seq, 3);
	free(entries);
}

/* Only what is uploaded, confirmed and old enough by both times may go. */
static void cleans_what_is_safe_and_old(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 4), next[4];
	TmsUuid uuid = active(place).ledger;
	LedgerCleanable where = {.before = NOW, .last_id = INT64_MAX};
	LedgerCounts counts;
	int64_t dropped;
	int count;

	assert_int_equal(set_uploaded(place, entries[0].id, NOW), TMS_OK);
	assert_int_equal(set_uploaded(place, entries[1].id, NOW), TMS_OK);
	assert_int_equal(set_uploaded(place, entries[3].id, NOW), TMS_OK);
	assert_int_equal(ledger_confirm(place->ledger, &uuid, 3), TMS_OK);
	assert_int_equal(ledger_next_cleanable(place->ledger, &where, next, 4, &count), TMS_OK);
	assert_int_equal(count, 0);
	assert_true(where.ended);
	where = (LedgerCleanable){.before = NOW + 1, .last_id = entries[0].id};
	assert_int_equal(ledger_next_cleanable(place->ledger, &where, next, 4, &count), TMS_OK);
	assert_int_equal(count, 1); /* by id */
	where = (LedgerCleanable){.before = NOW + 1, .last_id = INT64_MAX};
	assert_int_equal(ledger_next_cleanable(place->ledger, &where, next, 1, &count), TMS_OK);
	assert_int_equal(count, 1);
	assert_int_equal(next[0].seq, 1);
	assert_false(where.ended);
	assert_int_equal(ledger_next_cleanable(place->ledger, &where, next, 4, &count), TMS_OK);
	assert_int_equal(count, 1);
	assert_int_equal(next[0].seq, 2);
	assert_true(where.ended);
	/* Not uploaded, not confirmed: asked again right before the unlink. */
	assert_int_equal(cleaning(place, entries[2].id), TMS_NOT_FOUND);
	assert_int_equal(cleaning(place, entries[3].id), TMS_NOT_FOUND);
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(cleaning(place, entries[i].id), TMS_OK);
		assert_int_equal(cache_remove(place->cache, entries[i].path), TMS_OK);
		assert_int_equal(cleaned(place, entries[i].id), TMS_OK);
	}
	assert_int_equal(active(place).cleaned_seq, 2);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.cached, 2);
	assert_int_equal(counts.cached_bytes, entries[2].bytes + entries[3].bytes);
	/* A prefix, cleaned, below confirmed, and old: entries 1 and 2, but none that is younger than `before`. */
	assert_int_equal(ledger_trim(place->ledger, NOW + 1, entries[0].id - 1, &dropped), TMS_OK);
	assert_int_equal(dropped, 0); /* not old enough by elapsed time */
	assert_int_equal(ledger_trim(place->ledger, NOW, INT64_MAX, &dropped), TMS_OK);
	assert_int_equal(dropped, 0);
	assert_int_equal(ledger_trim(place->ledger, NOW + 1, INT64_MAX, &dropped), TMS_OK);
	assert_int_equal(dropped, 2);
	assert_int_equal(active(place).oldest_seq, 3);
	free(entries);
}

static void keeps_the_entry_at_confirmed(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 2);
	TmsUuid uuid = active(place).ledger;
	int64_t dropped;

	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(set_uploaded(place, entries[i].id, NOW), TMS_OK);
		assert_int_equal(ledger_confirm(place->ledger, &uuid, 2), TMS_OK);
		assert_int_equal(cleaning(place, entries[i].id), TMS_OK);
		assert_int_equal(cache_remove(place->cache, entries[i].path), TMS_OK);
		assert_int_equal(cleaned(place, entries[i].id), TMS_OK);
	}
	assert_int_equal(ledger_trim(place->ledger, NOW + 1, INT64_MAX, &dropped), TMS_OK);
	assert_int_equal(dropped, 1);
	assert_int_equal(active(place).oldest_seq, 2);
	free(entries);
}

static void restarts_where_it_was(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), entry;
	LedgerInfo before, after;
	LedgerPeriod period;
	int64_t report_no, next_report_no;

	assert_int_equal(ledger_offer_period(place->ledger, 7 * 24 * HOUR, 0, &period), TMS_OK);
	assert_int_equal(ledger_offer_period(place->ledger, 7 * 24 * HOUR, 0, &period), TMS_OK);
	assert_int_equal(period, LEDGER_PERIOD_TAKEN);
	assert_int_equal(ledger_next_report(place->ledger, &report_no), TMS_OK);
	assert_int_equal(set_uploaded(place, entries[0].id, NOW), TMS_OK);
	before = active(place);
	assert_int_equal(ledger_confirm(place->ledger, &before.ledger, 1), TMS_OK);
	/* A deletion that was cut short before the unlink, and one after it. */
	assert_int_equal(cleaning(place, entries[0].id), TMS_OK);
	reopen(place);
	after = active(place);
	assert_memory_equal(after.ledger.bytes, before.ledger.bytes, TMS_UUID_SIZE);
	assert_int_equal(after.last_seq, 3);
	assert_int_equal(after.uploaded_seq, 1);
	assert_int_equal(ledger_cleaning_period(place->ledger), 7 * 24 * HOUR);
	assert_int_equal(ledger_next_report(place->ledger, &next_report_no), TMS_OK);
	assert_true(next_report_no > report_no);
	assert_int_equal(ledger_get_id(place->ledger, entries[0].id, &entry), TMS_OK);
	assert_true(entry.held);

	assert_int_equal(set_uploaded(place, entries[0].id, NOW), TMS_OK);
	assert_int_equal(cleaning(place, entries[0].id), TMS_OK);
	assert_int_equal(cache_remove(place->cache, entries[0].path), TMS_OK);
	reopen(place);
	assert_int_equal(ledger_get_id(place->ledger, entries[0].id, &entry), TMS_OK);
	assert_false(entry.held);
	free(entries);
}

static void copied_disk_begins_a_new_ledger(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), entry;
	TmsUuid old = active(place).ledger;
	LedgerInfo infos[4];
	int count;

	close_place(place);
	open_as(place, "unit-1", "fedcba9876543210fedcba9876543210");
	assert_memory_not_equal(active(place).ledger.bytes, old.bytes, TMS_UUID_SIZE);
	assert_int_equal(append(place, "on the copy", &entry), TMS_OK);
	assert_int_equal(entry.seq, 1);
	close_place(place);
	open_as(place, "unit-2", "fedcba9876543210fedcba9876543210");
	assert_int_equal(ledger_list(place->ledger, infos, 4, &count), TMS_OK);
	assert_int_equal(count, 3);
	assert_true(infos[0].sealed && infos[1].sealed && !infos[2].sealed);
	assert_int_equal(infos[0].last_seq, 3);
	free(entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gives_seqs_without_gaps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failed_append_uses_up_no_seq, set_up, tear_down),
		cmocka_unit_test_setup_teardown(key_is_taken_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(threads_share_commits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(watermarks_follow_uploads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(upload_requests_are_a_second_queue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(confirmation_goes_up_and_down, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forks_are_deterministic, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cleans_what_is_safe_and_old, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_the_entry_at_confirmed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(restarts_where_it_was, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copied_disk_begins_a_new_ledger, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
