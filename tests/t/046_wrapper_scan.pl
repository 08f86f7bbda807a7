# Scans next to other sessions, and over time: rechecks after concurrent updates, tables that change, memory, leaks.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('scan')->start;
my $pc = Tms::Cluster->start_new('scan');
my $images = 60;
my $size = 1024 * 1024;

$pc->add_device('scan-1', 'http://127.0.0.1:9');
$pc->add_server($store->url, front_end => 'off', prefetch_memory => '4MB');
$pc->sql("INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max)
	VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', $images, $images, $images)");
my @rows;
for my $seq (1 .. $images)
{
	my $bytes = jpeg("scan $seq", $size);
	$store->put("scan-1/$seq.jpg", $bytes);
	push @rows, sprintf("(now() - interval '%d s', tms.capture_id(7, %d), 1, %d, 'P%d', '%d.jpg', '\\x%s')",
		$seq, $seq, length($bytes), $seq % 10, $seq, sha256_hex($bytes));
}
$pc->sql('INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, plate, path, sha256) VALUES ' . join(', ', @rows));

# --- rechecks after concurrent updates ---
$pc->sql('CREATE TABLE note (seq int PRIMARY KEY, capture_id bigint, plate text, hits int DEFAULT 0, digest bytea);
	INSERT INTO note SELECT tms.capture_seq(capture_id), capture_id FROM tms.capture');
my ($first, $second) = map { $pc->background_psql('postgres') } 1 .. 2;

# How many requests $sql of the second session makes when the first one's $change is committed while $sql waits for it.
sub after_concurrent
{
	my ($change, $sql, $expected) = @_;
	$first->query_safe("BEGIN; $change");
	my $before = $store->requests;
	$second->query_until(qr/started/, "\\echo started\n$sql;\n");
	$pc->wait_for_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", '1');
	$first->query_safe('COMMIT');
	$second->query_safe('SELECT 1');
	# The store writes its log only after the last byte has left.
	poll_until(sub { $store->requests - $before >= ($expected // 0) }, 'requests', 10);
	return $store->requests - $before;
}

is(after_concurrent('UPDATE note SET hits = 10 WHERE seq = 3',
		"UPDATE note n SET hits = hits + 1, plate = c.plate FROM capture_image c WHERE c.capture_id = n.capture_id AND c.plate = 'P3'"),
	0, 'an update that waits for another one asks for no image');
is($pc->sql('SELECT hits, plate FROM note WHERE seq = 3'), '11|P3', 'and works on the new row');
after_concurrent('UPDATE note SET capture_id = 0 WHERE seq = 4',
	"UPDATE note n SET plate = c.plate FROM capture_image c WHERE c.capture_id = n.capture_id AND c.plate = 'P4'");
is($pc->sql('SELECT plate FROM note WHERE seq = 4'), '', 'a row that no longer joins is left alone');
is($pc->sql('SELECT count(*) FROM note WHERE plate = \'P4\''), $images / 10 - 1, 'the others are not');
my $requests = after_concurrent('UPDATE note SET hits = 20 WHERE seq = 5',
	"UPDATE note n SET digest = sha256(c.image) FROM capture_image c WHERE c.capture_id = n.capture_id AND c.plate = 'P5'", $images / 10);
is($requests, $images / 10, 'an update that wants images asks once for each');
is($pc->sql("SELECT count(*), bool_and(n.digest = c.sha256) FROM note n JOIN tms.capture c USING (capture_id) WHERE c.plate = 'P5'"),
	$images / 10 . '|t', 'and has them after the recheck');
$first->quit;

# --- a relation that changes between the executions of another session ---
$second->query_safe("SET plan_cache_mode = force_generic_plan; PREPARE p(text) AS SELECT count(image), count(*) FROM capture_image WHERE plate = \$1");
is($second->query_safe("EXECUTE p('P1')"), '6|6', 'a prepared statement');
$pc->sql('ALTER TABLE tms.capture ADD COLUMN more int DEFAULT 1; ALTER TABLE tms.capture DROP COLUMN lane');
is($second->query_safe("EXECUTE p('P1')"), '6|6', 'after a column came and another went');
$pc->sql("DELETE FROM tms.capture WHERE plate = 'P1' AND tms.capture_seq(capture_id) > 30");
is($second->query_safe("EXECUTE p('P1')"), '3|3', 'after rows went');
$pc->sql("ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:9/nothing')");
is($second->query_safe("EXECUTE p('P1')"), '0|3', 'after the server was altered');
$pc->sql("ALTER SERVER image_center OPTIONS (SET url '" . $store->url . "')");
is($second->query_safe("EXECUTE p('P1')"), '3|3', 'and altered back');

# --- memory: the budget and one image, not the whole scan ---
my $left = $pc->sql('SELECT count(*) FROM tms.capture');
my $pid = $second->query_safe('SELECT pg_backend_pid()');
$second->query_safe("SET jit = off; SELECT count(image) FROM capture_image WHERE plate = 'P2'");
my $before = peak_memory($pid);
is($second->query_safe('SELECT count(image) FROM capture_image'), $left, 'a scan of many times the budget');
cmp_ok((peak_memory($pid) - $before) / $size, '<', 8, 'stays within it');

# --- leaks: scans that end early in every way ---
my $round = <<'SQL';
	BEGIN;
	DECLARE early CURSOR FOR SELECT image FROM capture_image;
	FETCH 1 FROM early;
	CLOSE early;
	SAVEPOINT s;
	DECLARE undone CURSOR FOR SELECT image FROM capture_image;
	FETCH 1 FROM undone;
	ROLLBACK TO s;
	DECLARE open_at_end CURSOR FOR SELECT image FROM capture_image;
	FETCH 1 FROM open_at_end;
	DO $do$
	BEGIN
		PERFORM length(image) / (tms.capture_seq(capture_id) - 2) FROM capture_image ORDER BY capture_id;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END $do$;
	SELECT FROM capture_image WHERE image IS NOT NULL LIMIT 1;
	ROLLBACK;
SQL
$second->query_safe('\\pset format unaligned');
# Sockets and event descriptors; of files the server keeps many open.
sub held { return scalar grep { (readlink($_) // '') =~ /socket:|anon_inode:/ } glob("/proc/$pid/fd/*"); }
my $contexts = "SELECT count(*), sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'tms%'";
$second->query_safe($round) for 1 .. 3;
my $kept = $second->query_safe($contexts);
$second->query_safe($round) for 1 .. 30;
# Idle connections are kept, 16 at most; the rest is the server's and the engine's own.
cmp_ok(held(), '<', 32, 'no descriptor leaks (' . held() . ' open)');
is($second->query_safe($contexts), $kept, "no memory leaks ($kept)");
$second->quit;

done_testing();
