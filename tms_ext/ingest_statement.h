/*
 * Statements of ingest that are prepared once a session and kept. They name tables with their schema, so that a plan finds
 * tms.capture again after it was dropped and made anew.
 */
#ifndef TMS_INGEST_STATEMENT_H
#define TMS_INGEST_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"

#define TMS_INGEST_PARAMS_MAX 16

typedef struct TmsIngestStatement
{
	const char *sql;
	int nargs;
	Oid types[TMS_INGEST_PARAMS_MAX];
	SPIPlanPtr plan; /* NULL before the first use */
} TmsIngestStatement;

/*
 * Runs it with the rights in force; the caller is connected to SPI. nulls as SPI has it: NULL, or 'n' for every parameter
 * that is NULL. Returns the number of rows; those of a query are in SPI_tuptable.
 */
extern uint64 tms_ingest_execute(TmsIngestStatement *statement, Datum *values, const char *nulls);

/* Column (1, 2 ...) of a row of SPI_tuptable. */
extern Datum tms_ingest_result(uint64 row, int column, bool *is_null);

#endif
