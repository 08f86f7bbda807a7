-- Options of servers, user mappings, foreign tables and columns; settings.

-- what is not an option, and what it was perhaps meant to be
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures', timout '1s');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures', password 'x');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures', weather 'fine');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures', relation 'a.b');
CREATE FOREIGN DATA WRAPPER option_bad VALIDATOR tms.tms_fdw_validator OPTIONS (url 'http://store');

-- the URL
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw;
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'store/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'file:///etc/passwd');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http:///captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://user:secret@store/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures?key=secret');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/captures#top');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store:0/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store:65536/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store:80x/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://[::1/captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/my captures');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url E'http://store/captures\r\nX: y');

-- values
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', front_end 'perhaps');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', prefer 'both');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', on_unavailable 'ignore');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', concurrency '0');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', concurrency '2.5');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', concurrency 'many');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', per_device_concurrency '257');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', timeout '0');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', timeout '2 fortnights');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', timeout '2 d');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', timeout 'nan');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', prefetch_memory '1kB');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', prefetch_memory '64 Mbit');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', max_image_bytes '1GB');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', ca_file 'ca.pem');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', store 'ftp');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', hedge_after 'never');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', hedge_after '0');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', breaker_failures '-1');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', breaker_failures 'off');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', breaker_cooldown '0s');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', breaker_cooldown '2 days');

CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', store 's3', region 'eu/west');
CREATE SERVER option_bad FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store', store 's3', region '');

-- all of them, in the units people write
CREATE SERVER option_all FOREIGN DATA WRAPPER tms_fdw OPTIONS (
	url 'https://store.example:9000/captures/', store 'http', front_end 'off', prefer 'front_end', concurrency '32',
	per_device_concurrency '2', prefetch_memory '0.5GB', connect_timeout '250ms', first_byte_timeout '1.5s',
	timeout '1min', hedge_after '300ms', breaker_failures '3', breaker_cooldown '10s', max_image_bytes '20000000', on_unavailable 'error', ca_file '/etc/ssl/ca.pem');
CREATE SERVER option_ipv6 FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'HTTP://[::1]:9000');
ALTER SERVER option_all OPTIONS (DROP url);
ALTER SERVER option_all OPTIONS (SET timeout 'soon');
ALTER SERVER option_all OPTIONS (SET timeout '10s', SET hedge_after 'Off', SET breaker_failures '0', DROP ca_file);

-- only a superuser names files
CREATE ROLE option_user;
GRANT USAGE ON FOREIGN DATA WRAPPER tms_fdw TO option_user;
SET ROLE option_user;
CREATE SERVER option_own FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'https://store', ca_file '/etc/ssl/ca.pem');
CREATE SERVER option_own FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'https://store');
ALTER SERVER option_own OPTIONS (ca_file '/etc/ssl/ca.pem');
RESET ROLE;

-- user mappings: no value of a secret in a message
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (pasword 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'reader');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (password 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'a:b', password 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'reader', password E'sec\nret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'reader', password '');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'reader', password 'secret', bearer_token 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (access_key_id 'key');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (secret_access_key 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (session_token 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (access_key_id 'key', secret_access_key E'sec\nret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (access_key_id 'key', secret_access_key 'secret', bearer_token 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (url 'http://store');
CREATE USER MAPPING FOR PUBLIC SERVER option_all OPTIONS (username 'reader', password 'secret');
CREATE USER MAPPING FOR option_user SERVER option_all OPTIONS (bearer_token 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER option_ipv6;

-- credentials of the other kind of store are told when they are used
CREATE SERVER option_s3 FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://store/bucket', store 's3', region 'eu-west-1');
CREATE USER MAPPING FOR PUBLIC SERVER option_s3 OPTIONS (username 'reader', password 'secret');
SELECT tms.image(1, 'option_s3');
DROP USER MAPPING FOR PUBLIC SERVER option_s3;
CREATE USER MAPPING FOR PUBLIC SERVER option_s3 OPTIONS (access_key_id 'key', secret_access_key 'secret', session_token 'secret');
ALTER SERVER option_s3 OPTIONS (SET store 'http');
SELECT tms.image(1, 'option_s3');
ALTER USER MAPPING FOR PUBLIC SERVER option_s3 OPTIONS (DROP secret_access_key);
DROP SERVER option_s3 CASCADE;

-- foreign tables and columns
CREATE FOREIGN TABLE option_bad (image bytea) SERVER option_all OPTIONS (relation 'capture');
CREATE FOREIGN TABLE option_bad (image bytea) SERVER option_all OPTIONS (relation 'a.b.c');
CREATE FOREIGN TABLE option_bad (image bytea) SERVER option_all OPTIONS (relationship 'tms.capture');
CREATE FOREIGN TABLE option_bad (image bytea OPTIONS (column_name '')) SERVER option_all;
CREATE FOREIGN TABLE option_bad (image bytea OPTIONS (column 'x')) SERVER option_all;
CREATE FOREIGN TABLE option_table (photo bytea OPTIONS (column_name 'image')) SERVER option_all
	OPTIONS (relation '"Odd schema"."odd.name"');

-- settings
SHOW tms.image_source;
SHOW tms.on_unavailable;
SHOW tms.max_images;
SET tms.image_source = 'moon';
SET tms.on_unavailable = 'maybe';
SET tms.max_images = 0;
SET tms.image_source = 'front_end';
SET tms.on_unavailable = 'error';
SET tms.max_images = 5;
RESET tms.image_source;
RESET tms.on_unavailable;
RESET tms.max_images;

SET client_min_messages = warning;
DROP SERVER option_all, option_ipv6, option_own CASCADE;
REVOKE ALL ON FOREIGN DATA WRAPPER tms_fdw FROM option_user;
DROP ROLE option_user;
RESET client_min_messages;
