-- tms.verify_images and tms.missing_images without any request: arguments and empty spans. (tests/t/085 asks.)
SET client_min_messages = warning;
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER verify_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', server => 'verify_server');
SELECT * FROM tms.missing_images('1999-01-01', '1999-01-02', server => 'verify_server');
SELECT * FROM tms.missing_of_request(1, 'verify_server');
SELECT * FROM tms.verify_images(NULL, '1999-01-02', server => 'verify_server');
SELECT * FROM tms.missing_images('1999-01-01', NULL, server => 'verify_server');
SELECT * FROM tms.verify_images('1999-01-02', '1999-01-01', server => 'verify_server');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', 0, 'verify_server');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', 1.01, 'verify_server');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', 'NaN', 'verify_server');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', method => 'PUT', server => 'verify_server');
SELECT * FROM tms.missing_images('1999-01-01', '1999-01-02', 'no-such-device', 'verify_server');
SELECT * FROM tms.verify_images('1999-01-01', '1999-01-02', server => 'no_such_server');
DROP SERVER verify_server;
