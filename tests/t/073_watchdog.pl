# Signs of life: systemd hears when the agent is ready, reloads and stops, and that it lives as long as every thread does. A
# center that is away is no reason to start anew; a thread that is stuck is, and is told.
use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(time);
use Tms::Agent;
use Tms::Store;
use Tms::Util;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $hang = "$tmp/watchdog_hang_$$";

# systemd's end of the protocol. The name of a socket is short.
my $path = "/tmp/tms_notify_$$";
unlink $path;
my $systemd = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $path) or die "socket: $!";
my %heard;

# Takes what has come; $heard{STATE} counts.
sub listen_to_it
{
	while (IO::Select->new($systemd)->can_read(0))
	{
		$systemd->recv(my $state, 4096);
		$heard{$_}++ for split /\n/, $state;
	}
	return;
}

sub hears
{
	my ($state, $count, $test) = @_;
	my $before = do { listen_to_it(); $heard{$state} // 0 };
	return ok(poll_until(sub { listen_to_it(); ($heard{$state} // 0) >= $before + $count }, "$count x $state"), $test);
}

# A disk on which reading a photograph hangs for as long as $hang is there.
write_file("$tmp/hanging.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void hang(int fd)
{
	char link[64], name[4096];
	ssize_t len;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	len = readlink(link, name, sizeof name - 1);
	if (len < 4 || strncmp(name + len - 4, ".jpg", 4) != 0)
		return;
	while (access(getenv("TEST_HANG"), F_OK) == 0)
		usleep(20000);
}
ssize_t pread(int fd, void *to, size_t size, off_t at)
{
	ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
	hang(fd);
	return next(fd, to, size, at);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t at)
{
	ssize_t (*next)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
	hang(fd);
	return next(fd, to, size, at);
}
C
system('gcc', '-shared', '-fPIC', '-o', "$tmp/hanging.so", "$tmp/hanging.c", '-ldl') == 0 or die 'hanging.so';

my $store = Tms::Store->new('watchdog');
my $agent = Tms::Agent->new(device => 'watchdog-1', token => 'token', conninfo => 'host=127.0.0.1 port=1 dbname=x user=x',
	url => $store->url);
{
	local $ENV{NOTIFY_SOCKET} = $path;
	local $ENV{WATCHDOG_USEC} = 1_000_000;
	local $ENV{LD_PRELOAD} = "$tmp/hanging.so";
	local $ENV{TEST_HANG} = $hang;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	$agent->start;
}
ok(poll_until(sub { listen_to_it(); $heard{'READY=1'} }, 'READY=1'), 'systemd hears that it is ready');
hears('WATCHDOG=1', 3, 'and that it lives');

# --- both centers away, with a backlog for both ---
my ($code) = $agent->post(jpeg('waits', 30_000));
is($code, 201, 'a photograph is taken in while both centers are away');
ok(poll_until(sub { my $s = $agent->status; $s->{upload}{error} && $s->{register}{error} }, 'both errors'),
	'both are known to be away');
# More signs than would do for the time after which a silent thread is stuck.
hears('WATCHDOG=1', 20, 'it goes on giving signs of life');
unlike(read_file($agent->{log}), qr/event=(thread_stuck|no_progress)/, 'and tells no more than that they are away');

# --- a thread that hangs in the disk ---
write_file($hang, '');
$store->start;
ok(poll_until(sub { listen_to_it(); read_file($agent->{log}) =~ /level=error event=thread_stuck thread=uploader silent_seconds=\d/ },
		'thread_stuck', 120),
	'a thread that hangs is told');
listen_to_it();
my $signs = $heard{'WATCHDOG=1'};
my $until = time() + 3;
poll_until(sub { listen_to_it(); time() > $until }, 'three watchdog times');
cmp_ok($heard{'WATCHDOG=1'} - $signs, '<=', 1, 'and systemd hears nothing any more');
my $status_at = sub { (read_file("$agent->{dir}/data/status.json") =~ /"at":"([^"]+)"/)[0] };
my $written = $status_at->();
ok(poll_until(sub { $status_at->() ne $written }, 'status.json'), 'the status file is kept up to date all the same');
like($agent->status->{parts}{image_center}{error} // '', qr/./, 'the status shows it');
($code) = $agent->post(jpeg('meanwhile', 30_000));
is($code, 201, 'intake goes on');
unlink $hang;
ok(poll_until(sub { listen_to_it(); read_file($agent->{log}) =~ /event=thread_alive thread=uploader/ }, 'thread_alive'),
	'when it goes on by itself, that is told too');
hears('WATCHDOG=1', 3, 'and the signs of life are back');
ok(poll_until(sub { $agent->status->{upload}{backlog} == 0 }, 'backlog 0'), 'all are uploaded');

# --- a backlog that stands still, with no error that explains it: told after ten minutes ---
if ($ENV{TMS_LONG})
{
	write_file($hang, '');
	is(($agent->post(jpeg('stands still', 30_000)))[0], 201, 'a photograph is taken in');
	ok(poll_until(
			sub {
				listen_to_it();
				read_file($agent->{log}) =~ /level=error event=no_progress part=image_center backlog=1 seconds=6\d\d /;
			},
			'no_progress', 900),
		'a backlog that stands still is told');
	like($agent->status->{upload}{error}, qr/^no progress for 6\d\d seconds, and no error explains it$/, 'and shown');
	is(read_file($agent->{log}) =~ /event=no_progress part=path_center/, '', 'the path center is away, which explains it');
	unlink $hang;
	ok(poll_until(sub { listen_to_it(); read_file($agent->{log}) =~ /event=no_progress_over part=image_center/ }, 'progress'),
		'when it goes on, that is told');
	ok(poll_until(sub { my $u = $agent->status->{upload}; $u->{backlog} == 0 && !defined $u->{error} }, 'all well'),
		'and the error is gone');
}

# --- reload and end ---
kill 'HUP', $agent->{pid};
ok(poll_until(sub { listen_to_it(); $heard{'RELOADING=1'} && ($heard{'READY=1'} // 0) == 2 }, 'reloaded'),
	'a reload is announced, and its end');
is($agent->stop, 0, 'TERM ends it');
listen_to_it();
is($heard{'STOPPING=1'}, 1, 'its end is announced');
unlink $path;

done_testing();
