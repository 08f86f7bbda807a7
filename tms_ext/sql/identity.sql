-- Identity of captures: what path center and agents must agree on (common/). What tells nothing of its argument but the
-- answer is LEAKPROOF, so that row security does not keep it from indexes.

CREATE FUNCTION tms.is_storage_path(path text) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
	AS 'MODULE_PATHNAME', 'tms_identity_is_storage_path';
COMMENT ON FUNCTION tms.is_storage_path(text) IS
	'Is this a storage path: names of [A-Za-z0-9._-] joined by slashes, none of them . or .., 255 bytes at most?';

CREATE FUNCTION tms.is_device_code(code text) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
	AS 'MODULE_PATHNAME', 'tms_identity_is_device_code';
COMMENT ON FUNCTION tms.is_device_code(text) IS
	'Is this a device code: [A-Za-z0-9][A-Za-z0-9._-]{0,62}?';

CREATE FUNCTION tms.capture_id(ledger_no integer, seq bigint) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_identity_capture_id';
COMMENT ON FUNCTION tms.capture_id(integer, bigint) IS
	'Id of the capture that a ledger gave this seq: ledger number << 32 | seq';

CREATE FUNCTION tms.capture_ledger_no(capture_id bigint) RETURNS integer
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
	AS 'MODULE_PATHNAME', 'tms_identity_capture_ledger_no';
COMMENT ON FUNCTION tms.capture_ledger_no(bigint) IS
	'Ledger number in a capture_id (tms.ledger.ledger_no)';

CREATE FUNCTION tms.capture_seq(capture_id bigint) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
	AS 'MODULE_PATHNAME', 'tms_identity_capture_seq';
COMMENT ON FUNCTION tms.capture_seq(bigint) IS
	'Seq in a capture_id: 1, 2, 3 ... within its ledger';

CREATE FUNCTION tms.ledger_number(ledger uuid) RETURNS integer
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF
	AS 'MODULE_PATHNAME', 'tms_identity_ledger_number';
COMMENT ON FUNCTION tms.ledger_number(uuid) IS
	'The number that a ledger asks for: the first 31 bits of its UUID. It gets the next free one if that is taken.';

CREATE FUNCTION tms.object_key(device text, path text) RETURNS text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_identity_object_key';
COMMENT ON FUNCTION tms.object_key(text, text) IS
	'Key of a capture in the image center: <device code>/<storage path>';

CREATE FUNCTION tms.url_key(token text) RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_identity_url_key';
COMMENT ON FUNCTION tms.url_key(text) IS
	'Key that signs the URLs of a device''s cache, derived from the device''s token';

CREATE FUNCTION tms.url_signature(url_key bytea, path text, expires bigint) RETURNS text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_identity_url_signature';
COMMENT ON FUNCTION tms.url_signature(bytea, text, bigint) IS
	'Signature of a URL of a device''s cache; path from /v1/images/ on, expires in seconds since 1970';

REVOKE ALL ON FUNCTION tms.url_key(text), tms.url_signature(bytea, text, bigint) FROM PUBLIC;
