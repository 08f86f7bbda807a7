# SIGKILL at every system call that changes or tells something, of one intake, one upload, one registration, one deletion and
# one start. The judge is the sender's own list of 201s.
#
# strace is attached to one thread of the idle agent. A first run counts that thread's calls of each kind; then there is a run for
# each of them, in which strace kills the agent at that call. In the default run there are some of them, spread over all;
# with TMS_LONG all.
use strict;
use warnings;

use Test::More;
use File::Path qw(remove_tree);
use IPC::Run ();
use POSIX qw(strftime);
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $calls = join(',', qw(openat openat2 write writev pwrite64 sendto sendmsg recvfrom connect fsync fdatasync fallocate ftruncate fsetxattr
	  renameat renameat2 mkdirat unlinkat));
my $long = $ENV{TMS_LONG};

my $pc = Tms::Cluster->start_new('sweep', conf => "fsync = off\n");
my $store = Tms::Store->new('sweep')->start;
$pc->add_server($store->url);

sub new_agent
{
	my ($device) = @_;
	my $port = free_port();
	return Tms::Agent->new(
		device => $device, token => $pc->add_device($device, "http://127.0.0.1:$port", '1 hour'), cache_port => $port,
		conninfo => $pc->agent_conninfo, url => $store->url,
		extra => { path_center => { interval => '50ms', heartbeat => '200ms' } });
}

# The agent will be killed at a call [name, n] of that thread, '' is any; or its calls are only written down (undef).
sub doom
{
	my ($agent, $thread, $at) = @_;
	$agent->strace(thread => $thread, trace => $calls, inject => $at && "$at->[0]:signal=KILL:when=$at->[1]");
	return;
}

# Has it been killed?
sub is_dead
{
	my ($agent) = @_;
	return 1 unless $agent->{pid};
	if (waitpid($agent->{pid}, POSIX::WNOHANG) == 0)
	{
		# Dead, but strace has not let go of it?
		return 0 unless $agent->is_zombie;
		$agent->strace_end;
		waitpid($agent->{pid}, 0);
	}
	delete $agent->{pid};
	return 1;
}

# Waits until the agent is dead (0) or the condition holds (1).
sub dead_or
{
	my ($agent, $what, $condition) = @_;
	my $done;
	poll_until(sub { $done = $condition->(); $done || is_dead($agent) }, $what, 120) or die "neither dead nor $what";
	return $done ? 1 : 0;
}

# Runs $run->(undef) once, which leaves a trace, then $run->([call, n]) for calls of that trace: one of $step in the default run.
# $run says whether it got through alive.
my ($points, $phase) = (0, 0);
sub sweep
{
	my ($agent, $name, $step, $run) = @_;
	$run->(undef) or die "$name: does not get through by itself";
	my %count;
	my @all = map { [ $_, ++$count{$_} ] } read_file("$agent->{dir}/trace") =~ /^(?:\d+ +)?(\w+)\(/mg;
	# From another place each time, so that different steps are met.
	my $first = $phase++ % $step;
	my @some = $long ? @all : @all[ grep { $_ % $step == $first } 0 .. $#all ];
	@some = @all[0 .. 1] if @some < 2;
	my $killed = grep { !$run->($_) } @some;
	diag("$name: killed at $killed of " . @all . ' calls (' . join(', ', map { "$_ $count{$_}" } sort keys %count) . ')');
	cmp_ok($killed, '>', 0, "$name: killed at $killed calls");
	$points += $killed;
	return;
}

# --- intake, upload, registration: by the threads that do it ---
my $agent = new_agent('sweep-1');
my %acknowledged;
my $serial = 0;
my $safe = "SELECT coalesce(bool_and(accepted_seq = last_seq AND uploaded_seq = last_seq), false) FROM tms.ledger l
	JOIN tms.device d USING (device_id) WHERE d.code =";

sub take_upload_register
{
	my ($thread, $at) = @_;
	# It may have been killed just after the last run had got through.
	$agent->start if is_dead($agent);
	# Quiet before it begins, so that the n-th call is the same in each run, or nearly so.
	poll_until(sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 }, 'quiet', 60) or die 'not quiet';
	doom($agent, $thread, $at);
	my ($status, $answer) = $agent->post(jpeg('sweep ' . $serial++, 20_000), lane => 1);
	$acknowledged{ $answer->{sha256} } = "$answer->{ledger} $answer->{seq}" if $status == 201;
	# By the agent's own report, so that its ledger has it too.
	my $through = $status == 201 && dead_or($agent, 'upload and registration',
		sub { $pc->sql("$safe 'sweep-1' AND last_seq >= $answer->{seq}") eq 't' });
	poll_until(sub { is_dead($agent) }, 'its end') or die "HTTP $status, but not dead" if $status != 201;
	$agent->strace_end;
	return $through;
}
for my $thread ([ '', 13 ], [ 'ledger', 11 ], [ 'uploader', 5 ], [ 'registrar', 4 ])
{
	sweep($agent, "intake, upload, registration, " . ($thread->[0] ? "thread $thread->[0]" : "all threads"), $thread->[1], sub { take_upload_register($thread->[0], @_) });
}
$agent->stop;

# --- the start ---
my $changes = 'write,pwrite64,fsync,fdatasync,ftruncate,renameat,renameat2,rename,mkdir,mkdirat,unlinkat,unlink,sendto,listen';
sweep($agent, 'start', 7, sub {
	my ($at) = @_;
	$agent->start(no_wait => 1, wrap => [ 'strace', '-D', '-E', 'ASAN_OPTIONS=detect_leaks=0', '-o', "$agent->{dir}/trace",
		'-e', "trace=$changes", $at ? ('-e', "inject=$at->[0]:signal=KILL:when=$at->[1]") : () ]);
	my $through = dead_or($agent, 'a start', sub { my $s = eval { $agent->status }; $s && $s->{register}{backlog} == 0 });
	$agent->kill9;
	return $through;
});

$agent->start;
my $count = keys %acknowledged;
$pc->wait_for_sql("$safe 'sweep-1'", 't', 60);
my %rows;
for my $row (split /\n/, $pc->sql("SELECT encode(c.sha256, 'hex'), l.ledger || ' ' || tms.capture_seq(c.capture_id)
	FROM tms.capture c JOIN tms.ledger l ON l.ledger_no = tms.capture_ledger_no(c.capture_id)"))
{
	my ($sha256, $place) = split /\|/, $row;
	push @{ $rows{$sha256} }, $place;
}
is(scalar(grep { !$rows{$_} } keys %acknowledged), 0, "each of $count acknowledged captures has a row");
is(scalar(grep { @$_ > 1 } values %rows), 0, 'none has two');
is(scalar(grep { $rows{$_} && $rows{$_}[0] ne $acknowledged{$_} } keys %acknowledged), 0, 'under the ledger and seq that was told');
for my $source ('image_center', 'front_end')
{
	is( $pc->sql("SET tms.image_source = $source; SELECT count(*) - count(*) FILTER (WHERE sha256(image) = sha256) FROM capture_image"),
		'0', "all bytes are equal from the $source");
}
is($agent->stop, 0, 'stops cleanly');

# --- deletion: each run begins with the same capture, safe in both centers, and old enough once the period is a second ---
my $cleaning = new_agent('sweep-2');
my $data = "$cleaning->{dir}/data";
my $old = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time - 3 * 3600));
sub set_period { return $pc->sql("UPDATE tms.device SET cleaning_period = '$_[0]' WHERE code = 'sweep-2'"); }

set_period('30 days');
$cleaning->start;
my $path = ($cleaning->post(jpeg('cleaned', 10_000), captured_at => $old))[1]{path};
ok(poll_until(sub { my $s = $cleaning->status; $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 }, 'safety'), 'a capture is safe in both centers');
$pc->wait_for_sql("$safe 'sweep-2' AND last_seq = 1", 't', 60);
is($cleaning->stop, 0, 'stops');
rename($data, "$data.template") or die $!;

sub in_ledger
{
	my ($file, $sql) = @_;
	IPC::Run::run([ 'sqlite3', $file, $sql ], '>', \my $out) or die "sqlite3: $sql";
	chomp $out;
	return $out;
}

my ($unjournaled, $left) = (0, 0);

sub clean
{
	my ($thread, $at) = @_;
	remove_tree($data, "$data.look");
	system('cp', '-a', "$data.template", $data) == 0 or die 'cp';
	set_period('30 days');
	$cleaning->start;
	doom($cleaning, $thread, $at);
	set_period('1 second');
	my $through = dead_or($cleaning, 'an empty cache', sub { my $s = eval { $cleaning->status }; $s && $s->{cached} == 0 });
	$cleaning->strace_end;
	if (!$through)
	{
		# Looked at in a copy, so that the agent finds its ledger as it was left.
		system('cp', '-a', $data, "$data.look") == 0 or die 'cp';
		$unjournaled++ if !-e "$data/cache/$path" &&
		  in_ledger("$data.look/ledger.db", 'SELECT count(*) FROM capture WHERE held = 0 OR cleaning = 1') != 1;
		$cleaning->start;
		$left++ unless poll_until(sub { my $s = $cleaning->status; $s && $s->{cached} == 0 && !-e "$data/cache/$path" },
			"the rest cleaned after a kill at $at->[0] $at->[1]");
	}
	$cleaning->stop;
	return $through;
}
for my $thread ([ 'cleaner', 7 ], [ 'ledger', 9 ])
{
	sweep($cleaning, "deletion: thread $thread->[0]", $thread->[1], sub { clean($thread->[0], @_) });
}
diag("killed at $points calls in all");
is($unjournaled, 0, 'no file was gone that the ledger did not know to be');
is($left, 0, 'what was left was cleaned after the next start');
is( $pc->sql("SET tms.image_source = image_center; SELECT count(*), count(*) FILTER (WHERE sha256(image) = sha256) FROM capture_image
		WHERE device = 'sweep-2'"),
	'1|1', 'one row, and the image center has the bytes');
is($pc->sql('SELECT count(*) FROM tms.device_gap'), '0', 'no gap');
unlike(read_file($_->{log}), qr/Sanitizer|runtime error/, "no sanitizer report of $_->{device}") for $agent, $cleaning;

done_testing();
