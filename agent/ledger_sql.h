/*
 * All SQL of the ledger but the schema. One table of statements, indexed by LedgerSql; ledger_db.c prepares each once per connection.
 *
 * Invariants of the schema:
 *  - (ledger, seq) is unique; the active ledger's seqs have no holes; ids grow in the order of intake and are never reused;
 *  - exactly one ledger has sealed = 0, the active one; a building one is not reported yet;
 *  - no row above uploaded_max is uploaded; the other watermarks are looked up in the partial indexes;
 *  - counter holds the sums over capture, kept by triggers;
 *  - confirmation has a row (ledger, last_seq) for every time that a ledger was confirmed up to last_seq, none above its
 *    confirmed; the first with last_seq >= seq is seq's. Kept by triggers;
 *  - manifest_due has a row for every capture that is uploaded, not set aside, and in no manifest yet, but for those up to
 *    meta manifest_walk; kept by triggers, so that one that was moved or uploaded anew is written anew;
 *  - moved names the rows whose path was made for another (ledger, seq);
 *  - intake_key holds what was answered for the captures of the last LEDGER_KEYS that were appended under a key; `at` (see
 *    ledger_key.c) grows with id, and nothing in it changes when a capture moves, is cleaned or is trimmed.
 *
 * Every statement but SQL_CAPTURE_REQUEST, SQL_CAPTURE_NOT_HELD, SQL_MANIFEST_ADD_OLD and those of trim, which work in pieces, finds its rows by an index, whatever the
 * tables hold. Where only a partial index does that it is named (INDEXED BY): a statement that could not use it would fail.
 */
#ifndef AGENT_LEDGER_SQL_H
#define AGENT_LEDGER_SQL_H

#include "ledger_schema.h"

#define LEDGER_PRAGMAS                                                                                            \
	"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -8192;" \
	"PRAGMA wal_autocheckpoint = 1000; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"

/* Columns of an entry, in the order in which ledger_read.c takes them. */
#define ENTRY_COLUMNS                                                                                             \
	"c.id, l.uuid, c.seq, c.bytes, c.taken_at, c.captured_at, c.uploaded_at, c.held, c.path, c.sha256, c.record," \
	" c.etag, c.requested"
#define ENTRY_FROM " FROM capture c JOIN ledger l ON l.no = c.ledger "

typedef enum LedgerSql
{
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_SAVE,
	SQL_SAVE_BACK,
	SQL_SAVE_DONE,
	SQL_CHECKPOINT,
	SQL_START_IDS,
	SQL_META_GET,
	SQL_META_PUT,
	SQL_LEDGER_NEW,
	SQL_LEDGER_ACTIVE,
	SQL_LEDGER_SEAL,
	SQL_LEDGER_BY_UUID,
	SQL_LEDGER_UUIDS,
	SQL_LEDGER_SEAL_ALL,
	SQL_LEDGER_BUILD,
	SQL_LEDGER_BUILT,
	SQL_LEDGER_LIST,
	SQL_LEDGER_LAST_SEQ,
	SQL_LEDGER_CONFIRM,
	SQL_LEDGER_UNCONFIRM,
	SQL_LEDGER_FORKED,
	SQL_LEDGER_FORK_TO,
	SQL_LEDGER_UPLOADED_MAX,
	SQL_CAPTURE_INSERT,
	SQL_CAPTURE_BY_SEQ,
	SQL_CAPTURE_BY_ID,
	SQL_CAPTURE_NEXT_UPLOADS,
	SQL_CAPTURE_NEXT_REQUESTED,
	SQL_CAPTURE_READ,
	SQL_CAPTURE_NEWEST,
	SQL_CAPTURE_CLEANABLE_PIECE,
	SQL_CAPTURE_NEXT_CLEANABLE,
	SQL_CAPTURE_UPLOADED,
	SQL_CAPTURE_NOT_UPLOADED,
	SQL_CAPTURE_ASIDE,
	SQL_CAPTURE_REQUEST,
	SQL_CAPTURE_NOT_HELD,
	SQL_REQUEST_PUT,
	SQL_REQUEST_DONE,
	SQL_REQUEST_DROP,
	SQL_REQUEST_LIST,
	SQL_CAPTURE_MIN_ID,
	SQL_CAPTURE_MAX_ID,
	SQL_CAPTURE_CLEANING,
	SQL_CAPTURE_CLEANED,
	SQL_CAPTURE_NOT_CLEANING,
	SQL_CAPTURE_LIST_CLEANING,
	SQL_CAPTURE_TRIM_TO,
	SQL_CAPTURE_TRIM,
	SQL_CONFIRMATION_TRIM,
	SQL_STORY_SEQ,
	SQL_STORY,
	SQL_MARK_OF,
	SQL_MARK_LAST,
	SQL_MARK_AT,
	SQL_MARK_PUT,
	SQL_MARK_DROP_SINCE,
	SQL_MARK_DROP_BEFORE,
	SQL_CAPTURE_FIRST_FROM,
	SQL_CAPTURE_NOTE_MOVED,
	SQL_CAPTURE_MOVE,
	SQL_CAPTURE_BY_PATH_SEQ,
	SQL_CAPTURE_DAMAGED,
	SQL_KEY_FIND,
	SQL_KEY_PUT,
	SQL_KEY_DROP,
	SQL_KEY_LAST,
	SQL_MOVED_HAS,
	SQL_MOVED_PUT,
	SQL_COUNTERS,
	SQL_OLDEST_UPLOAD,
	SQL_REQUESTED,
	SQL_REGISTER_BACKLOG,
	SQL_REGISTER_OLDEST,
	SQL_VIOLATIONS,
	SQL_MANIFEST_NEXT,
	SQL_MANIFEST_SPAN,
	SQL_MANIFEST_WAITS,
	SQL_MANIFEST_READ,
	SQL_MANIFEST_WRITTEN,
	SQL_MANIFEST_ADD_OLD,
	SQL_COUNT
} LedgerSql;

static const char *const ledger_sql[SQL_COUNT] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_SAVE] = "SAVEPOINT job",
	[SQL_SAVE_BACK] = "ROLLBACK TO job",
	[SQL_SAVE_DONE] = "RELEASE job",
	[SQL_CHECKPOINT] = "PRAGMA wal_checkpoint(TRUNCATE)",
	[SQL_START_IDS] = "INSERT INTO sqlite_sequence (name, seq) SELECT 'capture', ?1"
					  " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'capture')",
	[SQL_META_GET] = "SELECT value FROM meta WHERE name = ?1",
	[SQL_META_PUT] = "INSERT INTO meta (name, value) VALUES (?1, ?2)"
					 " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
	[SQL_LEDGER_NEW] = "INSERT INTO ledger (uuid, sealed, building) VALUES (?1, ?2, ?3)",
	[SQL_LEDGER_ACTIVE] = "SELECT no, uuid, last_seq FROM ledger WHERE sealed = 0",
	[SQL_LEDGER_SEAL] = "UPDATE ledger SET sealed = 1 WHERE no = ?1",
	[SQL_LEDGER_BY_UUID] = "SELECT no, sealed, last_seq, confirmed FROM ledger WHERE uuid = ?1",
	[SQL_LEDGER_UUIDS] = "SELECT no, uuid, last_seq, sealed FROM ledger ORDER BY no",
	[SQL_LEDGER_SEAL_ALL] = "UPDATE ledger SET sealed = 1",
	[SQL_LEDGER_BUILD] = "UPDATE ledger SET building = 1 WHERE sealed = 1",
	[SQL_LEDGER_BUILT] = "UPDATE ledger SET building = 0",
	[SQL_LEDGER_LIST] =
		"SELECT l.uuid, l.sealed, l.last_seq, l.confirmed, l.uploaded_max,"
		" coalesce((SELECT seq FROM capture WHERE ledger = l.no ORDER BY seq LIMIT 1), l.last_seq + 1),"
		" coalesce((SELECT seq FROM capture INDEXED BY capture_pending WHERE ledger = l.no AND " SQL_PENDING
		" ORDER BY seq LIMIT 1) - 1, l.last_seq),"
		" coalesce((SELECT seq FROM capture INDEXED BY capture_held WHERE ledger = l.no AND held = 1"
		" ORDER BY seq LIMIT 1) - 1, l.last_seq)"
		" FROM ledger l WHERE l.building = 0 ORDER BY l.no LIMIT ?1",
	[SQL_LEDGER_LAST_SEQ] = "UPDATE ledger SET last_seq = max(last_seq, ?2) WHERE no = ?1",
	[SQL_LEDGER_CONFIRM] = "UPDATE ledger SET confirmed = max(0, min(?2, last_seq)) WHERE uuid = ?1 AND building = 0",
	[SQL_LEDGER_UNCONFIRM] = "UPDATE ledger SET confirmed = min(confirmed, ?2 - 1) WHERE no = ?1",
	[SQL_LEDGER_FORKED] = "UPDATE ledger SET sealed = 1, last_seq = ?2 - 1, confirmed = min(confirmed, ?2 - 1),"
						  " uploaded_max = min(uploaded_max, ?2 - 1) WHERE no = ?1",
	[SQL_LEDGER_FORK_TO] = "UPDATE ledger SET sealed = ?2, last_seq = ?3, uploaded_max = ?3 WHERE no = ?1",
	[SQL_LEDGER_UPLOADED_MAX] = "UPDATE ledger SET uploaded_max = max(uploaded_max, c.seq) FROM capture c"
								" WHERE c.id = ?1 AND ledger.no = c.ledger",
	[SQL_CAPTURE_INSERT] = "INSERT INTO capture (ledger, seq, bytes, taken_at, captured_at, violation, path, sha256,"
						   " record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[SQL_CAPTURE_BY_SEQ] = "SELECT " ENTRY_COLUMNS ENTRY_FROM "WHERE l.uuid = ?1 AND c.seq = ?2",
	[SQL_CAPTURE_BY_ID] = "SELECT " ENTRY_COLUMNS ENTRY_FROM "WHERE c.id = ?1",
	[SQL_CAPTURE_NEXT_UPLOADS] =
		"SELECT " ENTRY_COLUMNS " FROM capture c INDEXED BY capture_upload JOIN ledger l ON l.no = c.ledger"
		" WHERE " SQL_PENDING " AND c.requested = 0 AND c.id > ?1 ORDER BY c.id LIMIT ?2",
	[SQL_CAPTURE_NEXT_REQUESTED] =
		"SELECT " ENTRY_COLUMNS " FROM capture c INDEXED BY capture_upload JOIN ledger l ON l.no = c.ledger"
		" WHERE " SQL_PENDING " AND c.requested = 1 AND c.id < ?1 ORDER BY c.id DESC LIMIT ?2",
	[SQL_CAPTURE_READ] = "SELECT " ENTRY_COLUMNS ENTRY_FROM "WHERE l.uuid = ?1 AND c.seq >= ?2 ORDER BY c.seq LIMIT ?3",
	/* CROSS JOIN: by id, whatever the planner thinks of it. */
	[SQL_CAPTURE_NEWEST] = "SELECT " ENTRY_COLUMNS " FROM capture c CROSS JOIN ledger l ON l.no = c.ledger"
						   " ORDER BY c.id DESC LIMIT ?1",
	[SQL_CAPTURE_CLEANABLE_PIECE] =
		"SELECT taken_at, id FROM capture INDEXED BY capture_cleanable WHERE held = 1 AND uploaded_at > 0"
		" AND taken_at < ?1 AND (taken_at, id) > (?2, ?3) ORDER BY taken_at, id LIMIT 1 OFFSET ?4",
	[SQL_CAPTURE_NEXT_CLEANABLE] =
		"SELECT " ENTRY_COLUMNS " FROM capture c INDEXED BY capture_cleanable JOIN ledger l ON l.no = c.ledger"
		" WHERE c.held = 1 AND c.uploaded_at > 0 AND c.taken_at < ?1 AND (c.taken_at, c.id) > (?2, ?3)"
		" AND (c.taken_at, c.id) <= (?4, ?5) AND c.id <= ?6 AND c.captured_at < ?1 AND c.seq <= l.confirmed"
		" AND l.building = 0 ORDER BY c.taken_at, c.id LIMIT ?7",
	[SQL_CAPTURE_UPLOADED] =
		"UPDATE capture SET uploaded_at = ?2, verified = ?3, etag = ?4, requested = 0, aside = NULL"
		" WHERE id = ?1",
	[SQL_CAPTURE_NOT_UPLOADED] = "UPDATE capture SET uploaded_at = 0, missing_at = ?2, missing = ?3"
								 " WHERE id = ?1 AND held = 1",
	[SQL_CAPTURE_ASIDE] = "UPDATE capture SET aside = ?2 WHERE id = ?1 AND uploaded_at = 0",
	[SQL_CAPTURE_REQUEST] = "UPDATE capture SET uploaded_at = 0, requested = 1, aside = NULL WHERE id > ?1 AND id <= ?2"
							" AND held = 1 AND captured_at >= ?3 AND captured_at < ?4",
	[SQL_CAPTURE_NOT_HELD] = "SELECT count(*) FROM capture WHERE id > ?1 AND id <= ?2"
							 " AND held = 0 AND captured_at >= ?3 AND captured_at < ?4",
	[SQL_REQUEST_PUT] = "INSERT OR REPLACE INTO upload_request (id, taken_at, held, not_held) VALUES (?1, ?2, ?3, ?4)",
	/* While none is open: a look at an empty index. */
	[SQL_REQUEST_DONE] = "UPDATE upload_request SET done_at = ?1 WHERE done_at = 0 AND NOT EXISTS"
						 " (SELECT 1 FROM capture INDEXED BY capture_upload WHERE " SQL_PENDING " AND requested = 1)",
	[SQL_REQUEST_DROP] = "DELETE FROM upload_request WHERE done_at > 0 AND id <"
						 " (SELECT id FROM upload_request ORDER BY id DESC LIMIT 1 OFFSET ?1)",
	[SQL_REQUEST_LIST] = "SELECT id, taken_at, held, not_held, done_at FROM upload_request ORDER BY id DESC LIMIT ?1",
	[SQL_CAPTURE_MIN_ID] = "SELECT coalesce(min(id), 1) FROM capture",
	[SQL_CAPTURE_MAX_ID] = "SELECT coalesce(max(id), 0) FROM capture",
	[SQL_CAPTURE_CLEANING] =
		"UPDATE capture SET cleaning = 1, early = ?2, clean_receipt = ?3 WHERE id = ?1 AND held = 1"
		" AND uploaded_at > 0 AND seq <="
		" (SELECT confirmed FROM ledger WHERE no = ledger AND building = 0)",
	[SQL_CAPTURE_CLEANED] = "UPDATE capture SET held = 0, cleaning = 0, requested = 0, cleaned_at = ?2"
							" WHERE id = ?1 AND cleaning = 1",
	[SQL_CAPTURE_NOT_CLEANING] = "UPDATE capture SET cleaning = 0, early = 0, clean_receipt = NULL WHERE id = ?1",
	[SQL_CAPTURE_LIST_CLEANING] = "SELECT id, path FROM capture INDEXED BY capture_cleaning"
								  " WHERE cleaning = 1 AND id > ?1 ORDER BY id LIMIT 1",
	/* Of a number of a ledger's oldest entries: the first that has to stay, or the one behind them. */
	[SQL_CAPTURE_TRIM_TO] =
		"SELECT coalesce(min(CASE WHEN held = 1 OR aside IS NOT NULL OR seq >= confirmed OR taken_at >= ?2 OR id > ?4"
		" THEN seq END), max(seq) + 1, 0) FROM (SELECT c.id, c.seq, c.held, c.aside, c.taken_at, l.confirmed"
		" FROM capture c JOIN ledger l ON l.no = c.ledger WHERE l.no = ?1 ORDER BY c.seq LIMIT ?3)",
	[SQL_CAPTURE_TRIM] = "DELETE FROM capture WHERE ledger = ?1 AND seq < ?2",
	[SQL_CONFIRMATION_TRIM] = "DELETE FROM confirmation WHERE ledger = ?1 AND last_seq < ?2",
	[SQL_STORY_SEQ] =
		"SELECT c.id, l.uuid FROM ledger l JOIN capture c ON c.ledger = l.no AND c.seq = ?1 ORDER BY l.no",
	/* An entry, and behind its columns what the receipts say. */
	[SQL_STORY] =
		"SELECT " ENTRY_COLUMNS ", l.sealed, l.building, l.confirmed, c.verified, c.missing_at, c.missing,"
		" c.aside, c.cleaning, c.cleaned_at, c.early, c.clean_receipt,"
		" (SELECT at FROM confirmation WHERE ledger = c.ledger AND last_seq >= c.seq ORDER BY last_seq LIMIT 1),"
		" (SELECT report_no FROM confirmation WHERE ledger = c.ledger AND last_seq >= c.seq ORDER BY last_seq LIMIT "
		"1)" ENTRY_FROM "WHERE c.id = ?1",
	/* The first mark behind a capture: it was taken in before. Marks are in the order of ids. */
	[SQL_MARK_OF] = "SELECT elapsed FROM elapsed_mark WHERE last_id >= ?1 ORDER BY elapsed LIMIT 1",
	[SQL_MARK_LAST] = "SELECT elapsed, last_id FROM elapsed_mark ORDER BY elapsed DESC LIMIT 1",
	[SQL_MARK_AT] = "SELECT last_id FROM elapsed_mark WHERE elapsed <= ?1 ORDER BY elapsed DESC LIMIT 1",
	[SQL_MARK_PUT] = "INSERT OR REPLACE INTO elapsed_mark (elapsed, last_id) VALUES (?1, ?2)",
	[SQL_MARK_DROP_SINCE] = "DELETE FROM elapsed_mark WHERE elapsed > ?1",
	[SQL_MARK_DROP_BEFORE] = "DELETE FROM elapsed_mark WHERE elapsed <"
							 " (SELECT max(elapsed) FROM elapsed_mark WHERE elapsed <= ?1)",
	[SQL_CAPTURE_FIRST_FROM] = "SELECT seq, sha256 FROM capture WHERE ledger = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1",
	[SQL_CAPTURE_NOTE_MOVED] = "INSERT OR REPLACE INTO moved (path, id)"
							   " SELECT path, id FROM capture WHERE ledger = ?1 AND seq >= ?2",
	[SQL_CAPTURE_MOVE] = "UPDATE capture SET ledger = ?3, seq = seq - ?2 + ?4 WHERE ledger = ?1 AND seq >= ?2",
	[SQL_CAPTURE_BY_PATH_SEQ] = "SELECT path, id FROM capture WHERE ledger = ?1 AND seq = ?2",
	[SQL_CAPTURE_DAMAGED] = "UPDATE capture SET aside = 'damaged row' WHERE id = ?1 AND aside IS NULL",
	[SQL_KEY_FIND] = "SELECT id, ledger, seq, path, sha256 FROM intake_key WHERE key = ?1 AND at > ?2",
	[SQL_KEY_PUT] = "INSERT OR REPLACE INTO intake_key (key, id, at, ledger, seq, path, sha256)"
					" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	/* A few of the oldest: each new key pays for more than it brings. */
	[SQL_KEY_DROP] = "DELETE FROM intake_key WHERE key IN (SELECT key FROM (SELECT key, id, at FROM intake_key"
					 " ORDER BY id LIMIT 4) WHERE id <= ?1 OR at <= ?2)",
	[SQL_KEY_LAST] = "SELECT coalesce((SELECT at FROM intake_key ORDER BY id DESC LIMIT 1), 0)",
	[SQL_MOVED_HAS] = "SELECT id FROM moved WHERE path = ?1",
	[SQL_MOVED_PUT] = "INSERT OR REPLACE INTO moved (path, id) VALUES (?1, ?2)",
	[SQL_COUNTERS] = "SELECT cached, cached_bytes, pending, aside, cleaned, early FROM counter",
	[SQL_OLDEST_UPLOAD] = "SELECT taken_at FROM capture INDEXED BY capture_upload WHERE " SQL_PENDING
						  " AND requested = ?1 ORDER BY id LIMIT 1",
	[SQL_REQUESTED] = "SELECT count(*) FROM (SELECT 1 FROM capture INDEXED BY capture_upload WHERE " SQL_PENDING
					  " AND requested = 1 LIMIT 100000)",
	[SQL_REGISTER_BACKLOG] = "SELECT coalesce(sum(last_seq - confirmed), 0) FROM ledger",
	[SQL_REGISTER_OLDEST] =
		"SELECT coalesce(min((SELECT taken_at FROM capture WHERE ledger = l.no AND seq > l.confirmed"
		" ORDER BY seq LIMIT 1)), 0) FROM ledger l WHERE l.confirmed < l.last_seq",
	[SQL_VIOLATIONS] = "SELECT count(*) FROM (SELECT 1 FROM ledger l JOIN capture c INDEXED BY capture_violation"
					   " ON c.ledger = l.no AND c.violation = 1 AND c.seq > l.confirmed"
					   " WHERE l.building = 0 AND l.confirmed < l.last_seq LIMIT 1000)",
	[SQL_MANIFEST_NEXT] = "SELECT d.hour, d.ledger, l.uuid FROM manifest_due d CROSS JOIN ledger l ON l.no = d.ledger"
						  " WHERE (d.hour, d.ledger) > (?1, ?2) ORDER BY d.hour, d.ledger LIMIT 1",
	[SQL_MANIFEST_SPAN] =
		"SELECT count(*), min(c.uploaded_at), max(c.uploaded_at), min(c.seq), max(c.seq)"
		" FROM manifest_due d CROSS JOIN capture c ON c.id = d.id WHERE d.hour = ?1 AND d.ledger = ?2",
	/* Of the captures of an hour, with seqs from ?3 to ?4 in no manifest: is one among them, or next to them, on its way? */
	[SQL_MANIFEST_WAITS] =
		"SELECT EXISTS (SELECT 1 FROM capture c INDEXED BY capture_pending WHERE ledger = ?2 AND " SQL_PENDING
		" AND seq BETWEEN ?3 AND ?4 AND " SQL_HOUR(
			"c") " = ?1)"
				 " OR coalesce((SELECT " SQL_HOUR(
					 "c") " FROM capture c INDEXED BY capture_pending WHERE ledger = ?2 AND " SQL_PENDING
						  " AND seq > ?4 ORDER BY seq LIMIT 1) = ?1, 0)"
						  " OR coalesce((SELECT " SQL_HOUR(
							  "c") " FROM capture c INDEXED BY capture_pending WHERE ledger = ?2 AND " SQL_PENDING
								   " AND seq < ?3 ORDER BY seq DESC LIMIT 1) = ?1, 0)",
	[SQL_MANIFEST_READ] = "SELECT " ENTRY_COLUMNS
						  " FROM manifest_due d CROSS JOIN capture c ON c.id = d.id JOIN ledger l ON l.no = c.ledger"
						  " WHERE d.hour = ?1 AND d.ledger = ?2 AND d.id > ?3 ORDER BY d.id LIMIT ?4",
	[SQL_MANIFEST_WRITTEN] = "DELETE FROM manifest_due WHERE hour = ?1 AND ledger = ?2 AND id = ?3",
	[SQL_MANIFEST_ADD_OLD] = "INSERT OR IGNORE INTO manifest_due SELECT " SQL_HOUR(
		"c") ", c.ledger, c.id FROM capture c"
			 " WHERE c.id > ?1 AND c.id <= ?2 AND " SQL_MANIFEST_WANTS("c"),
};

#endif
