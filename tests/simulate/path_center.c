/*
 * The path center of the simulation; see path_center.h.
 */
#include "path_center.h"

#include <stdio.h>
#include <stdlib.h>

static PGconn *connection;

void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(2);
}

PGresult *query(const char *sql)
{
	PGresult *result = PQexec(connection, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		die(sql, PQerrorMessage(connection));
	return result;
}

void run_sql(const char *sql)
{
	PQclear(query(sql));
}

static const char *const tables[] = {"ledger", "ledger_day", "declared_gap", "capture"};

void path_center_fill(const char *from, const char *to)
{
	char sql[200];

	for (int i = 3; i >= 0; i--)
	{
		snprintf(sql, sizeof sql, "DELETE FROM %s%s", to, tables[i]);
		run_sql(sql);
	}
	for (int i = 0; from && i < 4; i++)
	{
		snprintf(sql, sizeof sql, "INSERT INTO %s%s SELECT * FROM %s%s", to, tables[i], from, tables[i]);
		run_sql(sql);
	}
}

long count_of(const char *sql)
{
	PGresult *result = query(sql);
	long count = atol(PQgetvalue(result, 0, 0));

	PQclear(result);
	return count;
}

void path_center_open(const char *conninfo)
{
	connection = PQconnectdb(conninfo);
	if (PQstatus(connection) != CONNECTION_OK)
		die("connect", PQerrorMessage(connection));
	run_sql("SET synchronous_commit = off; SET client_min_messages = warning");
	for (int i = 0; i < 4; i++)
	{
		char sql[120];

		snprintf(sql, sizeof sql, "DROP TABLE IF EXISTS sim_%s; CREATE TEMP TABLE sim_%s AS TABLE tms.%s WITH NO DATA",
				 tables[i], tables[i], tables[i]);
		run_sql(sql);
	}
}

void path_center_close(void)
{
	PQfinish(connection);
}
