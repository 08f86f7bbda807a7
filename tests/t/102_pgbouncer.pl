# A fleet of 2,000 devices, each with a ledger of its own, through pgbouncer in transaction mode with sixteen connections to the
# path center, whose sessions, server and pgbouncer itself are ended meanwhile: every capture has exactly one row.
use strict;
use warnings;

use POSIX ();
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Pool;
use Tms::Util;

my $devices = 2000;
my $calls = $ENV{TMS_LONG} ? 60 : 6;
my $rows = 3;    # of a call
my $total = $devices * $calls * $rows;

# Two thousand connections need two descriptors each: one here, one in pgbouncer.
my ($limit) = read_file('/proc/self/limits') =~ /^Max open files\s+\S+\s+(\d+)/m;
plan skip_all => "at most $limit open files" if $limit < $devices + 200;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $source = $ENV{TMS_SRC} // '.';
my $program = "$tmp/fleet";
PostgreSQL::Test::Utils::system_or_bail('gcc', qw(-std=gnu11 -O2 -D_GNU_SOURCE -pthread), split(' ', `pkg-config --cflags libpq`), '-o', $program,
	"$source/bench/ingest.c", "$source/agent/ingest_call.c", (map { "$source/common/$_.c" } qw(capture_id capture_record object_path sha256)),
	qw(-lpq -lcrypto));

my $pc = Tms::Cluster->start_new('fleet', preload => 1, conf => "max_connections = 40\n");
$pc->add_agent_role;
my $pool = Tms::Pool->new($pc, size => 16, clients => $devices + 100)->start;

# A real agent among them.
my $agent = Tms::Agent->new(device => 'real', token => $pc->add_device('real', 'http://127.0.0.1:1'), conninfo => $pool->conninfo,
	url => 'http://127.0.0.1:1/captures', extra => { path_center => { interval => '100ms', heartbeat => '500ms' } });
$agent->start;

my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	open(STDOUT, '>', "$tmp/fleet.out");
	open(STDERR, '>', "$tmp/fleet.err");
	exec('sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'sh', $program, 'fleet', $pc->connstr('postgres'), $pool->conninfo, $devices, $calls)
	  or POSIX::_exit(127);
}

# Waits until a part of the rows is there, while the fleet is still at work.
my $posted = 0;
sub part_is_there
{
	my ($part) = @_;
	$posted++;
	is(($agent->post(jpeg("fleet $posted")))[0], 201, 'an agent takes a photograph');
	ok( poll_until(
			sub {
				my ($rc, $count) = $pc->psql('postgres', 'SELECT count(*) FROM tms.capture');
				return $rc == 0 && $count >= $part * $total;
			},
			"$part of the rows", 300),
		"$part of the rows are there");
	return ok(kill(0, $pid) && waitpid($pid, POSIX::WNOHANG) == 0, 'and more to come');
}
part_is_there(0.05);
cmp_ok($pc->sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'tms_agent'"), '<=', 16, 'sixteen connections are enough');
part_is_there(0.2);
for my $session (split /\n/, $pc->sql("SELECT pid FROM pg_stat_activity WHERE usename = 'tms_agent'"))
{
	$pc->sql("SELECT pg_terminate_backend($session)");
}
part_is_there(0.4);
$pc->stop('immediate');
$pc->start;
part_is_there(0.6);
$pool->stop('KILL');
$pool->start;
part_is_there(0.8);
$pool->stop('INT');    # waits for no client, but for transactions
$pool->start;
waitpid($pid, 0);
is($?, 0, 'the fleet got everything through') or diag(read_file("$tmp/fleet.err"));

my %told = map { my ($device, $digest, $reconnects) = split; ($device => [ $digest, $reconnects ]) } split /\n/, read_file("$tmp/fleet.out");
is(scalar(keys %told), $devices, "$devices devices");
my $reconnected = grep { $_->[1] > 0 } values %told;
cmp_ok($reconnected, '>', $devices / 2, "$reconnected of which had to connect again");
my %found = map { split / / } split /\n/, $pc->sql("SELECT code || ' ' || encode(sha256(string_agg(sha256, '' ORDER BY capture_id)), 'hex')
	FROM tms.capture JOIN tms.device USING (device_id) WHERE code LIKE 'fleet-%' GROUP BY code");
is(scalar(grep { ($found{$_} // '') ne $told{$_}[0] } keys %told), 0, 'each capture of each device has exactly one row, in its order');
is($pc->sql("SELECT count(*), count(DISTINCT device_id), min(accepted_seq), max(accepted_seq)
		FROM tms.ledger JOIN tms.device USING (device_id) WHERE code LIKE 'fleet-%'"),
	join('|', $devices, $devices, $calls * $rows, $calls * $rows), 'each device has one ledger, all of it accepted');
is($pc->sql('SELECT count(*) FROM tms.declared_gap'), 0, 'no gap');
ok($pc->wait_for_sql("SELECT count(*), count(DISTINCT sha256) FROM tms.capture JOIN tms.device USING (device_id) WHERE code = 'real'", "$posted|$posted", 90),
	'nor has the real agent lost anything');
is($agent->stop, 0, 'which stops cleanly');

$pool->stop;
unlike(read_file($pc->logfile), qr/PANIC|terminated by signal|\Q$agent->{token}\E/, 'no crash, and no token in the log');
$pc->stop;
done_testing();
