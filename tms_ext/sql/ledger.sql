-- What the path center knows of every ledger. Captures are never updated: these few rows say where their bytes are.

CREATE TABLE tms.ledger (
	ledger_no integer PRIMARY KEY CHECK (ledger_no >= 0),
	device_id integer NOT NULL REFERENCES tms.device,
	ledger uuid NOT NULL UNIQUE,
	accepted_seq bigint NOT NULL DEFAULT 0 CHECK (accepted_seq BETWEEN 0 AND 4294967295),
	accepted_sha256 bytea CHECK (octet_length(accepted_sha256) = 32),
	last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq BETWEEN 0 AND 4294967295),
	uploaded_seq bigint NOT NULL DEFAULT 0 CHECK (uploaded_seq BETWEEN 0 AND 4294967295),
	uploaded_max bigint NOT NULL DEFAULT 0 CHECK (uploaded_max BETWEEN 0 AND 4294967295),
	cleaned_seq bigint NOT NULL DEFAULT 0 CHECK (cleaned_seq BETWEEN 0 AND 4294967295),
	report_no bigint NOT NULL DEFAULT 0,
	request_seen bigint NOT NULL DEFAULT 0,
	settled_seq bigint CHECK (settled_seq BETWEEN 0 AND 4294967295),
	first_seen_at timestamptz NOT NULL DEFAULT now(),
	last_seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX ON tms.ledger (device_id);
COMMENT ON TABLE tms.ledger IS 'every ledger ever seen; a device gets a further one when its disk is replaced or its ledger forks';
COMMENT ON COLUMN tms.ledger.ledger_no IS 'upper half of capture_id: first 31 bits of the UUID, or the next free number';
COMMENT ON COLUMN tms.ledger.device_id IS 'the device that reports it';
COMMENT ON COLUMN tms.ledger.ledger IS 'UUID the agent made when it created the ledger';
COMMENT ON COLUMN tms.ledger.accepted_seq IS 'every seq up to this one has its row or is in a gap';
COMMENT ON COLUMN tms.ledger.accepted_sha256 IS 'digest of the capture accepted_seq as far as known here: spares ingest a look into tms.capture';
COMMENT ON COLUMN tms.ledger.last_seq IS 'greatest seq the agent has reported to exist';
COMMENT ON COLUMN tms.ledger.uploaded_seq IS 'every capture up to this seq is verified in the image center';
COMMENT ON COLUMN tms.ledger.uploaded_max IS 'no capture above this seq is in the image center';
COMMENT ON COLUMN tms.ledger.cleaned_seq IS 'every capture up to this seq has left the front end''s cache';
COMMENT ON COLUMN tms.ledger.report_no IS 'number of the newest report; the watermarks are from it';
COMMENT ON COLUMN tms.ledger.request_seen IS 'newest upload request the agent has carried out';
COMMENT ON COLUMN tms.ledger.settled_seq IS
	'gaps above this seq were left by an import from manifests and wait for the agent, which may fill them; NULL: there are none';
COMMENT ON COLUMN tms.ledger.first_seen_at IS 'when it was first reported';
COMMENT ON COLUMN tms.ledger.last_seen_at IS 'when it was last reported';

CREATE TABLE tms.ledger_day (
	ledger_no integer NOT NULL REFERENCES tms.ledger,
	day date NOT NULL,
	first_seq bigint NOT NULL,
	last_seq bigint NOT NULL,
	PRIMARY KEY (ledger_no, day),
	CONSTRAINT ledger_day_span CHECK (1 <= first_seq AND first_seq <= last_seq)
) WITH (fillfactor = 50);
COMMENT ON TABLE tms.ledger_day IS 'which captures of a ledger are in which day: finds the partition of a bare capture_id';
COMMENT ON COLUMN tms.ledger_day.ledger_no IS 'the ledger';
COMMENT ON COLUMN tms.ledger_day.day IS 'UTC day of captured_at';
COMMENT ON COLUMN tms.ledger_day.first_seq IS 'least seq captured on that day';
COMMENT ON COLUMN tms.ledger_day.last_seq IS 'greatest seq captured on that day; days of one ledger may overlap';

CREATE TABLE tms.declared_gap (
	ledger_no integer NOT NULL REFERENCES tms.ledger,
	from_seq bigint NOT NULL,
	to_seq bigint NOT NULL,
	reason text NOT NULL,
	declared_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (ledger_no, from_seq),
	CONSTRAINT declared_gap_span CHECK (1 <= from_seq AND from_seq <= to_seq)
);
COMMENT ON TABLE tms.declared_gap IS 'captures that their agent no longer has a record of and that have no row here';
COMMENT ON COLUMN tms.declared_gap.ledger_no IS 'the ledger';
COMMENT ON COLUMN tms.declared_gap.from_seq IS 'first seq that is missing';
COMMENT ON COLUMN tms.declared_gap.to_seq IS 'last seq that is missing';
COMMENT ON COLUMN tms.declared_gap.reason IS 'how it came to be declared';
COMMENT ON COLUMN tms.declared_gap.declared_at IS 'when it was declared';

SELECT pg_catalog.pg_extension_config_dump('tms.ledger', '');
SELECT pg_catalog.pg_extension_config_dump('tms.ledger_day', '');
SELECT pg_catalog.pg_extension_config_dump('tms.declared_gap', '');
