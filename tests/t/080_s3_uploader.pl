# The uploader and a real S3 store (Ceph): every capture arrives, nothing is overwritten, and what is wrong is said.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Tms::Agent;
use Tms::Ceph;
use Tms::Stub;
use Tms::Util;

my $ceph = Tms::Ceph->new('uploader')->start;

sub new_agent
{
	my ($device, %image_center) = @_;
	my $url = delete($image_center{url}) // $ceph->url;
	return Tms::Agent->new(device => $device, token => "token-of-$device",
		conninfo => 'host=127.0.0.1 port=1 dbname=x user=x', url => $url,
		extra => { image_center => $ceph->agent_options(%image_center) });
}

# Changes keys of [image_center] and lets the agent reload.
sub change
{
	my ($agent, %image_center) = @_;
	$agent->{sections}{image_center} = { %{ $agent->{sections}{image_center} }, %image_center };
	$agent->write_config;
	kill 'HUP', $agent->{pid};
	return;
}

# Takes captures in and returns {path => bytes}.
sub post_all
{
	my ($agent, @all) = @_;
	my %taken;
	for my $bytes (@all)
	{
		my ($code, $answer) = $agent->post($bytes);
		die "post: $code" if $code != 201;
		$taken{ $answer->{path} } = $bytes;
	}
	return \%taken;
}

sub status_is
{
	my ($agent, $what, $check) = @_;
	return poll_until(sub { my $s = $agent->status; $s && $check->($s) }, $what, 60);
}

sub backlog_is
{
	my ($agent, $backlog) = @_;
	return status_is($agent, "backlog $backlog", sub { $_[0]->{upload}{backlog} == $backlog });
}

# Paths of $taken whose object is not there, byte for byte.
sub not_stored
{
	my ($agent, $taken) = @_;
	return [ grep { ($ceph->get("$agent->{device}/$_") // '') ne $taken->{$_} } sort keys %$taken ];
}

sub log_has
{
	my ($agent, $pattern, $name) = @_;
	return ok(poll_until(sub { read_file($agent->{log}) =~ $pattern }, "the log: $pattern", 60), $name);
}

# --- the way it should be; the gateway away and back ---
my $agent = new_agent('s3-up')->start;
my $taken = post_all($agent, map { jpeg("capture $_", 30_000 * $_) } 1 .. 10);
ok(backlog_is($agent, 0), 'all are uploaded');
is_deeply(not_stored($agent, $taken), [], 'and are in the store, byte for byte');
is($agent->status->{upload}{error}, undef, 'no error is told');
$ceph->gateway_stop;
my $later = post_all($agent, map { jpeg("away $_", 30_000) } 1 .. 5);
log_has($agent, qr/event=image_center_failing reason="Failed to connect/, 'the gateway is away: told');
$ceph->gateway_start;
ok(backlog_is($agent, 0), 'and back: uploaded');
is_deeply(not_stored($agent, $later), [], 'byte for byte');

# --- the store hangs ---
my $osd = read_file("$ceph->{dir}/osd.pid") + 0;
kill 'STOP', $osd;
$later = post_all($agent, jpeg('hangs', 30_000));
ok(poll_until(sub { connections_to($ceph->{port}, 'established') }, 'a connection'), 'the store hangs with an upload under way');
my ($exit, $seconds) = $agent->stop;
is($exit, 0, 'TERM ends the agent');
cmp_ok($seconds, '<', $ENV{TMS_SLOW} // 2, 'at once');
kill 'CONT', $osd;
$agent->start;
ok(backlog_is($agent, 0), 'and it goes on where it was');
is_deeply(not_stored($agent, $later), [], 'byte for byte');

# --- a wrong secret is told and tried on; meanwhile the names of its captures are taken ---
my $wrong = new_agent('s3-wrong', secret => 'not-the-secret')->start;
my @bytes = map { jpeg("wrong $_", 30_000) } 1 .. 5;
my %path_of = map { (keys %{ post_all($wrong, $bytes[$_]) })[0] => $_ } 0 .. 4;
my @paths = sort { $path_of{$a} <=> $path_of{$b} } keys %path_of;
log_has($wrong,
	qr/level=error event=image_center_misconfigured reason="PUT: HTTP 403 SignatureDoesNotMatch: secret_access_key, or region, is wrong"/,
	'a wrong secret: told');
is($wrong->status->{upload}{backlog}, 5, 'what was taken in waits');
$ceph->put("s3-wrong/$paths[1]", $bytes[1]);
$ceph->put("s3-wrong/$paths[2]", 'x' x length($bytes[2]));
$ceph->put("s3-wrong/$paths[3]", $bytes[3] . 'x');
write_file($wrong->{sections}{image_center}{secret_access_key_file}, $ceph->{secret_access_key});
change($wrong);
ok(status_is($wrong, 'two set aside', sub { $_[0]->{set_aside} == 2 && $_[0]->{upload}{backlog} == 0 }),
	'with the right one all goes on');
is($ceph->get("s3-wrong/$paths[$_]"), $bytes[$_], "uploaded: $_") for 0, 1, 4;
is($ceph->get("s3-wrong/$paths[2]"), 'x' x length($bytes[2]), 'other bytes of the same size were not overwritten');
is($ceph->get("s3-wrong/$paths[3]"), $bytes[3] . 'x', 'nor longer ones');
log_has($wrong,
	qr/event=upload_set_aside path=\Q$paths[$_]\E reason="something else has this name \(GET: the store has (other|more) bytes/,
	"which is told: $_") for 2, 3;
unlike(read_file($wrong->{log}), qr/not-the-secret|\Q$ceph->{secret_access_key}\E|Signature=/, 'no secret is in the log');
$wrong->stop;

# --- no such bucket; then there is one ---
my $nowhere = new_agent('s3-nowhere', url => $ceph->origin . '/absent')->start;
$taken = post_all($nowhere, map { jpeg("nowhere $_", 30_000) } 1 .. 3);
log_has($nowhere,
	qr/event=image_center_misconfigured reason="PUT: HTTP 404 NoSuchBucket: there is no such bucket; make it, or correct url"/,
	'no such bucket: told');
is($nowhere->status->{upload}{backlog}, 3, 'what was taken in waits');
change($nowhere, url => $ceph->url);
ok(backlog_is($nowhere, 0), 'with the right URL all is uploaded');
is_deeply(not_stored($nowhere, $taken), [], 'byte for byte');
$nowhere->stop;

# --- clocks that differ ---
SKIP: {
	my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1') or skip('no libfaketime', 6);
	for ([ '+20m', 'ahead of' ], [ '-20m', 'behind' ])
	{
		my ($offset, $words) = @$_;
		my $skewed = new_agent('s3-skew' . ($offset =~ /^-/ ? '-behind' : ''));
		{
			local $ENV{LD_PRELOAD} = $faketime;
			local $ENV{FAKETIME} = $offset;
			local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
			local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
			$skewed->start;
		}
		post_all($skewed, jpeg("skewed $offset"));
		log_has($skewed,
			qr/reason="PUT: HTTP 403 RequestTimeTooSkewed: the clock of this machine is (19|20) minutes $words the store's"/,
			"a clock 20 minutes $words the store's: told");
		is($skewed->status->{upload}{backlog}, 1, 'what was taken in waits');
		$skewed->stop;
		$skewed->start;
		ok(backlog_is($skewed, 0), 'with the right clock it is uploaded');
		$skewed->stop;
	}
}

# --- bytes that change on their way ---
my $damages = "$PostgreSQL::Test::Utils::tmp_check/damages_$$";
write_file($damages, '');
my $damaging = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my $body = $request->{body};
		substr($body, 10_000, 1) ^= "\x01" if -e $damages && length($body) > 10_000;
		my $store = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ceph->{port}) or return;
		my $text = "$request->{method} $request->{path} HTTP/1.1\r\n"
		  . join('', map { "$_: $request->{headers}{$_}\r\n" } sort keys %{ $request->{headers} })
		  . "Connection: close\r\n\r\n$body";
		print $store $text;
		local $/;
		print $socket scalar(<$store>);
		return;
	});
my $damaged = new_agent('s3-damaged', url => $damaging->url . '/captures')->start;
$taken = post_all($damaged, jpeg('damaged', 30_000));
log_has($damaged, qr/event=upload_failed .*reason="PUT: HTTP 400 XAmzContentSHA256Mismatch: other bytes arrived than were sent"/,
	'the store refuses bytes that changed on their way');
is($ceph->get('s3-damaged/' . (keys %$taken)[0]), undef, 'and keeps none of them');
unlink $damages;
ok(backlog_is($damaged, 0), 'until they do not change any more');
is_deeply(not_stored($damaged, $taken), [], 'byte for byte');
$damaged->stop;

# --- a quota that is used up ---
$ceph->admin('quota', 'set', '--quota-scope=bucket', '--bucket=captures', '--max-objects=1');
$ceph->admin('quota', 'enable', '--quota-scope=bucket', '--bucket=captures');
$ceph->gateway_stop;
$ceph->gateway_start('--rgw_bucket_quota_ttl=0');
$taken = post_all($agent, map { jpeg("quota $_", 30_000) } 1 .. 2);
log_has($agent,
	qr/event=image_center_misconfigured reason="PUT: HTTP 403 QuotaExceeded: the quota of the user or bucket is used up"/,
	'a quota that is used up: told');
is($agent->status->{upload}{backlog}, 2, 'what was taken in waits');
$ceph->admin('quota', 'disable', '--quota-scope=bucket', '--bucket=captures');
$ceph->gateway_stop;

# --- a store that has no time ---
$ceph->gateway_start('--rgw_max_concurrent_requests=2');
change($agent, concurrency => 32);
ok(backlog_is($agent, 0), 'with a larger quota they are uploaded');
$taken = { %$taken, %{ post_all($agent, map { jpeg("busy $_", 200_000) } 1 .. 60) } };
ok(backlog_is($agent, 0), 'a store that takes two at once gets all in the end');
is_deeply(not_stored($agent, $taken), [], 'byte for byte');
$agent->stop;

done_testing();
