# Circuit breakers over several sessions: one probe for all of them, given back by whatever ends its session; over a cursor that
# pauses; without preloading; on a standby.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Stub;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('breaker', preload => 1, streaming => 1, conf => "restart_after_crash = on\nmax_connections = 40");
my $gate = Tms::FrontEnd->new($cluster, 'gate');
my $n = 20;
$gate->add(jpeg("photograph $_") . 'x' x 1000, captured_at => "now() - interval '$_ seconds'") for 1 .. $n;

# An image center that does what the file says: fail, hang (until it says something else), or deliver.
my $mode_file = "$PostgreSQL::Test::Utils::tmp_check/breaker_mode";
sub mode { write_file("$mode_file.new", $_[0]); rename("$mode_file.new", $mode_file); return; }
mode('fail');
my $store = Tms::Stub->start(
	sub {
		my ($request) = @_;
		my ($path) = $request->{path} =~ m{^/captures/gate/(.*)};
		while (1)
		{
			my $mode = read_file($mode_file);
			return [ 500, {}, '' ] if $mode eq 'fail';
			return [ 200, {}, read_file("$gate->{dir}/$path") ] if $mode eq 'deliver';
			select(undef, undef, undef, 0.02);
		}
	});
$cluster->add_server($store->url . '/captures', first_byte_timeout => '60s', timeout => '60s', breaker_cooldown => '1h', per_device_concurrency => 16);

my $query = 'SELECT count(*) FILTER (WHERE sha256(image) = sha256), count(*) FROM capture_image';
my $state = "SELECT state FROM tms.stat_breaker WHERE source = 'image_center'";
sub cooldown { $cluster->sql("ALTER SERVER image_center OPTIONS (SET breaker_cooldown '$_[0]')"); return; }

# A session with a query under way.
my @sessions;
sub session
{
	my ($sql) = @_;
	my $self = { out => '', err => '' };
	$self->{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $cluster->connstr('postgres'), '-c', $sql ],
		'>', \$self->{out}, '2>', \$self->{err});
	return $self;
}
sub outcome { my ($session) = @_; IPC::Run::finish($session->{handle}); return $session->{out}; }
my $pid_of = "FROM pg_stat_activity WHERE query LIKE '%capture_image%' AND pid <> pg_backend_pid() AND state <> 'idle'";

# Opens the breaker, then lets the first session that asks be the probe, which hangs.
sub open_breaker
{
	cooldown('1h');
	mode('fail');
	$cluster->sql("SELECT tms.breaker_reset()");
	$cluster->sql($query);
	is($cluster->sql($state), 'open', 'the center fails: open');
	mode('hang');
	return;
}
sub start_probe
{
	my $before = $store->requests;
	cooldown('1ms');
	my $holder = session($query);
	ok(poll_until(sub { $store->requests == $before + 1 }, 'the probe'), 'after the cooldown one request is sent');
	is($cluster->sql($state), 'half-open', 'half-open');
	return $holder;
}

# --- eight sessions, one probe ---
open_breaker();
my $before = $store->requests;
cooldown('1ms');
my @eight = map { session($query) } 1 .. 8;
sub ended { return grep { $_->{handle}->pump_nb if $_->{handle}->pumpable; $_->{out} ne '' } @_; }
ok(poll_until(sub { ended(@eight) == 7 }, 'seven sessions'), 'seven of eight sessions end while the probe hangs');
is($store->requests - $before, 1, 'which is the only request of all of them');
is($cluster->sql($query), "$n|$n", 'others get their images meanwhile');
is($cluster->sql("SELECT DISTINCT image_error FROM capture_image"), 'image_center: circuit breaker open (HTTP 500)', 'and the reason');
is($store->requests - $before, 1, 'without a request');
mode('deliver');
is(join(' ', map { outcome($_) } @eight), join(' ', ("$n|$n\n") x 8), 'all eight got all images');
is($cluster->sql($state), '', 'the probe succeeded: closed');
is($cluster->sql("SELECT DISTINCT image_source FROM capture_image"), 'image_center', 'the center serves again');
like(read_file($cluster->logfile), qr/LOG:  circuit breaker of image_center http:\/\/127\.0\.0\.1:\d+ closed again/, 'which is logged');

# --- a probe that fails ---
open_breaker();
my $holder = start_probe();
cooldown('1h');
mode('fail');
is(outcome($holder), "$n|$n\n", 'a probe that fails costs no image');
is($cluster->sql($state), 'open', 'and opens the breaker for another cooldown');

# --- whatever ends the probe's session gives it back ---
for my $end (
	[ 'pg_cancel_backend', qr/canceling statement/ ],
	[ 'pg_terminate_backend', qr/terminating connection/ ])
{
	my ($function, $error) = @$end;
	open_breaker();
	$holder = start_probe();
	cooldown('1h');
	is($cluster->sql("SELECT $function(pid) $pid_of"), 't', $function);
	outcome($holder);
	like($holder->{err}, $error, "$function ends it");
	is($cluster->sql($state), 'open', 'the breaker is open, not half-open');
	$before = $store->requests;
	is($cluster->sql($query), "$n|$n", 'the next query');
	is($store->requests, $before, 'does not wait in vain as well: another cooldown has begun');
	$holder = start_probe();
	mode('deliver');
	is(outcome($holder), "$n|$n\n", 'the next one tries again');
	is($cluster->sql($state), '', 'and closes it');
}
open_breaker();
cooldown('1ms');
$before = $store->requests;
my $subtransaction = session("BEGIN; SAVEPOINT s; SET LOCAL statement_timeout = '300ms'; $query; ROLLBACK TO s; SET LOCAL tms.image_source = front_end; $query; COMMIT");
outcome($subtransaction);
cmp_ok($store->requests - $before, '<=', 1, 'a statement timeout in a subtransaction');
is($cluster->sql($state), 'open', 'gives it back too');

open_breaker();
$holder = start_probe();
my $pid = $cluster->sql("SELECT pid $pid_of");
kill 'KILL', $pid;
outcome($holder);
ok($cluster->wait_for_sql('SELECT 1', 1), 'kill -9: the server comes back');
is($cluster->sql("SELECT count(*) FROM tms.stat_breaker"), 0, 'and knows of no trouble');
mode('deliver');
is($cluster->sql($query), "$n|$n", 'queries get their images');

# --- a cursor that pauses with the probe under way ---
$cluster->sql("ALTER SERVER image_center OPTIONS (SET timeout '1s', SET first_byte_timeout '1s')");
open_breaker();
my ($in, $out, $err) = ('', '', '');
my $cursor = IPC::Run::start([ 'psql', '-XAtq', '-d', $cluster->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
sub type
{
	my ($sql, $pattern) = @_;
	$in .= "$sql\n";
	return poll_until(sub { $cursor->pump_nb; $out =~ /$pattern/ }, $sql);
}
cooldown('3s');
ok(type('BEGIN; DECLARE c CURSOR FOR SELECT capture_id, image_source FROM capture_image; FETCH 1 FROM c;', qr/front_end/), 'a cursor fetches a row');
$before = $store->requests;
ok($cluster->wait_for_sql("SELECT bool_and(clock_timestamp() - last_failure > interval '3 seconds') FROM tms.stat_breaker", 't'), 'the cooldown passes');
$out = '';
ok(type('FETCH 1 FROM c;', qr/front_end/), 'and another, after the cooldown, looking ahead');
is($cluster->sql($state), 'half-open', 'what it looked ahead for is the probe');
is($cluster->sql($query), "$n|$n", 'others get their images');
cmp_ok($store->requests - $before, '<=', 1, 'without a request');
mode('deliver');
ok( poll_until(sub { $cluster->sql("$query"); $cluster->sql($state) eq '' }, 'another probe'),
	'while it pauses, another session tries after the timeout, and closes the breaker');
$out = '';
ok(type('FETCH ALL FROM c; COMMIT; SELECT 4711;', qr/4711/), 'the cursor goes on');
is(scalar(() = $out =~ /image_center|front_end/g), $n - 2, 'and gets the rest');
$in .= "\\q\n";
$cursor->finish;
is($err, '', 'without an error');

# --- a standby: its own breaker, in read-only transactions ---
mode('fail');
cooldown('1h');
$cluster->sql("SELECT tms.breaker_reset()");
$cluster->backup('base');
my $standby = Tms::Cluster->new('standby');
$standby->init_from_backup($cluster, 'base', has_streaming => 1);
$standby->start;
$cluster->wait_for_catchup($standby, 'replay', $cluster->lsn('flush'));
is($standby->sql($query), "$n|$n", 'a standby gets all images from the front end');
$before = $store->requests;
is($standby->sql("SELECT state FROM tms.stat_breaker"), 'open', 'its breaker is open');
is($standby->sql("BEGIN READ ONLY; $query"), "$n|$n", 'the next query too');
is($store->requests, $before, 'without asking the center');
is($cluster->sql("SELECT count(*) FROM tms.stat_breaker"), 0, 'the primary knows nothing of it');
$standby->stop;
$cluster->stop;

# --- without shared_preload_libraries: each session by itself ---
my $single = Tms::Cluster->start_new('single');
my $other = Tms::FrontEnd->new($single, 'gate', cache => 0);
$other->{port} = $gate->{port};
$single->sql("UPDATE tms.device SET base_url = '" . $gate->url . "'");
$other->add(jpeg("photograph $_") . 'x' x 1000, captured_at => "now() - interval '$_ seconds'") for 1 .. $n;
$single->add_server($store->url . '/captures', breaker_cooldown => '1h', concurrency => 8);
$before = $store->requests;
is($single->sql("$query; $query; SELECT state FROM tms.stat_breaker"), "$n|$n\n$n|$n\nopen", 'a session opens its own breaker');
cmp_ok($store->requests - $before, '<=', 8, 'after at most as many requests as it sends at once');
is($single->sql("SELECT count(*) FROM tms.stat_breaker"), 0, 'another session has its own');
$single->stop;
done_testing();
