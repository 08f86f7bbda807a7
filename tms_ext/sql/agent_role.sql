-- The login of the agents.

CREATE FUNCTION tms.create_agent_role(name text, connection_limit integer DEFAULT 200) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT CONNECTION LIMIT %s', name, connection_limit);
	-- The token is a parameter of every call: it must not get into the log with slow or failing statements.
	EXECUTE format('ALTER ROLE %I SET log_parameter_max_length = 0', name);
	EXECUTE format('ALTER ROLE %I SET log_parameter_max_length_on_error = 0', name);
	EXECUTE format('ALTER ROLE %I SET statement_timeout = ''60s''', name);
	EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''60s''', name);
	EXECUTE format('GRANT EXECUTE ON FUNCTION tms.ingest(jsonb, timestamptz[], text[], integer[], bytea[], text[], text[],'
				   ' text[], text[], smallint[], smallint[], text[], uuid[], jsonb[]) TO %I', name);
END;
$$;
COMMENT ON FUNCTION tms.create_agent_role(text, integer) IS
	'Makes a login that can only call tms.ingest, with a statement timeout and parameters kept out of the log; set its password yourself';

REVOKE ALL ON FUNCTION tms.create_agent_role(text, integer) FROM PUBLIC;
