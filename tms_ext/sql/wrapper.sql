-- The foreign-data wrapper.

CREATE FUNCTION tms.tms_fdw_handler() RETURNS fdw_handler
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'tms_fdw_handler';
COMMENT ON FUNCTION tms.tms_fdw_handler() IS 'entry points of the foreign-data wrapper tms_fdw';

CREATE FUNCTION tms.tms_fdw_validator(options text[], catalog oid) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'tms_fdw_validator';
COMMENT ON FUNCTION tms.tms_fdw_validator(text[], oid) IS 'checks the options of servers, user mappings, foreign tables and columns of tms_fdw';

CREATE FOREIGN DATA WRAPPER tms_fdw HANDLER tms.tms_fdw_handler VALIDATOR tms.tms_fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER tms_fdw IS 'photographs as columns: paths from this database, bytes from the image center or the front ends';
