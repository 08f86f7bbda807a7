-- IMPORT FOREIGN SCHEMA, and foreign tables made by hand.
SET client_min_messages = warning;
CREATE SERVER import_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
CREATE SCHEMA import;

-- without tms.capture
BEGIN;
DROP TABLE IF EXISTS tms.capture CASCADE;
IMPORT FOREIGN SCHEMA tms FROM SERVER import_server INTO import;
ROLLBACK;

-- the one table, with the relation's columns as they are now
BEGIN;
DROP TABLE IF EXISTS tms.capture CASCADE;
SELECT tms.create_capture_table();
ALTER TABLE tms.capture ADD COLUMN "Odd column" varchar(10), DROP COLUMN lane;
IMPORT FOREIGN SCHEMA tms FROM SERVER import_server INTO import;
\d import.*
SELECT count(*) FROM import.capture_image;
ROLLBACK;

-- what is not there
IMPORT FOREIGN SCHEMA public FROM SERVER import_server INTO import;
BEGIN;
DROP TABLE IF EXISTS tms.capture CASCADE;
SELECT tms.create_capture_table();
IMPORT FOREIGN SCHEMA tms LIMIT TO (capture_image) FROM SERVER import_server INTO import;
IMPORT FOREIGN SCHEMA tms EXCEPT (capture_image) FROM SERVER import_server INTO import;
IMPORT FOREIGN SCHEMA tms LIMIT TO (capture) FROM SERVER import_server INTO import;
SELECT relname FROM pg_class WHERE relnamespace = 'import'::regnamespace;
SAVEPOINT again;
IMPORT FOREIGN SCHEMA tms FROM SERVER import_server INTO import;
ROLLBACK TO again;
IMPORT FOREIGN SCHEMA tms FROM SERVER import_server INTO import OPTIONS (relation 'import.captures');
ROLLBACK;

-- by hand, over any table or view
CREATE TABLE import.captures (capture_id bigint, device_id int, path text, image_bytes int, sha256 bytea,
	note varchar(10), plate text COLLATE "C");
INSERT INTO import.captures VALUES (4294967297, -1, 'a/b.jpg', 3, '\x00', 'first', 'AB 1');
CREATE FOREIGN TABLE import.few ("Nr" bigint OPTIONS (column_name 'capture_id'), note varchar(10), where_to text OPTIONS
	(column_name 'expected_source'), why text OPTIONS (column_name 'image_error'), photo bytea OPTIONS (column_name 'image'))
	SERVER import_server OPTIONS (relation 'import.captures');
SELECT * FROM import.few;
EXPLAIN (COSTS OFF) SELECT "Nr" FROM import.few WHERE note = 'first';

CREATE VIEW import.view AS SELECT c.*, upper(c.note) AS loud FROM import.captures c;
CREATE FOREIGN TABLE import.loud (capture_id bigint, loud text, device text) SERVER import_server
	OPTIONS (relation 'import.view');
SELECT * FROM import.loud;
CREATE MATERIALIZED VIEW import.materialized AS SELECT * FROM import.view;
ALTER FOREIGN TABLE import.loud OPTIONS (SET relation 'import.materialized');
SELECT * FROM import.loud;

-- relations that will not do: said when the table is read, so that a dump may be restored in any order
CREATE FUNCTION import.try(relation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
	detail text;
	hint text;
BEGIN
	EXECUTE format('ALTER FOREIGN TABLE import.loud OPTIONS (SET relation %L)', relation);
	PERFORM capture_id FROM import.loud;
	RETURN 'can be read';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, said, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE VIEW import.no_digest AS SELECT capture_id, device_id, path, image_bytes FROM import.captures;
CREATE VIEW import.text_digest AS
	SELECT capture_id, device_id, path, image_bytes, encode(sha256, 'hex') AS sha256 FROM import.captures;
CREATE VIEW import.loop AS SELECT l.capture_id, c.device_id, c.path, c.image_bytes, c.sha256
	FROM import.captures c JOIN import.loud l USING (capture_id);
CREATE SEQUENCE import.sequence;
\x on
SELECT import.try('import.nothing'), import.try('nowhere.captures'), import.try('import.no_digest'),
	import.try('import.text_digest'), import.try('import.loud'), import.try('import.loop'), import.try('import.sequence'),
	import.try('import.view');
\x off

-- columns that will not do: said when they are used
CREATE DOMAIN import.short AS text CHECK (length(VALUE) < 3);
CREATE FOREIGN TABLE import.wrong (capture_id bigint, note text, plate int, image text, weather text, site int,
	image_bytes bigint, path import.short) SERVER import_server OPTIONS (relation 'import.captures');
SELECT capture_id, note FROM import.wrong;
SELECT plate FROM import.wrong;
SELECT image FROM import.wrong;
SELECT weather FROM import.wrong;
SELECT count(*) FROM import.wrong WHERE weather = 'fine';
SELECT site FROM import.wrong;
SELECT image_bytes FROM import.wrong;
SELECT path FROM import.wrong;
SELECT * FROM import.wrong;
ALTER FOREIGN TABLE import.wrong ALTER COLUMN note TYPE varchar(5);
SELECT note FROM import.wrong;

-- read-only
INSERT INTO import.few DEFAULT VALUES;
UPDATE import.few SET note = 'x';
DELETE FROM import.few;
COPY import.few FROM PROGRAM 'true';
DO $$ BEGIN TRUNCATE import.few; EXCEPTION WHEN feature_not_supported OR wrong_object_type THEN RAISE EXCEPTION 'refused'; END $$;
ANALYZE import.few;

DROP SCHEMA import CASCADE;
DROP SERVER import_server;
