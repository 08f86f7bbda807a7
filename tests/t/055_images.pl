# tms.images and tms.image_url: order, concurrency, memory, early ends, cancels; URLs that a browser can load, and only those.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('images', preload => 1);
my $gate = Tms::FrontEnd->new($pc, 'gate');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $hold = "$folder/hold";
my %object;
my $store = Tms::Stub->start(
	sub {
		my ($request) = @_;
		my ($seq) = $request->{path} =~ m{/gate/(\d+)\.jpg$} or return [ 404, {}, '' ];
		select(undef, undef, undef, 0.01) while -e $hold;
		return $seq % 10 ? [ 200, {}, jpeg("image $seq", 3000) ] : [ 404, {}, '' ];
	});
$pc->add_server($store->url, first_byte_timeout => '60s', timeout => '60s');

# 120 captures; of every tenth the image center has no image, of every twentieth the front end has none either.
my @captures = (undef, map { $gate->add(jpeg("image $_", 3000), path => "$_.jpg", cached => $_ % 10 == 0 && $_ % 20 != 0) } 1 .. 120);
my $prefix = 0;
sub next_prefix { $prefix++; $pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/$prefix')"); return; }
sub asked { return $store->requests(qr{^GET /$prefix/}); }
sub ids { return 'ARRAY[' . join(', ', map { $_ ? $captures[$_]{id} : 'NULL' } @_) . ']::bigint[]'; }

# --- order, sources, duplicates ---
next_prefix();
my @wanted = (5, 1, undef, 10, 20, 5, 119, 10);
is($pc->sql("SELECT capture_id % 4294967296, encode(sha256(image), 'hex'), image_source, image_error FROM tms.images(" . ids(@wanted) . ')'),
	join("\n", map {
			my $seq = $_;
			!$seq ? '|||there is no such capture'
			  : $seq == 20 ? '20|||image_center: HTTP 404; front_end: HTTP 404'
			  : $seq == 10 ? "10|$captures[10]{sha256}|front_end|image_center: HTTP 404"
			  : "$seq|$captures[$seq]{sha256}|image_center|"
		} @wanted), 'a row for each element, in order, from whichever source has it');
is($pc->sql('SELECT count(*), count(image), bool_and(sha256(image) = c.sha256) FROM tms.images(ARRAY(SELECT capture_id FROM tms.capture)) AS i JOIN tms.capture AS c USING (capture_id)'),
	'120|114|t', 'all of them');

# --- concurrently, and no further ahead than rows are taken ---
my ($out, $err);
sub start_session
{
	my ($sql) = @_;
	($out, $err) = ('', '');
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $pc->connstr('postgres'), '-c', $sql ], '>', \$out, '2>', \$err);
}
write_file($hold, '');
next_prefix();
my $session = start_session('SELECT count(image) FROM tms.images(' . ids(1 .. 9, 11 .. 19, 21 .. 29) . ')');
ok(poll_until(sub { asked() >= 16 }, 'requests'), 'in FROM: all that concurrency allows are under way at once');
unlink($hold);
$session->finish;
is($out . $err, "27\n", 'and come');

my $list = ids(1 .. 9, 11 .. 19, 21 .. 29, 31 .. 39, 41 .. 49);
for my $case (
	[ "SELECT tms.images($list) LIMIT 1", 1, 4 ],
	[ "SELECT (i).capture_id FROM (SELECT tms.images($list) AS i LIMIT 3) x", 3, 9 ],
	[ "BEGIN; DECLARE c CURSOR FOR SELECT tms.images($list); FETCH 1 FROM c; COMMIT", 1, 4 ],
	[ "SELECT tms.images($list)", 45, 45 ],
	[ "SELECT FROM tms.images('{}')", 0, 0 ])
{
	my ($sql, $least, $most) = @$case;
	next_prefix();
	$pc->sql($sql);
	my $n = asked();
	ok($n >= $least && $n <= $most, "$n requests: " . substr($sql, 0, 40) . ' ...');
}

# --- memory: many times the budget passes through it ---
my $size = 1_000_000;
my $count = $ENV{TMS_LONG} ? 3000 : 300;
my $nginx = Tms::Store->new('images', server_conf => 'location /same/ { rewrite ^ /captures/one.jpg last; }')->start;
my $bytes = jpeg('the only one', $size);
$nginx->put('one.jpg', $bytes);
$pc->sql("ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:$nginx->{port}/same', ADD prefetch_memory '8MB');
	INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max) VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', $count, $count, $count);
	INSERT INTO tms.ledger_day (ledger_no, day, first_seq, last_seq) VALUES (7, (now() AT TIME ZONE 'UTC')::date, 1, $count);
	INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256)
	SELECT now(), tms.capture_id(7, n), 1, @{[ length $bytes ]}, n || '.jpg', '\\x@{[ sha256_hex($bytes) ]}'
	FROM generate_series(1, $count) n");
my $scan = $pc->background_psql('postgres');
my $pid = $scan->query_safe('SET jit = off; SELECT pg_backend_pid()');
my $large = "ARRAY(SELECT tms.capture_id(7, n) FROM generate_series(1, $count) n)";
my $many = "SELECT count((i).image), sum(length((i).image)) FROM (SELECT tms.images($large) AS i OFFSET 0) x";
$scan->query_safe("SELECT count((i).image) FROM (SELECT tms.images(ARRAY[tms.capture_id(7, 1)]) AS i OFFSET 0) x");
my $before = peak_memory($pid);
is($scan->query_safe($many), "$count|" . $count * length($bytes), "$count MB in a select list");
my $grown = (peak_memory($pid) - $before) / 1048576;
# The budget and a fifth, the image itself, and a few copies of it that the executor makes.
cmp_ok($grown, '<=', 8 * 1.2 + 5, sprintf('take %.1f MB', $grown));
is($scan->query_safe("SELECT count(image) FROM tms.images($large)"), $count, 'and in FROM');
$grown = (peak_memory($pid) - $before) / 1048576;
cmp_ok($grown, '<=', 8 * 1.2 + 5 + 4, sprintf('take %.1f MB: the rest goes to a file', $grown));
$scan->quit;

# --- a cancel ends all of it ---
write_file($hold, '');
next_prefix();
my $waiting = "FROM pg_stat_activity WHERE query LIKE 'SELECT count(image) FROM tms.images%' AND wait_event_type = 'Extension'";
$session = start_session("SELECT count(image) FROM tms.images($list)");
ok($pc->wait_for_sql("SELECT count(*) $waiting", 1), 'a session waits');
ok(poll_until(sub { connections_to($store->{port}, 'established') > 0 }, 'connections'), 'with connections');
is($pc->sql("SELECT pg_cancel_backend(pid) $waiting"), 't', 'is cancelled');
$session->finish;
like($err, qr/canceling statement due to user request/, 'obeys');
my (undef, undef, $error) = $pc->psql('postgres', "SET statement_timeout = '200ms'; SELECT tms.images($list)");
like($error, qr/canceling statement due to statement timeout/, 'also a timeout');
unlink($hold);

# --- URLs ---
# Loads a URL as a browser would.
sub load { my ($url, $method) = @_; return http($method // 'GET', $url); }
next_prefix();
my $url = $pc->sql("SELECT tms.image_url($captures[3]{id})");
is($url, $store->url . "/$prefix/gate/3.jpg", 'uploaded: the object of the image center');
is(sha256_hex(load($url)->{content}), $captures[3]{sha256}, 'which is the image');

# Its breaker opens: the front end, until the breaker closes again.
my $cached = $captures[10]{id};
$pc->sql("ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:1/x', ADD breaker_failures '2', ADD breaker_cooldown '1h')");
$url = $pc->sql("SELECT tms.image_url($cached)");
is($url, 'http://127.0.0.1:1/x/gate/10.jpg', 'nobody knows yet that the image center is down');
$pc->sql("SELECT tms.image($cached) IS NOT NULL, tms.image($captures[30]{id}) IS NOT NULL");
$url = $pc->sql("SELECT tms.image_url($cached)");
is(sha256_hex(load($url)->{content}), $captures[10]{sha256}, 'its breaker is open: the front end');
$pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/$prefix', DROP breaker_failures, DROP breaker_cooldown)");
is($pc->sql("SELECT tms.image_url($cached)"), $store->url . "/$prefix/gate/10.jpg", 'another address has a breaker of its own');

$gate->report(uploaded_seq => 0, uploaded_max => 0);
my $late = $captures[10]{id};
$url = $pc->sql("SELECT tms.image_url($late, '10 min')");
my $base = $gate->url;
like($url, qr{^\Q$base\E/v1/images/10\.jpg\?expires=\d+&sig=[A-Za-z0-9_-]{43}$}, 'not uploaded yet: the front end');
my ($expires) = $url =~ /expires=(\d+)/;
cmp_ok(abs($expires - time() - 600), '<', 60, 'for as long as it was asked');
is(sha256_hex(load($url)->{content}), $captures[10]{sha256}, 'which is the image');
(my $other = $url) =~ s/10\.jpg/1.jpg/;
is(load($other)->{status}, 403, 'for that image alone');
(my $longer = $url) =~ s/expires=\d+/expires=@{[ $expires + 1 ]}/;
is(load($longer)->{status}, 403, 'and no longer');
$url = $pc->sql("SELECT tms.image_url($late, '1 s')");
ok(poll_until(sub { load($url)->{status} == 403 }, 'the end of a URL'), 'a short one is over soon');

is($gate->requests(qr/healthz/), 0, 'nobody was asked for a URL');
my $log = read_file($pc->logfile);
unlike($log, qr/sig=/, 'no signed URL in the log');

$pc->stop;
done_testing();
