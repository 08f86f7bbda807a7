-- Devices: who may deliver captures, and where a front end's cache is asked.

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
	id bigserial PRIMARY KEY,
	device_id integer REFERENCES tms.device ON DELETE CASCADE,
	since timestamptz NOT NULL,
	until timestamptz NOT NULL,
	requested_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT upload_request_span CHECK (since < until AND isfinite(since) AND isfinite(until))
);
COMMENT ON TABLE tms.upload_request IS 'spans of time whose captures front ends shall upload again';
COMMENT ON COLUMN tms.upload_request.id IS 'increasing number, echoed by the agents';
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
SELECT pg_catalog.pg_extension_config_dump('tms.upload_request_id_seq', '');

-- What a query for images joins as its caller.
GRANT SELECT (device_id, code, site, enabled) ON tms.device TO PUBLIC;
