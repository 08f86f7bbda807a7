# The pipeline of a scan: how far it looks ahead, that it fills up at once, that a slow image stops no other, rows in order,
# the budget of memory, rescans.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $long = $ENV{TMS_LONG};
my $pc = Tms::Cluster->start_new('pipeline', preload => 1);
my $folder = PostgreSQL::Test::Utils::tempdir();

# A store of 400 images that notes when a request begins and ends, and holds those that the file `hold` matches back until it
# is gone; all images differ.
my $images = 400;
my $hold = "$folder/hold";
sub hold { my ($pattern) = @_; return $pattern ? write_file($hold, $pattern) : unlink($hold); }
my $store = Tms::Stub->start(
	sub {
		my ($request) = @_;
		my ($seq) = $request->{path} =~ m{/(\d+)\.jpg$};
		my $held = sub { my $pattern = -e $hold ? eval { read_file($hold) } : undef; return $pattern && "$seq." =~ /^(?:$pattern)\.$/; };
		select(undef, undef, undef, 0.01) while $held->();
		return [ 200, {}, jpeg("image $seq", 2000) ];
	});
$pc->add_server($store->url, front_end => 'off', first_byte_timeout => '60s', timeout => '60s');
$pc->add_device('road', 'http://127.0.0.1:9');
$pc->sql("INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max)
	VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', $images, $images, $images)");
$pc->sql('INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256) VALUES ' . join(', ',
		map { my $bytes = jpeg("image $_", 2000);
			sprintf("(now() - interval '%d s', tms.capture_id(7, %d), 1, %d, '%d.jpg', '\\x%s')", $_, $_, length($bytes), $_, sha256_hex($bytes)) }
		  1 .. $images));

# Requests under this prefix of the URL, which is the server's from now on: those of earlier sessions may come in late.
my $prefix = 0;
sub next_prefix { $prefix++; $pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/$prefix')"); return; }
sub asked { return $store->requests(qr{^GET /$prefix/}); }

# Runs statements in a session of their own and returns how many requests they made.
sub requests_of
{
	my ($sql) = @_;
	next_prefix();
	$pc->sql($sql);
	return asked();
}

# --- a client that takes a few rows pays for a few images ---
my $all = 'SELECT tms.capture_seq(capture_id), image FROM capture_image';
cmp_ok(requests_of("BEGIN; DECLARE c CURSOR FOR $all; FETCH 1 FROM c"), '<=', 4, 'a cursor that fetches 1 row: 4 requests at most');
my $three = requests_of("BEGIN; DECLARE c CURSOR FOR $all; FETCH 1 FROM c; FETCH 1 FROM c; FETCH 1 FROM c");
cmp_ok($three, '<=', 9, 'one that fetches 3, one by one: a few more');
my $fifty = requests_of("BEGIN; DECLARE c CURSOR FOR $all; FETCH 50 FROM c");
cmp_ok($fifty, '<=', 50 + 16, 'one that fetches 50: no more than concurrency beyond');
cmp_ok($fifty, '>=', 50, 'and those');
is(requests_of("BEGIN; DECLARE c CURSOR FOR $all; CLOSE c"), 0, 'one that fetches nothing: none');
cmp_ok(requests_of("$all WHERE length(image) > 0 LIMIT 1"), '<=', 4, 'LIMIT 1 over a condition on images');
cmp_ok(requests_of("SELECT 1 WHERE EXISTS ($all WHERE image IS NOT NULL)"), '<=', 4, 'EXISTS');
cmp_ok(requests_of("SELECT d FROM (VALUES (1)) AS d (d) WHERE EXISTS (SELECT FROM capture_image c WHERE c.device_id = d AND image IS NOT NULL)"),
	'<=', 4, 'EXISTS as a join');
cmp_ok(requests_of("DO \$\$ DECLARE r record; BEGIN FOR r IN $all LOOP EXIT; END LOOP; END \$\$"), '<=', 10 + 16, 'a loop in plpgsql that leaves at the first row');
cmp_ok(requests_of("SET tms.max_images = 30; DO \$\$ BEGIN PERFORM count(image) FROM capture_image; EXCEPTION WHEN program_limit_exceeded THEN END \$\$"),
	'<=', 30, 'tms.max_images holds for what is looked ahead for, too');
is(requests_of("SELECT count(image) FROM capture_image"), $images, 'a scan of all: one request each');

# --- a query that takes all rows has all its requests under way at once, without waiting for a first image ---
# Starts $sql in a session and returns it; end with ->finish.
my ($out, $err);
sub start_session
{
	my ($sql) = @_;
	($out, $err) = ('', '');
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $pc->connstr('postgres'), '-c', $sql ], '>', \$out, '2>', \$err);
}
$pc->sql("ALTER SERVER image_center OPTIONS (ADD concurrency '32')");
my $some = 'capture_id = ANY (ARRAY(SELECT capture_id FROM tms.capture ORDER BY captured_at DESC LIMIT 64))';
hold('\d+');
for my $sql (
	"SELECT count(image) FROM capture_image WHERE $some",
	"SELECT image IS NULL FROM capture_image WHERE $some",
	"SELECT count(image) FROM (SELECT image FROM capture_image WHERE $some ORDER BY length(image)) x",
	"BEGIN; DECLARE c CURSOR FOR SELECT image IS NULL FROM capture_image WHERE $some; FETCH ALL FROM c",
	"BEGIN; DECLARE c CURSOR FOR SELECT image IS NULL FROM capture_image WHERE $some; FETCH 40 FROM c")
{
	hold('\d+');
	next_prefix();
	my $session = start_session($sql);
	ok(poll_until(sub { asked() >= 32 }, 'requests'), "32 requests at once: $sql");
	hold(undef);
	$session->finish;
	is($err, '', 'and it ends');
}
$pc->sql("ALTER SERVER image_center OPTIONS (SET concurrency '16')");

# --- one slow image stops no other one, and rows stay in order ---
hold('1');
next_prefix();
my $session = start_session('SELECT tms.capture_seq(capture_id), length(image) FROM capture_image ORDER BY captured_at DESC LIMIT 200');
ok(poll_until(sub { asked() >= 200 }, 'requests'), 'all others are fetched while the first one is held back');
hold(undef);
$session->finish;
is($out, join('', map { "$_|" . length(jpeg("image $_", 2000)) . "\n" } 1 .. 200), 'rows come in their order');

# --- the budget holds for what is looked ahead for ---
sub budget
{
	my ($memory, $expected) = @_;
	$pc->sql("ALTER SERVER image_center OPTIONS (ADD prefetch_memory '$memory')");
	hold('1');
	next_prefix();
	my $session = start_session('SELECT image IS NULL FROM capture_image ORDER BY captured_at DESC LIMIT 200');
	poll_until(sub { asked() >= $expected }, 'requests');
	# One too many would follow at once.
	my ($asked, $quiet) = (asked(), 0);
	poll_until(sub { $quiet = asked() == $asked ? $quiet + 1 : 0; $asked = asked(); return $quiet > 20; }, 'silence');
	hold(undef);
	$session->finish;
	$pc->sql('ALTER SERVER image_center OPTIONS (DROP prefetch_memory)');
	return $asked;
}
my $fits = int(100 * 1024 / (length(jpeg('image 100', 2000)) + 4));
is(budget('100kB', $fits), $fits, "100 kB are $fits images, the wanted one among them");

# Sizes that are not known count as max_image_bytes: eleven reach the budget, the wanted one among them.
$pc->sql("UPDATE tms.capture SET image_bytes = NULL; ALTER SERVER image_center OPTIONS (ADD max_image_bytes '100kB')");
is(budget('1MB', 11), 11, 'unknown sizes count as max_image_bytes');
$pc->sql("UPDATE tms.capture SET image_bytes = @{[ length jpeg('image 100', 2000) ]}; ALTER SERVER image_center OPTIONS (DROP max_image_bytes)");

# --- a rescan asks again only for what has changed ---
my $loops = 'SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;';
is(requests_of("$loops SELECT count(*), count(image) FROM generate_series(1, 5) AS g LEFT JOIN (SELECT image FROM capture_image
		WHERE tms.capture_seq(capture_id) <= 30) AS c ON g > 0"), 30, 'a rescan with the same parameters asks for nothing again');
is(requests_of("$loops SET tms.max_images = 100; SELECT 1 / (count(image) = 4000)::int FROM generate_series(1, 40) AS g LEFT JOIN (SELECT image FROM capture_image
		WHERE tms.capture_seq(capture_id) <= 100) AS c ON g > 0"), 100, 'nor do rows that are shown again count again against tms.max_images');
is(requests_of("$loops SELECT count(*), count(image) FROM generate_series(1, 5) AS g, LATERAL (SELECT image FROM capture_image
		WHERE tms.capture_seq(capture_id) <= 5 + g * 0 OFFSET 0) AS c"), 25, 'one with new parameters starts anew');

# --- memory of a scan of any length: prefetch_memory, 20 percent, one image ---
my $size = 1_000_000;
my $count = $long ? 5_000 : 600;
my $nginx = Tms::Store->new('memory', server_conf => 'location /same/ { rewrite ^ /captures/one.jpg last; }')->start;
my $bytes = jpeg('the only one', $size);
$nginx->put('one.jpg', $bytes);
$pc->sql("TRUNCATE tms.capture; ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$nginx->{port}/same');
	INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256)
	SELECT now() - n * interval '1 s', tms.capture_id(7, n), 1, @{[ length $bytes ]}, n || '.jpg', '\\x@{[ sha256_hex($bytes) ]}'
	FROM generate_series(1, $count) n");
my $scan = $pc->background_psql('postgres');
my $pid = $scan->query_safe('SET jit = off; SELECT pg_backend_pid()');
for my $budget (8, 64)
{
	$pc->sql("ALTER SERVER image_center OPTIONS (@{[ $budget == 8 ? 'ADD' : 'SET' ]} prefetch_memory '${budget}MB')");
	# Code and catalog caches are warm after a few images.
	$scan->query_safe('SELECT count(image) FROM capture_image WHERE tms.capture_seq(capture_id) <= 2');
	my $before = peak_memory($pid);
	is($scan->query_safe('SELECT count(*), sum(length(image)) FROM capture_image'), "$count|" . $count * length($bytes), "a scan of $count MB");
	my $grown = (peak_memory($pid) - $before) / 1048576;
	cmp_ok($grown, '<=', 1.2 * $budget + $size / 1048576, sprintf('takes %.1f MB at prefetch_memory = %d MB', $grown, $budget));
}
$scan->quit;

$pc->stop;
done_testing();
