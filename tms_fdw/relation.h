/*
 * The relation behind a foreign table, and what each of the foreign table's columns is.
 */
#ifndef TMS_RELATION_H
#define TMS_RELATION_H

#include "postgres.h"

#include "access/attnum.h"

/* Where a column's values come from. */
typedef enum TmsColumnKind
{
	TMS_COLUMN_NONE, /* dropped */
	TMS_COLUMN_MISSING, /* the relation has no such column, or one of another type: an error once it is used */
	TMS_COLUMN_RELATION, /* the relation's column of that name */
	TMS_COLUMN_DEVICE, /* tms.device.code */
	TMS_COLUMN_SITE, /* tms.device.site */
	TMS_COLUMN_EXPECTED_SOURCE, /* told by the watermarks, when the row is read */
	TMS_COLUMN_IMAGE, /* this and what follows needs requests */
	TMS_COLUMN_IMAGE_SOURCE,
	TMS_COLUMN_IMAGE_ERROR,
} TmsColumnKind;

/* What the relation must have, whatever the foreign table shows of it. */
typedef enum TmsKey
{
	TMS_KEY_CAPTURE_ID,
	TMS_KEY_DEVICE_ID,
	TMS_KEY_PATH,
	TMS_KEY_IMAGE_BYTES,
	TMS_KEY_SHA256,
	TMS_KEY_COUNT
} TmsKey;

typedef struct TmsColumn
{
	TmsColumnKind kind;
	const char *name; /* in the relation */
} TmsColumn;

typedef struct TmsRelation
{
	Oid foreigntableid;
	Oid relid;
	const char *schema;
	const char *name;
	int ncolumns;
	TmsColumn *columns; /* of the foreign table, from attribute number 1 on */
} TmsRelation;

/* Names of the keys in every relation, indexed by TmsKey. */
extern const char *const tms_key_names[TMS_KEY_COUNT];

/* The columns every foreign table may have beside those of its relation, in the order IMPORT makes them. */
typedef struct TmsExtraColumn
{
	const char *name;
	TmsColumnKind kind;
	Oid type;
	const char *collation; /* NULL: the type's */
} TmsExtraColumn;

#define TMS_EXTRA_COLUMNS 6
extern const TmsExtraColumn tms_extra_columns[TMS_EXTRA_COLUMNS];

/*
 * Looks up the relation of a foreign table, in the current memory context; its lock on the relation stays until the end of
 * the transaction. Error when there is no such relation, when it cannot be one, or when it lacks a key.
 */
extern TmsRelation *tms_relation_resolve(Oid foreigntableid);

/* The same for a relation by name, for which there is no foreign table yet: has no columns. */
extern TmsRelation *tms_relation_by_name(const char *schema, const char *name);

/* What an attribute of the foreign table is; an error for TMS_COLUMN_MISSING. */
extern const TmsColumn *tms_relation_column(const TmsRelation *relation, AttrNumber attnum);

/* The same without the error, for a look. */
extern TmsColumnKind tms_relation_column_kind(const TmsRelation *relation, AttrNumber attnum);

#endif
