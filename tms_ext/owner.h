/*
 * Whose rights code of the extension works with.
 *
 * The extension's own tables are touched as the extension's owner, so that callers need no rights on them. tms.capture is
 * the user's table: it is written and altered as its owner, so that triggers, defaults and index expressions of that owner
 * never run with the rights of a superuser. Both are what the server itself does for foreign keys.
 */
#ifndef TMS_OWNER_H
#define TMS_OWNER_H

#include "postgres.h"

/* What tms_run_as changed; lives on the caller's stack. */
typedef struct TmsIdentity
{
	Oid userid;
	int security_context;
	int guc_level;
} TmsIdentity;

/* The extension's owner; error 42704 when the extension is not there. */
extern Oid tms_extension_owner(void);

/* tms.capture; error 42P01 with a hint when there is none. */
extern Oid tms_capture_relation(void);

/* The same, or InvalidOid. */
extern Oid tms_capture_relation_if_any(void);

/* The owner of a relation; error when it is gone. */
extern Oid tms_relation_owner(Oid relation);

/*
 * From here on act as `owner`, row security not forced, with search_path = pg_catalog, pg_temp. SET ROLE is refused
 * meanwhile. Calls nest; an error undoes it with the (sub)transaction.
 */
extern void tms_run_as(Oid owner, TmsIdentity *saved);

/* Back to what was before the tms_run_as that filled `saved`. */
extern void tms_run_back(const TmsIdentity *saved);

#endif
