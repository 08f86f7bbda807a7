-- The table of captures. It and its domain are the user's, not the extension's: pg_dump keeps rows, policies, triggers and
-- indexes, and not even DROP EXTENSION ... CASCADE takes a row or a column away.

CREATE FUNCTION tms.create_capture_table(first_day date DEFAULT (now() AT TIME ZONE 'UTC')::date - 7) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	SET timezone = 'UTC'
	SET datestyle = 'ISO'
AS $create$
DECLARE
	far CONSTANT date := '2100-01-01';
	last_day CONSTANT date := greatest(current_date + 14, first_day);
BEGIN
	IF (first_day >= date '2000-01-02' AND first_day <= current_date + 366) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = 'datetime_field_overflow', MESSAGE = format('first day %s is out of range', first_day),
			HINT = 'It is the first day with a partition of its own: from 2000-01-02 to a year from now.';
	END IF;
	IF to_regclass('tms.capture') IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_table', MESSAGE = 'tms.capture exists already',
			HINT = 'tms.upkeep() makes further days.';
	END IF;

	-- Were the domain the extension's, DROP EXTENSION ... CASCADE would drop the column; so it only drops the constraint.
	IF to_regtype('tms.storage_path') IS NULL THEN
		CREATE DOMAIN tms.storage_path AS text COLLATE "C"
			CONSTRAINT storage_path_is_safe CHECK (tms.is_storage_path(VALUE));
		COMMENT ON DOMAIN tms.storage_path IS
			'relative path of a capture in its front end''s cache, and the tail of its key in the image center; needs no escaping in URLs';
	END IF;

	CREATE TABLE tms.capture (
		captured_at timestamptz NOT NULL,
		capture_id bigint NOT NULL,
		device_id integer NOT NULL,
		image_bytes integer,
		lane smallint,
		speed_kmh smallint,
		event_id uuid,
		plate text COLLATE "C",
		plate_class text COLLATE "C",
		plate_color text COLLATE "C",
		direction text COLLATE "C",
		violation_code text COLLATE "C",
		path tms.storage_path,
		sha256 bytea,
		attributes jsonb
	) PARTITION BY RANGE (captured_at);
	COMMENT ON TABLE tms.capture IS 'captures: one row a photograph, written once and never updated; one partition a UTC day';
	COMMENT ON COLUMN tms.capture.captured_at IS 'when it was taken';
	COMMENT ON COLUMN tms.capture.capture_id IS 'ledger number << 32 | seq';
	COMMENT ON COLUMN tms.capture.device_id IS 'the front end, as in tms.device';
	COMMENT ON COLUMN tms.capture.image_bytes IS 'size of the photograph in bytes';
	COMMENT ON COLUMN tms.capture.lane IS 'lane';
	COMMENT ON COLUMN tms.capture.speed_kmh IS 'speed in kilometers an hour';
	COMMENT ON COLUMN tms.capture.event_id IS 'what the captures of one event have in common';
	COMMENT ON COLUMN tms.capture.plate IS 'text of the license plate';
	COMMENT ON COLUMN tms.capture.plate_class IS 'kind of plate';
	COMMENT ON COLUMN tms.capture.plate_color IS 'color of the plate';
	COMMENT ON COLUMN tms.capture.direction IS 'direction of travel';
	COMMENT ON COLUMN tms.capture.violation_code IS 'code of the violation, NULL for a mere passing';
	COMMENT ON COLUMN tms.capture.path IS 'where the photograph lies: in the front end''s cache, and below its code in the image center';
	COMMENT ON COLUMN tms.capture.sha256 IS 'SHA-256 of the photograph; an image that does not have it is never returned';
	COMMENT ON COLUMN tms.capture.attributes IS 'everything else; rejected: values that broke a rule; claimed_at: an absurd time';

	CREATE INDEX ON tms.capture (capture_id);
	CREATE INDEX ON tms.capture (plate);
	CREATE INDEX ON tms.capture (captured_at);
	CREATE INDEX ON tms.capture (device_id, captured_at);
	CREATE INDEX ON tms.capture (event_id) WHERE event_id IS NOT NULL; -- costs a mere passing nothing

	-- No default partition: it would have to be locked and searched whenever a day is made.
	EXECUTE format('CREATE TABLE tms.capture_before PARTITION OF tms.capture FOR VALUES FROM (MINVALUE) TO (%L)',
				   first_day::timestamptz);
	EXECUTE format('CREATE TABLE tms.capture_after PARTITION OF tms.capture FOR VALUES FROM (%L) TO (MAXVALUE)',
				   far::timestamptz);
	PERFORM tms.partition_ensure(first_day + n) FROM generate_series(0, last_day - first_day) AS n;
END;
$create$;
COMMENT ON FUNCTION tms.create_capture_table(date) IS
	'Makes tms.capture, which belongs to the caller, with a partition a day from first_day (a week ago) to two weeks from now';

REVOKE ALL ON FUNCTION tms.create_capture_table(date) FROM PUBLIC;
