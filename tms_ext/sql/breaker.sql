-- Circuit breakers: which endpoints are left alone for a while.

CREATE FUNCTION tms.breaker_read(OUT database oid, OUT serverid oid, OUT source text, OUT endpoint text, OUT state text,
								 OUT failures integer, OUT last_error text, OUT last_failure timestamptz,
								 OUT open_since timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'tms_breaker_read';
COMMENT ON FUNCTION tms.breaker_read() IS
	'The endpoints of all databases whose last request failed; use the view tms.stat_breaker';

CREATE VIEW tms.stat_breaker AS
	SELECT s.srvname AS server, b.source, b.endpoint, b.state, b.failures, b.last_error, b.last_failure, b.open_since
	FROM tms.breaker_read() AS b JOIN pg_foreign_server AS s ON s.oid = b.serverid
	WHERE b.database = (SELECT oid FROM pg_database WHERE datname = current_database());
COMMENT ON VIEW tms.stat_breaker IS
	'Endpoints of this database''s servers whose last request failed, and the state of their circuit breakers; all others are closed. Cluster-wide when tms is in shared_preload_libraries, else of this session alone.';
COMMENT ON COLUMN tms.stat_breaker.server IS 'the foreign server through which it is asked';
COMMENT ON COLUMN tms.stat_breaker.source IS 'image_center or front_end';
COMMENT ON COLUMN tms.stat_breaker.endpoint IS 'scheme, host and port';
COMMENT ON COLUMN tms.stat_breaker.state IS
	'closed: asked; open: not asked until breaker_cooldown after last_failure; half-open: one request is finding out whether it is back';
COMMENT ON COLUMN tms.stat_breaker.failures IS 'failures since the last success';
COMMENT ON COLUMN tms.stat_breaker.last_error IS 'reason of the last one';
COMMENT ON COLUMN tms.stat_breaker.last_failure IS 'when that was';
COMMENT ON COLUMN tms.stat_breaker.open_since IS 'when the breaker opened; NULL while it is closed';

CREATE FUNCTION tms.breaker_reset() RETURNS void
	LANGUAGE C VOLATILE
	AS 'MODULE_PATHNAME', 'tms_breaker_reset';
COMMENT ON FUNCTION tms.breaker_reset() IS 'Closes all circuit breakers of all databases, so that every source is asked again at once';

REVOKE ALL ON FUNCTION tms.breaker_read(), tms.breaker_reset() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tms.breaker_read() TO pg_monitor;
GRANT SELECT ON tms.stat_breaker TO pg_monitor;
