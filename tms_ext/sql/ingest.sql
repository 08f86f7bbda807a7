-- The one entry for agents. No rights of the caller are needed but to execute it: the extension's tables are written as the
-- extension's owner, tms.capture as its own.

CREATE FUNCTION tms.ingest(header jsonb, captured_at timestamptz[], path text[], image_bytes integer[], sha256 bytea[],
						   plate text[], plate_class text[], plate_color text[], direction text[], lane smallint[],
						   speed_kmh smallint[], violation_code text[], event_id uuid[], attributes jsonb[],
						   OUT accepted_seq bigint, OUT fork_from bigint, OUT cleaning_period interval,
						   OUT upload_request jsonb)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'tms_ingest';
COMMENT ON FUNCTION tms.ingest(jsonb, timestamptz[], text[], integer[], bytea[], text[], text[], text[], text[], smallint[],
							   smallint[], text[], uuid[], jsonb[]) IS
	'Takes a batch of captures, or a heartbeat, from an agent. Element i of the arrays is seq first_seq + i; a NULL path is a row no longer held; a NULL array is as good as one of NULLs. Never fails for the content of a row.';
REVOKE ALL ON FUNCTION tms.ingest(jsonb, timestamptz[], text[], integer[], bytea[], text[], text[], text[], text[], smallint[],
								  smallint[], text[], uuid[], jsonb[]) FROM PUBLIC;
