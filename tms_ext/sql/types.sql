-- Types of the captures' table.

CREATE DOMAIN tms.storage_path AS text COLLATE "C"
	CONSTRAINT storage_path_is_safe CHECK (tms.is_storage_path(VALUE));
COMMENT ON DOMAIN tms.storage_path IS
	'Relative path of a capture in its front end''s cache, and the tail of its key in the image center. Needs no escaping in URLs.';
