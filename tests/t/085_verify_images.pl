# tms.verify_images and tms.missing_images: what they find is where the images are, whatever the sources do; nothing is written,
# memory and requests are bounded, a cancel ends it.
use strict;
use warnings;

use Test::More;
use Time::HiRes ();
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('verify', preload => 1);
my $store = Tms::Store->new('verify')->start;
$pc->add_server($store->url, connect_timeout => '500ms', first_byte_timeout => '1s', timeout => '2s');
my $span = "'2026-03-01 10:00+00', '2026-03-01 13:00+00'";
my $found = "SELECT device, to_char(hour AT TIME ZONE 'UTC', 'HH24'), captures, in_image_center, only_front_end, nowhere, wrong_bytes, unknown";
my ($one, $two) = map { Tms::FrontEnd->new($pc, "gate-$_") } 1 .. 2;
my %path_of;
my $serial = 0;

# A capture of that hour: in the cache, in the store, or in both.
sub add
{
	my ($gate, $hour, $cached, $stored) = @_;
	my $n = ++$serial;
	my $capture = $gate->add(jpeg("verify $n", 2000), cached => $cached, captured_at => "'2026-03-01 $hour:00:01+00'::timestamptz + interval '$n seconds'");
	$store->put($capture->{key}, $capture->{bytes}) if $stored;
	return $capture;
}
add($one, 10, 1, 1) for 1 .. 3;
my $front = add($one, 10, 1, 0);
my $lost = add($one, 11, 0, 0);
my $other = add($one, 11, 1, 1);
my $short = add($one, 11, 1, 1);
add($two, 12, 0, 1) for 1 .. 2;
my $page = add($two, 12, 1, 0);
(my $changed = $other->{bytes}) =~ s/verify/VERIFY/;
$store->put($other->{key}, $changed);
$store->put($short->{key}, substr($short->{bytes}, 0, -1));
add($one, 13, 0, 0); # behind the span

sub rows_of { my ($sample, $method) = @_; return $pc->sql("$found FROM tms.verify_images($span, $sample, 'image_center', '$method')"); }
is(rows_of(1, 'GET'), "gate-1|10|4|3|1|0|0|0\ngate-1|11|3|0|0|1|2|0\ngate-2|12|3|2|1|0|0|0", 'by device and hour: what is where');
is(rows_of(1, 'head'), "gate-1|10|4|3|1|0|0|0\ngate-1|11|3|1|0|1|1|0\ngate-2|12|3|2|1|0|0|0",
	'HEAD finds another size, not other bytes');
is($one->requests(qr/^GET/) + $two->requests(qr/^GET/), 0, 'front ends are asked by HEAD alone');
is($one->requests(qr/^HEAD/) + $two->requests(qr/^HEAD/), 6, 'and only for what the image center lacks');
is($pc->sql("SELECT capture_id, device, found, reason FROM tms.missing_images($span, method => 'GET') ORDER BY device, capture_id"),
	join("\n", map { "$_->[0]{id}|$_->[1]" } [ $front, 'gate-1|front_end|image_center: HTTP 404' ],
		[ $lost, 'gate-1|nowhere|image_center: HTTP 404; front_end: HTTP 404' ],
		[ $other, 'gate-1|wrong_bytes|image_center: wrong digest' ],
		[ $short, 'gate-1|wrong_bytes|image_center: ' . (length($short->{bytes}) - 1) . ' of ' . length($short->{bytes}) . ' bytes' ],
		[ $page, 'gate-2|front_end|image_center: HTTP 404' ]),
	'missing_images names them, with what the sources said');
is($pc->sql("SELECT count(*), min(capture_id) FROM tms.missing_images($span, 'gate-2')"), "1|$page->{id}", 'of one device');
is($pc->sql("SELECT count(*) FROM tms.stat_breaker WHERE state <> 'closed'"), 0, 'no breaker opened for wrong bytes');
is($pc->sql("SET plan_cache_mode = force_generic_plan; PREPARE v(real) AS SELECT sum(captures), sum(nowhere) FROM tms.verify_images($span, \$1); "
		  . 'EXECUTE v(1); ' x 10), join("\n", ('10|1') x 10), 'ten times');
is($pc->sql("SET tms.max_images = 1; SELECT sum(captures) FROM tms.verify_images($span)"), 10, 'tms.max_images is for queries');
is($pc->sql("BEGIN READ ONLY; SELECT sum(captures) FROM tms.verify_images($span)"), 10, 'nothing is written');

# --- who cannot be asked leaves it unknown, unless its ledger has said that it has it no more ---
$one->stop;
is(rows_of(1, 'HEAD'), "gate-1|10|4|3|0|0|0|1\ngate-1|11|3|1|0|0|1|1\ngate-2|12|3|2|1|0|0|0", 'a front end that is away: unknown');
$one->report(cleaned_seq => 5);
$pc->sql('SELECT tms.breaker_reset()');
is($pc->sql("SELECT found, reason FROM tms.missing_images($span, 'gate-1') WHERE capture_id = $lost->{id}"),
	'nowhere|image_center: HTTP 404; front_end: connection refused; it has reported it as cleaned', 'what it has cleaned is nowhere');
$pc->sql("UPDATE tms.device SET enabled = false WHERE code = 'gate-2'");
is($pc->sql("SELECT found, reason FROM tms.missing_images($span, 'gate-2')"), 'unknown|image_center: HTTP 404; front_end: device is disabled',
	'a device that is disabled is not asked');
$pc->sql("UPDATE tms.device SET enabled = true WHERE code = 'gate-2'");
$store->stop;
$pc->sql('SELECT tms.breaker_reset()');
my $before = $two->requests(qr/^HEAD/);
is($pc->sql("SELECT sum(captures), sum(unknown) FROM tms.verify_images($span)"), '10|10', 'the image center away: all unknown');
is($two->requests(qr/^HEAD/), $before, 'and the front ends are not asked for all of it');
$store->start;
$pc->sql('SELECT tms.breaker_reset()');

# --- a span of thousands: sampled the same each time, told while it runs, cancelled at once ---
$pc->sql(q{INSERT INTO tms.capture (captured_at, capture_id, device_id, path, image_bytes, sha256)
	SELECT '2026-03-01 20:00+00'::timestamptz + n * interval '100 ms', tms.capture_id(7, n), (SELECT device_id FROM tms.device WHERE code = 'gate-2'),
		'many/' || n || '.jpg', 1, sha256('x') FROM generate_series(1, 20000) AS n});
$store->put("gate-2/many/$_.jpg", 'x') for 1 .. 20000;
my $many = "'2026-03-01 20:00+00', '2026-03-01 21:00+00'";
$before = $store->requests;
my $sampled = $pc->sql("SELECT captures, in_image_center FROM tms.verify_images($many, 0.05)");
my ($n) = $sampled =~ /^(\d+)\|\1$/ or fail("all of the sample are there: $sampled");
cmp_ok(abs($n - 1000), '<', 200, 'a sample of a twentieth');
is($store->requests - $before, $n, 'asks for those alone');
is($pc->sql("SELECT captures, in_image_center FROM tms.verify_images($many, 0.05)"), $sampled, 'which are the same each time');
my $memory = $pc->sql(qq{SELECT captures, in_image_center FROM tms.verify_images($many);
	SELECT pg_read_file('/proc/self/status')});
like($memory, qr/^20000\|20000$/m, 'all of them');
my ($peak) = $memory =~ /VmHWM:\s+(\d+) kB/;
cmp_ok($peak, '<', 100 * 1024, "in bounded memory ($peak kB at the peak)");
$pc->sql("CREATE SERVER away FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures')");
is($pc->sql("SELECT found, count(*), count(DISTINCT reason) <= 10 FROM tms.missing_images($many, server => 'away') GROUP BY 1"), 'unknown|20000|t',
	'with an image center that is away: all unknown');
my $slow = Tms::Stub->start(sub { select(undef, undef, undef, 0.2); [ 200, {}, 'x' ] });
$pc->sql("CREATE SERVER slow FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '" . $slow->url . "/captures', concurrency '4')");
$before = Time::HiRes::time();
my ($code, $out, $err) = $pc->psql('postgres', "SET statement_timeout = '6s'; SELECT sum(captures) FROM tms.verify_images($many, 1, 'slow')");
like($err, qr/NOTICE:  [1-9]\d* captures checked so far: [1-9]\d* in the image center, 0 only in front ends, 0 nowhere, 0 with wrong bytes, 0 unknown/,
	'progress is told');
like($err, qr/canceling statement due to statement timeout/, 'a cancel ends it');
cmp_ok(Time::HiRes::time() - $before, '<', 6 + ($ENV{TMS_SLOW} // 4), 'at once');
cmp_ok($slow->requests, '<', 200, 'with no more requests than that took');

# --- rights ---
$pc->sql('CREATE ROLE reader LOGIN');
sub refused
{
	my ($call, $pattern, $name) = @_;
	my ($rc, $text, $error) = $pc->psql('postgres', "SET ROLE reader; SELECT count(*) FROM $call");
	return like($error, $pattern, $name);
}
refused("tms.verify_images($span)", qr/permission denied for function verify_images/, 'not for everybody');
refused("tms.missing_images($span)", qr/permission denied for function missing_images/, 'nor the list');
$pc->sql('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tms TO reader');
refused("tms.verify_images($span)", qr/permission denied for foreign server image_center/, 'USAGE on the server is needed');
$pc->sql('GRANT USAGE ON FOREIGN SERVER image_center TO reader');
refused("tms.verify_images($span)", qr/permission denied for table capture/, 'and SELECT on the captures');
$pc->sql('GRANT SELECT ON tms.capture TO reader; ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY;
	CREATE POLICY ones ON tms.capture USING (device_id = (SELECT device_id FROM tms.device WHERE code = $$gate-2$$))');
is($pc->sql("SET ROLE reader; SELECT sum(captures) FROM tms.verify_images($span)"), 3, 'of which policies hide some');

done_testing();
