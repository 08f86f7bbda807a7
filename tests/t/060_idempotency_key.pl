# Idempotency-Key: a request that is sent again gets the first answer, whatever happened in between.
use strict;
use warnings;

use Test::More;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use Tms::Agent;
use Tms::Util;

my $agent = Tms::Agent->new(
	device => 'key-1', token => 'a token', conninfo => 'host=127.0.0.1 port=1 dbname=none user=nobody',
	url => 'http://127.0.0.1:1/captures');
$agent->start;
my $data = "$agent->{dir}/data";

# Posts under a key: (status, body as text, was it said to be a repetition?).
sub post_under
{
	my ($key, $bytes, $query) = @_;
	my $answer = http('POST', $agent->intake_url . '/v1/captures' . ($query // ''),
		content => $bytes, headers => { 'Content-Type' => 'image/jpeg', 'Idempotency-Key' => $key });
	return ($answer->{status}, $answer->{content}, $answer->{headers}{'idempotency-replayed'} // '');
}

sub seq_of { my ($text) = @_; return decode_json($text)->{seq}; }
sub in_ledger
{
	my ($sql) = @_;
	IPC::Run::run([ 'sqlite3', "$data/ledger.db", $sql ], '>', \my $out, '2>&1');
	chomp $out;
	return $out;
}
sub quarantined { my @files = grep { !/\.reason$/ } glob("$data/quarantine/*"); return scalar(@files); }

# --- the same request again ---
my $photo = jpeg('one', 30_000);
my ($status, $first, $replayed) = post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo, '?plate=WA56660');
is("$status $replayed", '201 ', 'the first request');
($status, my $second, $replayed) = post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo, '?plate=WA56660');
is($status, 201, 'sent again: 201');
is($second, $first, 'with the same answer to the byte');
is($replayed, 'true', 'which says that it is a repetition');
is(in_ledger('SELECT count(*) FROM capture'), '1', 'one capture');
my @files = split /\n/, `find $data/cache -name '*.jpg'`;
is(scalar(@files), 1, 'one file');
my @left = glob("$data/tmp/*");
is(scalar(@left), 0, 'nothing is left in tmp/');

# --- other keys, and none ---
($status, my $other) = post_under('another key', $photo);
is("$status " . seq_of($other), '201 2', 'the same bytes under another key are another capture');
is(($agent->post($photo))[1]{seq}, 3, 'and without a key');
($status, $other) = post_under('another key', jpeg('two'));
is($status, 422, 'other bytes under a used key: 422');
like($other, qr/Idempotency-Key/, 'that names the header');
is(quarantined(), 1, 'and keeps the bytes in quarantine');
is(seq_of((post_under('a third key', jpeg('two')))[1]), 4, 'no seq was used up');
for my $bad ('', 'x' x 256, "tab\there")
{
	(my $shown = substr($bad, 0, 10)) =~ s/[^ -~]/?/g;
	($status, $other) = post_under($bad, $photo);
	is($status, 400, "key \"$shown\", " . length($bad) . ' bytes: 400');
	like($other, qr/Idempotency-Key/, '... that names the header');
}
($status) = post_under('x' x 255, jpeg('long key'));
is($status, 201, '255 characters do');
($status) = post_under('key of rubbish', 'no photograph');
is($status, 422, 'what is no photograph');
($status) = post_under('key of rubbish', $photo);
is($status, 201, 'leaves its key unused');

# --- side by side ---
my $many = jpeg('side by side', 120_000);
pipe(my $reader, my $writer) or die "pipe: $!";
my @pids;
for (1 .. 12)
{
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		my ($code, $text) = post_under('side by side', $many);
		syswrite($writer, "$code $text\n");
		POSIX::_exit(0);
	}
	push @pids, $pid;
}
close($writer);
waitpid($_, 0) for @pids;
my %answers;
$answers{$_}++ while defined($_ = <$reader>);
is(join('', values %answers), '12', 'twelve at once: twelve times the same answer');
like((keys %answers)[0], qr/^201 /, 'which is 201');
is(in_ledger("SELECT count(*) FROM capture WHERE sha256 = x'" . sha256_hex($many) . "'"), '1', 'one capture');

# --- across kills, clocks and ledgers ---
$agent->kill9;
$agent->start;
is((post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo))[1], $first, 'the first answer after SIGKILL');
$agent->stop;
# A clock two years ahead, or back again, is no reason to forget a key: its age is counted by the steady clock.
in_ledger("UPDATE capture SET taken_at = taken_at - 63072000000000, captured_at = captured_at - 63072000000000");
$agent->start;
is((post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo))[1], $first, 'after a step of the clock');
$agent->stop;
$agent->{sections}{agent}{device} = 'key-2';
$agent->write_config;
$agent->start;
is((post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo))[1], $first, 'the first answer, also when a new ledger was begun');
my $new = decode_json((post_under('in the new ledger', $photo))[1]);
isnt($new->{ledger}, decode_json($first)->{ledger}, 'which it was');
is($new->{seq}, 1, 'and which begins at 1');

# --- expiry: older than 24 hours of the agent's running ---
$agent->stop;
my $day = 24 * 3600 * 1_000_000;
is(in_ledger("UPDATE intake_key SET at = at - $day + 60000000 WHERE key = 'http:another key'; UPDATE intake_key SET at = at - $day
	WHERE key LIKE 'http:\"8e%'; SELECT changes()"), '1', 'one key made older than a day, one nearly so');
$agent->start;
is((post_under('another key', $photo))[2], 'true', 'a key of nearly 24 hours is known');
($status, my $again, $replayed) = post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo);
is("$status $replayed", '201 ', 'one of 24 hours is not: taken as a new capture');
isnt($again, $first, 'with an answer of its own');
is((post_under('"8e03978e-40d5-43dd-bc93-6894a57f9324"', $photo))[1], $again, 'which is kept in turn');
is(in_ledger("SELECT count(*) FROM intake_key WHERE at <= (SELECT max(at) FROM intake_key) - $day"), '0', 'what has expired goes away');

is($agent->stop, 0, 'stops cleanly');
unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');

done_testing();
