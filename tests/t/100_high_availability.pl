# Two path centers, one a streaming replica of the other: queries for images on the replica, its promotion while it is far
# behind and four agents are under load, two of them through a pgbouncer before each, the old primary that comes back, fenced and
# not. In the end every acknowledged capture has exactly one row.
use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Ledger;
use Tms::Pool;
use Tms::Store;
use Tms::Util;

# How many captures the replica lacks when it is promoted.
my $behind = $ENV{TMS_LONG} ? 10_000 : 300;
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $conf = "listen_addresses = '127.0.0.1'\nwal_keep_size = '1GB'\n";

my $old = Tms::Cluster->start_new('old', preload => 1, streaming => 1, conf => $conf);
$old->add_agent_role;
my $store = Tms::Store->new('ha')->start;
$old->add_server($store->url);
$old->backup('copy');
my $new = Tms::Cluster->new('new');
$new->init_from_backup($old, 'copy', has_streaming => 1);
$new->start;

my %pool = map { $_->name => Tms::Pool->new($_)->start } $old, $new;
sub conninfo { return sprintf('host=127.0.0.1,127.0.0.1 port=%d,%d dbname=postgres user=tms_agent target_session_attrs=read-write', @_); }
my $direct = conninfo($old->port, $new->port);
my $pooled = conninfo($pool{old}{port}, $pool{new}{port});
my @agents = map {
	my $device = "ha-$_";
	my $agent = Tms::Agent->new(device => $device, token => $old->add_device($device, 'http://127.0.0.1:1'), conninfo => $_ % 2 ? $direct : $pooled,
		url => $store->url, extra => { path_center => { interval => '100ms', heartbeat => '300ms' } });
	$old->sql("UPDATE tms.device SET base_url = '@{[ $agent->base_url ]}' WHERE code = '$device'");
	$agent->start;
} 1 .. 4;

# --- a load: one sender for each agent, who sends again what was not answered ---
my (%sender, $sent);

sub send_one
{
	my ($agent, $number) = @_;
	my $photograph = jpeg("$agent->{device} $number");
	while (1)
	{
		my $answer = http('POST', $agent->intake_url . '/v1/captures?plate=HA', content => $photograph,
			headers => { 'Content-Type' => 'image/jpeg', 'Idempotency-Key' => $number });
		if ($answer->{status} == 201)
		{
			open(my $list, '>>', "$tmp/acknowledged_$agent->{device}") or die "acknowledged: $!";
			print $list sha256_hex($photograph), ' ', $answer->{content} =~ /"seq":(\d+)/, "\n";
			close($list);
			return;
		}
		select(undef, undef, undef, 0.05);
	}
}

# Everybody sends $count captures; with 0 until load_end().
sub load_begin
{
	my ($count) = @_;
	$sent++;
	for my $agent (@agents)
	{
		my $pid = fork() // die "fork: $!";
		if ($pid == 0)
		{
			my $ended = 0;
			$SIG{TERM} = sub { $ended = 1 };
			for (my $number = 1; !$ended && ($count == 0 || $number <= $count); $number++)
			{
				send_one($agent, "$sent-$number");
				select(undef, undef, undef, 0.02) unless $ENV{TMS_LONG};
			}
			POSIX::_exit(0);
		}
		$sender{$pid} = 1;
	}
	return;
}

sub load_end
{
	my ($signal) = @_;
	for my $pid (keys %sender)
	{
		kill $signal, $pid if $signal;
		waitpid($pid, 0);
	}
	%sender = ();
	return;
}

sub load { my ($count) = @_; load_begin($count); load_end(); return; }

# What was acknowledged, and what rows there are: lines "device digest seq".
sub acknowledged
{
	return join("\n", sort map { my $device = $_->{device}; map { "$device $_" } split /\n/, read_file("$tmp/acknowledged_$device") } @agents);
}

sub rows
{
	my ($pc) = @_;
	return join("\n", sort split /\n/, $pc->sql(
		"SELECT code || ' ' || encode(sha256, 'hex') || ' ' || tms.capture_seq(capture_id) FROM tms.capture JOIN tms.device USING (device_id)"));
}

sub row_count { my ($pc) = @_; return $pc->sql('SELECT count(*) FROM tms.capture'); }

# Every acknowledged capture has one row, under the seq that was told.
sub whole
{
	my ($pc, $name) = @_;
	my $want = acknowledged();
	my $count = () = $want =~ /^/gm;
	my $backlog = sub { my $status = $_[0]->status; return $status ? $status->{register}{backlog} + $status->{upload}{backlog} : -1 };
	poll_until(sub { row_count($pc) >= $count && !grep { $backlog->($_) } @agents }, 'empty backlogs', 600);
	return ok(rows($pc) eq $want, "$name: each of $count acknowledged captures has exactly one row");
}

sub logged { my ($pattern) = @_; return scalar(grep { read_file($_->{log}) =~ $pattern } @agents); }

# Ends the agents' connections.
sub cut
{
	my ($pc) = @_;
	my $pids = $pc->sql("SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE usename = 'tms_agent'");
	$pc->sql("SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[$pids]) AS pid");
	$pc->wait_for_sql("SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids)", 0);
	$pool{ $pc->name }->stop;
	$pool{ $pc->name }->start;
	return;
}

# --- the replica answers queries for images ---
load(15);
whole($old, 'before anything happens');
my $images = "SELECT count(*), bool_and(sha256(image) = sha256), string_agg(DISTINCT image_source, '+') FROM capture_image";
ok($old->wait_for_sql('SELECT bool_and(uploaded_seq = 15) FROM tms.ledger', 't'), 'the watermarks say that all is uploaded');
$old->wait_for_catchup($new, 'replay', $old->lsn('flush'));
is($new->sql('SELECT pg_is_in_recovery(), count(*) FROM tms.capture'), 't|60', 'the replica has the rows');
is($new->sql($images), '60|t|image_center', 'and answers with images');
is($new->sql('SELECT count(*) FROM tms.capture WHERE sha256(tms.image(capture_id)) = sha256'), 60, 'tms.image');
is($new->sql('SELECT count(*) FROM tms.images(ARRAY(SELECT capture_id FROM tms.capture)) JOIN tms.capture USING (capture_id)
		WHERE sha256(image) = sha256'), 60, 'tms.images');
my ($digest, $url) = split /\|/, $new->sql("SELECT encode(sha256, 'hex'), tms.image_url(capture_id) FROM tms.capture LIMIT 1");
is(sha256_hex(http('GET', $url)->{content}), $digest, 'tms.image_url');
is($new->sql("SELECT images FROM tms.stat_images WHERE source = 'image_center'"), 180, 'tms.stat_images counts what the replica fetched');
is($new->sql("SELECT sum(captures), sum(in_image_center) FROM tms.verify_images(now() - interval '1 day', now() + interval '1 day')"), '60|60', 'tms.verify_images');
$store->stop;
is($new->sql($images), '60|t|front_end', 'without the image center front ends serve the replica, too');
$url = $new->sql("SELECT tms.image_url(capture_id) FROM tms.capture WHERE encode(sha256, 'hex') = '$digest'");
like($url, qr{/v1/images/}, 'and tms.image_url names them');
is(sha256_hex(http('GET', $url)->{content}), $digest, 'with a signature that holds');
$store->start;
my $call = Tms::Ledger->new(device => 'ha-1', token => $agents[0]{token}, ledger => '6f9619ff-8b86-4011-b42d-00c04fc964ff')->call_sql(1, 1);
my %writes = (
	'tms.ingest' => $call,
	'tms.register_device' => "SELECT tms.register_device('x', 'http://127.0.0.1:1')",
	'tms.request_upload' => "SELECT tms.request_upload(NULL, '2026-01-01', '2026-01-02')",
);
for my $function (sort keys %writes)
{
	my (undef, undef, $error) = $new->psql('postgres', "\\set VERBOSITY sqlstate\n$writes{$function}");
	like($error, qr/ERROR:  25006/, "but it writes nothing: $function");
}

# --- it loses its primary, is far behind, and is promoted under load ---
$new->sql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
ok($old->wait_for_sql('SELECT count(*) FROM pg_stat_replication', 0), 'the replica hears no more');
# Two front ends clean at once, so that what the replica lacks is in no cache any more.
$old->sql("UPDATE tms.device SET cleaning_period = '1 second' WHERE code IN ('ha-1', 'ha-2')");
load_begin(0);
ok(poll_until(sub { row_count($old) >= 60 + $behind }, "$behind captures more", 900), "$behind captures are registered that it lacks");
ok(poll_until(sub { my $status = $agents[0]->status; $status && $status->{cleaning}{cleaned} > 30 }, 'cleaned ones', 120),
	'some of which have left their cache');
is(row_count($new), 60, 'it has not heard of them');
my $lost = row_count($old) - 60;
$old->stop('immediate');
$agents[3]->kill9;
$new->promote;
$agents[3]->start;
ok(poll_until(sub { row_count($new) > 60 }, 'rows', 120), 'agents go on with the promoted replica');
load_end('TERM');
load(10);
whole($new, "promoted, $lost captures behind");
is(logged(qr/event=path_center_behind /), 4, 'each agent tells that the path center went back');
is($new->sql('SELECT count(*) FROM tms.device_gap'), 0, 'there is no gap');
$new->sql('SET tms.max_images = 1000000; ' . $images) =~ /^(\d+)\|(\w)\|/;
is("$1|$2", row_count($new) . '|t', 'every image is there');

# --- the old primary comes back, fenced: it answers queries and takes nothing ---
$old->append_conf('postgresql.conf', 'default_transaction_read_only = on');
$old->start;
my $stale = row_count($old);
cut($new);
load(5);
whole($new, 'beside a fenced old primary');
is(row_count($old), $stale, 'which took nothing');
is($old->sql('SELECT length(tms.image(min(capture_id))) > 0 FROM tms.capture'), 't', 'but answers');

# --- and not fenced: what it takes is not lost, once it is fenced ---
$old->append_conf('postgresql.conf', 'default_transaction_read_only = off');
$old->reload;
$old->wait_for_sql('SHOW default_transaction_read_only', 'off');
my $known = row_count($new);
cut($new);
load(5);
ok(poll_until(sub { row_count($old) > $stale }, 'rows'), 'not fenced it takes captures');
whole($old, 'all agents moved there, and brought it what it lacked');
is(row_count($new), $known, 'of which the other one knows nothing');
$old->stop;
load(5);
whole($new, 'the old primary is ended');

# --- it becomes a replica of the other one ---
my $own_conf = read_file($old->data_dir . '/postgresql.conf');
command_ok([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ], 'pg_rewind');
write_file($old->data_dir . '/postgresql.conf', $own_conf);
unlink($old->data_dir . '/postgresql.auto.conf');
$old->enable_streaming($new);
$old->start;
$new->wait_for_catchup($old, 'replay', $new->lsn('flush'));
ok(rows($old) eq acknowledged(), 'the old primary as a replica has all of it');
is($old->sql('SELECT pg_is_in_recovery()'), 't', 'and takes nothing');

is($_->stop, 0, "$_->{device} stops cleanly") for @agents;
unlike(join('', map { read_file($_->logfile) } $old, $new), qr/PANIC|terminated by signal/, 'no crash');
$_->stop for $old, $new;
done_testing();
