-- Devices: who may deliver captures, and where a front end's cache is asked.

GRANT USAGE ON SCHEMA tms TO PUBLIC;

CREATE TABLE tms.device (
	device_id serial PRIMARY KEY,
	code text COLLATE "C" NOT NULL UNIQUE,
	base_url text COLLATE "C",
	cleaning_period interval NOT NULL DEFAULT '7 days',
	enabled boolean NOT NULL DEFAULT true,
	site text,
	attributes jsonb,
	registered_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT device_code CHECK (tms.is_device_code(code)),
	-- Scheme, host and port alone: the path is made by us, and a user name or query would end up in error messages.
	CONSTRAINT device_base_url CHECK (
		base_url ~ '^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$'
		AND length(base_url) <= 300
		AND coalesce(substring(base_url FROM ':([0-9]{1,5})$')::integer BETWEEN 1 AND 65535, true)),
	-- Compared in seconds: an interval's parts may have different signs.
	CONSTRAINT device_cleaning_period CHECK (extract(epoch FROM cleaning_period) BETWEEN 1 AND 3155760000),
	CONSTRAINT device_site CHECK (length(site) <= 200),
	CONSTRAINT device_attributes CHECK (jsonb_typeof(attributes) = 'object')
);
COMMENT ON TABLE tms.device IS 'front ends: roadside devices with an agent';
COMMENT ON COLUMN tms.device.device_id IS 'number of the device, as in tms.capture';
COMMENT ON COLUMN tms.device.code IS 'name of the device in configuration, object keys and URLs';
COMMENT ON COLUMN tms.device.base_url IS 'scheme, host and port of the front end''s cache server; NULL: it cannot be asked';
COMMENT ON COLUMN tms.device.cleaning_period IS 'how long the front end keeps a capture that is safe in both centers';
COMMENT ON COLUMN tms.device.enabled IS 'false: its captures are refused and its cache is not asked';
COMMENT ON COLUMN tms.device.site IS 'where it stands, in words';
COMMENT ON COLUMN tms.device.attributes IS 'anything else worth knowing';
COMMENT ON COLUMN tms.device.registered_at IS 'when it was registered';

CREATE TABLE tms.device_secret (
	device_id integer PRIMARY KEY REFERENCES tms.device ON DELETE CASCADE,
	token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
	url_key bytea NOT NULL CHECK (octet_length(url_key) = 32)
);
COMMENT ON TABLE tms.device_secret IS 'what a device proves itself with; for the extension''s owner alone';
COMMENT ON COLUMN tms.device_secret.device_id IS 'the device';
COMMENT ON COLUMN tms.device_secret.token_hash IS 'SHA-256 of its token; the token itself is kept nowhere';
COMMENT ON COLUMN tms.device_secret.url_key IS 'key that signs URLs of its cache server, derived from the token';

CREATE TABLE tms.device_status (
	device_id integer PRIMARY KEY REFERENCES tms.device ON DELETE CASCADE,
	at timestamptz NOT NULL DEFAULT now(),
	status jsonb NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE tms.device_status IS 'the last heartbeat of every device';
COMMENT ON COLUMN tms.device_status.device_id IS 'the device';
COMMENT ON COLUMN tms.device_status.at IS 'when it was received, by this server''s clock';
COMMENT ON COLUMN tms.device_status.status IS 'what the agent said of itself; not to be trusted to have any form';

CREATE TABLE tms.device_probe (
	device_id integer PRIMARY KEY REFERENCES tms.device ON DELETE CASCADE,
	at timestamptz NOT NULL DEFAULT now(),
	ok boolean NOT NULL,
	error text,
	latency_ms integer,
	clock_offset_ms bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE tms.device_probe IS 'the last attempt to reach every front end''s cache server';
COMMENT ON COLUMN tms.device_probe.device_id IS 'the device';
COMMENT ON COLUMN tms.device_probe.at IS 'when it was asked';
COMMENT ON COLUMN tms.device_probe.ok IS 'whether it answered as it should';
COMMENT ON COLUMN tms.device_probe.error IS 'why it is not ok';
COMMENT ON COLUMN tms.device_probe.latency_ms IS 'milliseconds until the answer';
COMMENT ON COLUMN tms.device_probe.clock_offset_ms IS 'the device''s clock minus this server''s, in milliseconds';

CREATE TABLE tms.upload_request (
	id bigint PRIMARY KEY,
	device_id integer REFERENCES tms.device ON DELETE CASCADE,
	since timestamptz NOT NULL,
	until timestamptz NOT NULL,
	requested_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT upload_request_span CHECK (since < until AND isfinite(since) AND isfinite(until))
);
COMMENT ON TABLE tms.upload_request IS 'spans of time whose captures front ends shall upload again';
COMMENT ON COLUMN tms.upload_request.id IS 'microseconds since 1970 when it was asked for, echoed by the agents: increasing also after a restore';
COMMENT ON COLUMN tms.upload_request.device_id IS 'the device that shall upload; NULL: every one';
COMMENT ON COLUMN tms.upload_request.since IS 'first capture time that is meant';
COMMENT ON COLUMN tms.upload_request.until IS 'first capture time that is no longer meant';
COMMENT ON COLUMN tms.upload_request.requested_at IS 'when it was asked for';

SELECT pg_catalog.pg_extension_config_dump('tms.device', '');
SELECT pg_catalog.pg_extension_config_dump('tms.device_device_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tms.device_secret', '');
SELECT pg_catalog.pg_extension_config_dump('tms.device_status', '');
SELECT pg_catalog.pg_extension_config_dump('tms.device_probe', '');
SELECT pg_catalog.pg_extension_config_dump('tms.upload_request', '');

-- What a query for images joins as its caller.
GRANT SELECT (device_id, code, site, enabled) ON tms.device TO PUBLIC;

-- A rule's comment is the hint of the error that register_device makes of it.
COMMENT ON CONSTRAINT device_code ON tms.device IS
	'1 to 63 letters, digits, dots, hyphens and underscores; the first one is a letter or a digit.';
COMMENT ON CONSTRAINT device_base_url ON tms.device IS
	'http or https, a host and perhaps a port, nothing else: http://10.1.4.17:8440';
COMMENT ON CONSTRAINT device_cleaning_period ON tms.device IS 'From one second to a hundred years.';
COMMENT ON CONSTRAINT device_site ON tms.device IS 'At most 200 characters.';
COMMENT ON CONSTRAINT device_attributes ON tms.device IS 'A JSON object.';

CREATE FUNCTION tms.new_token() RETURNS text
	LANGUAGE C VOLATILE
	AS 'MODULE_PATHNAME', 'tms_registry_new_token';
COMMENT ON FUNCTION tms.new_token() IS 'A new device token: 32 random bytes as base64url';

CREATE FUNCTION tms.set_token(device_id integer, token text) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF token !~ '^[!-~]+$' OR length(token) NOT BETWEEN 32 AND 256 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid token',
			HINT = 'A token has 32 to 256 printable ASCII characters and no space. Leave it out to get a new one.';
	END IF;
	INSERT INTO tms.device_secret AS s (device_id, token_hash, url_key)
		VALUES (set_token.device_id, sha256(convert_to(token, 'UTF8')), tms.url_key(token))
		ON CONFLICT ON CONSTRAINT device_secret_pkey
		DO UPDATE SET token_hash = excluded.token_hash, url_key = excluded.url_key;
END;
$$;
COMMENT ON FUNCTION tms.set_token(integer, text) IS 'Stores what a token is recognized by; for register_device and rotate_token';

CREATE FUNCTION tms.register_device(code text, base_url text, cleaning_period interval DEFAULT '7 days',
									token text DEFAULT NULL, site text DEFAULT NULL, attributes jsonb DEFAULT NULL)
	RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_token CONSTANT text := coalesce(token, tms.new_token());
	new_id integer;
	field text;
	rule text;
BEGIN
	INSERT INTO tms.device (code, base_url, cleaning_period, site, attributes)
		VALUES (code, regexp_replace(base_url, '/$', ''), cleaning_period, site, attributes)
		RETURNING device_id INTO new_id;
	PERFORM tms.set_token(new_id, new_token);
	RETURN new_token;
EXCEPTION
	WHEN unique_violation THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('device "%s" is registered already', code),
			HINT = 'tms.rotate_token(code) gives it a new token; update its row in tms.device to change the rest.';
	WHEN check_violation OR not_null_violation THEN
		GET STACKED DIAGNOSTICS field = COLUMN_NAME, rule = CONSTRAINT_NAME;
		field := coalesce(nullif(field, ''), substr(rule, length('device_') + 1));
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid %s', field),
			HINT = (SELECT obj_description(c.oid, 'pg_constraint') FROM pg_constraint c
					WHERE c.conrelid = 'tms.device'::regclass AND c.conname = 'device_' || field);
END;
$$;
COMMENT ON FUNCTION tms.register_device(text, text, interval, text, text, jsonb) IS
	'Registers a front end and returns its token, which is shown this once: put it into the agent''s token_file';

CREATE FUNCTION tms.device_id(code text) RETURNS integer
	LANGUAGE plpgsql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id integer;
BEGIN
	SELECT d.device_id INTO found_id FROM tms.device d WHERE d.code = device_id.code;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no device "%s"', code),
			HINT = 'SELECT code FROM tms.device;';
	END IF;
	RETURN found_id;
END;
$$;
COMMENT ON FUNCTION tms.device_id(text) IS 'Number of the device of that code; an error when there is none';

CREATE FUNCTION tms.rotate_token(code text) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_token CONSTANT text := tms.new_token();
BEGIN
	PERFORM tms.set_token(tms.device_id(code), new_token);
	RETURN new_token;
END;
$$;
COMMENT ON FUNCTION tms.rotate_token(text) IS
	'Gives a front end a new token, shown this once; the old one is refused from now on, also in signed URLs';

CREATE FUNCTION tms.request_upload(device text, since timestamptz, until timestamptz) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	request_id bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
	IF (since < until AND isfinite(since) AND isfinite(until)) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'since must be before until, both finite';
	END IF;
	-- Not from a sequence: after a restore it would give numbers that agents take for requests they have carried out.
	INSERT INTO tms.upload_request (id, device_id, since, until)
		SELECT greatest(request_id, max(r.id) + 1), CASE WHEN device IS NOT NULL THEN tms.device_id(device) END,
			request_upload.since, request_upload.until FROM tms.upload_request AS r
		RETURNING id INTO request_id;
	RETURN request_id;
END;
$$;
COMMENT ON FUNCTION tms.request_upload(text, timestamptz, timestamptz) IS
	'Asks a front end (NULL: all of them) to upload again what it still has of captures in [since, until)';

REVOKE ALL ON FUNCTION tms.new_token(), tms.set_token(integer, text), tms.device_id(text), tms.rotate_token(text),
	tms.register_device(text, text, interval, text, text, jsonb),
	tms.request_upload(text, timestamptz, timestamptz) FROM PUBLIC;
