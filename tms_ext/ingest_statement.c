/*
 * Prepared statements of ingest.
 */
#include "postgres.h"

#include "tms_ext/ingest_statement.h"

uint64 tms_ingest_execute(TmsIngestStatement *statement, Datum *values, const char *nulls)
{
	int result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs, statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_prepare returned %s for: %s", SPI_result_code_string(SPI_result), statement->sql);
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan returned %s for: %s", SPI_result_code_string(result), statement->sql);
	return SPI_processed;
}

Datum tms_ingest_result(uint64 row, int column, bool *is_null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}
