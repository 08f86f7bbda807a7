/*
 * IMPORT FOREIGN SCHEMA tms: makes capture_image.
 */
#ifndef TMS_IMPORT_H
#define TMS_IMPORT_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* The statements that make what is imported: one CREATE FOREIGN TABLE, or none when capture_image is left out. */
extern List *tms_import_schema(ImportForeignSchemaStmt *statement, Oid serverid);

#endif
