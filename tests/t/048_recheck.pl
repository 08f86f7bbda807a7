# Scans beside changes: rechecks after concurrent updates under every kind of join, and what is altered between executions.
# What the foreign table gives is compared with what the relation itself gives in the same situation.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('recheck')->start;
my $pc = Tms::Cluster->start_new('recheck', conf => 'jit = off');
my $captures = 40;

$pc->add_device('recheck-1', 'http://127.0.0.1:9');
$pc->add_server($store->url, front_end => 'off');
$pc->sql("INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, uploaded_seq, uploaded_max)
	VALUES (7, 1, '0000000e-0000-4000-8000-000000000000', $captures, $captures, $captures)");
my @rows;
for my $seq (1 .. $captures)
{
	my $bytes = jpeg("recheck $seq", 3000);
	$store->put("recheck-1/$seq.jpg", $bytes);
	push @rows, sprintf("(date_trunc('day', now(), 'UTC') + interval '%d h', tms.capture_id(7, %d), 1, %d, 'P%d', %d, '%d.jpg', '\\x%s')",
		2 * $seq, $seq, length($bytes), $seq % 10, $seq % 7, $seq, sha256_hex($bytes));
}
$pc->sql('INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, plate, speed_kmh, path, sha256) VALUES ' . join(', ', @rows));
$pc->sql('ANALYZE tms.capture');
my ($first, $second, $third) = map { $pc->background_psql('postgres') } 1 .. 3;

# What a note table holds after $sql waited for $change of another session, and what $sql printed.
sub after_concurrent
{
	my ($relation, $settings, $change, $sql) = @_;
	my $fill = 'SELECT tms.capture_seq(capture_id)::int AS seq, capture_id, plate, 0 AS hits FROM tms.capture WHERE tms.capture_seq(capture_id) <= 12';
	$third->query_safe("SET client_min_messages = warning; DROP TABLE IF EXISTS note; CREATE TABLE note AS $fill; ALTER TABLE note ADD PRIMARY KEY (seq); ANALYZE note");
	$sql =~ s/\{T\}/$relation/g;
	$second->query_safe("$settings");
	$first->query_safe("BEGIN; $change");
	$second->query_until(qr/started/, "\\echo started\n$sql;\n");
	poll_until(sub { $third->query_safe("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") eq '1' }, 'a wait for the lock', 60);
	$first->query_safe('COMMIT');
	my $printed = $second->query_safe("\\echo") . $second->query_safe('RESET ALL');
	return $printed . $third->query_safe('SELECT * FROM note ORDER BY seq');
}

my %joins = (
	'nested loops' => 'SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off',
	'merge joins' => 'SET enable_hashjoin = off; SET enable_nestloop = off',
	'hash joins' => 'SET enable_mergejoin = off; SET enable_nestloop = off');
my %changes = (
	'another value' => 'UPDATE note SET hits = 3 WHERE seq IN (3, 10)',
	'another capture' => 'UPDATE note SET capture_id = tms.capture_id(7, 20 + seq), plate = \'P8\' WHERE seq IN (3, 10)');
my @statements = (
	'UPDATE note n SET plate = c.plate, hits = hits + c.speed_kmh FROM {T} c WHERE c.capture_id = n.capture_id',
	'UPDATE note n SET hits = hits + 1 FROM {T} c WHERE c.capture_id = n.capture_id AND c.speed_kmh > n.hits + 1',
	'UPDATE note n SET plate = c.plate || c.speed_kmh FROM (SELECT capture_id, plate, speed_kmh FROM {T} ORDER BY captured_at LIMIT 11) c WHERE c.capture_id = n.capture_id',
	'DELETE FROM note n USING {T} c WHERE c.capture_id = n.capture_id AND c.plate = n.plate',
	'UPDATE note n SET hits = (SELECT count(*) FROM {T} c WHERE c.plate = n.plate), plate = (SELECT c.plate FROM {T} c WHERE c.capture_id > n.capture_id ORDER BY captured_at LIMIT 1)',
	'UPDATE note n SET hits = hits + 1 WHERE EXISTS (SELECT FROM {T} c WHERE c.capture_id = n.capture_id AND c.speed_kmh > 2)',
	'WITH locked AS (SELECT n.seq, c.plate FROM note n JOIN {T} c USING (capture_id) WHERE c.speed_kmh > n.hits FOR UPDATE OF n) UPDATE note n SET plate = l.plate || \'!\' FROM locked l WHERE l.seq = n.seq',
);
for my $join (sort keys %joins)
{
	for my $change (sort keys %changes)
	{
		my $number = 0;
		for my $statement (@statements)
		{
			my @got = map { after_concurrent($_, $joins{$join}, $changes{$change}, $statement) } 'capture_image', 'tms.capture';
			$number++;
			is($got[0], $got[1], "$join, $change, statement $number");
		}
	}
}
is($store->requests, 0, 'none of them asked for an image');
# ... nor where the foreign table is one of several partitions
$third->query_safe("CREATE TABLE archive (LIKE capture_image) PARTITION BY LIST (device_id);
	CREATE FOREIGN TABLE archive_1 PARTITION OF archive FOR VALUES IN (1) SERVER image_center; CREATE TABLE archive_2 PARTITION OF archive FOR VALUES IN (2)");
after_concurrent('archive', '', $changes{'another value'}, $statements[0]);
is($store->requests, 0, 'a partition: no image either');
my $before = $store->requests;
after_concurrent('archive', '', $changes{'another value'}, 'UPDATE note n SET plate = length(c.image) FROM {T} c WHERE c.capture_id = n.capture_id AND tms.capture_seq(c.capture_id) <= 12');
poll_until(sub { $store->requests - $before >= 12 }, 'requests', 60);
is($store->requests - $before, 12, 'but one a row where images are used');
$_->quit for $first, $third;

# --- what is altered between executions of prepared statements, ten times each under a generic plan ---
$second->query_safe(q{SET plan_cache_mode = force_generic_plan;
	PREPARE newest(int) AS SELECT count(image), string_agg(tms.capture_seq(capture_id)::text, ' ') FROM (SELECT * FROM capture_image ORDER BY captured_at DESC, capture_id LIMIT $1) c;
	PREPARE one(text) AS SELECT count(image) FROM capture_image WHERE plate = $1;
	PREPARE joined(int) AS SELECT count(image) FROM generate_series(1, $1) AS s JOIN capture_image ON capture_id = tms.capture_id(7, s)});
sub all_right
{
	my ($when, $newest, $one, $joined) = @_;
	is($second->query_safe('EXECUTE newest(3);' x 10), join("\n", ($newest // '3|40 39 38') x 10), "ordered and limited, $when");
	is($second->query_safe("EXECUTE one('P3');" x 10), join("\n", ($one // 4) x 10), "with a condition, $when");
	is($second->query_safe('EXECUTE joined(5);' x 10), join("\n", ($joined // 5) x 10), "joined, $when");
	return;
}
all_right('at first');
$pc->sql('ALTER TABLE tms.capture ADD COLUMN more int DEFAULT 1; ALTER TABLE tms.capture DROP COLUMN lane, DROP COLUMN direction');
all_right('after columns of the relation came and went');
$pc->sql('ALTER FOREIGN TABLE capture_image DROP COLUMN lane; ALTER FOREIGN TABLE capture_image ADD COLUMN more int');
all_right('after columns of the foreign table came and went');
is($second->query_safe('SELECT sum(more) FROM capture_image'), $captures, 'the new column is there');
$pc->sql('DROP INDEX tms.capture_captured_at_idx');
all_right('after an index went');
$pc->sql('CREATE INDEX capture_captured_at_idx ON tms.capture (captured_at); ANALYZE tms.capture');
all_right('and came back');
$pc->sql("CREATE VIEW early AS SELECT * FROM tms.capture WHERE tms.capture_seq(capture_id) <= 10; ALTER FOREIGN TABLE capture_image OPTIONS (relation 'public.early')");
all_right('after the relation became a view', '3|10 9 8', 1);
$pc->sql('CREATE OR REPLACE VIEW early AS SELECT * FROM tms.capture WHERE tms.capture_seq(capture_id) <= 4');
all_right('after the view was replaced', '3|4 3 2', 1, 4);
$pc->sql('ALTER FOREIGN TABLE capture_image OPTIONS (DROP relation)');
all_right('after it became tms.capture again');
$pc->sql("ALTER USER MAPPING FOR PUBLIC SERVER image_center OPTIONS (username 'reader', password 'swordfish')");
all_right('after the user mapping was altered');
$pc->sql("DROP USER MAPPING FOR PUBLIC SERVER image_center; CREATE USER MAPPING FOR PUBLIC SERVER image_center OPTIONS (bearer_token 'abc')");
all_right('after the user mapping was replaced');
$pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/elsewhere')");
all_right('after the server moved to where nothing is', '0|40 39 38', 0, 0);
$pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}')");
all_right('and back');
$pc->sql('DELETE FROM tms.capture WHERE tms.capture_seq(capture_id) IN (3, 40)');
all_right('after rows went', '3|39 38 37', 3, 4);
$pc->sql("CREATE ROLE reader; GRANT SELECT ON capture_image TO reader; GRANT USAGE ON FOREIGN SERVER image_center TO reader; GRANT SELECT ON tms.capture TO reader;
	ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY; CREATE POLICY early ON tms.capture TO reader USING (tms.capture_seq(capture_id) <= 5)");
$second->query_safe('SET ROLE reader');
all_right('for a user who sees a part of the rows', '3|5 4 2', 0, 4);
$second->query_safe('RESET ROLE');
all_right('for one who sees all', '3|39 38 37', 3, 4);
$second->quit;

$pc->stop;
done_testing();
