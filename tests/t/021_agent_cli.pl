# The commands of tms-agent: usage, put through the listener and through the spool, status running and not, exit codes.
use strict;
use warnings;

use IPC::Run;
use JSON::PP;
use Test::More;
use Tms::Agent;
use Tms::Util;

my $nowhere = 'host=127.0.0.1 port=1 dbname=x user=x connect_timeout=1';
my $agent = Tms::Agent->new(
	device => 'cli-1',
	token => 'cli token',
	conninfo => $nowhere,
	url => 'http://127.0.0.1:1/captures');

# Runs the program with these arguments alone: (exit code, stdout, stderr).
sub program
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ $agent->{program}, @_ ], '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# --- usage ---
my ($code, $out, $err) = program('version');
is($code, 0, 'version');
like($out, qr/^tms-agent \d+\.\d+\n$/, 'prints it');
is((program('--version'))[1], $out, '--version is the same');
($code, $out, $err) = program();
is($code, 2, 'no command: exit code 2');
like($err, qr/^  check-config /m, 'and the list of commands');
is((program('help'))[0], 0, 'help');
for my $command (qw(run put status check-config version))
{
	($code, $out, $err) = program($command, '--help');
	is($code, 0, "$command --help");
	like($out, qr/^usage: tms-agent \Q$command\E/, 'prints its usage');
}
for my $wrong (
	[ ['stop'], qr/unknown command stop/ ],
	[ [ 'status', '--bogus' ], qr/cannot use option --bogus/ ],
	[ [ 'status', '--field', 'a=b' ], qr/cannot use option/ ],
	[ [ 'status', '--config' ], qr/cannot use option --config/ ],
	[ [ 'status', 'extra' ], qr/does not know what to do with extra/ ],
	[ ['put'], qr/no photograph is named/ ],
	[ [ 'put', '--field', 'novalue', 'x.jpg' ], qr/a field is NAME=VALUE, not novalue/ ],
	[ [ 'put', '--field', '=x', 'x.jpg' ], qr/a field is NAME=VALUE, not =x/ ])
{
	($code, $out, $err) = program(@{ $wrong->[0] });
	is($code, 2, "tms-agent @{$wrong->[0]}: exit code 2");
	like($err, $wrong->[1], 'and why');
}

# --- status before the first start ---
($code, $out, $err) = $agent->command('status');
is($code, 3, 'status without an agent: exit code 3');
like($out, qr/^device cli-1: the agent is not running\nnothing is known/, 'and says so');
($code, $out, $err) = $agent->command('put', __FILE__);
is($code, 3, 'put without an agent: exit code 3');
like($err, qr/021_agent_cli\.pl: 127\.0\.0\.1:\d+: Connection refused/, 'and why');

# --- put through the listener ---
$agent->start;
my %bytes = map { ($_ => jpeg("photo $_", 5000 * $_)) } 1 .. 5;
my %file = map { ($_ => write_file("$agent->{dir}/photo $_.jpg", $bytes{$_})) } 1 .. 5;
($code, $out, $err) = $agent->command('put', '--field', 'plate=WA 56660&=%', '--field', 'lane=3', $file{1});
is("$code$err", '0', 'put one photograph');
like($out, qr/^1 (\S+\.jpg) ([0-9a-f]{64})\n$/, 'prints seq, path, digest');
my ($path, $digest) = $out =~ /^1 (\S+) (\S+)$/;
is($digest, sha256_hex($bytes{1}), 'the digest is that of the bytes');
is(read_file("$agent->{dir}/data/cache/$path"), $bytes{1}, 'which are in the cache');

($code, $out, $err) = $agent->command('put', '--json', $file{2}, $file{3});
is($code, 0, 'put two, as JSON');
my @lines = map { decode_json($_) } split /\n/, $out;
is_deeply([ map { $_->{seq} } @lines ], [ 2, 3 ], 'one object a line');
is_deeply([ map { $_->{file} } @lines ], [ @file{ 2, 3 } ], 'with the file it is of');

write_file("$agent->{dir}/text.jpg", "no photograph\n");
($code, $out, $err) = $agent->command('put', "$agent->{dir}/text.jpg", $file{1}, "$agent->{dir}/absent.jpg", $agent->{dir});
is($code, 1, 'photographs that cannot be taken: exit code 1');
like($err, qr{/text\.jpg: .* \(HTTP 422\)$}m, 'what is no JPEG is refused');
like($err, qr{/absent\.jpg: No such file or directory$}m, 'what is not there');
like($err, qr{: not a file$}m, 'and a folder');
is(scalar(() = $out =~ /^\d+ /mg), 1, 'the good one among them is taken');

($code, $out, $err) = $agent->command('put', '--field', 'lane=left', $file{1});
is($code, 2, 'a field that breaks a rule: exit code 2, before anything is sent');
like($err, qr/lane/, 'and which one');

# --- status of the running agent ---
($code, $out, $err) = $agent->command('status');
is($code, 0, 'status: exit code 0');
like($out, qr/^device cli-1: running, process $agent->{pid}\n/, 'running');
like($out, qr/^image center +4 waiting, the oldest for \d+ s/m, 'uploads wait');
like($out, qr/^path center +4 waiting/m, 'records wait');
like($out, qr/^cache +4 photographs, /m, 'what is in the cache');
like($out, qr/^[0-9a-f-]{36}  active +4 +0 +0 +0$/m, 'and the ledger');
($code, $out, $err) = $agent->command('status', '--json');
my $status = decode_json($out);
is($status->{cached}, 4, 'status --json');
is($status->{process}, $agent->{pid}, 'names the process');
ok($status->{running} && $status->{asked}, 'and that it answered itself');
unlike($out, qr/cli token/, 'and no secret');

# --- a listener that wants a token ---
$agent->stop;
write_file("$agent->{dir}/intake_token", "let me in\n");
chmod 0600, "$agent->{dir}/intake_token";
$agent->{sections}{intake}{token_file} = "$agent->{dir}/intake_token";
$agent->write_config;
$agent->start;
is((http('GET', $agent->intake_url . '/v1/status'))->{status}, 401, 'without the token the listener tells nothing');
is(($agent->command('status'))[0], 0, 'status shows the token');
is(($agent->command('put', $file{1}))[0], 0, 'and so does put');
$agent->stop;

# --- status of a stopped agent ---
($code, $out, $err) = $agent->command('status');
is($code, 3, 'status of a stopped agent: exit code 3');
like($out, qr/^device cli-1: the agent is not running\nas of .* ago: what the agent saw last\n/, 'and says so');
like($out, qr/^path center +5 waiting/m, 'with what was the case at its end');
my $stopped = decode_json(($agent->command('status', '--json'))[1]);
ok(!$stopped->{running} && !$stopped->{asked}, 'as JSON too');

# --- without a listener: through the spool ---
delete $agent->{sections}{intake}{listen};
delete $agent->{sections}{intake}{token_file};
$agent->write_config;
($code, $out, $err) = $agent->command('put', '--field', 'plate=SPOOL1', $file{4}, $file{5});
is("$code$err", '0', 'put into the spool, no agent running');
my @names = $out =~ /^spooled (\S+\.jpg)$/mg;
is(scalar(@names), 2, 'prints what it is called there');
is(read_file("$agent->{dir}/spool/$names[0]"), $bytes{4}, 'the bytes are there');
(my $side = $names[0]) =~ s/jpg$/json/;
is(decode_json(read_file("$agent->{dir}/spool/$side"))->{plate}, 'SPOOL1', 'with the record beside');
{
	local $ENV{WATCHDOG_USEC} = 600_000; # it looks three times in that time, and each time writes the status file
	$agent->start(no_wait => 1);
}
ok(poll_until(sub { !glob("$agent->{dir}/spool/*") }, 'an empty spool'), 'the agent takes them');
ok( poll_until(
		sub {
			my ($c, $text) = $agent->command('status');
			return $c == 0 && $text =~ /cannot be asked: \[intake\] listen is not set/ && $text =~ /^path center +7 waiting/m;
		},
		'status by the file'),
	'status of an agent without a listener');
$agent->stop;

done_testing();
