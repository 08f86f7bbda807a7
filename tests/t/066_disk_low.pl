# A disk that runs full: expired and safe first, then safe ones before their time, then intake refuses; never an unsafe one.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

# The agent's data are on a small tmpfs, in a mount namespace of its own.
my @namespace = ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c');
plan(skip_all => 'no mount namespaces for users here') if system(@namespace, 'mount -t tmpfs tmpfs /mnt >/dev/null 2>&1') != 0;

my $pc = Tms::Cluster->start_new('disk_low');
my $store = Tms::Store->new('disk_low')->start;
my $agent = Tms::Agent->new(device => 'low-1', token => $pc->add_device('low-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => $store->url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' }, cache => { min_free => '40%' } });
my $data = "$agent->{dir}/data";
$agent->start(wrap => [ @namespace, "mount -t tmpfs -o size=48m tmpfs '$data' && exec \"\$@\"", 'sh' ]);

sub inside { my ($path) = @_; return "/proc/$agent->{pid}/root$path"; }

my (@taken, %bytes_of);

# Takes captures of half a megabyte until $until says so, or intake refuses; the last HTTP status.
sub take
{
	my ($until) = @_;
	my $code = 201;
	while ($code == 201 && !$until->())
	{
		my $bytes = jpeg('low ' . @taken, 500_000);
		my ($status, $answer) = $agent->post($bytes);
		$code = $status;
		next if $code != 201;
		push @taken, $answer;
		$bytes_of{ $answer->{path} } = $bytes;
	}
	return $code;
}

sub state { my $s = $agent->status; return $s ? $s->{cleaning}{state} : ''; }
sub state_is { my ($state, $limit) = @_; return poll_until(sub { state() eq $state }, "state $state", $limit); }
sub held { return [ map { -e inside("$data/cache/$_->{path}") ? 1 : 0 } @taken ]; }
sub held_count { my $count = 0; $count += $_ for @{ held() }; return $count; }

sub safe
{
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 },
		'empty backlogs', 60);
}

# What `why` tells; the command has to look into the agent's own mounts.
sub why
{
	my ($seq) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'nsenter', '--target', $agent->{pid}, '--user', '--mount', '--preserve-credentials', $agent->{program},
			'why', '--config', $agent->{config}, '--json', $seq ], '>', \$out, '2>', \$err);
	return eval { decode_json($out) } // { error => $err };
}

# Bytes that are free, as parts of those there are.
sub free_part { my $s = $agent->status; return $s->{free_bytes} / $s->{total_bytes}; }

# --- no path center: nothing is safe, so nothing is deleted, and at last intake refuses ---
ok(poll_until(sub { $agent->status->{cleaning}{period_seconds} }, 'a period'), 'the cleaning period is known: seven days');
is(state(), 'normal', 'there is room');
$pc->stop;
is(take(sub { free_part() < 0.38 }), 201, 'captures are taken in below min_free');
ok(state_is('disk_low_stuck'), 'the disk is low, and nothing is there to make room with');
is(held_count(), scalar(@taken), 'and none is deleted, for none is registered');
ok(poll_until(sub { my $s = $agent->status; $s->{upload}{backlog} == 0 }, 'uploads', 60), 'all are uploaded');
is(take(sub { 0 }), 507, 'then intake refuses');
write_file("$agent->{dir}/spool/.waiting.jpg", my $spooled = jpeg('in the spool', 400_000));
rename("$agent->{dir}/spool/.waiting.jpg", "$agent->{dir}/spool/waiting.jpg") or die $!;
is(held_count(), scalar(@taken), 'and none is deleted');
my $why = why(1);
like(join(' ', @{ $why->{cache}{stays_because} // [] }), qr/not registered/, 'why: it is not registered')
  or diag(explain($why));

# --- the path center is back: the oldest safe ones go before their time, and say so ---
$pc->start;
ok(state_is('normal', 90), 'there is room again');
ok(safe(), 'all are safe');
my $held = join('', @{ held() });
like($held, qr/^0+1+$/, 'the oldest have left, and none in between');
my $early = $agent->status->{cleaning};
is($early->{cleaned_early}, $early->{cleaned}, 'all of them before their time');
cmp_ok($early->{cleaned_early}, '>', 0, "as the status tells: $early->{cleaned_early}");
cmp_ok(free_part(), '<', 0.48, 'and no more than needed');
ok($pc->wait_for_sql("SELECT (status->'cleaning'->>'cleaned_early')::int > 0 FROM tms.device_status", 't'), 'and the heartbeat');
like(read_file($agent->{log}), qr/event=disk state=disk_low_early /, 'and the log');
$why = why(1);
is($why->{cache}{receipt}{rule}, 'disk_low', 'why: the disk was low');
cmp_ok($why->{cache}{receipt}{free_bytes}, '<', $why->{cache}{receipt}{min_free_bytes} * 17 / 16, 'with the bytes that were free');
ok(poll_until(sub { !-e "$agent->{dir}/spool/waiting.jpg" }, 'the spool', 60), 'what waited in the spool is taken');
is(take(sub { 1 }) , 201, 'and intake goes on');

# --- the image center is away: it cannot be asked, so nothing is deleted ---
$store->stop;
my $before = $agent->status->{cleaning}{cleaned};
take(sub { free_part() < 0.38 });
ok(state_is('disk_low_stuck'), 'low again, and the image center is away');
is($agent->status->{cleaning}{cleaned}, $before, 'nothing is deleted');
$store->start;
ok(state_is('normal', 90), 'it is back: room is made');
ok(safe(), 'all are safe');

like(join('', @{ held() }), qr/^0+1+$/, 'of the oldest ones, again');

# --- with a period that is over, nothing leaves early ---
$before = $agent->status->{cleaning};
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second'");
ok(poll_until(sub { held_count() == 0 }, 'all are expired', 60), 'what is expired leaves');
is($agent->status->{cleaning}{cleaned_early}, $before->{cleaned_early}, 'and is not counted as early');
is(why(scalar(@taken))->{cache}{receipt}{rule}, 'expired', 'why: expired');

# --- every acknowledged capture is in both centers ---
my $count = @taken + 1;
is($pc->sql('SELECT count(*), count(DISTINCT sha256) FROM tms.capture'), "$count|$count", 'every capture has one row');
is(scalar(grep { !-e $store->file("low-1/$_") || read_file($store->file("low-1/$_")) ne $bytes_of{$_} } keys %bytes_of),
	0, 'and its bytes are in the image center');
is(($agent->stop)[0], 0, 'stopped');

$pc->stop;
done_testing();
