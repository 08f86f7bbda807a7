# Both centers are away for a week of captures; then they are back: nothing is lost, nothing was cleaned meanwhile though it was
# older than the cleaning period, and the backlog goes oldest first.
use strict;
use warnings;

use Test::More;
use IPC::Run ();
use POSIX qw(strftime);
use Time::HiRes ();
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $per_day = $ENV{TMS_LONG} ? 1440 : 40;

my $pc = Tms::Cluster->start_new('week', conf => "fsync = off\n");
my $store = Tms::Store->new('week')->start;
$pc->add_server($store->url);
my $agent = Tms::Agent->new(
	device => 'week-1', token => $pc->add_device('week-1', 'http://127.0.0.1:1', '1 second'), conninfo => $pc->agent_conninfo,
	url => $store->url, extra => { path_center => { interval => '100ms', heartbeat => '300ms' }, image_center => { concurrency => 1 } });
$agent->start;
my %taken; # sha256 => seq

sub take
{
	my ($text, $captured_at) = @_;
	my ($status, $answer) = $agent->post(jpeg($text, 4000),
		plate => 'WEEK', captured_at => strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($captured_at)));
	die "HTTP $status" if $status != 201;
	$taken{ $answer->{sha256} } = $answer->{seq};
	return;
}
sub drained { my $s = eval { $agent->status }; return $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0; }
sub cached { my @files = split /\n/, `find $agent->{dir}/data/cache -name '*.jpg'`; return scalar(@files); }

take('before', time);
ok(poll_until(sub { drained() && cached() == 0 }, 'the first capture cleaned', 60), 'a capture that is in both centers leaves after the cleaning period');

# --- away ---
$pc->stop('immediate');
$store->stop;
my $begin = time - 7 * 86400 - 3600;
for my $day (0 .. 6)
{
	take("day $day number $_", $begin + $day * 86400 + int(86400 / $per_day) * $_) for 1 .. $per_day;
	# Each night the power fails; what was taken in is given the clock of that day, as if the week had passed.
	$agent->kill9;
	IPC::Run::run([ 'sqlite3', "$agent->{dir}/data/ledger.db", 'UPDATE capture SET taken_at = captured_at' ]) or die 'sqlite3';
	$agent->start;
}
my $count = keys %taken;
my $status = $agent->status;
is($status->{upload}{backlog}, $count - 1, 'a week waits for the image center');
is($status->{register}{backlog}, $count - 1, 'and for the path center');
cmp_ok($status->{upload}{oldest_at}, 'lt', strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time - 6 * 86400)), 'status shows how old the oldest is');
is(cached(), $count - 1, 'nothing of it was cleaned: older than the period is not enough');

# --- back ---
my $away = Time::HiRes::time();
$store->start;
$pc->start;
take("meanwhile $_", time) for 1 .. 10;
$count = keys %taken;
ok(poll_until(\&drained, 'empty backlogs', 300), 'both backlogs drain');
diag(sprintf('%d captures drained in %.1f s, both centers\' start and the backoff included', $count, Time::HiRes::time() - $away));

is($pc->sql('SELECT count(*), count(DISTINCT sha256), min(tms.capture_seq(capture_id)), max(tms.capture_seq(capture_id)) FROM tms.capture'),
	"$count|$count|1|$count", 'one row each, without a gap');
my %rows = map { split /\|/ } split /\n/, $pc->sql("SELECT encode(sha256, 'hex'), tms.capture_seq(capture_id) FROM tms.capture");
is(scalar(grep { ($rows{$_} // 0) != $taken{$_} } keys %taken), 0, 'each under the seq that was told');
is( $pc->sql("SET tms.max_images = 1000000; SET tms.image_source = image_center; SELECT count(*) FILTER (WHERE sha256(image) = sha256) FROM capture_image"),
	$count, 'every photograph is in the image center, bytes equal');
is($pc->sql("SELECT count(*) FROM (SELECT captured_at < lag(captured_at) OVER (ORDER BY capture_id) AS earlier FROM tms.capture
		WHERE tms.capture_seq(capture_id) > 1) c WHERE earlier"), '0', 'rows in the order of capture');
my @order = read_file("$store->{dir}/access.log") =~ m{"PUT /captures/week-1/\S+/(\d+)-\S+ HTTP/1.1" 20[14]}g;
my ($greatest, $early) = (0, 0);
for my $seq (@order)
{
	$early++ if $seq < $greatest;
	$greatest = $seq;
}
is($early, 0, 'uploads went oldest first');
is(scalar(@order), $count, 'each once');

ok(poll_until(sub { cached() == 0 }, 'an empty cache', 120), 'and now they leave the cache');
is($agent->stop, 0, 'stops cleanly');
unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');

done_testing();
