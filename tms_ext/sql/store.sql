-- What an image center holds.

CREATE FUNCTION tms.list_objects(server text, folder text DEFAULT '', recursive boolean DEFAULT false)
	RETURNS TABLE (object text, bytes bigint)
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_store_list';
COMMENT ON FUNCTION tms.list_objects(text, text, boolean) IS
	'Objects whose names begin with this folder (ending in a slash, or empty); without `recursive` one level, on which a name that ends in a slash is a folder, without bytes. S3 stores need the right s3:ListBucket, nginx autoindex_format json. Needs USAGE on the server.';

CREATE FUNCTION tms.get_objects(server text, objects text[], max_bytes bigint)
	RETURNS TABLE (object text, content bytea, problem text)
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_store_get_objects';
COMMENT ON FUNCTION tms.get_objects(text, text[], bigint) IS
	'Objects by their names, asked for concurrently: the content, or the problem when there is none or it has more than max_bytes. A store that is away is an error, after five attempts. Needs USAGE on the server.';

REVOKE ALL ON FUNCTION tms.list_objects(text, text, boolean), tms.get_objects(text, text[], bigint) FROM PUBLIC;
