# A disk that is full or fails: 507 or 500 at HTTP, the spool left alone, nothing lost, nothing half-done, and intake goes on by
# itself when there is room again.
use strict;
use warnings;

use Test::More;
use File::Path qw(make_path);
use Tms::Agent;
use Tms::Util;

my @nowhere = (conninfo => 'host=127.0.0.1 port=1 dbname=none user=nobody', url => 'http://127.0.0.1:1/captures');

# Every capture in the list is in the cache of this folder, with its bytes; files without a row are none's.
sub all_there
{
	my ($data, $taken, $name) = @_;
	my @bad = grep { my $file = "$data/cache/$_"; !-e $file || sha256_hex(read_file($file)) ne $taken->{$_} } keys %$taken;
	return is(scalar(@bad), 0, "$name: all " . keys(%$taken) . ' acknowledged ones are there, bytes equal');
}

sub spooled { my ($agent) = @_; return grep { /\.jpg$/ } glob("$agent->{dir}/spool/*"); }

sub spool
{
	my ($agent, $name, $bytes) = @_;
	write_file("$agent->{dir}/spool/.$name", $bytes);
	return rename("$agent->{dir}/spool/.$name", "$agent->{dir}/spool/$name.jpg");
}

# --- a small file system of its own, that fills up ---
SKIP:
{
	system('unshare -Urm true 2>/dev/null') == 0 or skip 'no user namespaces on this machine: no small file system', 1;
	my $agent = Tms::Agent->new(device => 'full-1', token => 'a token', @nowhere);
	$agent->start(wrap => [ 'unshare', '-Urm', 'sh', '-c',
		"mount -t tmpfs -o size=24m,mode=755 tmpfs $agent->{dir}/data && exec \"\$@\"", 'sh' ]);
	my $data = "/proc/$agent->{pid}/root$agent->{dir}/data";
	my (%taken, $status, $answer);

	# Up to the reserve, which is the ledger's.
	for my $n (1 .. 100)
	{
		($status, $answer) = $agent->post(jpeg("fill $n", 700_000));
		last if $status != 201;
		$taken{ $answer->{path} } = $answer->{sha256};
	}
	is($status, 507, 'full after ' . keys(%taken) . ' captures: 507');
	like($answer->{error}, qr/full/, 'and says so');
	cmp_ok(scalar(keys %taken), '>', 5, 'some were taken');
	spool($agent, "s$_", jpeg("spooled $_", 600_000)) for 1 .. 3;
	ok(poll_until(sub { read_file($agent->{log}) =~ /spool_waits/ }, 'a word about the spool'), 'the log says that the spool waits');
	is(scalar(spooled($agent)), 3, 'photographs stay in the spool');
	all_there($data, \%taken, 'full');
	my @left = glob("$data/tmp/*");
	is(scalar(@left), 0, 'nothing half-done in tmp/');
	is($agent->status->{parts}{intake}{error}, 'the disk is full', 'status says why');

	# Room again, without a word to the agent: the bytes that filled it beside the reserve.
	my ($gone) = sort keys %taken;
	my $removed = 0;
	for my $path ((sort keys %taken)[0 .. 3])
	{
		$removed += unlink("$data/cache/$path");
		delete $taken{$path};
	}
	is($removed, 4, 'room is made');
	ok(poll_until(sub { !spooled($agent) }, 'an empty spool', 60), 'the spool is taken without a restart');
	($status, $answer) = $agent->post(jpeg('after', 1000));
	is($status, 201, 'and HTTP goes on');
	$taken{ $answer->{path} } = $answer->{sha256};

	# Filled to the last byte from outside: the ledger has no room for its log any more.
	my $filler = "$data/filler";
	open(my $handle, '>', $filler) or die $!;
	while (syswrite($handle, 'x' x 4096)) { }
	close($handle);
	($status) = $agent->post(jpeg('no room at all', 1000));
	is($status, 507, 'not a byte free: 507');
	spool($agent, 'late', jpeg('late', 2000));
	unlink($filler) or die $!;
	ok(poll_until(sub { !spooled($agent) }, 'an empty spool', 60), 'recovers from that as well');
	($status, $answer) = $agent->post(jpeg('at last', 1000));
	is($status, 201, 'HTTP too');
	$taken{ $answer->{path} } = $answer->{sha256};
	all_there($data, \%taken, 'recovered');
	is($agent->stop, 0, 'stops cleanly');
	unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');
}

# --- a disk that fails for a while: strace lets calls of a kind fail, all of them, or each thread's n-th ---
my $agent = Tms::Agent->new(device => 'fault-1', token => 'a token', @nowhere);
$agent->start;
my (%taken, $serial);
for my $fault (
	[ 'ENOSPC', 'fallocate' ], [ 'ENOSPC', 'write' ], [ 'ENOSPC', 'fsync' ], [ 'ENOSPC', 'pwrite64' ], [ 'ENOSPC', 'fdatasync' ],
	[ 'ENOSPC', 'mkdirat' ], [ 'EDQUOT', 'write' ], [ 'EROFS', 'openat' ], [ 'EROFS', 'renameat2' ], [ 'EIO', 'write' ],
	[ 'EIO', 'fsync' ], [ 'EIO', 'renameat2' ], [ 'EIO', 'pwrite64' ], [ 'EIO', 'fdatasync' ], [ 'EIO', 'ftruncate' ],
	[ 'EIO', 'fsync', ':when=2' ], [ 'EIO', 'fdatasync', ':when=1' ], [ 'ENOSPC', 'pwrite64', ':when=3' ], [ 'EIO', 'pwrite64', ':when=7' ])
{
	my ($error, $call, $when) = @$fault;
	my $name = "$error at $call" . ($when // '');
	my %answers;
	$agent->strace(trace => $call, inject => "$call:error=$error" . ($when // ''));
	for my $n (1 .. 4)
	{
		# Each in an hour of its own, so that folders are made.
		my ($status, $answer) = $agent->post(jpeg("$name $n", 3000), captured_at => sprintf('2026-11-%02dT%02d:00:00Z', 1 + $serial / 24, $serial % 24));
		$serial++;
		$answers{$status}++;
		$taken{ $answer->{path} } = $answer->{sha256} if $status == 201;
	}
	$agent->strace_end;
	my $injected = () = read_file("$agent->{dir}/trace") =~ /INJECTED/g;
	cmp_ok($injected, '>', 0, "$name: $injected calls failed; answers " . join(', ', map { "$_: $answers{$_}" } sort keys %answers));
	# SQLite does not tell why a sync failed.
	my $expected = $call ne 'fdatasync' && ($error eq 'ENOSPC' || $error eq 'EDQUOT') ? 507 : 500;
	is(join(' ', grep { $_ != 201 && $_ != $expected } keys %answers), '', "... refused with $expected");
	my ($status, $answer) = $agent->post(jpeg("$name, over", 3000));
	is($status, 201, '... and taken again without a restart') or diag($agent->log_tail);
	$taken{ $answer->{path} } = $answer->{sha256} if $status == 201;
	my @left = glob("$agent->{dir}/data/tmp/*");
	is(scalar(@left), 0, '... nothing is left in tmp/');
}
all_there("$agent->{dir}/data", \%taken, 'faults');
$agent->kill9;
$agent->start;
all_there("$agent->{dir}/data", \%taken, 'faults, after SIGKILL');
my $status = $agent->status;
is($status->{set_aside}, 0, 'nothing is damaged');
is($status->{upload}{backlog}, scalar(keys %taken), 'and every capture that was acknowledged, no other, waits for its upload');
my @files = split /\n/, `find $agent->{dir}/data/cache -name '*.jpg'`;
is(scalar(@files), scalar(keys %taken), 'as many files');
is($agent->stop, 0, 'stops cleanly');
unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');

done_testing();
