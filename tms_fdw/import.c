/*
 * IMPORT FOREIGN SCHEMA tms: one foreign table, with the columns of the relation and those of the wrapper.
 */
#include "postgres.h"

#include "access/relation.h"
#include "commands/defrem.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "tms_fdw/import.h"
#include "tms_fdw/relation.h"

#define REMOTE_SCHEMA  "tms"
#define IMPORTED_TABLE "capture_image"

static void check_statement(const ImportForeignSchemaStmt *statement)
{
	if (strcmp(statement->remote_schema, REMOTE_SCHEMA) != 0)
		ereport(ERROR, (errcode(ERRCODE_FDW_SCHEMA_NOT_FOUND),
						errmsg("there is no schema \"%s\" to import", statement->remote_schema),
						errhint("Import schema \"" REMOTE_SCHEMA "\", which has the table \"" IMPORTED_TABLE "\".")));
	if (statement->options != NIL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("invalid option \"%s\"", linitial_node(DefElem, statement->options)->defname),
						errhint("IMPORT FOREIGN SCHEMA has no options here.")));
}

static bool is_extra(const char *name)
{
	int i;

	for (i = 0; i < TMS_EXTRA_COLUMNS; i++)
	{
		if (strcmp(tms_extra_columns[i].name, name) == 0)
			return true;
	}
	return false;
}

/* Types keep their schemas, and collations are written out: the new table must mean the same under any search path. */
static void append_column(StringInfo sql, Form_pg_attribute attribute)
{
	appendStringInfo(sql, "%s%s %s", sql->data[sql->len - 1] == '(' ? "" : ", ",
					 quote_identifier(NameStr(attribute->attname)),
					 format_type_extended(attribute->atttypid, attribute->atttypmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(attribute->attcollation) && attribute->attcollation != get_typcollation(attribute->atttypid))
		appendStringInfo(sql, " COLLATE %s", generate_collation_name(attribute->attcollation));
	if (attribute->attnotnull)
		appendStringInfoString(sql, " NOT NULL");
}

static char *create_statement(const TmsRelation *relation, const char *server_name)
{
	Relation rel = relation_open(relation->relid, NoLock);
	TupleDesc desc = RelationGetDescr(rel);
	StringInfoData sql;
	int i;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "CREATE FOREIGN TABLE " IMPORTED_TABLE " (");
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && !is_extra(NameStr(attribute->attname)))
			append_column(&sql, attribute);
	}
	for (i = 0; i < TMS_EXTRA_COLUMNS; i++)
	{
		const TmsExtraColumn *extra = &tms_extra_columns[i];

		appendStringInfo(&sql, ", %s %s", extra->name,
						 format_type_extended(extra->type, -1, FORMAT_TYPE_FORCE_QUALIFY));
		if (extra->collation != NULL)
			appendStringInfo(&sql, " COLLATE %s", quote_identifier(extra->collation));
	}
	appendStringInfo(&sql, ") SERVER %s", quote_identifier(server_name));
	relation_close(rel, NoLock);
	return sql.data;
}

List *tms_import_schema(ImportForeignSchemaStmt *statement, Oid serverid)
{
	check_statement(statement);
	if (!IsImportableForeignTable(IMPORTED_TABLE, statement))
		return NIL;
	return list_make1(create_statement(tms_relation_by_name("tms", "capture"), GetForeignServer(serverid)->servername));
}
