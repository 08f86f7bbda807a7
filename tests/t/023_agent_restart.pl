# The agent as a process: clean stop, going on where it was, one agent a folder, reload, systemd's protocol.
use strict;
use warnings;

use IO::Socket::UNIX;
use Socket;
use Test::More;
use Tms::Agent;
use Tms::Util;

my $agent = Tms::Agent->new(
	device => 'restart-1',
	token => 'first token',
	conninfo => 'host=127.0.0.1 port=1 dbname=x user=x connect_timeout=1',
	url => 'http://127.0.0.1:1/captures');

# How often a pattern stands in the log.
sub logged
{
	my ($pattern) = @_;
	return scalar(() = read_file($agent->{log}) =~ /$pattern/g);
}

# --- stop and start: it goes on where it was ---
$agent->start;
my %taken;
for (1 .. 5)
{
	my $bytes = jpeg("capture $_", 20_000);
	my ($code, $answer) = $agent->post($bytes);
	is("$code $answer->{seq}", "201 $_", "capture $_");
	$taken{ $answer->{path} } = $bytes;
}
my $before = $agent->status;
my ($exit, $seconds) = $agent->stop;
is($exit, 0, 'TERM: exit code 0');
cmp_ok($seconds, '<', $ENV{TMS_SLOW} // 3, 'at once, though both centers are away');
is(logged(qr/event=stopped status=ok\n\z/), 1, 'and the log ends with it');

$agent->start;
my $after = $agent->status;
is($after->{cached}, 5, 'after a restart the cache is as it was');
is($after->{ledgers}[0]{ledger}, $before->{ledgers}[0]{ledger}, 'and the ledger');
for my $path (sort keys %taken)
{
	is(http('GET', $agent->signed_url($path))->{content}, $taken{$path}, "$path is served");
}
is(($agent->post(jpeg('capture 6')))[1]{seq}, 6, 'the next seq follows');

# --- INT does the same ---
kill 'INT', $agent->{pid};
waitpid(delete $agent->{pid}, 0);
is($?, 0, 'INT: exit code 0');

# --- killed: the folder is free again, and nothing is lost ---
$agent->start->kill9;
$agent->start;
is(($agent->post(jpeg('capture 7')))[1]{seq}, 7, 'after a kill the next seq follows');

# --- one agent a folder ---
my $second = Tms::Agent->new(dir => $agent->{dir}, device => 'restart-1', token => 'first token',
	conninfo => 'host=127.0.0.1 port=1', url => 'http://127.0.0.1:1/captures');
my ($code, $out, $err) = $second->command('run');
is($code, 1, 'a second agent on the same folder does not start');
like($err, qr/error="another agent \(process $agent->{pid}\) is running on this folder"/, 'and says which one is in the way');
is(($agent->post(jpeg('capture 8')))[1]{seq}, 8, 'the first one goes on');
$agent->write_config;

# --- HUP takes up a new configuration ---
my ($path) = sort keys %taken;
my $old_url = $agent->signed_url($path);
is(http('GET', $old_url)->{status}, 200, 'a URL signed with the first token');
write_file("$agent->{dir}/token", "second token\n");
$agent->{token} = 'second token';
$agent->{cache_port} = $agent->{sections}{cache}{listen} = free_port();
$agent->{sections}{cache}{listen} = "127.0.0.1:$agent->{cache_port}";
$agent->write_config;
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/event=reloaded /) == 1 }, 'the reload'), 'HUP: reloaded');
is(http('GET', $agent->signed_url($path))->{content}, $taken{$path}, 'with the new token at the new address');
(my $stale = $old_url) =~ s/:\d+/:$agent->{cache_port}/;
is(http('GET', $stale)->{status}, 403, 'the old token is nothing any more');
is(($agent->post(jpeg('capture 9')))[1]{seq}, 9, 'the same ledger goes on');

# --- HUP with mistakes keeps the old one ---
my $good = read_file($agent->{config});
write_file($agent->{config}, "${good}batch = none\n");
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/event=reload error="configuration has mistakes" kept=old/) == 1 }, 'a refusal'),
	'HUP with mistakes is refused');
is(($agent->post(jpeg('capture 10')))[1]{seq}, 10, 'and the old configuration goes on');

# --- as does one whose services do not start: the port belongs to another program ---
my $taken_port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1);
(my $blocked = $good) =~ s/listen = 127\.0\.0\.1:$agent->{cache_port}/'listen = 127.0.0.1:' . $taken_port->sockport/e;
isnt($blocked, $good, 'another cache listener');
write_file($agent->{config}, $blocked);
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/services do not start with the new configuration" kept=old/) == 1 }, 'a fallback'),
	'HUP with a port that is taken');
like(read_file($agent->{log}), qr/event=listen key=cache\.listen address="127\.0\.0\.1:\d+" error="Address already in use"/, 'says which');
wait_for_port($agent->{intake_port});
is(($agent->post(jpeg('capture 11')))[1]{seq}, 11, 'and the old configuration goes on');
is(http('GET', $agent->signed_url($path))->{content}, $taken{$path}, 'on the old port');

# --- a TLS key that is none is no reason to take no photographs ---
write_file("$agent->{dir}/no_key.pem", "no key\n");
write_file($agent->{config}, $good . "[cache]\ntls_cert = $agent->{dir}/no_key.pem\ntls_key = $agent->{dir}/no_key.pem\n");
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/event=reloaded /) == 2 }, 'the reload'), 'HUP with a TLS key that is none');
is(($agent->post(jpeg('capture 12')))[1]{seq}, 12, 'intake goes on');
like($agent->status->{parts}{cache_server}{error}, qr/tls_cert and tls_key will not do/, 'the status says what is wrong');
write_file($agent->{config}, $good);
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/event=reloaded /) == 3 }, 'the reload'), 'and HUP without it');
is(http('GET', $agent->signed_url($path))->{content}, $taken{$path}, 'gives the photographs out again');

# --- what belongs to the ledger cannot change ---
(my $other = $good) =~ s/device = restart-1/device = restart-2/;
write_file($agent->{config}, $other);
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged(qr/event=reload key=agent\.device error="changed: needs a restart" kept=old/) == 1 }, 'a refusal'),
	'HUP with another device is refused');
write_file($agent->{config}, $good);
is(($agent->stop)[0], 0, 'and it ends as usual');

# --- a port that is taken at start ---
write_file($agent->{config}, $blocked);
($code, $out, $err) = $agent->command('run');
is($code, 1, 'a port that is taken: it does not start');
like($err, qr/error="Address already in use"/, 'and says so');
write_file($agent->{config}, $good);
close($taken_port);

# --- systemd: readiness and signs of life ---
my $socket_path = "$agent->{dir}/notify";
my $notify = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $socket_path) or die "notify: $!";
$notify->blocking(0);
my @told;
# Has the agent told this?
sub told
{
	my ($what) = @_;
	return poll_until(
		sub {
			while (defined($notify->recv(my $message, 1000)))
			{
				push @told, $message;
			}
			return grep { $_ eq $what } @told;
		},
		$what);
}
{
	local $ENV{NOTIFY_SOCKET} = $socket_path;
	local $ENV{WATCHDOG_USEC} = 300_000;
	delete local $ENV{WATCHDOG_PID};
	$agent->start;
}
ok(told('READY=1'), 'READY once it runs');
@told = ();
ok(told('WATCHDOG=1'), 'signs of life');
kill 'HUP', $agent->{pid};
ok(told('RELOADING=1') && told('READY=1'), 'RELOADING and READY at HUP');
is(($agent->stop)[0], 0, 'stopped');
ok(told('STOPPING=1'), 'STOPPING at the end');

done_testing();
