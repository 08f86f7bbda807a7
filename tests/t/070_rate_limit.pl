# The rate limit: all uploads together keep it, evenly, and the timetable changes it in the middle of a transfer.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use Tms::Agent;
use Tms::Store;
use Tms::Util;

sub new_agent
{
	my ($device, $url, %image_center) = @_;
	return Tms::Agent->new(device => $device, token => "token-of-$device",
		conninfo => 'host=127.0.0.1 port=1 dbname=x user=x', url => $url, extra => { image_center => \%image_center });
}

sub backlog_is
{
	my ($agent, $backlog, $limit) = @_;
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{upload}{backlog} == $backlog },
		"backlog $backlog", $limit);
}

# Takes photographs in while the store is away, so that all of them wait.
sub take_in
{
	my ($agent, $count, $bytes) = @_;
	my %taken;
	for (1 .. $count)
	{
		my $photograph = jpeg("$agent->{device} $_", $bytes);
		my ($code, $answer) = $agent->post($photograph);
		is($code, 201, "photograph $_ is taken in");
		$taken{ $answer->{path} } = $photograph;
	}
	return \%taken;
}

sub not_stored
{
	my ($store, $agent, $taken) = @_;
	return [ grep { my $file = $store->file("$agent->{device}/$_"); !-e $file || read_file($file) ne $taken->{$_} }
		  sort keys %$taken ];
}

# --- eight uploads at once share one limit ---
my $store = Tms::Store->new('rate');
my $agent = new_agent('rate-1', $store->url, rate_limit => '1MB/s')->start;
my $taken = take_in($agent, 16, 250_000);
$store->start;
my $begin = time();
ok(backlog_is($agent, 0, 60), 'all are uploaded under a limit');
my $seconds = time() - $begin;
is_deeply(not_stored($store, $agent, $taken), [], 'byte for byte');
# 4 MB at 1 MB/s, a quarter second's worth at once. A slower machine only takes longer.
cmp_ok($seconds, '>', 16 * 250_000 / 1024 / 1024 - 0.5, sprintf('and not faster than the limit: %.1f s', $seconds));
is($store->requests(qr/"PUT .* 40[08] /), 0, 'no transfer was cut off by waiting for its turn');
is($agent->stop, 0, 'TERM ends it');

# --- a timetable whose span begins in the middle of one transfer; the clock is ours, the waits are real ---
SKIP:
{
	my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1') or skip('no libfaketime', 4);
	$store->stop;
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	local $ENV{TZ} = 'Asia/Shanghai';
	my $start = sub {
		local $ENV{FAKETIME} = "\@$_[0]";
		return new_agent($_[1], $store->url, rate_limit => '1kB/s; 22:00-06:00 0', concurrency => 1)->start;
	};
	my $night = $start->('2026-11-25 21:59:45', 'rate-2');
	delete $ENV{LD_PRELOAD};
	my $one = take_in($night, 1, 200_000);
	$store->start;
	# At 1 kB/s this one takes more than three minutes.
	ok(backlog_is($night, 0, 90), 'when the night begins, the transfer under way goes on without the limit');
	is_deeply(not_stored($store, $night, $one), [], 'byte for byte');
	is($store->requests(qr{"PUT /captures/rate-2/}), 1, 'in one and the same request');
	is($night->stop, 0, 'TERM ends it');
}

# --- a limit so low that the agent is in the middle of a transfer when it ends ---
my $slow = new_agent('rate-3', $store->url, rate_limit => '1kB/s')->start;
take_in($slow, 12, 100_000);
ok(poll_until(sub { connections_to($store->{port}, 'established') }, 'a connection'), 'a transfer is under way');
cmp_ok(connections_to($store->{port}, 'established'), '<=', 2, 'few at once under a low limit, not eight');
my ($exit, $took) = $slow->stop;
is($exit, 0, 'TERM ends it while the limit holds it back');
cmp_ok($took, '<', $ENV{TMS_SLOW} // 2, 'at once');

# --- the space that makes a comment of the timetable ---
$slow->{sections}{image_center}{rate_limit} = '2MB/s ; 22:00-06:00 0';
$slow->write_config;
my ($code, $out, $err) = $slow->command('check-config');
is($code, 2, 'a timetable behind a space is a mistake, not a comment');
like($err, qr{key="image_center.rate_limit" error="the timetable is a comment .*write \\"2MB/s; 22:00-06:00 0\\""},
	'and is told with what to write');
$slow->{sections}{image_center}{rate_limit} = '2MB/s; 22:00-06:00 0 ; by night';
$slow->write_config;
($code, $out, $err) = $slow->command('check-config');
like($out, qr{^rate_limit = 2MB/s; 22:00-06:00 0$}m, 'without the space it is a timetable');

done_testing();
