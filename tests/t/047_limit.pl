# Requests that limits, orders and joins make, counted in the store's log: 100,000 captures in 10 partitions.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('limit', server_conf => 'location /same/ { rewrite ^ /captures/one.jpg last; }')->start;
my $pc = Tms::Cluster->start_new('limit', conf => 'jit = off');
my $captures = 100_000;

# Every capture has the same photograph, so that the store need not hold 100,000.
my $bytes = jpeg('the only one', 3000);
$store->put('one.jpg', $bytes);
$pc->add_device('limit-1', 'http://127.0.0.1:9');
$pc->add_server("http://127.0.0.1:$store->{port}/same", front_end => 'off');
$pc->sql("INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max)
	VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', $captures, $captures, $captures)");
# Days ahead are there from the beginning; so time runs from today's midnight on.
$pc->sql("INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, plate, path, sha256)
	SELECT date_trunc('day', now(), 'UTC') + n * interval '8.6 s', tms.capture_id(7, n), 1, @{[ length $bytes ]}, 'P' || n % 2000, n || '.jpg', '\\x@{[ sha256_hex($bytes) ]}'
	FROM generate_series(1, $captures) n;
	INSERT INTO tms.ledger_day SELECT 7, (captured_at AT TIME ZONE 'UTC')::date, min(tms.capture_seq(capture_id)), max(tms.capture_seq(capture_id)) FROM tms.capture GROUP BY 2;
	CREATE TABLE task AS SELECT n AS task, tms.capture_id(7, n * 3001) AS capture_id, 'P' || n AS plate FROM generate_series(1, 30) n;
	CREATE INDEX ON task (task)");
$pc->sql('VACUUM ANALYZE tms.capture, task');
is($pc->sql('SELECT count(DISTINCT tableoid) FROM tms.capture'), 10, '10 partitions');

# Runs SQL in a session of its own and compares its answer and the requests that it made.
sub requests_ok
{
	my ($sql, $requests, $answer, $name) = @_;
	my $before = $store->requests;
	my $out = $pc->sql($sql);
	is($out, $answer, "$name: the answer") if defined $answer;
	# The store writes its log only after the last byte has left.
	poll_until(sub { $store->requests - $before >= $requests }, "requests of $name", 30);
	is($store->requests - $before, $requests, "$name: $requests requests");
	return;
}
# The first rows of the newest-first order, from the $first-th on.
sub newest { my ($first, $count) = @_; return join("\n", map { $captures + 1 - $_ } $first .. $first + $count - 1); }
my $seq = 'SELECT tms.capture_seq(capture_id) FROM (SELECT capture_id, image FROM capture_image';
my $seen = 'WHERE image IS NOT NULL';

# --- a limit makes as many requests as it shows rows ---
for my $n (1, 5, 20, 100)
{
	requests_ok("$seq ORDER BY captured_at DESC LIMIT $n) c $seen", $n, newest(1, $n), "newest $n");
}
requests_ok("$seq ORDER BY captured_at DESC OFFSET 1000 LIMIT 7) c $seen", 7, newest(1001, 7), 'OFFSET 1000 LIMIT 7');
requests_ok("$seq ORDER BY captured_at DESC, plate NULLS FIRST FETCH FIRST 6 ROWS ONLY) c $seen", 6, newest(1, 6), 'two keys');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image LIMIT 9) c", 9, 9, 'no order');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image ORDER BY plate, captured_at DESC LIMIT 9) c", 9, 9, 'an order without an index');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image WHERE plate = 'P7' ORDER BY captured_at LIMIT 9) c", 9, 9, 'of a plate');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image ORDER BY captured_at LIMIT 0) c", 0, 0, 'LIMIT 0');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image ORDER BY captured_at OFFSET @{[ $captures - 3 ]}) c", 3, 3, 'OFFSET alone');
requests_ok("PREPARE page(timestamptz, int, int) AS SELECT image IS NOT NULL FROM capture_image WHERE captured_at < \$1 ORDER BY captured_at DESC LIMIT \$2 OFFSET \$3;
	SET plan_cache_mode = force_generic_plan;" . join('', map { "EXECUTE page(now() + '2 days', 3, $_);" } 1 .. 10), 30, join("\n", ('t') x 30), 'ten executions of a generic plan');
requests_ok("DO \$\$ DECLARE n int; image bytea; BEGIN FOR n IN 1..10 LOOP SELECT c.image INTO STRICT image FROM capture_image c ORDER BY captured_at DESC OFFSET n LIMIT 1; END LOOP; END \$\$",
	10, undef, 'a loop in PL/pgSQL');
requests_ok("SELECT task, length(image) FROM task, LATERAL (SELECT image FROM capture_image c WHERE c.plate = task.plate ORDER BY captured_at DESC LIMIT 1) c WHERE task <= 4 ORDER BY task",
	4, join("\n", map { "$_|" . length $bytes } 1 .. 4), 'the newest of each plate');
requests_ok("WITH page AS MATERIALIZED (SELECT capture_id, image FROM capture_image ORDER BY captured_at DESC LIMIT 4) SELECT count(a.image), count(b.image) FROM page a, page b",
	4, '16|16', 'a CTE read twice');

# --- conditions that stay here but need no image are checked before ---
requests_ok("$seq WHERE random() >= 0 AND expected_source = 'both' ORDER BY captured_at DESC LIMIT 5) c $seen", 5, newest(1, 5), 'a limit over conditions that stay');
requests_ok("$seq WHERE random() >= 0 AND plate = 'P7' ORDER BY captured_at DESC LIMIT 5) c $seen", 5, join("\n", map { $captures + 7 - 2000 * $_ } 1 .. 5), 'and over others');
requests_ok("SELECT count(image) FROM capture_image WHERE plate = 'P7' AND random() < 0", 0, 0, 'rows that such a condition refuses');
# Where an image decides whether a row counts, a few more are looked ahead for.
my $before = $store->requests;
is($pc->sql("$seq WHERE image_source = 'image_center' ORDER BY captured_at DESC LIMIT 5) c $seen"), newest(1, 5), 'a limit over a condition on images: the answer');
cmp_ok($store->requests - $before, '<=', 14, 'a few requests more than rows');
$before = $store->requests;
is($pc->sql("$seq ORDER BY captured_at DESC, expected_source LIMIT 5) c $seen"), newest(1, 5), 'an order of which a part stays: the answer');
cmp_ok($store->requests - $before, '<=', 64, 'not many more');

# --- nothing is fetched for what is not asked ---
requests_ok('SELECT count(*) FROM capture_image', 0, $captures, 'count(*)');
requests_ok('SELECT max(captured_at) = (SELECT max(captured_at) FROM tms.capture) FROM capture_image', 0, 't', 'max');
requests_ok('SELECT captured_at < now() FROM capture_image ORDER BY captured_at LIMIT 1', 0, undef, 'other columns');
requests_ok('EXPLAIN SELECT image FROM capture_image ORDER BY captured_at LIMIT 5', 0, undef, 'EXPLAIN');
requests_ok('PREPARE p(int) AS SELECT image FROM capture_image LIMIT $1; SET plan_cache_mode = force_generic_plan; EXPLAIN EXECUTE p(3)', 0, undef, 'EXPLAIN EXECUTE');
$pc->psql('postgres', 'ANALYZE capture_image');
requests_ok('VACUUM', 0, undef, 'ANALYZE and VACUUM');

# --- cursors ---
for my $cursor ('', 'SCROLL', 'NO SCROLL')
{
	$before = $store->requests;
	$pc->sql("BEGIN; DECLARE c $cursor CURSOR FOR SELECT image FROM capture_image ORDER BY captured_at DESC; FETCH 1 FROM c; COMMIT");
	cmp_ok($store->requests - $before, '<=', 4, "a cursor $cursor that fetches one row: at most 4 requests");
}
requests_ok("BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT tms.capture_seq(capture_id) FROM capture_image WHERE image IS NOT NULL AND plate = 'P8' ORDER BY captured_at DESC;
	COMMIT; FETCH LAST FROM c; FETCH FIRST FROM c; FETCH BACKWARD 1 FROM c; FETCH 1 FROM c",
	$captures / 2000, "8\n98008\n98008", 'a cursor WITH HOLD fetches each image once');

# --- joins ---
requests_ok("SELECT count(image) FROM task JOIN capture_image USING (capture_id) WHERE task <= 5", 5, 5, 'a join on capture_id');
requests_ok("SELECT count(image), count(*) FROM task t LEFT JOIN capture_image c ON c.capture_id = t.capture_id AND c.plate > 'P1004' WHERE task <= 5", 3, '3|5', 'an outer join');
requests_ok("SELECT count(*) FROM task t WHERE task <= 5 AND EXISTS (SELECT FROM capture_image c WHERE c.capture_id = t.capture_id)", 0, 5, 'EXISTS');
requests_ok("SELECT count(image) FROM capture_image WHERE capture_id = ANY(ARRAY(SELECT capture_id FROM task ORDER BY task LIMIT 20))", 20, 20, '= ANY(ARRAY(SELECT))');
requests_ok("SELECT count(image) FROM (SELECT image FROM capture_image WHERE capture_id IN (SELECT capture_id FROM task WHERE task < 7)) c", 6, 6, 'IN (SELECT)');
requests_ok("SELECT task, length(c.image) FROM task JOIN capture_image c USING (capture_id) ORDER BY task DESC LIMIT 2", 2, join("\n", map { "$_|" . length $bytes } 30, 29),
	'a join, sorted and limited outside');
like($pc->sql('EXPLAIN (COSTS OFF) SELECT image FROM task JOIN capture_image USING (capture_id) WHERE task <= 5'), qr/Nested Loop.*Path SQL: [^\n]*\$1/s, 'asks for the captures of a few rows one row at a time');
requests_ok('CREATE TABLE taken AS SELECT capture_id, image FROM capture_image ORDER BY captured_at LIMIT 3; INSERT INTO taken SELECT capture_id, image FROM capture_image
	ORDER BY captured_at DESC LIMIT 2; SELECT count(image) FROM taken', 5, 5, 'CREATE TABLE AS and INSERT ... SELECT');

# --- tms.image in a select list is evaluated after sort and limit ---
requests_ok('SELECT tms.capture_seq(capture_id), length(tms.image(capture_id)) FROM tms.capture ORDER BY plate, captured_at DESC LIMIT 3', 3, undef, 'tms.image after a sort');
requests_ok("SELECT count(i) FROM (SELECT tms.image(c.capture_id) AS i FROM task JOIN tms.capture c USING (capture_id) ORDER BY c.plate DESC LIMIT 4) s", 4, 4,
	'tms.image after a join and a sort');

$pc->stop;
done_testing();
