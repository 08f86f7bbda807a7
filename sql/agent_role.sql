-- The login of the agents.
\set VERBOSITY terse
SELECT tms.create_agent_role('regress agent');
SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit
FROM pg_roles WHERE rolname = 'regress agent';
SELECT unnest(setconfig) AS setting FROM pg_db_role_setting WHERE setrole = '"regress agent"'::regrole AND setdatabase = 0 ORDER BY 1;
-- A database that is made anew finds the login there, without its right.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tms FROM "regress agent";
ALTER ROLE "regress agent" INHERIT CONNECTION LIMIT 1;
ALTER ROLE "regress agent" RESET ALL;
SELECT tms.create_agent_role('regress agent', 300);
SELECT rolinherit, rolconnlimit, cardinality(setconfig) AS settings
FROM pg_roles JOIN pg_db_role_setting ON setrole = pg_roles.oid AND setdatabase = 0 WHERE rolname = 'regress agent';
SELECT tms.create_agent_role('pg_monitor');
SELECT tms.create_agent_role('regress_other', connection_limit => -2);

-- It can call tms.ingest and nothing else that is not everybody's.
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'tms'::regnamespace
	AND has_function_privilege('regress agent', p.oid, 'EXECUTE')
	AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0);
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'tms'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
	AND has_table_privilege('regress agent', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');

SET ROLE "regress agent";
SELECT tms.create_agent_role('regress_other');
SELECT count(*) FROM tms.fleet;
RESET ROLE;
DROP OWNED BY "regress agent";
DROP ROLE "regress agent";
