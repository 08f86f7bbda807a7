# The background worker: waits for its database and its extension, is in nobody's way, outlives failures, obeys at once, and
# starts on a standby when it is promoted.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center', preload => 1, extension => 0, streaming => 1,
	conf => "tms.database = 'later'\ntms.upkeep_interval = '1s'\nlog_min_messages = info\n");

# The worker's process id, '' when there is none.
sub worker { return $node->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tms $_[0]'"); }

# Takes away the last day that is ahead and waits until upkeep has made it again.
sub upkeep_works
{
	my ($database, $limit) = @_;
	$node->sql('SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since = current_date + 14', dbname => $database);
	return poll_until(
		sub { $node->sql('SELECT count(*) FROM tms.capture_partitions() WHERE since = current_date + 14', dbname => $database) },
		"upkeep in $database", $limit);
}
sub complaints { return join("\n", grep { /WARNING|ERROR|FATAL|PANIC/ && /tms/ } split /\n/, read_file($node->logfile)); }

# --- the launcher, before there is a database ---
ok(poll_until(sub { worker('launcher') }, 'launcher'), 'a launcher runs');
is($node->sql("SELECT datid IS NULL FROM pg_stat_activity WHERE backend_type = 'tms launcher'"), 't', 'in no database');
$node->sql('CREATE DATABASE later');
sub runs { return $node->sql("SELECT xact_commit FROM pg_stat_database WHERE datname = 'later'"); }
my $before = runs();
ok(poll_until(sub { runs() >= $before + 3 }, 'runs in a database without the extension'), 'it finds the database made later');
is(complaints(), '', 'and waits quietly for database and extension');

$node->sql('CREATE EXTENSION tms', dbname => 'later');
$before = runs();
ok(poll_until(sub { runs() >= $before + 3 }, 'runs without a table'), 'the extension made later');
$node->sql('SELECT tms.create_capture_table()', dbname => 'later');
ok(upkeep_works('later'), 'upkeep makes days');
is(complaints(), '', 'still quiet');
like(read_file($node->logfile), qr/LOG:  tms\.upkeep: days: 1 made/, 'what it did is in the log');

# --- failures ---
my $launcher = worker('launcher');
$node->sql('ALTER FUNCTION tms.upkeep() RENAME TO upkeep_gone', dbname => 'later');
ok(poll_until(sub { complaints() =~ /ERROR:  function tms\.upkeep\(\) does not exist/ }, 'error in the log'), 'a failure is in the log');
$node->sql('ALTER FUNCTION tms.upkeep_gone() RENAME TO upkeep', dbname => 'later');
ok(upkeep_works('later'), 'and is over when its cause is gone');
is(worker('launcher'), $launcher, 'the launcher is the same');

# --- a run that hangs ---
$node->sql(<<'SQL', dbname => 'later');
	ALTER FUNCTION tms.upkeep_analyze() RENAME TO upkeep_analyze_real;
	CREATE FUNCTION tms.upkeep_analyze() RETURNS text LANGUAGE sql AS $$ SELECT pg_sleep(600)::text $$;
SQL
ok(poll_until(sub { worker('upkeep') }, 'a run'), 'a run takes long');
is($node->sql("SELECT query FROM pg_stat_activity WHERE backend_type = 'tms upkeep'"), 'SELECT step, outcome FROM tms.upkeep()',
	'pg_stat_activity shows what it does');
my $run = worker('upkeep');
$node->sql("SELECT pg_terminate_backend($run)");
ok(poll_until(sub { (my $now = worker('upkeep')) ne '' && worker('upkeep') ne $run }, 'the next run'), 'ended, it makes room for the next');
$node->sql('DROP DATABASE later WITH (FORCE)');
is($node->sql("SELECT count(*) FROM pg_database WHERE datname = 'later'"), 0, 'the database can be dropped under it');
$node->sql('CREATE DATABASE later');
$node->sql('CREATE EXTENSION tms; SELECT tms.create_capture_table()', dbname => 'later');
ok(upkeep_works('later'), 'and made again');
is($node->psql('postgres', 'DROP DATABASE later'), 0, 'between runs it is dropped without force');

# --- settings by SIGHUP ---
$node->sql('CREATE DATABASE other');
$node->sql('CREATE EXTENSION tms; SELECT tms.create_capture_table()', dbname => 'other');
$node->sql("ALTER SYSTEM SET tms.database = 'other'");
$node->sql('SELECT pg_reload_conf()');
ok(upkeep_works('other'), 'another database after a reload');
$node->sql("ALTER SYSTEM SET tms.upkeep_interval = '1h'");
$node->sql('SELECT pg_reload_conf()');
$node->sql("ALTER SYSTEM SET tms.upkeep_interval = '1s'");
$node->sql('SELECT pg_reload_conf()');
ok(upkeep_works('other'), 'another interval does not wait for the end of the old one');
$node->sql('ALTER DATABASE other ALLOW_CONNECTIONS false');
ok(poll_until(sub { worker('upkeep') eq '' }, 'no run'), 'a database that lets nobody in');
my $mark = length(complaints());
$node->backup('copy');    # takes longer than the interval
$node->sql('ALTER DATABASE other ALLOW_CONNECTIONS true');
ok(upkeep_works('other'), 'is left alone until it does');
unlike(substr(complaints(), $mark), qr/FATAL/, 'quietly');

# --- a standby ---
my $standby = Tms::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'tms %'"), 0, 'no worker on a standby');
$standby->promote;
ok(poll_until(sub { $standby->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tms launcher'") }, 'launcher'),
	'a launcher after promotion');
$standby->sql('SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since = current_date + 14', dbname => 'other');
ok(poll_until(sub { $standby->sql('SELECT count(*) FROM tms.capture_partitions() WHERE since = current_date + 14', dbname => 'other') },
	'upkeep after promotion'), 'and upkeep there');
$standby->stop;

# --- the launcher itself ended, and a stop in the middle of a run ---
$launcher = worker('launcher');
$node->sql("SELECT pg_terminate_backend($launcher)");
ok(poll_until(sub { my $now = worker('launcher'); $now ne '' && $now ne $launcher }, 'the next launcher'), 'a launcher that was ended is started again');
$node->sql('CREATE OR REPLACE FUNCTION tms.upkeep_analyze() RETURNS text LANGUAGE sql AS $$ SELECT pg_sleep(600)::text $$', dbname => 'other');
ok(poll_until(sub { worker('upkeep') }, 'a run'), 'a run is under way');
my $started = time();
$node->stop('fast');
cmp_ok(time() - $started, '<', 10, 'a fast stop is fast');

done_testing();
