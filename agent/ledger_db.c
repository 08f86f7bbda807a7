/*
 * SQLite for the ledger: connections, statements, errors. See ledger_db.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define BUSY_MS 10000

static TmsStatus status_of(int code)
{
	switch (code & 0xff)
	{
		case SQLITE_FULL:
			return TMS_FULL;
		case SQLITE_CORRUPT:
		case SQLITE_NOTADB:
			return TMS_DAMAGED;
		case SQLITE_NOMEM:
			return TMS_MEMORY;
		case SQLITE_CONSTRAINT:
			return TMS_EXISTS;
		default:
			return TMS_IO;
	}
}

static TmsStatus failed(LedgerDb *db, const char *call)
{
	char what[200], quoted[400];
	int code = sqlite3_extended_errcode(db->handle);
	TmsStatus status = db->unproven && code == SQLITE_ERROR ? TMS_DAMAGED : status_of(code);

	log_event(LOG_LEVEL_ERROR, "ledger", "call=%s code=%d error=%s", log_quote(call, what, sizeof what), code,
			  log_quote(sqlite3_errmsg(db->handle), quoted, sizeof quoted));
	if (status == TMS_DAMAGED)
		*db->damaged = true;
	return status;
}

static TmsStatus run_script(LedgerDb *db, const char *script)
{
	return sqlite3_exec(db->handle, script, NULL, NULL, NULL) == SQLITE_OK ? TMS_OK : failed(db, "exec");
}

static TmsStatus schema_version(LedgerDb *db, int *version)
{
	sqlite3_stmt *statement;
	TmsStatus status = TMS_OK;

	if (sqlite3_prepare_v2(db->handle, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
		return failed(db, "prepare");
	if (sqlite3_step(statement) == SQLITE_ROW)
		*version = sqlite3_column_int(statement, 0);
	else
		status = failed(db, "step");
	sqlite3_finalize(statement);
	return status;
}

/* Takes the file from one version to the next. */
static TmsStatus upgrade(LedgerDb *db, int version)
{
	char *script;
	TmsStatus status;

	if (asprintf(&script, "BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT;", ledger_upgrades[version],
				 version + 1) < 0)
		return TMS_MEMORY;
	status = run_script(db, script);
	free(script);
	return status;
}

static TmsStatus make_schema(LedgerDb *db)
{
	int version = 0;
	TmsStatus status = schema_version(db, &version);

	if (status == TMS_OK && version > LEDGER_SCHEMA_VERSION)
	{
		log_event(LOG_LEVEL_ERROR, "ledger", "error=\"ledger.db has schema version %d, this program knows %d\"",
				  version, LEDGER_SCHEMA_VERSION);
		return TMS_INVALID;
	}
	if (status == TMS_OK && version > 0 && version < LEDGER_SCHEMA_VERSION)
		log_event(LOG_LEVEL_INFO, "ledger", "event=\"ledger.db is upgraded\" from=%d to=%d", version,
				  LEDGER_SCHEMA_VERSION);
	for (; status == TMS_OK && version < LEDGER_SCHEMA_VERSION; version++)
		status = upgrade(db, version);
	return status;
}

static TmsStatus check_schema(LedgerDb *db)
{
	int version = 0;
	TmsStatus status = schema_version(db, &version);

	if (status != TMS_OK || version == LEDGER_SCHEMA_VERSION)
		return status;
	log_event(
		LOG_LEVEL_ERROR, "ledger",
		"error=\"ledger.db has schema version %d, this program knows %d: the agent brings it up to date at its start\"",
		version, LEDGER_SCHEMA_VERSION);
	return TMS_INVALID;
}

/* What a connection of each kind is opened with. */
static const struct
{
	int flags;
	const char *pragmas;
	TmsStatus (*ready)(LedgerDb *db);
} modes[] = {
	[LEDGER_DB_WRITE] = {SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, LEDGER_PRAGMAS, make_schema},
	[LEDGER_DB_READ] = {SQLITE_OPEN_READWRITE, LEDGER_PRAGMAS, NULL},
	[LEDGER_DB_VIEW] = {SQLITE_OPEN_READONLY, "PRAGMA query_only = ON", check_schema},
};

TmsStatus ledger_db_open(LedgerDb *db, const char *file, LedgerDbMode mode, atomic_bool *damaged)
{
	TmsStatus status = TMS_OK;

	db->damaged = damaged;
	db->unproven = mode == LEDGER_DB_WRITE;
	db->statements = calloc(SQL_COUNT, sizeof *db->statements);
	if (!db->statements)
		return TMS_MEMORY;
	if (sqlite3_open_v2(file, &db->handle, modes[mode].flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		status = failed(db, "open");
	if (status == TMS_OK)
	{
		sqlite3_busy_timeout(db->handle, BUSY_MS);
		status = run_script(db, modes[mode].pragmas);
	}
	if (status == TMS_OK && modes[mode].ready)
		status = modes[mode].ready(db);
	if (status != TMS_OK)
		ledger_db_close(db);
	return status;
}

void ledger_db_close(LedgerDb *db)
{
	for (int i = 0; db->statements && i < SQL_COUNT; i++)
		sqlite3_finalize(db->statements[i]);
	free(db->statements);
	sqlite3_close(db->handle);
	memset(db, 0, sizeof *db);
}

static int bind_one(sqlite3_stmt *statement, int at, char type, va_list *args)
{
	const char *text;
	const void *blob;

	switch (type)
	{
		case 'i':
			return sqlite3_bind_int64(statement, at, va_arg(*args, int64_t));
		case 't':
			text = va_arg(*args, const char *);
			return text ? sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC) : sqlite3_bind_null(statement, at);
		default:
			blob = va_arg(*args, const void *);
			return sqlite3_bind_blob(statement, at, blob, va_arg(*args, int), SQLITE_STATIC);
	}
}

sqlite3_stmt *ledger_db_bind(LedgerDb *db, int sql, const char *types, ...)
{
	sqlite3_stmt **statement;
	va_list args;
	int code = SQLITE_OK;

	if (!db->handle)
		return NULL;
	statement = &db->statements[sql];
	if (!*statement &&
		sqlite3_prepare_v3(db->handle, ledger_sql[sql], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK)
	{
		(void) failed(db, ledger_sql[sql]);
		return NULL;
	}
	sqlite3_reset(*statement);
	va_start(args, types);
	for (int i = 0; types[i] && code == SQLITE_OK; i++)
		code = bind_one(*statement, i + 1, types[i], &args);
	va_end(args);
	if (code == SQLITE_OK)
		return *statement;
	(void) failed(db, "bind");
	return NULL;
}

TmsStatus ledger_db_step(LedgerDb *db, sqlite3_stmt *statement)
{
	if (!statement)
		return TMS_IO;
	switch (sqlite3_step(statement))
	{
		case SQLITE_ROW:
			return TMS_OK;
		case SQLITE_DONE:
			return TMS_NOT_FOUND;
		default:
			return failed(db, "step");
	}
}

TmsStatus ledger_db_run(LedgerDb *db, sqlite3_stmt *statement)
{
	TmsStatus status;

	do
		status = ledger_db_step(db, statement);
	while (status == TMS_OK);
	if (statement)
		sqlite3_reset(statement);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_db_int(LedgerDb *db, sqlite3_stmt *statement, int64_t *out)
{
	TmsStatus status = ledger_db_step(db, statement);

	if (status == TMS_OK)
		*out = sqlite3_column_int64(statement, 0);
	if (statement)
		sqlite3_reset(statement);
	return status;
}

TmsStatus ledger_meta_get(LedgerDb *db, const char *name, int64_t *value)
{
	TmsStatus status = ledger_db_int(db, ledger_db_bind(db, SQL_META_GET, "t", name), value);

	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_meta_put(LedgerDb *db, const char *name, int64_t value)
{
	return ledger_db_run(db, ledger_db_bind(db, SQL_META_PUT, "ti", name, value));
}
