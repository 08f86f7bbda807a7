-- What holds for every object of the extension.
\set VERBOSITY terse
CREATE TEMP TABLE member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
FROM pg_depend AS d
WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tms') AND d.deptype = 'e';

-- It has a comment, and so has every column of a table or view.
SELECT name FROM member
WHERE obj_description(objid, classid::regclass::name) IS NULL AND name !~ '^(sequence|type) '
ORDER BY name COLLATE "C";
SELECT m.name, a.attname FROM member m JOIN pg_attribute a ON a.attrelid = m.objid
WHERE m.classid = 'pg_class'::regclass AND m.name ~ '^(table|view) ' AND a.attnum > 0 AND NOT a.attisdropped
	AND col_description(a.attrelid, a.attnum) IS NULL
ORDER BY 1, a.attnum;

-- It is in the schema tms, unless it can be in none.
SELECT name FROM member WHERE name !~ ' tms\.' AND name !~ '^foreign-data wrapper ';

-- A table's data are dumped, a sequence's too.
SELECT m.name FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind IN ('r', 'S') AND NOT c.oid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'tms');

-- A function that runs as its owner, and every one in PL/pgSQL, looks names up where nobody else can put any.
SELECT p.oid::regprocedure AS open_search_path FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE (p.prosecdef OR p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql'))
	AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'))
	AND p.prokind <> 'p'; -- procedures that commit cannot have it, and set it in every transaction

-- What everybody may call: nothing that fetches, writes or tells a secret; and see: the columns of tms.device that queries join.
SELECT p.oid::regprocedure AS everybody_calls, CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT m.name FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0);
SELECT m.name, a.attname, x.privilege_type FROM member m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
	CROSS JOIN LATERAL aclexplode(a.attacl) x WHERE x.grantee = 0 ORDER BY 1, a.attnum;

-- Settings, and who may change them.
SELECT tms.retention() \g /dev/null
SELECT name, vartype, context, boot_val FROM pg_settings WHERE name LIKE 'tms.%' ORDER BY name COLLATE "C";
DROP TABLE member;
