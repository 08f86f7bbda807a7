# Days come and go while others use the table: readers and writers that hold it for long do not stop days from being made nor
# other ingests; dropping waits a moment, says clearly that it cannot, and recovers.
use strict;
use warnings;

use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::Ledger;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center');
my @ledgers = map {
	Tms::Ledger->new(device => "gate-$_", token => $node->add_device("gate-$_", "http://10.1.4.$_"),
		ledger => "${_}f9619ff-8b86-4011-b42d-00c04fc96400", at => "now() - interval '2 days'", step => '1 minute')
} 1 .. 3;
# Whatever waits for a lock for longer than this fails the test.
my $impatient = "SET lock_timeout = '3s'; ";
my $makes_day = $impatient . "SELECT tms.partition_ensure(current_date + %d)";
is($node->sql($ledgers[0]->call_sql(1, 100)), 100, 'captures');

# --- a reader and a writer that hold the table ---
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM tms.capture; DECLARE c CURSOR FOR SELECT * FROM tms.capture; FETCH 1 FROM c');
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN');
$writer->query_safe($ledgers[1]->call_sql(1, 10));

is($node->sql(sprintf $makes_day, 40), 't', 'a day is made while they hold the table');
is($node->sql($impatient . $ledgers[2]->call_sql(1, 100)), 100, 'other devices go on');

# A day that is missing is made by the first capture that needs it.
$reader->query_safe('CLOSE c; COMMIT');
$writer->query_safe('COMMIT');
$node->sql('SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since = current_date - 5');
$reader->query_safe('BEGIN; SELECT count(*) FROM tms.capture');
$writer->query_safe('BEGIN');
$writer->query_safe($ledgers[1]->call_sql(11, 20));
my $late = Tms::Ledger->new(%{ $ledgers[2] }, at => "current_date - 5 + time '12:00'", step => '1 second');
is($node->sql($impatient . $late->call_sql(101, 150)), 150, 'captures of a missing day');
is($node->sql('SELECT count(*) FROM tms.capture WHERE captured_at >= current_date - 5 AND captured_at < current_date - 4'), 50, 'are in that day');
is($node->sql("SELECT count(*) FROM tms.capture_partitions() WHERE since = current_date - 5"), 1, 'which has its partition');

# Two sessions that need the same missing day make it once.
$node->sql('SELECT tms.upkeep()');
my $first = $node->background_psql('postgres');
$first->query_safe('BEGIN; SELECT tms.partition_ensure(current_date + 50)');
my $second = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', sprintf($makes_day, 50) ], '>', \my $answer, '2>', \my $error);
ok($node->wait_for_sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tms.capture'::regclass", 1), 'the second waits for the first');
is($node->sql($impatient . $ledgers[0]->call_sql(101, 110)), 110, 'while others go on');
$first->query_safe('COMMIT');
$second->finish;
is("$answer$error", "f\n", 'and then finds it made');

# --- dropping ---
my $started = time();
my $dropping = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'),
	'-c', 'SELECT tms.drop_captures(now() - interval \'4 days\')' ], '>', \$answer, '2>', \$error);
my $during = 0;
my $next = 111;
while ($dropping->pumpable)
{
	$dropping->pump_nb;
	is($node->sql($impatient . $ledgers[0]->call_sql($next, $next)), $next, "ingest while dropping waits ($next)");
	$node->sql($impatient . 'SELECT count(*) FROM tms.capture');
	$next++;
	$during++;
}
$dropping->finish;
like($error, qr/55P03: tms\.capture is in use, nothing was dropped/, 'with a reader there dropping says what keeps it');
like($error, qr/HINT: /, 'and what to do');
is($answer, '', 'drops nothing');
cmp_ok($during, '>', 0, "$during ingests and queries went through meanwhile");
is($node->sql("SELECT count(*) FROM tms.ledger_day WHERE day < current_date - 4"), 1, 'keeps the entries of the days');
$reader->query_safe('COMMIT');
$writer->query_safe('COMMIT');
is($node->sql("SELECT count(*) FROM tms.drop_captures(now() - interval '4 days')"), 3, 'with nobody there it drops');
is($node->sql("SELECT count(*) FROM tms.capture WHERE captured_at < current_date - 4"), 0, 'captures are gone');
is($node->sql("SELECT count(*) FROM tms.ledger_day WHERE day < current_date - 4"), 0, 'and the entries of their days');

# It recovers by itself when the reader ends in time.
$reader->query_safe('BEGIN; SELECT count(*) FROM tms.capture');
$dropping = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT count(*) FROM tms.drop_captures(now() - interval \'3 days\')' ],
	'>', \$answer, '2>', \$error);
ok($node->wait_for_sql("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'tms.capture'::regclass", 't'), 'dropping waits');
$reader->query_safe('COMMIT');
$dropping->finish;
is("$answer$error", "1\n", 'and succeeds once the reader has ended');

# --- the nightly care of closed days, as docs/sql-reference.md has it ---
my ($script) = read_file(($ENV{TMS_SRC} // '.') . '/docs/sql-reference.md') =~ /psql -X -d tms <<'SQL'\n(.*?)\n    SQL\n/s;
my $day = $node->sql("SELECT partition FROM tms.capture_partitions() WHERE until <= now() AND until > now() - interval '1 day'");
my $frozen = "SELECT age(relfrozenxid) FROM pg_class WHERE oid = '$day'::regclass";
my $index = "SELECT min(indexrelid::bigint) FROM pg_index WHERE indrelid = '$day'::regclass";
my ($age, $oid) = ($node->sql($frozen), $node->sql($index));
$node->sql($script);
cmp_ok($node->sql($frozen), '<', $age, 'yesterday is frozen');
cmp_ok($node->sql($index), '>', $oid, 'its indexes are new');
is($node->sql('SELECT count(*) FROM pg_index WHERE NOT indisvalid'), 0, 'and whole');

# --- where the table is, its days are; nobody's session settings matter ---
my $place = PostgreSQL::Test::Utils::tempdir;
$node->sql("CREATE TABLESPACE disk LOCATION '$place'");
$node->sql('ALTER TABLE tms.capture SET TABLESPACE disk');
is($node->sql("SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'; SET search_path = 'nowhere'; SELECT tms.partition_ensure(current_date + 60)"), 't', 'a day');
is($node->sql("SELECT t.spcname FROM tms.capture_partitions() p JOIN pg_class c ON c.oid = p.partition JOIN pg_tablespace t ON t.oid = c.reltablespace
	WHERE p.since > current_date + 55 AND isfinite(p.until)"), 'disk', "in the table's tablespace");

# A user's trigger runs as the table's owner, never as the superuser who makes days or as the agent that ingests.
$node->sql(<<'SQL');
	CREATE ROLE keeper;
	GRANT CREATE ON SCHEMA tms, public TO keeper;
	ALTER TABLE tms.capture OWNER TO keeper;
	CREATE TABLE public.seen (who text);
	ALTER TABLE public.seen OWNER TO keeper;
	CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$;
	CREATE TRIGGER tell BEFORE INSERT ON tms.capture FOR EACH ROW EXECUTE FUNCTION public.tell();
SQL
$node->add_agent_role;
$node->sql("SET SESSION AUTHORIZATION tms_agent; " . $ledgers[1]->call_sql(21, 21));
is($node->sql('SELECT DISTINCT who FROM public.seen'), 'keeper', "a user's trigger runs as the table's owner");

$_->quit for $reader, $writer, $first;
done_testing();
