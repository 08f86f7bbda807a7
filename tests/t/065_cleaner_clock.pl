# A clock that is a year ahead or behind, at intake or later, deletes nothing early.
use strict;
use warnings;

use POSIX qw(strftime);
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Stub;
use Tms::Util;

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1') or plan(skip_all => 'no libfaketime');
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $year = 365 * 86400;

# A store that tells no digest, and its time only when it is asked to.
my $date = write_file("$tmp/store_date_$$", '');
my $objects = "$tmp/clock_objects_$$";
mkdir $objects;
my $stub = Tms::Stub->start(
	sub {
		my ($request) = @_;
		(my $name = $request->{path}) =~ tr{/}{!};
		my $text = read_file($date);
		my $headers = $text ne '' ? { Date => strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time() + $text)) } : {};
		if ($request->{method} eq 'PUT')
		{
			write_file("$objects/$name", $request->{body});
			return [ 201, $headers, '' ];
		}
		return [ -e "$objects/$name" ? 200 : 404, $headers, -e "$objects/$name" ? read_file("$objects/$name") : '' ];
	});

my $pc = Tms::Cluster->start_new('clock');
my $agent = Tms::Agent->new(device => 'clock-1', token => $pc->add_device('clock-1', 'http://127.0.0.1:1', '200 seconds'),
	conninfo => $pc->agent_conninfo, url => $stub->url . '/captures',
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' } });

# The agent's clock of day: its difference to the real one in days. Written over the old one in one piece.
my $clock = "$tmp/agent_clock_$$";
sub set_clock { my ($days) = @_; write_file("$clock.new", "${days}d\n"); rename("$clock.new", $clock) or die $!; return; }

sub start
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	return $agent->start;
}

# Elapsed time as the agent counts it, microseconds.
sub elapsed
{
	my $value = `sqlite3 -readonly '$agent->{dir}/data/ledger.db' "SELECT value FROM meta WHERE name = 'elapsed'" 2>/dev/null`;
	return $value || 0;
}

# The cleaner has looked twice since.
sub sweeps
{
	my $from = elapsed();
	return poll_until(sub { elapsed() > $from + 5_000_000 }, 'two sweeps', 60);
}

my %taken;

sub take
{
	my ($name, $count) = @_;
	for my $i (1 .. $count)
	{
		my ($code, $answer) = $agent->post(jpeg("$name $i", 3000));
		die "post: $code" if $code != 201;
		$taken{ $answer->{path} } = $name;
	}
	return;
}

sub left
{
	my %left;
	-e "$agent->{dir}/data/cache/$_" and $left{ $taken{$_} }++ for keys %taken;
	return \%left;
}

set_clock('+0');
start();
take('right', 3);
ok(poll_until(sub { ($agent->status->{cleaning}{period_seconds} // 0) == 200 }, 'the period'), 'the period is 200 s');
ok(sweeps(), 'some sweeps');

set_clock('+365');
ok(poll_until(sub { $agent->status->{at} gt strftime('%Y-%m-%d', gmtime(time() + $year - 2 * 86400)) }, 'a year'),
	'the clock steps a year ahead');
take('ahead', 2);
ok(poll_until(sub { $agent->status->{upload}{backlog} == 0 && $agent->status->{register}{backlog} == 0 }, 'safe'), 'all are safe');
ok(sweeps(), 'sweeps');
is_deeply(left(), { right => 3, ahead => 2 }, 'nothing is deleted');

write_file($date, $year);
ok(sweeps(), 'sweeps, with an image center whose clock is a year ahead too');
is_deeply(left(), { right => 3, ahead => 2 }, 'nothing is deleted');

$agent->kill9;
start();
ok(sweeps(), 'and after a restart');
is_deeply(left(), { right => 3, ahead => 2 }, 'nothing is deleted');

set_clock('-365');
ok(poll_until(sub { $agent->status->{at} lt strftime('%Y', gmtime()) }, 'a year'), 'it steps to a year behind');
take('behind', 2);
ok(poll_until(sub { $agent->status->{upload}{backlog} == 0 && $agent->status->{register}{backlog} == 0 }, 'safe'), 'all are safe');
set_clock('+0');
write_file($date, 0);
ok(sweeps(), 'and is put right: what was taken in meanwhile looks a year old');
is_deeply(left(), { right => 3, ahead => 2, behind => 2 }, 'nothing is deleted');
is($agent->status->{cleaning}{cleaned}, 0, 'not one file');

# --- what is old enough goes all the same ---
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second'");
ok(poll_until(sub { my $left = left(); !$left->{right} && !$left->{behind} }, 'those taken in at the right time or before', 60),
	'with a period of a second they go');
is_deeply(left(), { ahead => 2 }, 'those with a time in the future stay for now');
set_clock('+366');
write_file($date, $year + 86400);
ok(poll_until(sub { !%{ left() } }, 'the rest', 60), 'until then');
is(($agent->stop)[0], 0, 'stopped');

$pc->stop;
done_testing();
