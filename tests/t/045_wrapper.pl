# The wrapper on a real store: what it ships, and how many requests a query makes (counted in the store's log).
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Ledger;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $store = Tms::Store->new('wrapper')->start;
my $pc = Tms::Cluster->start_new('wrapper', conf => 'max_prepared_transactions = 0');
my $images = 40;

# Two devices whose captures are all in the image center; nobody answers for the front ends.
for my $device (1, 2)
{
	my $code = "wrapper-$device";
	my $token = $pc->sql("SELECT tms.register_device('$code', 'http://127.0.0.1:9', site => 'Site $device')");
	my (@path, @bytes, @digest, @plate);
	for my $n (1 .. $images / 2)
	{
		my $bytes = jpeg("$code $n", 5000 + 100 * $n);
		$store->put("$code/p/$n.jpg", $bytes);
		push @path, "p/$n.jpg";
		push @bytes, length $bytes;
		push @digest, '\\\\x' . sha256_hex($bytes);
		push @plate, "W$device" . sprintf('%03d', $n);
	}
	my $count = @path;
	$pc->sql(sprintf(
			q(SELECT tms.ingest(jsonb_build_object('device', '%s', 'token', '%s', 'ledger', '0000000%d-0000-4000-8000-000000000001',
				'oldest_seq', 1, 'first_seq', 1, 'last_seq', %d, 'uploaded_seq', %d, 'uploaded_max', %d, 'cleaned_seq', 0, 'report_no', 1),
				(SELECT array_agg(now() - n * interval '1 minute' ORDER BY n) FROM generate_series(1, %d) n), '{%s}', '{%s}', '{%s}'::bytea[],
				'{%s}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)),
			$code, $token, 2 * $device, ($count) x 4, join(',', @path), join(',', @bytes), join(',', map { qq("$_") } @digest), join(',', @plate)));
}
$pc->add_server($store->url);

# Runs SQL and tells how many requests the store saw.
sub requests_of
{
	my ($sql) = @_;
	my $before = $store->requests;
	my $out = $pc->sql($sql);
	return ($store->requests - $before, $out);
}

sub requests_ok
{
	my ($sql, $requests, $answer, $name) = @_;
	my $before = $store->requests;
	my $out = $pc->sql($sql);
	is($out, $answer, "$name: the answer") if defined $answer;
	# The store writes its log only after the last byte has left.
	poll_until(sub { $store->requests - $before >= $requests }, "requests of $name", 10);
	my $made = $store->requests - $before;
	is($made, $requests, "$name: $requests requests");
	return;
}

# --- nothing is fetched that is not asked for ---
requests_ok('SELECT count(*) FROM capture_image', 0, $images, 'count(*)');
requests_ok('SELECT count(plate), count(path), count(sha256) FROM capture_image', 0, "$images|$images|$images", 'other columns');
requests_ok('SELECT count(DISTINCT device), count(DISTINCT site) FROM capture_image', 0, '2|2', 'device and site');
requests_ok('SELECT DISTINCT expected_source FROM capture_image', 0, 'both', 'expected_source');
requests_ok("SELECT count(*) FROM capture_image WHERE expected_source = 'lost'", 0, '0', 'a condition on expected_source');
requests_ok('EXPLAIN SELECT image FROM capture_image', 0, undef, 'EXPLAIN');
requests_ok('PREPARE p AS SELECT image FROM capture_image; EXPLAIN EXECUTE p', 0, undef, 'planning');
$pc->psql('postgres', 'ANALYZE capture_image');
is($store->requests, 0, 'ANALYZE: 0 requests');
requests_ok('CREATE TABLE note (capture_id bigint, plate text); INSERT INTO note SELECT capture_id, NULL FROM tms.capture;
	UPDATE note n SET plate = c.plate FROM capture_image c WHERE c.capture_id = n.capture_id; SELECT count(plate) FROM note',
	0, $images, 'UPDATE ... FROM without an image column');

# --- one request an image ---
requests_ok('SELECT count(*) FROM capture_image WHERE sha256(image) = sha256', $images, $images, 'all images');
requests_ok("SELECT image_source, count(*) FROM capture_image GROUP BY 1", $images, "image_center|$images", 'image_source');
requests_ok('SELECT count(image), count(image_source), count(image_error) FROM capture_image', $images, "$images|$images|0", 'three columns, one request');
requests_ok("SELECT length(image) > 5000 FROM capture_image WHERE plate = 'W1007'", 1, 't', 'one plate');
requests_ok("SELECT count(image) FROM capture_image WHERE device = 'wrapper-2'", $images / 2, $images / 2, 'a device by its code');
requests_ok("SELECT count(image) FROM capture_image WHERE site = 'Site 1' AND captured_at > now() - interval '5 minutes'", 4, '4', 'now() and a site');
requests_ok("SELECT count(image) FROM capture_image WHERE capture_id = ANY(ARRAY(SELECT capture_id FROM tms.capture ORDER BY captured_at DESC, capture_id LIMIT 6))",
	6, '6', '= ANY(ARRAY(SELECT ...))');
requests_ok("SELECT count(image) FROM capture_image WHERE plate LIKE 'W1%' AND plate IN ('W1001', 'W1002', 'W2001')", 2, '2', 'LIKE and IN');
# A condition that stays here but needs no image is checked before the fetch.
requests_ok("SELECT count(image) FROM capture_image WHERE expected_source = 'both' AND plate < 'W1004' AND random() >= 0", 3, '3', 'a volatile condition');
requests_ok("SELECT count(*) FROM tms.capture c WHERE plate = 'W2003' AND tms.image(c.capture_id) IS NOT NULL", 1, '1', 'tms.image');
requests_ok('SELECT tms.image(capture_id) IS NOT NULL FROM tms.capture ORDER BY captured_at DESC, capture_id LIMIT 2', 2, "t\nt", 'tms.image runs after LIMIT');

# --- generic plans ---
my $prepared = "SET plan_cache_mode = force_generic_plan; PREPARE q(text, timestamptz) AS SELECT count(image) FROM capture_image WHERE plate = \$1 AND captured_at < \$2;"
  . join('', map { "EXECUTE q('W100$_', now());" } 1 .. 9) . "EXECUTE q('W2001', now())";
requests_ok($prepared, 10, join("\n", ('1') x 10), 'ten executions of a generic plan');

# --- cursors fetch ahead a little, and no more ---
my ($made) = requests_of('BEGIN; DECLARE c CURSOR FOR SELECT image FROM capture_image; FETCH 1 FROM c; CLOSE c; COMMIT');
cmp_ok($made, '<=', 4, "a cursor that fetches one row makes at most 4 requests ($made)");
requests_ok('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT length(image) > 0 AS ok FROM capture_image WHERE plate < \'W1004\'; COMMIT; FETCH ALL FROM c',
	3, "t\nt\nt", 'a cursor WITH HOLD');
requests_ok("BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT length(image) > 0 FROM capture_image WHERE plate = 'W1001'; FETCH ALL FROM c;
	ROLLBACK TO s; SELECT count(image) FROM capture_image WHERE plate = 'W1001'; COMMIT", 2, "t\n1", 'a savepoint rolled back');

# --- joins, views, row security ---
requests_ok("SELECT count(c.image) FROM note n JOIN capture_image c USING (capture_id) WHERE n.plate IN ('W1001', 'W2001') AND c.plate = n.plate
	AND c.plate IN ('W1001', 'W2001')", 2, '2', 'a join');
$pc->sql("CREATE VIEW wanted AS SELECT c.*, n.plate AS noted FROM tms.capture c JOIN note n USING (capture_id);
	CREATE FOREIGN TABLE wanted_image (capture_id bigint, noted text, image bytea) SERVER image_center OPTIONS (relation 'public.wanted')");
requests_ok("SELECT count(image) FROM wanted_image WHERE noted = 'W2005'", 1, '1', 'a view that joins');
$pc->sql("CREATE ROLE clerk LOGIN; GRANT SELECT ON tms.capture, capture_image TO clerk; GRANT USAGE ON FOREIGN SERVER image_center TO clerk;
	GRANT EXECUTE ON FUNCTION tms.image(bigint, text) TO clerk;
	ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY; CREATE POLICY only_first ON tms.capture TO clerk USING (plate LIKE 'W1%')");
requests_ok('SET ROLE clerk; SELECT count(image) FROM capture_image', $images / 2, $images / 2, 'row security of the relation holds');
requests_ok("SET ROLE clerk; SELECT tms.image(capture_id) IS NULL FROM (SELECT $_ AS capture_id) AS c", 0, 't', 'and for a bare id')
  for $pc->sql("SELECT capture_id FROM tms.capture WHERE plate = 'W2001'");
requests_ok("CREATE ROLE stranger; SET ROLE stranger; DO \$\$ BEGIN PERFORM image FROM capture_image; EXCEPTION WHEN insufficient_privilege THEN NULL; END \$\$",
	0, undef, 'no right, no request');

# --- EXPLAIN ---
my $plan = $pc->sql("EXPLAIN (COSTS OFF) SELECT image FROM capture_image WHERE plate = 'W1001' AND device = 'wrapper-1'");
like($plan, qr/Path SQL: SELECT .*FROM tms\.capture .*plate.*'W1001'/s, 'EXPLAIN shows the path query');
unlike($plan, qr/Filter/, 'with nothing left to check here');
my $analyzed = $pc->sql('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT image FROM capture_image');
like($analyzed, qr/Images.*$images/i, 'EXPLAIN ANALYZE counts images');
like($analyzed, qr/image.center/i, 'and requests by source');

# --- limits ---
my ($rc, $out, $err) = $pc->psql('postgres', 'SET tms.max_images = 10; SELECT image FROM capture_image');
isnt($rc, 0, 'more than tms.max_images images: an error');
like($err, qr/tms\.max_images/, 'that names the setting');
($rc, $out, $err) = $pc->psql('postgres', 'DELETE FROM capture_image');
like($err, qr/capture_image/, 'DELETE is refused: ' . ($err =~ s/\n.*//sr));

# --- a store that never answers: statement_timeout and on_unavailable ---
my $silent = Tms::Stub->start(sub { select(undef, undef, undef, 120); return; });
$pc->sql(sprintf("CREATE SERVER silent FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '%s', first_byte_timeout '60s', timeout '60s', front_end 'off');
	CREATE USER MAPPING FOR PUBLIC SERVER silent; CREATE SCHEMA silent; IMPORT FOREIGN SCHEMA tms FROM SERVER silent INTO silent", $silent->url));
my $begin = Time::HiRes::time();
($rc, $out, $err) = $pc->psql('postgres', "SET statement_timeout = '300ms'; SELECT image FROM silent.capture_image");
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends a fetch from a store that never answers');
cmp_ok(Time::HiRes::time() - $begin, '<', 20, 'long before the 60 seconds of the server');
$pc->sql("ALTER SERVER silent OPTIONS (SET first_byte_timeout '200ms')");
is($pc->sql("SELECT count(image), count(image_error) FROM silent.capture_image WHERE plate = 'W1001'"), '0|1', 'ALTER SERVER takes effect: NULL and a reason');
($rc, $out, $err) = $pc->psql('postgres', "SET tms.on_unavailable = error; SELECT image FROM silent.capture_image WHERE plate = 'W1001'");
isnt($rc, 0, 'on_unavailable = error raises one');

done_testing();
