# The registrar: every record reaches the path center exactly once, however the path center behaves meanwhile.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Pool;
use Tms::Util;

# Images have nowhere to go in this test: that must not matter.
my $no_image_center = 'http://127.0.0.1:1/captures';

my $pc = Tms::Cluster->start_new('registrar', conf => "listen_addresses = '127.0.0.1'");
my $conninfo = $pc->agent_conninfo;

sub new_agent
{
	my ($device, %path_center) = @_;
	return Tms::Agent->new(device => $device, token => $pc->add_device($device, 'http://127.0.0.1:1'),
		conninfo => $path_center{conninfo} // $conninfo, url => $no_image_center,
		extra => { path_center => \%path_center });
}

sub post_all
{
	my ($agent, $name, $count, %fields) = @_;
	my @all;
	for my $i (1 .. $count)
	{
		my ($code, $answer) = $agent->post(jpeg("$agent->{device} $name $i"), %fields);
		die "post: $code" if $code != 201;
		push @all, $answer;
	}
	return @all;
}

# Counts a device's rows, and the photographs among them.
sub count_query
{
	my ($device) = @_;
	return "SELECT count(*) || ' ' || count(DISTINCT sha256) FROM tms.capture JOIN tms.device USING (device_id)"
	  . " WHERE code = '$device'";
}

sub registered { my ($device) = @_; return $pc->sql(count_query($device)); }

# So many photographs of a device have one row each.
sub registered_is
{
	my ($device, $count, $limit) = @_;
	return $pc->wait_for_sql(count_query($device), "$count $count", $limit);
}

sub logged { my ($agent, $pattern) = @_; return scalar(() = read_file($agent->{log}) =~ /$pattern/g); }

sub log_has
{
	my ($agent, $pattern, $name) = @_;
	return ok(poll_until(sub { logged($agent, $pattern) }, "the log: $pattern"), $name);
}

sub stops_at_once
{
	my ($agent, $name) = @_;
	my ($exit, $seconds) = $agent->stop;
	is($exit, 0, "$name: TERM ends it");
	cmp_ok($seconds, '<', $ENV{TMS_SLOW} // 2, "$name: at once");
	return;
}

# --- a record arrives as it was given ---
my $agent = new_agent('reg-1')->start;
my ($answer) = post_all($agent, 'whole', 1,
	captured_at => '2026-03-01T10:20:30.123456+08:00', plate => "\xe4\xba\xac\x41\x31\x32\x33\x34\x35", lane => 3,
	plate_class => 'small', plate_color => 'blue', direction => 'north', speed_kmh => 81, violation_code => '1345',
	event_id => '00112233-4455-6677-8899-aabbccddeeff', gate => 'left "one"');
ok(registered_is('reg-1', 1), 'a capture is registered');
is($pc->sql(q{SELECT captured_at AT TIME ZONE 'UTC', encode(convert_to(plate, 'UTF8'), 'hex'), lane, plate_class,
		plate_color, direction, speed_kmh, violation_code, event_id, attributes, path, image_bytes, encode(sha256, 'hex'),
		tms.capture_seq(capture_id) FROM tms.capture}),
	join('|', '2026-03-01 02:20:30.123456', 'e4baac4131323334' . '35', 3, 'small', 'blue', 'north', 81, '1345',
		'00112233-4455-6677-8899-aabbccddeeff', '{"gate": "left \"one\""}', $answer->{path},
		length(jpeg('reg-1 whole 1')), $answer->{sha256}, 1),
	'with every field as it was given');
ok($pc->wait_for_sql("SELECT status->>'cached' FROM tms.device_status", '1'),
	'a heartbeat tells how the agent is doing');
log_has($agent, qr/event=cleaning_period seconds=604800 /, 'the cleaning period is learned');
stops_at_once($agent, 'idle');

# --- batches: what waits goes with the interval, a violation at once ---
$agent->{sections}{path_center}{interval} = '3600s';
$agent->{sections}{path_center}{heartbeat} = '3600s';
$agent->{sections}{path_center}{batch} = 10;
$agent->write_config;
$agent->start;
ok(poll_until(sub { logged($agent, qr/event=path_center_connected/) == 2 }, 'a connection'), 'connected again');
post_all($agent, 'waiting', 9);
is(registered('reg-1'), '1 1', 'fewer than a batch wait');
post_all($agent, 'violation', 1, violation_code => '1345');
ok(registered_is('reg-1', 11), 'a violation goes at once, in its place in the order');
post_all($agent, 'full batch', 25);
ok(poll_until(sub { (split / /, registered('reg-1'))[0] >= 21 }, 'a batch'), 'a full batch goes at once');
stops_at_once($agent, 'some wait');
$agent->{sections}{path_center}{interval} = '100ms';
$agent->{sections}{path_center}{heartbeat} = '500ms';
$agent->write_config;
$agent->start;
ok(registered_is('reg-1', 36), 'after a restart the rest goes');

# --- away and back ---
$pc->stop('immediate');
post_all($agent, 'away', 30);
log_has($agent, qr/event=path_center_failing sqlstate=none /, 'the path center is away: told');
is($agent->status->{register}{backlog}, 30, 'what is taken in meanwhile waits');
like($agent->status->{register}{error}, qr/\S/, 'the status says why');
$pc->start;
ok(registered_is('reg-1', 66), 'the path center is back: registered, once each');
log_has($agent, qr/event=path_center_back /, 'and told');
is($agent->status->{register}{error}, undef, 'no error is left');

# --- restarted again and again in the middle of batches ---
stops_at_once($agent, 'before the many');
$agent->{sections}{path_center}{conninfo} = 'host=127.0.0.1 port=1 user=x';
$agent->write_config;
$agent->start;
post_all($agent, 'many', 400);
stops_at_once($agent, 'path center refuses connections');
$agent->{sections}{path_center}{conninfo} = $conninfo;
$agent->{sections}{path_center}{batch} = 3;
$agent->write_config;
$agent->start;
for my $count (100, 200, 300)
{
	poll_until(sub { $pc->sql('SELECT count(*) FROM tms.capture') >= $count }, "$count registered");
	$pc->stop('immediate');
	$pc->start;
}
ok(registered_is('reg-1', 466, 60), 'restarts in the middle of batches: every capture once');

# --- a server that hangs, and one that nobody reaches ---
my @processes = ($pc->{_pid}, split ' ', `ps -o pid= --ppid $pc->{_pid}`);
kill 'STOP', @processes;
post_all($agent, 'hanging', 3);
stops_at_once($agent, 'path center hangs in a call');
$agent->start;
post_all($agent, 'hanging again', 3);
stops_at_once($agent, 'path center hangs while connecting');
kill 'CONT', @processes;
{
	my $deaf = deaf_listener();
	my $port = $deaf->{port};
	$agent->{sections}{path_center}{conninfo} = "host=127.0.0.1 port=$port user=x dbname=x password=pass-w0rd-s3cret";
	$agent->write_config;
	$agent->start;
	ok(poll_until(sub { connections_to($port, 'syn_sent') }, 'a SYN without an answer'), 'packets vanish');
	stops_at_once($agent, 'packets vanish');

	# The second place is tried when the first does not let it in.
	my $good_port = $pc->port;
	my $good_host = $pc->host;
	$agent->{sections}{path_center}{conninfo} =
	  "host=127.0.0.1,$good_host port=$port,$good_port user=tms_agent dbname=postgres connect_timeout=1";
	$agent->write_config;
	$agent->start;
	ok(registered_is('reg-1', 472), 'of two hosts the one that answers is used');
	stops_at_once($agent, 'two hosts');
}
$agent->{sections}{path_center}{conninfo} = 'host=path-center.invalid user=x dbname=x';
$agent->write_config;
$agent->start;
log_has($agent, qr/event=path_center_failing .* looked up/, 'a host that has no address: told');
stops_at_once($agent, 'no address');

# --- a path center that was restored to an earlier state gets the rest again ---
$agent->{sections}{path_center}{conninfo} = $conninfo;
$agent->{sections}{path_center}{batch} = 50;
$agent->write_config;
$pc->sql('DELETE FROM tms.capture WHERE tms.capture_seq(capture_id) > 123;'
	  . 'UPDATE tms.ledger SET accepted_seq = 123, accepted_sha256 = NULL, report_no = 1');
is(registered('reg-1'), '123 123', 'the path center is set back');
$agent->start;
ok(registered_is('reg-1', 472), 'and gets what it has lost');
log_has($agent, qr/event=path_center_behind .*confirmed=472 now=123/, 'which is told');
$pc->sql('DELETE FROM tms.capture; DELETE FROM tms.ledger_day; DELETE FROM tms.ledger');
ok(registered_is('reg-1', 472), 'the same from nothing, while the agent runs');
is($pc->sql('SELECT count(*) FROM tms.device_gap'), 0, 'no gap was declared');

# --- cleaning periods: the last good one holds ---
sub set_period
{
	my ($value) = @_;
	$pc->sql("UPDATE tms.device SET cleaning_period = $value WHERE code = 'reg-1'");
	return;
}
set_period("'3 days'");
log_has($agent, qr/event=cleaning_period seconds=259200 before_seconds=604800/, 'a new cleaning period is taken');
$pc->sql('ALTER TABLE tms.device DROP CONSTRAINT device_cleaning_period');
my $told = 0;
for my $value ("'0'", "'-1 day'", "'0.9 seconds'", "'200 years'")
{
	set_period($value);
	$told++;
	ok(poll_until(sub { logged($agent, qr/event=cleaning_period_refused keeps_seconds=259200/) == $told }, 'a refusal'),
		"$value is refused, the last good one holds");
	set_period("'3 days'");
	poll_until(sub { !defined $agent->status->{register}{error} }, 'the good period');
}
is(logged($agent, qr/event=cleaning_period seconds=/), 2, 'and none of them was taken');

# --- the token ---
my $old = $agent->{token};
my $new = $pc->sql("SELECT tms.rotate_token('reg-1')");
post_all($agent, 'wrong token', 2);
log_has($agent, qr/event=path_center_failing sqlstate=28000 /, 'a wrong token: told');
is(registered('reg-1'), '472 472', 'and nothing registered');
write_file("$agent->{dir}/token", "$new\n");
kill 'HUP', $agent->{pid};
ok(registered_is('reg-1', 474), 'with the new token it goes on');
$pc->sql("UPDATE tms.device SET enabled = false WHERE code = 'reg-1'");
post_all($agent, 'disabled', 2);
log_has($agent, qr/event=path_center_failing sqlstate=28000 .*disabled/, 'a disabled device: told');
$pc->sql("UPDATE tms.device SET enabled = true WHERE code = 'reg-1'");
ok(registered_is('reg-1', 476), 'enabled again it goes on');

# --- a record that is gone from the ledger is a gap; the rest goes on ---
stops_at_once($agent, 'before the damage');
$pc->stop;
$agent->start;
post_all($agent, 'some to be lost', 5);
stops_at_once($agent, 'path center stopped');
is(system('sqlite3', "$agent->{dir}/data/ledger.db", 'DELETE FROM capture WHERE seq IN (478, 479)'),
	0, 'two records are lost');
$pc->start;
$agent->start;
ok(registered_is('reg-1', 479), 'the others are registered');
is($pc->sql("SELECT from_seq, to_seq FROM tms.declared_gap"), '478|479', 'the lost ones are a declared gap');
stops_at_once($agent, 'after the damage');

# --- a trigger that refuses a record holds its ledger up, and says so; other devices go on ---
$pc->sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN IF NEW.plate = 'REFUSED' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON tms.capture FOR EACH ROW EXECUTE FUNCTION refuse()});
$agent->start;
my $other = new_agent('reg-2')->start;
post_all($agent, 'before', 4);
post_all($agent, 'refused', 1, plate => 'REFUSED');
post_all($agent, 'after', 4);
post_all($other, 'other', 5);
log_has($agent, qr/event=ledger_stuck .*reason="not this one"/, 'a record that a trigger refuses: told');
ok(registered_is('reg-1', 483), 'those before it are registered, in smaller and smaller batches');
ok(registered_is('reg-2', 5), 'other devices go on');
$pc->sql('DROP TRIGGER refuse ON tms.capture');
ok(registered_is('reg-1', 488), 'the rest follows once the trigger is gone');
stops_at_once($_, 'after the trigger') for $agent, $other;

# --- what the database's encoding cannot hold: the record goes with its identity alone, the rest is whole ---
$pc->sql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$pc->sql('CREATE EXTENSION tms; SELECT tms.create_capture_table()', dbname => 'latin');
my $token = $pc->sql("SELECT tms.register_device('reg-3', 'http://127.0.0.1:1')", dbname => 'latin');
$pc->sql(q{GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tms TO tms_agent}, dbname => 'latin');
(my $latin = $conninfo) =~ s/dbname=postgres/dbname=latin/;
my $third = Tms::Agent->new(device => 'reg-3', token => $token, conninfo => $latin, url => $no_image_center,
	extra => { path_center => { interval => '2s' } })->start;
post_all($third, 'latin', 5, plate => 'WA56660');
my ($strange) = post_all($third, 'chinese', 1, plate => "\xe4\xba\xac\x41", lane => 2);
post_all($third, 'latin again', 5, plate => 'WA56660');
ok(poll_until(sub { $pc->sql('SELECT count(*) FROM tms.capture', dbname => 'latin') eq '11' }, '11 rows'),
	'an encoding that lacks a character does not stop the rest');
is($pc->sql("SELECT count(*) FROM tms.capture WHERE plate = 'WA56660'", dbname => 'latin'), 10, 'which is whole');
is($pc->sql("SELECT encode(sha256, 'hex'), path, plate, lane, attributes FROM tms.capture WHERE plate IS NULL",
		dbname => 'latin'),
	"$strange->{sha256}|$strange->{path}|||{\"rejected\": {\"record\": \"22P05\"}}", 'that one has its identity');
log_has($third, qr/level=error event=record_bare .*first_seq=6 rows=1 sqlstate=22P05/, 'and is told');
stops_at_once($third, 'encoding');

# --- through pgbouncer in transaction mode ---
my $pool = Tms::Pool->new($pc)->start;
my @through = map { new_agent("bounced-$_", conninfo => $pool->conninfo, interval => '100ms')->start } 1 .. 4;
for my $round (1 .. 3)
{
	post_all($_, "round $round", 10) for @through;
}
ok(registered_is("bounced-$_", 30), "agent $_ of 4 through pgbouncer with two connections") for 1 .. 4;
stops_at_once($_, 'behind pgbouncer') for @through;
$pool->stop;

# --- secrets ---
for my $one ($agent, $other, $third, @through)
{
	is(logged($one, qr/\Q$one->{token}\E|\Q$new\E|pass-w0rd-s3cret/), 0, "no secret in the log of $one->{device}");
}
my $server_log = read_file($pc->logfile);
unlike($server_log, qr/\Q$old\E|\Q$new\E/, 'no token in the log of the path center');

$pc->stop;
done_testing();
