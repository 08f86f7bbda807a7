/*
 * The relation behind a foreign table: found by name, never by search path, and checked before a query is built on it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tms_fdw/option.h"
#include "tms_fdw/relation.h"

const char *const tms_key_names[TMS_KEY_COUNT] = {"capture_id", "device_id", "path", "image_bytes", "sha256"};

/* Domains over these will do as well. */
static const Oid key_types[TMS_KEY_COUNT] = {INT8OID, INT4OID, TEXTOID, INT4OID, BYTEAOID};

const TmsExtraColumn tms_extra_columns[TMS_EXTRA_COLUMNS] = {
	{"device", TMS_COLUMN_DEVICE, TEXTOID, "C"},
	{"site", TMS_COLUMN_SITE, TEXTOID, NULL},
	{"image", TMS_COLUMN_IMAGE, BYTEAOID, NULL},
	{"image_source", TMS_COLUMN_IMAGE_SOURCE, TEXTOID, NULL},
	{"image_error", TMS_COLUMN_IMAGE_ERROR, TEXTOID, NULL},
	{"expected_source", TMS_COLUMN_EXPECTED_SOURCE, TEXTOID, NULL},
};

/* The attribute of that name, or NULL. */
static Form_pg_attribute find_attribute(TupleDesc desc, const char *name)
{
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return attribute;
	}
	return NULL;
}

static const TmsExtraColumn *find_extra(const char *name)
{
	int i;

	for (i = 0; i < TMS_EXTRA_COLUMNS; i++)
	{
		if (strcmp(tms_extra_columns[i].name, name) == 0)
			return &tms_extra_columns[i];
	}
	return NULL;
}

static const char *qualified_name(const TmsRelation *relation)
{
	return quote_qualified_identifier(relation->schema, relation->name);
}

/* Opens the relation; the caller closes it and keeps the lock. */
static Relation open_relation(TmsRelation *relation)
{
	Oid namespaceid = get_namespace_oid(relation->schema, true);
	bool is_default = strcmp(relation->schema, "tms") == 0 && strcmp(relation->name, "capture") == 0;
	Relation rel;

	relation->relid = OidIsValid(namespaceid) ? get_relname_relid(relation->name, namespaceid) : InvalidOid;
	rel = OidIsValid(relation->relid) ? try_relation_open(relation->relid, AccessShareLock) : NULL;
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"%s\" does not exist", qualified_name(relation)),
				 OidIsValid(relation->foreigntableid)
					 ? errdetail("Foreign table \"%s\" reads it.", get_rel_name(relation->foreigntableid))
					 : 0,
				 is_default ? errhint("Run SELECT tms.create_capture_table().") : 0));
	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			return rel;
		default:
			ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
							errmsg("\"%s\" is not a local table or view", qualified_name(relation)),
							errdetail("Only such a relation can be read for captures.")));
	}
	return NULL;
}

static void check_keys(const TmsRelation *relation, TupleDesc desc)
{
	int key;

	for (key = 0; key < TMS_KEY_COUNT; key++)
	{
		Form_pg_attribute attribute = find_attribute(desc, tms_key_names[key]);

		if (attribute == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("relation \"%s\" has no column \"%s\"", qualified_name(relation), tms_key_names[key]),
					 errdetail("A relation of captures has capture_id, device_id, path, image_bytes and sha256.")));
		if (getBaseType(attribute->atttypid) != key_types[key])
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" of relation \"%s\" has type %s", tms_key_names[key],
								   qualified_name(relation), format_type_be(attribute->atttypid)),
							errdetail("A relation of captures has it as %s.", format_type_be(key_types[key]))));
	}
}

/* May values of `from` be shown as `to` without a conversion? */
static bool same_values(Form_pg_attribute from, Form_pg_attribute to)
{
	if (from->atttypid != to->atttypid && getBaseType(from->atttypid) != to->atttypid)
		return false;
	return to->atttypmod < 0 || to->atttypmod == from->atttypmod;
}

/* What one column of the foreign table is. A column the relation has itself goes before an extra one, but images are ours. */
static TmsColumn map_column(Form_pg_attribute own, const char *name, TupleDesc desc)
{
	const TmsExtraColumn *extra = find_extra(name);
	Form_pg_attribute theirs = find_attribute(desc, name);
	TmsColumn column = {TMS_COLUMN_MISSING, name};

	if (extra != NULL && (theirs == NULL || extra->kind >= TMS_COLUMN_EXPECTED_SOURCE))
	{
		if (own->atttypid == extra->type)
			column.kind = extra->kind;
	}
	else if (theirs != NULL && same_values(theirs, own))
		column.kind = TMS_COLUMN_RELATION;
	return column;
}

TmsRelation *tms_relation_resolve(Oid foreigntableid)
{
	TmsRelation *relation = palloc0(sizeof(TmsRelation));
	Relation foreign = relation_open(foreigntableid, NoLock);
	Relation rel;
	char *schema;
	char *name;
	int i;

	tms_table_relation(GetForeignTable(foreigntableid), &schema, &name);
	relation->foreigntableid = foreigntableid;
	relation->schema = schema;
	relation->name = name;
	rel = open_relation(relation);
	check_keys(relation, RelationGetDescr(rel));

	relation->ncolumns = RelationGetNumberOfAttributes(foreign);
	relation->columns = palloc0(relation->ncolumns * sizeof(TmsColumn));
	for (i = 0; i < relation->ncolumns; i++)
	{
		Form_pg_attribute own = TupleDescAttr(RelationGetDescr(foreign), i);

		if (!own->attisdropped)
			relation->columns[i] = map_column(own, tms_column_name(foreigntableid, own->attnum), RelationGetDescr(rel));
	}
	relation_close(rel, NoLock);
	relation_close(foreign, NoLock);
	return relation;
}

TmsRelation *tms_relation_by_name(const char *schema, const char *name)
{
	TmsRelation *relation = palloc0(sizeof(TmsRelation));
	Relation rel;

	relation->schema = schema;
	relation->name = name;
	rel = open_relation(relation);
	check_keys(relation, RelationGetDescr(rel));
	relation_close(rel, NoLock);
	return relation;
}

TmsColumnKind tms_relation_column_kind(const TmsRelation *relation, AttrNumber attnum)
{
	Assert(attnum >= 1 && attnum <= relation->ncolumns);
	return relation->columns[attnum - 1].kind;
}

/* The declared type of a column, with its modifier, in words. */
static const char *column_type(Oid relid, AttrNumber attnum)
{
	Oid type;
	int32 typmod;
	Oid collation;

	get_atttypetypmodcoll(relid, attnum, &type, &typmod, &collation);
	return format_type_with_typemod(type, typmod);
}

/* Says why a column of the foreign table cannot be read. */
static void refuse_missing(const TmsRelation *relation, AttrNumber attnum)
{
	const TmsColumn *column = &relation->columns[attnum - 1];
	const char *table = get_rel_name(relation->foreigntableid);
	const char *own = get_attname(relation->foreigntableid, attnum, false);
	const TmsExtraColumn *extra = find_extra(column->name);
	AttrNumber theirs = get_attnum(relation->relid, column->name);

	if (extra != NULL && (theirs == InvalidAttrNumber || extra->kind >= TMS_COLUMN_EXPECTED_SOURCE))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of foreign table \"%s\" has type %s", own, table,
							   column_type(relation->foreigntableid, attnum)),
						errdetail("\"%s\" is %s.", column->name, format_type_be(extra->type))));
	if (theirs == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("relation \"%s\" has no column \"%s\"", qualified_name(relation), column->name),
						errdetail("Column \"%s\" of foreign table \"%s\" reads it.", own, table),
						errhint("Drop that column of the foreign table, or set its option column_name.")));
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" of foreign table \"%s\" does not have the type of column \"%s\" of relation \"%s\"",
					own, table, column->name, qualified_name(relation)),
			 errdetail("It has type %s, the relation's column has type %s.",
					   column_type(relation->foreigntableid, attnum), column_type(relation->relid, theirs))));
}

const TmsColumn *tms_relation_column(const TmsRelation *relation, AttrNumber attnum)
{
	if (tms_relation_column_kind(relation, attnum) == TMS_COLUMN_MISSING)
		refuse_missing(relation, attnum);
	return &relation->columns[attnum - 1];
}
