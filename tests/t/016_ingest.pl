# Calls of tms.ingest that meet: two sessions with one ledger, isolation levels, pgbouncer in transaction mode. Whatever the
# order, a capture gets one row, and who cannot be answered gets an error that says "try again".
use strict;
use warnings;

use Test::More;
use PostgreSQL::Test::Utils;
use Tms::Cluster;
use Tms::Ledger;
use Tms::Pool;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center', conf => 'fsync = off');
my %token = map { $_ => $node->add_device("gate-$_", "http://10.1.4.$_") } 1 .. 3;
sub ledger
{
	my ($gate, $uuid) = @_;
	return Tms::Ledger->new(device => "gate-$gate", token => $token{$gate}, ledger => $uuid);
}
sub uuid { return sprintf('%02x000000-0000-4000-8000-000000000001', 2 * shift) }
sub rows_of
{
	my ($number) = @_;
	return $node->sql("SELECT count(*) || ' rows, ' || count(DISTINCT capture_id) || ' ids, accepted ' || min(accepted_seq) FROM tms.ledger
		LEFT JOIN tms.capture ON tms.capture_ledger_no(capture_id) = ledger_no WHERE ledger = '" . uuid($number) . "'");
}
# Runs SQL that has to fail in a background session, and ends its transaction; returns the error.
sub fails
{
	my ($session, $sql) = @_;
	$session->query($sql);
	my $error = $session->{stderr};
	$session->{stderr} = '';
	$session->query_safe('ROLLBACK');
	return $error;
}
# Starts SQL in a session of its own; finish_sql waits and returns what it printed, errors too.
sub start_sql
{
	my ($sql) = @_;
	my $session = { output => '' };
	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-c', $sql ],
		'>&', \$session->{output});
	return $session;
}
sub finish_sql
{
	my ($session) = @_;
	$session->{run}->finish;
	chomp $session->{output};
	return $session->{output};
}
sub waits
{
	my ($what) = @_;
	return ok($node->wait_for_sql('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted', 't'), $what);
}

my $first = $node->background_psql('postgres', on_error_stop => 0);

# --- a ledger that neither session has seen ---
$first->query_safe('BEGIN');
is($first->query_safe(ledger(1, uuid(1))->call_sql(1, 10)), 10, 'a session makes a ledger');
my $second = start_sql(ledger(1, uuid(1))->call_sql(1, 12));
waits('another one with the same ledger waits');
is($node->sql("SET lock_timeout = '3s'; " . ledger(1, uuid(2))->call_sql(1, 5)), 5, 'one with another ledger of that device does not');
is($node->sql("SET lock_timeout = '3s'; " . ledger(2, uuid(3))->call_sql(1, 5)), 5, 'nor does another device');
$first->query_safe('COMMIT');
is(finish_sql($second), 12, 'then takes what is new');
is(rows_of(1), '12 rows, 12 ids, accepted 12', 'and nothing twice');

# --- the first one gives up ---
$first->query_safe('BEGIN');
$first->query_safe(ledger(1, uuid(1))->call_sql(13, 20));
$second = start_sql(ledger(1, uuid(1))->call_sql(13, 20));
waits('the second waits');
$first->query_safe('ROLLBACK');
is(finish_sql($second), 20, 'and takes the rows itself');
$first->query_safe('BEGIN');
$first->query_safe(ledger(1, uuid(4))->call_sql(1, 3));
$second = start_sql(ledger(1, uuid(4))->call_sql(1, 3));
waits('the same with a ledger');
$first->query_safe('ROLLBACK');
is(finish_sql($second), 3, 'that the first did not make after all');
is(rows_of(4), '3 rows, 3 ids, accepted 3', 'no row twice');

# --- two devices with copies of one disk ---
$first->query_safe('BEGIN');
$first->query_safe(ledger(1, uuid(1))->call_sql(21, 25));
(my $twin = ledger(2, uuid(1))->call_sql(21, 25)) =~ s/SELECT accepted_seq/SELECT accepted_seq, fork_from/;
$second = start_sql($twin);
waits('the twin waits');
$first->query_safe('COMMIT');
is(finish_sql($second), '25|21', 'and is told to fork');
is(rows_of(1), '25 rows, 25 ids, accepted 25', 'nothing of it is taken');

# --- who does not want to wait gives up without a trace ---
$first->query_safe('BEGIN');
$first->query_safe(ledger(1, uuid(1))->call_sql(26, 30));
like(finish_sql(start_sql("SET lock_timeout = '50ms'; " . ledger(1, uuid(1))->call_sql(26, 30))), qr/ERROR:  55P03/, 'lock_timeout');
like(finish_sql(start_sql("SET statement_timeout = '50ms'; " . ledger(1, uuid(1))->call_sql(26, 30))), qr/ERROR:  57014/, 'statement_timeout');
$first->query_safe('COMMIT');
is(rows_of(1), '30 rows, 30 ids, accepted 30', 'the other one went on');

# --- isolation levels ---
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	my $number = $level eq 'SERIALIZABLE' ? 6 : 5;
	is($node->sql("BEGIN ISOLATION LEVEL $level; " . ledger(1, uuid($number))->call_sql(1, 3) . '; COMMIT'), 3, "$level: a new ledger");
	is($node->sql("BEGIN ISOLATION LEVEL $level; " . ledger(1, uuid($number))->call_sql(2, 6) . '; COMMIT'), 6, "$level: old rows and new ones");

	$first->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM tms.ledger");
	$node->sql(ledger(1, uuid($number))->call_sql(7, 9));
	like(fails($first, ledger(1, uuid($number))->call_sql(7, 9)), qr/could not serialize access/, "$level: somebody else was faster: try again");
	is($node->sql("BEGIN ISOLATION LEVEL $level; " . ledger(1, uuid($number))->call_sql(7, 9) . '; COMMIT'), 9, "$level: again");
	is(rows_of($number), '9 rows, 9 ids, accepted 9', "$level: nothing twice");

	$first->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM tms.ledger");
	$node->sql(ledger(1, uuid($number + 2))->call_sql(1, 2));
	like(fails($first, ledger(1, uuid($number + 2))->call_sql(1, 2)), qr/could not serialize access/, "$level: somebody else made the ledger");
}
like(finish_sql(start_sql('BEGIN READ ONLY; ' . ledger(1, uuid(1))->call_sql(31, 32))), qr/ERROR:  25006/, 'read only: an error');

# --- a day is missing for everybody at once ---
$node->sql("SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since = current_date - 4");
my @many = map { start_sql(Tms::Ledger->new(%{ ledger($_ % 3 + 1, uuid(10 + $_)) }, at => "current_date - 4 + time '12:00'")->call_sql(1, 50)) } 1 .. 6;
is(join(' ', map { finish_sql($_) } @many), '50 50 50 50 50 50', 'six ledgers with captures of a day without a partition');
is($node->sql("SELECT count(*), count(DISTINCT tableoid) FROM tms.capture WHERE captured_at >= current_date - 4 AND captured_at < current_date - 3"), '300|1',
	'all are in the one that was made');

# --- pgbouncer: every call on whichever of three connections is free, batches that overlap, in any order ---
$node->add_agent_role;
my $pool = Tms::Pool->new($node, size => 3)->start;
# A call of the seqs first .. last, as the agent would send it: one statement, everything a parameter.
my $header = "jsonb_build_object('device', 'gate-1', 'token', '$token{1}', 'ledger', '" . uuid(30) . "', 'oldest_seq', 1, 'first_seq', :first::int,"
  . " 'last_seq', greatest(:last::int, 500), 'uploaded_seq', 0, 'uploaded_max', 0, 'cleaned_seq', 0, 'report_no', :first::int)";
my $rows = 'generate_series(:first::int, :last::int) AS s';
my $call_file = write_file("$pool->{dir}/call.sql", "\\set first random(1, 480)\n\\set last :first + random(0, 20)\n"
	  . "SELECT accepted_seq, 1 / (fork_from IS NULL)::int FROM tms.ingest($header, (SELECT array_agg(now()) FROM $rows),"
	  . " (SELECT array_agg('p/' || s ORDER BY s) FROM $rows), (SELECT array_agg(s) FROM $rows),"
	  . " (SELECT array_agg(sha256(s::text::bytea) ORDER BY s) FROM $rows), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);\n");
IPC::Run::run([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '250', '-M', 'extended', '-h', '127.0.0.1', '-p', $pool->{port}, '-U', 'tms_agent',
	'-f', $call_file, 'postgres' ], '>&', \my $output);
like($output, qr{number of transactions actually processed: 2000/2000}, '2,000 calls of 8 clients through pgbouncer');
unlike($output, qr/ERROR|aborted/, 'none failed, none was told to fork');
my $accepted = $node->sql("SELECT accepted_seq FROM tms.ledger WHERE ledger = '" . uuid(30) . "'");
cmp_ok($accepted, '>', 100, "$accepted seqs accepted");
is(rows_of(30), "$accepted rows, $accepted ids, accepted $accepted", 'one row each');
is($node->sql('SELECT count(*) FROM tms.declared_gap'), 0, 'no gap');
is($node->sql("SELECT count(*) FROM tms.capture WHERE path LIKE 'p/%' AND path <> 'p/' || tms.capture_seq(capture_id)"), 0, 'each in its place');
$pool->stop;

$first->quit;
done_testing();
