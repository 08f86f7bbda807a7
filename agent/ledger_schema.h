/*
 * The schema of ledger.db, as the scripts that lead to it from version to version: a new file runs all of them, an older one
 * those it lacks, each in a transaction of its own, so that upgrade and installation cannot drift. A script that was in use
 * is never changed. None of them may need much space or time: a ledger.db of millions of rows on a full disk has to open.
 */
#ifndef AGENT_LEDGER_SCHEMA_H
#define AGENT_LEDGER_SCHEMA_H

/* Waits to be uploaded. */
#define SQL_PENDING "held = 1 AND uploaded_at = 0 AND aside IS NULL"

/* The counters with a row added, or taken away. */
#define SQL_COUNT_NEW                                                                                    \
	"UPDATE counter SET cached = cached + NEW.held, cached_bytes = cached_bytes + NEW.held * NEW.bytes," \
	" pending = pending + (NEW.held AND NEW.uploaded_at = 0 AND NEW.aside IS NULL),"                     \
	" aside = aside + (NEW.aside IS NOT NULL);"
#define SQL_COUNT_OLD                                                                                    \
	"UPDATE counter SET cached = cached - OLD.held, cached_bytes = cached_bytes - OLD.held * OLD.bytes," \
	" pending = pending - (OLD.held AND OLD.uploaded_at = 0 AND OLD.aside IS NULL),"                     \
	" aside = aside - (OLD.aside IS NOT NULL);"

#define LEDGER_SCHEMA_1                                                                                          \
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"                                            \
	"CREATE TABLE ledger (no INTEGER PRIMARY KEY, uuid BLOB UNIQUE NOT NULL, sealed INTEGER NOT NULL,"           \
	" building INTEGER NOT NULL DEFAULT 0, last_seq INTEGER NOT NULL DEFAULT 0,"                                 \
	" confirmed INTEGER NOT NULL DEFAULT 0, uploaded_max INTEGER NOT NULL DEFAULT 0);"                           \
	"CREATE UNIQUE INDEX ledger_active ON ledger (sealed) WHERE sealed = 0;"                                     \
	"CREATE TABLE capture (id INTEGER PRIMARY KEY AUTOINCREMENT, ledger INTEGER NOT NULL, seq INTEGER NOT NULL," \
	" bytes INTEGER NOT NULL, taken_at INTEGER NOT NULL, captured_at INTEGER NOT NULL,"                          \
	" uploaded_at INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 1,"                                  \
	" requested INTEGER NOT NULL DEFAULT 0, cleaning INTEGER NOT NULL DEFAULT 0,"                                \
	" violation INTEGER NOT NULL, aside TEXT, path TEXT NOT NULL, sha256 BLOB NOT NULL, record TEXT NOT NULL);"  \
	"CREATE UNIQUE INDEX capture_seq ON capture (ledger, seq);"                                                  \
	"CREATE INDEX capture_upload ON capture (requested, id) WHERE " SQL_PENDING ";"                              \
	"CREATE INDEX capture_pending ON capture (ledger, seq) WHERE " SQL_PENDING ";"                               \
	"CREATE INDEX capture_held ON capture (ledger, seq) WHERE held = 1;"                                         \
	"CREATE INDEX capture_cleanable ON capture (taken_at, id) WHERE held = 1 AND uploaded_at > 0;"               \
	"CREATE INDEX capture_cleaning ON capture (id) WHERE cleaning = 1;"                                          \
	"CREATE INDEX capture_violation ON capture (ledger, seq) WHERE violation = 1;"                               \
	"CREATE TABLE moved (path TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;"                             \
	"CREATE TABLE intake_key (key TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;"                         \
	"CREATE INDEX intake_key_id ON intake_key (id);"                                                             \
	"CREATE TABLE counter (one INTEGER PRIMARY KEY CHECK (one = 1), cached INTEGER, cached_bytes INTEGER,"       \
	" pending INTEGER, aside INTEGER);"                                                                          \
	"INSERT INTO counter VALUES (1, 0, 0, 0, 0);"                                                                \
	"CREATE TRIGGER capture_inserted AFTER INSERT ON capture BEGIN " SQL_COUNT_NEW " END;"                       \
	"CREATE TRIGGER capture_updated AFTER UPDATE OF held, uploaded_at, aside ON capture BEGIN " SQL_COUNT_OLD    \
		SQL_COUNT_NEW " END;"                                                                                    \
	"CREATE TRIGGER capture_deleted AFTER DELETE ON capture BEGIN " SQL_COUNT_OLD                                \
	" DELETE FROM moved WHERE path = OLD.path; END;"

/*
 * Receipts: how a capture was verified in the image center (verified: a LedgerVerified), when that last turned out to hold no
 * more, when the path center confirmed it, and by which rule it left the cache. elapsed_mark: see ledger_elapsed.c.
 */
#define SQL_CONFIRMED_NOW "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
#define LEDGER_SCHEMA_2                                                                                             \
	"ALTER TABLE capture ADD COLUMN verified INTEGER NOT NULL DEFAULT 0;"                                           \
	"ALTER TABLE capture ADD COLUMN etag TEXT;"                                                                     \
	"ALTER TABLE capture ADD COLUMN missing_at INTEGER NOT NULL DEFAULT 0;"                                         \
	"ALTER TABLE capture ADD COLUMN missing TEXT;"                                                                  \
	"ALTER TABLE capture ADD COLUMN cleaned_at INTEGER NOT NULL DEFAULT 0;"                                         \
	"ALTER TABLE capture ADD COLUMN early INTEGER NOT NULL DEFAULT 0;"                                              \
	"ALTER TABLE capture ADD COLUMN clean_receipt TEXT;"                                                            \
	"ALTER TABLE counter ADD COLUMN cleaned INTEGER NOT NULL DEFAULT 0;"                                            \
	"ALTER TABLE counter ADD COLUMN early INTEGER NOT NULL DEFAULT 0;"                                              \
	"CREATE TRIGGER capture_cleaned AFTER UPDATE OF held ON capture WHEN OLD.held = 1 AND NEW.held = 0 BEGIN"       \
	" UPDATE counter SET cleaned = cleaned + 1, early = early + NEW.early; END;"                                    \
	"CREATE TABLE confirmation (ledger INTEGER NOT NULL, last_seq INTEGER NOT NULL, at INTEGER NOT NULL,"           \
	" report_no INTEGER NOT NULL, PRIMARY KEY (ledger, last_seq)) WITHOUT ROWID;"                                   \
	"INSERT INTO confirmation SELECT no, confirmed, 0, 0 FROM ledger WHERE confirmed > 0;"                          \
	"CREATE TRIGGER ledger_confirmed AFTER UPDATE OF confirmed ON ledger WHEN NEW.confirmed > OLD.confirmed BEGIN"  \
	" INSERT OR REPLACE INTO confirmation VALUES (NEW.no, NEW.confirmed, " SQL_CONFIRMED_NOW ","                    \
	" coalesce((SELECT value FROM meta WHERE name = 'report_no'), 0)); END;"                                        \
	"CREATE TRIGGER ledger_taken_back AFTER UPDATE OF confirmed ON ledger WHEN NEW.confirmed < OLD.confirmed BEGIN" \
	" DELETE FROM confirmation WHERE ledger = NEW.no AND last_seq >"                                                \
	" (SELECT min(last_seq) FROM confirmation WHERE ledger = NEW.no AND last_seq >= NEW.confirmed);"                \
	" UPDATE confirmation SET last_seq = NEW.confirmed WHERE ledger = NEW.no AND last_seq > NEW.confirmed; END;"    \
	"CREATE TABLE elapsed_mark (elapsed INTEGER PRIMARY KEY, last_id INTEGER NOT NULL);"                            \
	"DROP TABLE intake_key;"                                                                                        \
	"CREATE TABLE intake_key (key TEXT PRIMARY KEY, id INTEGER NOT NULL, at INTEGER NOT NULL,"                      \
	" ledger BLOB NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;"         \
	"CREATE INDEX intake_key_id ON intake_key (id);"

/*
 * Manifests: the captures that are in the image center and in no manifest there yet, by the hour (since 1970) they were captured in.
 * Those that were uploaded before there were manifests follow piece by piece (meta manifest_walk: the ids up to it are left).
 */
#define SQL_HOUR(row)           row ".captured_at / 3600000000"
#define SQL_MANIFEST_WANTS(row) "(" row ".uploaded_at > 0 AND " row ".aside IS NULL)"
#define SQL_MANIFEST_DROP_OLD \
	"DELETE FROM manifest_due WHERE hour = " SQL_HOUR("OLD") " AND ledger = OLD.ledger AND id = OLD.id;"
#define LEDGER_SCHEMA_3                                                                                             \
	"CREATE TABLE manifest_due (hour INTEGER NOT NULL, ledger INTEGER NOT NULL, id INTEGER NOT NULL,"               \
	" PRIMARY KEY (hour, ledger, id)) WITHOUT ROWID;"                                                               \
	"CREATE TRIGGER capture_in_manifest AFTER UPDATE OF uploaded_at, aside, ledger ON capture "                     \
	"WHEN " SQL_MANIFEST_WANTS("OLD") " <> " SQL_MANIFEST_WANTS(                                                    \
		"NEW") " OR OLD.ledger <> NEW.ledger BEGIN " SQL_MANIFEST_DROP_OLD                                          \
			   " INSERT OR IGNORE INTO manifest_due SELECT " SQL_HOUR(                                              \
				   "NEW") ", NEW.ledger, NEW.id WHERE " SQL_MANIFEST_WANTS("NEW") "; END;"                          \
																				  "CREATE TRIGGER "                 \
																				  "capture_in_no_manifest AFTER "   \
																				  "DELETE ON capture "              \
																				  "BEGIN " SQL_MANIFEST_DROP_OLD    \
																				  " END;"                           \
																				  "INSERT INTO meta (name, value) " \
																				  "SELECT 'manifest_walk', "        \
																				  "coalesce(max(id), 0) FROM capture;"

/* Upload requests: what each of them found here, and when all that was asked for was done. */
#define LEDGER_SCHEMA_4                                                                                      \
	"CREATE TABLE upload_request (id INTEGER PRIMARY KEY, taken_at INTEGER NOT NULL, held INTEGER NOT NULL," \
	" not_held INTEGER NOT NULL, done_at INTEGER NOT NULL DEFAULT 0);"                                       \
	"CREATE INDEX upload_request_open ON upload_request (id) WHERE done_at = 0;"

static const char *const ledger_upgrades[] = {LEDGER_SCHEMA_1, LEDGER_SCHEMA_2, LEDGER_SCHEMA_3, LEDGER_SCHEMA_4};
#define LEDGER_SCHEMA_VERSION ((int) (sizeof ledger_upgrades / sizeof ledger_upgrades[0]))

#endif
