-- The path center made again from the manifests that agents keep in the image center.

CREATE TABLE tms.imported_manifest (
	object text COLLATE "C" PRIMARY KEY,
	bytes bigint NOT NULL,
	added bigint NOT NULL,
	known bigint NOT NULL,
	problems text[],
	imported_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tms.imported_manifest IS
	'manifests that tms.import_image_center has loaded, and passes over the next time unless they had problems; TRUNCATE it to load all of them again';
COMMENT ON COLUMN tms.imported_manifest.object IS 'name of the manifest in the image center';
COMMENT ON COLUMN tms.imported_manifest.bytes IS 'its size';
COMMENT ON COLUMN tms.imported_manifest.added IS 'captures it added';
COMMENT ON COLUMN tms.imported_manifest.known IS 'captures it named that were there already';
COMMENT ON COLUMN tms.imported_manifest.problems IS 'what could not be loaded, and why; NULL: nothing';
COMMENT ON COLUMN tms.imported_manifest.imported_at IS 'when it was loaded last';

SELECT pg_catalog.pg_extension_config_dump('tms.imported_manifest', '');

CREATE FUNCTION tms.manifest_load(device_id integer, ledger uuid, content bytea,
								  OUT added bigint, OUT known bigint, OUT problems text[])
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_manifest_load';
COMMENT ON FUNCTION tms.manifest_load(integer, uuid, bytea) IS
	'Takes the records of a manifest of this ledger into tms.capture; for tms.manifest_import';

CREATE FUNCTION tms.manifest_import(object text, bytes bigint, content bytea, problem text,
									OUT added bigint, OUT known bigint, OUT problems text[])
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- <device>/manifest/YYYY/MM/DD/HH/<ledger>-<part>.jsonl; an agent's part is a seq and the beginning of the digest
	name CONSTANT text[] := regexp_match(object,
		'^([^/]+)/manifest/\d{4}/\d\d/\d\d/\d\d/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([A-Za-z0-9.-]+)\.jsonl$');
	digest CONSTANT text := substring(name[3] FROM '^\d{10}-([0-9a-f]{8})$');
	device CONSTANT integer := (SELECT d.device_id FROM tms.device AS d WHERE d.code = name[1]);
BEGIN
	added := 0;
	known := 0;
	IF device IS NULL THEN
		problems := ARRAY['not the name of a manifest of a registered front end'];
	ELSIF content IS NULL THEN
		problems := ARRAY[problem];
	ELSE
		SELECT l.added, l.known, l.problems INTO added, known, problems
			FROM tms.manifest_load(device, name[2]::uuid, content) AS l;
		IF digest <> left(encode(sha256(content), 'hex'), 8) THEN
			problems := problems || 'its bytes are not those that its name speaks of'::text;
		END IF;
	END IF;
	INSERT INTO tms.imported_manifest AS m (object, bytes, added, known, problems)
		VALUES (manifest_import.object, manifest_import.bytes, manifest_import.added, manifest_import.known,
				manifest_import.problems)
		ON CONFLICT ON CONSTRAINT imported_manifest_pkey DO UPDATE SET bytes = excluded.bytes,
			added = excluded.added, known = excluded.known, problems = excluded.problems, imported_at = excluded.imported_at;
END;
$$;
COMMENT ON FUNCTION tms.manifest_import(text, bigint, bytea, text) IS
	'Takes a manifest of that name and size, or the problem for which there is no content, and notes it in tms.imported_manifest; for tms.import_image_center';

-- Front ends, by the beginning of their codes, that have manifests in the image center; an error when some are not registered.
CREATE FUNCTION tms.manifest_devices(server text, prefix text) RETURNS SETOF text
	LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	folder record;
	unknown text[] := '{}';
BEGIN
	FOR folder IN
		SELECT rtrim(o.object, '/') AS code, d.device_id
		FROM tms.list_objects(server) AS o LEFT JOIN tms.device AS d ON d.code = rtrim(o.object, '/')
		WHERE o.bytes IS NULL AND starts_with(o.object, prefix) AND tms.is_device_code(rtrim(o.object, '/'))
		ORDER BY 1
	LOOP
		IF folder.device_id IS NOT NULL THEN
			RETURN NEXT folder.code;
		ELSIF EXISTS (SELECT FROM tms.list_objects(server, folder.code || '/manifest/')) THEN
			unknown := unknown || folder.code;
		END IF;
	END LOOP;
	IF unknown <> '{}' THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object',
			MESSAGE = format('the image center has manifests of %s front ends that are not registered', cardinality(unknown)),
			DETAIL = array_to_string(unknown[1:100], ', ') || CASE WHEN cardinality(unknown) > 100 THEN ' ...' ELSE '' END,
			HINT = 'Register them first, with the tokens they have: SELECT tms.register_device(code, base_url, token => ...);';
	END IF;
END;
$$;
COMMENT ON FUNCTION tms.manifest_devices(text, text) IS
	'Codes, beginning with prefix, of the front ends with a folder in the image center; an error when there are manifests of others; for tms.import_image_center';

-- A procedure with SET or SECURITY DEFINER cannot commit, and every manifest is a transaction of its own, so that ledgers are
-- locked for a moment only and what is done stays done. It sets its search_path itself, in each of them.
CREATE PROCEDURE tms.import_image_center(server text DEFAULT 'image_center', prefix text DEFAULT '')
	LANGUAGE plpgsql
AS $$
DECLARE
	max_bytes CONSTANT bigint := 16777216;
	at_once CONSTANT integer := 16;
	began_at CONSTANT timestamptz := pg_catalog.clock_timestamp();
	said_at timestamptz := began_at;
	codes text[];
	manifests bigint := 0;
	captures bigint := 0;
	imperfect bigint := 0;
	code text;
	batch record;
	manifest record;
	loaded record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	codes := ARRAY(SELECT tms.manifest_devices(server, prefix));
	FOREACH code IN ARRAY codes LOOP
		FOR batch IN
			SELECT array_agg(l.object ORDER BY l.object) AS objects, array_agg(l.bytes ORDER BY l.object) AS bytes
			FROM (SELECT o.object, o.bytes, (row_number() OVER (ORDER BY o.object) - 1) / at_once AS number
				  FROM tms.list_objects(server, code || '/manifest/', true) AS o
				  WHERE NOT EXISTS (SELECT FROM tms.imported_manifest AS m
									WHERE m.object = o.object AND m.bytes = o.bytes AND m.problems IS NULL)) AS l
			GROUP BY l.number
			ORDER BY l.number
		LOOP
			FOR manifest IN
				SELECT g.object, coalesce(batch.bytes[g.number], 0) AS bytes, g.content, g.problem
				FROM tms.get_objects(server, batch.objects, max_bytes) WITH ORDINALITY AS g (object, content, problem, number)
			LOOP
				SELECT i.added, i.problems INTO loaded
					FROM tms.manifest_import(manifest.object, manifest.bytes, manifest.content, manifest.problem) AS i;
				COMMIT;
				PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
				manifests := manifests + 1;
				captures := captures + loaded.added;
				IF loaded.problems IS NOT NULL THEN
					imperfect := imperfect + 1;
					IF imperfect <= 20 THEN
						RAISE WARNING '%: %', manifest.object, array_to_string(loaded.problems, '; ');
					END IF;
				END IF;
				IF clock_timestamp() > said_at + interval '5 seconds' THEN
					said_at := clock_timestamp();
					RAISE NOTICE '% manifests loaded, % captures added; front end % of %, now at %', manifests, captures,
						array_position(codes, code), cardinality(codes), manifest.object;
				END IF;
			END LOOP;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% manifests of % front ends loaded, % captures added in % s', manifests, cardinality(codes), captures,
		round(extract(epoch FROM clock_timestamp() - began_at)::numeric, 1);
	IF imperfect > 0 THEN
		RAISE WARNING '% manifests had problems', imperfect
			USING HINT = 'SELECT object, problems FROM tms.imported_manifest WHERE problems IS NOT NULL;';
	END IF;
END;
$$;
COMMENT ON PROCEDURE tms.import_image_center(text, text) IS
	'Makes rows of tms.capture again from the manifests that agents keep in the image center: of all front ends, or of those whose codes begin with prefix. May be called again, and interrupted, at any time; agents may go on meanwhile. Needs USAGE on the server.';

CREATE FUNCTION tms.unrecorded_objects(server text DEFAULT 'image_center', prefix text DEFAULT '')
	RETURNS TABLE (object text, bytes bigint, reason text)
	LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	top record;
BEGIN
	FOR top IN
		SELECT o.object, o.bytes, rtrim(o.object, '/') AS code, d.device_id
		FROM tms.list_objects(server) AS o
			LEFT JOIN tms.device AS d ON o.bytes IS NULL AND d.code = rtrim(o.object, '/')
		WHERE starts_with(o.object, prefix)
		ORDER BY 1
	LOOP
		IF top.device_id IS NULL THEN
			RETURN QUERY SELECT top.object, top.bytes, 'not of a registered front end';
			CONTINUE;
		END IF;
		RETURN QUERY
			SELECT o.object, o.bytes, 'no capture has this path'
			FROM tms.list_objects(server, top.object, true) AS o
			WHERE NOT starts_with(o.object, top.object || 'manifest/')
				AND NOT EXISTS (SELECT FROM tms.capture AS c WHERE c.device_id = top.device_id
								AND c.path COLLATE "C" = substr(o.object, length(top.object) + 1) COLLATE "C");
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tms.unrecorded_objects(text, text) IS
	'Objects of the image center, of all front ends or of those whose codes begin with prefix, that no row of tms.capture speaks of; a name that ends in a slash is a folder with all that is in it. Needs USAGE on the server and SELECT on tms.capture.';

REVOKE ALL ON FUNCTION tms.manifest_load(integer, uuid, bytea), tms.manifest_import(text, bigint, bytea, text),
	tms.manifest_devices(text, text), tms.unrecorded_objects(text, text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE tms.import_image_center(text, text) FROM PUBLIC;
