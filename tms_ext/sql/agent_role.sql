-- The login of the agents.

CREATE FUNCTION tms.create_agent_role(name text, connection_limit integer DEFAULT 200) RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Roles belong to the cluster: in a database that was made anew the login is there, and its right is not.
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = name AND (rolsuper OR NOT rolcanlogin)) THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
			MESSAGE = format('role "%s" exists, and is no login for agents', name),
			DETAIL = 'It is a superuser, or cannot log in.', HINT = 'Choose another name.';
	ELSIF EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
		EXECUTE format('ALTER ROLE %I NOINHERIT CONNECTION LIMIT %s', name, connection_limit);
		RAISE NOTICE 'role "%" exists already: it gets the settings of an agent''s login, and keeps its password and its other rights', name;
	ELSE
		EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT CONNECTION LIMIT %s', name, connection_limit);
	END IF;
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
	'Makes a login that can only call tms.ingest, with a statement timeout and parameters kept out of the log; set its password yourself. Of a login that exists, as in a database made anew, it sets the same.';

REVOKE ALL ON FUNCTION tms.create_agent_role(text, integer) FROM PUBLIC;
