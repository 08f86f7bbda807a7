# hedge_after: a source that is slow is not waited for; the first right image wins, within all limits.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Stub;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('hedge', preload => 1);
my $gate = Tms::FrontEnd->new($cluster, 'gate', cache => 0);
my $n = 12;
my @captures = map { $gate->add(jpeg("photograph $_") . 'x' x 40_000, captured_at => "now() - interval '$_ seconds'") } 1 .. $n;

# Both sources are stubs that wait before they answer. What each does: seconds to wait, and then whether it delivers.
my %behavior = (center => "$PostgreSQL::Test::Utils::tmp_check/hedge_center", gate => "$PostgreSQL::Test::Utils::tmp_check/hedge_gate");
sub source
{
	my ($name, $pattern, %options) = @_;
	return Tms::Stub->start(
		sub {
			my ($request) = @_;
			my ($path) = $request->{path} =~ $pattern;
			my ($wait, $what) = split / /, read_file($behavior{$name});
			select(undef, undef, undef, $wait);
			my $bytes = read_file("$gate->{dir}/$path");
			return [ 404, {}, '' ] if $what eq 'missing';
			substr($bytes, -1, 1) = 'y' if $what eq 'wrong';
			return [ 200, {}, $bytes ];
		}, %options);
}
sub behave { my (%how) = @_; write_file($behavior{$_}, $how{$_}) for keys %how; return; }
behave(center => '0 right', gate => '0 right');
my $center = source('center', qr{^/captures/gate/(.*)});
my $cache = source('gate', qr{^/v1/images/([^?]*)}, port => $gate->{port});
$cluster->add_server($center->url . '/captures', first_byte_timeout => '60s', timeout => '60s', breaker_failures => 0,
	per_device_concurrency => 16, hedge_after => '50ms');
sub set_option { my (%o) = @_; $cluster->sql('ALTER SERVER image_center OPTIONS (' . join(', ', map { "$_ '$o{$_}'" } keys %o) . ')'); return; }

my $query = "SELECT count(*) FILTER (WHERE sha256(image) = sha256), string_agg(DISTINCT image_source, ','), coalesce(string_agg(DISTINCT image_error, ','), '-') FROM capture_image";
# The statistics since the last call: requests and hedges of the image center, and of the front end, and failovers.
sub counted
{
	return $cluster->sql("SELECT string_agg(format('%s %s %s', requests, hedges, failovers), ', ' ORDER BY source DESC) FROM tms.stat_images;
		SELECT tms.stat_images_reset()") =~ s/\n+$//r;
}

set_option('SET hedge_after' => '50s');
is($cluster->sql($query), "$n|image_center|-", 'a quick center');
is(counted(), "$n 0 0, 0 0 0", 'is the only one asked');

set_option('SET hedge_after' => '50ms');
behave(center => '60 right');
is($cluster->sql($query), "$n|front_end|-", 'a center that does not answer: the front end delivers');
is(counted(), "$n $n 0, $n 0 0", 'each image was hedged once; no source has failed');
like($cluster->sql("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $query"),
	qr/Requests: image center=$n front end=$n  Failovers: 0  Hedges: $n  Digest Failures: 0/, 'EXPLAIN ANALYZE tells of it');
counted();

behave(center => '0.3 right', gate => '60 right');
is($cluster->sql($query), "$n|image_center|-", 'the hedge is slower still: the center wins');
is(counted(), "$n $n 0, $n 0 0", 'both were asked');

# What comes first must also be right.
behave(center => '0.3 right', gate => '0 wrong');
is($cluster->sql($query), "$n|image_center|front_end: wrong digest", 'a hedge that brings wrong bytes does not win');
behave(center => '0.3 wrong', gate => '0.6 right');
is($cluster->sql($query), "$n|front_end|image_center: wrong digest", 'nor does a slow center that does');
behave(center => '0.3 missing', gate => '0.6 missing');
is($cluster->sql($query), '0||image_center: HTTP 404; front_end: HTTP 404', 'neither has it: both reasons');
counted();

# When the other source cannot be asked, the first one is waited for, and nothing has failed.
behave(center => '0.3 right', gate => '0 right');
$cluster->sql('UPDATE tms.device SET enabled = false');
is($cluster->sql($query), "$n|image_center|-", 'a disabled device is no hedge');
$cluster->sql('UPDATE tms.device SET enabled = true');
is($cluster->sql("SET tms.image_source = image_center; $query"), "$n|image_center|-", 'nor is one when tms.image_source names one source');
set_option('SET hedge_after' => 'off');
is($cluster->sql($query), "$n|image_center|-", 'hedge_after = off');
is(counted(), 3 * $n . ' 0 0, 0 0 0', 'no hedge was sent');

# Nor is one sent to a source that should not have the image.
set_option('SET hedge_after' => '50ms');
$gate->report(cleaned_seq => $n);
is($cluster->sql($query), "$n|image_center|-", 'what the front end has cleaned');
is(counted(), "$n 0 0, 0 0 0", 'is not asked of it as well');
$gate->report(cleaned_seq => 0, uploaded_seq => 0, uploaded_max => 0);
behave(gate => '0.3 right');
is($cluster->sql($query), "$n|front_end|-", 'and what was not uploaded yet');
is(counted(), "0 0 0, $n 0 0", 'not of the center');
$gate->report(uploaded_seq => $n, uploaded_max => $n);
behave(gate => '0 right');

# The other way round.
set_option('ADD prefer' => 'front_end');
behave(center => '0 right', gate => '60 right');
is($cluster->sql($query), "$n|image_center|-", 'prefer = front_end: the center is the hedge');
is(counted(), "$n 0 0, $n $n 0", 'which is counted for the front end');
set_option('SET prefer' => 'image_center');

# Limits: requests at once at either source, and memory.
behave(center => '60 right', gate => '0.05 right');
set_option('ADD concurrency' => '3');
my ($center_before, $cache_before) = ($center->connections, $cache->connections);
is($cluster->sql($query), "$n|front_end|-", 'concurrency = 3');
cmp_ok($cache->connections - $cache_before, '<=', 3, 'holds at the front end');
is($center->connections - $center_before, $n, 'each beaten request to the center was ended, and its connection with it');
set_option('SET concurrency' => '16', 'SET per_device_concurrency' => '1');
$cache_before = $cache->connections;
is($cluster->sql($query), "$n|front_end|-", 'per_device_concurrency = 1');
is($cache->connections - $cache_before, 1, 'holds for hedges too');
set_option('SET per_device_concurrency' => '16');
for my $memory ('64kB', '100kB', '200kB')
{
	set_option(($memory eq '64kB' ? 'ADD' : 'SET') . ' prefetch_memory' => $memory);
	is($cluster->sql($query), "$n|front_end|-", "prefetch_memory = $memory: every image comes");
}

# With a breaker, a center that is beaten again and again is left alone.
set_option('SET prefetch_memory' => '64MB', 'SET breaker_failures' => '5', 'ADD breaker_cooldown' => '1h');
counted();
is($cluster->sql("$query; $query"), join("\n", ("$n|front_end|-") x 1, "$n|front_end|image_center: circuit breaker open (slower than hedge_after)"), 'with a breaker')
  or diag(counted());
is($cluster->sql("SELECT state, last_error FROM tms.stat_breaker"), 'open|slower than hedge_after', 'which opens');

# Cancels and early ends, with two requests an image under way.
set_option('SET breaker_failures' => '0');
behave(center => '60 right', gate => '60 right');
my $fds = "SELECT count(*) FROM pg_ls_dir('/proc/self/fd');";
my ($rc, $out, $err) = $cluster->psql('postgres', "SELECT tms.breaker_reset(); SET statement_timeout = '300ms'; $query; $fds" . "$query; " x 10 . $fds, on_error_stop => 0);
is(scalar(() = $err =~ /canceling statement due to statement timeout/g), 11, 'statement_timeout ends both requests of an image');
my @fds = $out =~ /^(\d+)$/mg;
is($fds[0], $fds[1], 'and leaves no descriptor behind');

unlike(read_file($cluster->logfile), qr/terminated by signal|PANIC/, 'no crash');
$cluster->stop;
done_testing();
