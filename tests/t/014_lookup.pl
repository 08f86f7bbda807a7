# A bare capture_id finds its row by way of tms.ledger_day: the right day, one day's locks, the caller's rights.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center');
my $store = Tms::Store->new('image_center')->start;
$node->add_server($store->url, front_end => 'off');
$node->add_device('gate-1', 'http://10.1.4.17:8440');
$node->sql(<<'SQL');
	INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max)
		VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', 100, 100, 100), (8, 1, '00000010-0000-4000-8000-000000000000', 9, 9, 9);
	-- The clock was set back and forth: the days overlap.
	INSERT INTO tms.ledger_day VALUES (7, current_date - 3, 1, 40), (7, current_date - 2, 10, 60), (7, current_date - 1, 5, 100);
SQL

# Puts a capture into the table, and its bytes into the image center.
sub capture
{
	my ($ledger_no, $seq, $day) = @_;
	my $bytes = jpeg("capture $ledger_no $seq");
	$store->put("gate-1/$ledger_no/$seq.jpg", $bytes);
	$node->sql(sprintf "INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256)
		VALUES (current_date - %d + time '23:59:59.999999', tms.capture_id(%d, %d), 1, %d, '%d/%d.jpg', '\\x%s')",
		$day, $ledger_no, $seq, length($bytes), $ledger_no, $seq, sha256_hex($bytes));
	return sha256_hex($bytes);
}
sub image { return $node->sql("SELECT encode(sha256(tms.image(tms.capture_id($_[0], $_[1]))), 'hex')"); }

for my $case ([ 1, 3, 'in its only day' ], [ 12, 3, 'in the first of three days' ], [ 30, 2, 'in the second' ], [ 40, 1, 'in the third' ])
{
	my ($seq, $day, $what) = @$case;
	is(image(7, $seq), '', "seq $seq is not there");
	my $digest = capture(7, $seq, $day);
	is(image(7, $seq), $digest, "found $what");
}
is(image(7, 101), '', 'above all days');
is(image(9, 1), '', 'no such ledger');
capture(8, 5, 1);
is(image(8, 5), '', 'a day that ledger_day does not know is not looked into');
is($node->sql('SELECT tms.image(0) IS NULL, tms.image(-1) IS NULL, tms.image(9223372036854775807) IS NULL'), 't|t|t', 'ids that nobody gives');

# Another session's changes between two calls of one session, and a table that is made anew.
my $session = $node->background_psql('postgres');
is($session->query('SELECT tms.image(tms.capture_id(7, 77)) IS NULL'), 't', 'not there yet');
capture(7, 77, 1);
is($session->query('SELECT tms.image(tms.capture_id(7, 77)) IS NULL'), 'f', 'there now');
is($session->query("SET search_path = pg_temp; SET timezone = 'Asia/Tokyo'; SELECT tms.image(tms.capture_id(7, 77)) IS NULL"), 'f', 'whatever the session has set');
$session->quit;

# Locks on one day, whatever the number of days.
$node->sql('SELECT tms.partition_ensure(current_date + n) FROM generate_series(15, 60) AS n');
is($node->sql(<<'SQL'), "f\n1|t", 'one day is locked, the right one');
	BEGIN;
	SELECT tms.image(tms.capture_id(7, 1)) IS NULL;
	SELECT count(*), bool_and(p.since = current_date - 3) FROM pg_locks l JOIN tms.capture_partitions() p ON p.partition = l.relation WHERE l.pid = pg_backend_pid();
	COMMIT;
SQL

# Rights and row security are the caller's; ledger_day is nobody's business.
$node->sql(<<'SQL');
	CREATE ROLE clerk;
	GRANT USAGE ON FOREIGN SERVER image_center TO clerk;
	GRANT EXECUTE ON FUNCTION tms.image(bigint, text) TO clerk;
SQL
my (undef, undef, $error) = $node->psql('postgres', 'SET ROLE clerk; SELECT tms.image(tms.capture_id(7, 1))');
like($error, qr/permission denied for table capture/, 'who may not read tms.capture gets no image');
$node->sql('GRANT SELECT ON tms.capture TO clerk; ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY; CREATE POLICY low ON tms.capture TO clerk USING (tms.capture_seq(capture_id) < 20)');
is($node->sql('SET ROLE clerk; SELECT tms.image(tms.capture_id(7, 12)) IS NULL, tms.image(tms.capture_id(7, 30)) IS NULL'), 'f|t', 'row security holds');
is($node->sql('SELECT tms.image(tms.capture_id(7, 30)) IS NULL; SET ROLE clerk; SELECT tms.image(tms.capture_id(7, 30)) IS NULL; RESET ROLE; SELECT tms.image(tms.capture_id(7, 30)) IS NULL'),
	"f\nt\nf", 'also when one session changes its role');

# Somebody's own operators in front of the path do not get to run as the extension's owner.
is($node->sql(<<'SQL'), 'f|0', 'operators of the caller are not used');
	CREATE SCHEMA trap;
	CREATE TABLE trap.calls (who text);
	CREATE FUNCTION trap.equal(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.calls VALUES (current_user); RETURN true; END $$;
	CREATE FUNCTION trap.equal(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trap.calls VALUES (current_user); RETURN true; END $$;
	CREATE OPERATOR trap.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = trap.equal);
	CREATE OPERATOR trap.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.equal);
	SET search_path = trap, pg_catalog;
	SELECT tms.image(tms.capture_id(7, 1)) IS NULL, (SELECT count(*) FROM trap.calls);
SQL

$node->sql('DROP TABLE tms.capture');
(undef, undef, $error) = $node->psql('postgres', 'SELECT tms.image(tms.capture_id(7, 1))');
like($error, qr/there is no table tms\.capture\nHINT:  SELECT tms\.create_capture_table\(\);/, 'without a table the error tells how to make it');

$store->stop;
done_testing();
