# pg_dump, plain and custom, restored in one transaction into a new database: the same rows, policies, triggers and numbers,
# and a working whole.
use strict;
use warnings;

use Test::More;
use PostgreSQL::Test::Utils;
use Tms::Cluster;
use Tms::Ledger;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center', conf => "max_prepared_transactions = 2");
my $token = $node->add_device('gate-1', 'http://10.1.4.17:8440');
$node->add_device('gate-2', 'http://10.1.4.18:8440');
$node->sql("DELETE FROM tms.device WHERE code = 'gate-2'");    # its number must not come again
my $ledger = Tms::Ledger->new(device => 'gate-1', token => $token, ledger => '6f9619ff-8b86-4011-b42d-00c04fc964ff',
	at => "now() - interval '3 days'", step => '10 minutes');

# --- what a user has: captures with a gap, heartbeats, requests, and things of his own on the table ---
$node->add_agent_role;
is($node->sql($ledger->call_sql(1, 200)), 200, 'captures are registered');
is($node->sql($ledger->call_sql(211, 300, oldest_seq => 211)), 300, 'more after a gap');
my $last_request = $node->sql("SELECT tms.request_upload('gate-1', '2026-01-01', '2026-01-02')");
$node->sql("DELETE FROM tms.upload_request WHERE id = $last_request");
$node->sql(<<'SQL');
	INSERT INTO tms.device_status SELECT device_id, now(), '{"cached": 5, "version": "0.1"}' FROM tms.device;
	INSERT INTO tms.device_probe SELECT device_id, now(), true, NULL, 3, 0 FROM tms.device;
	SELECT tms.request_upload('gate-1', '2026-01-01', '2026-01-02');
	CREATE ROLE clerk;
	GRANT SELECT ON tms.capture, tms.fleet TO clerk;
	ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY;
	CREATE POLICY low ON tms.capture TO clerk USING (image_bytes < 1100);
	CREATE FUNCTION public.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.lane := 9; RETURN NEW; END $$;
	CREATE TRIGGER mark BEFORE INSERT ON tms.capture FOR EACH ROW EXECUTE FUNCTION public.mark();
	CREATE INDEX ON tms.capture (violation_code) WHERE violation_code IS NOT NULL;
	COMMENT ON TABLE tms.capture IS 'ours';
	CREATE TABLE public.hotlist (plate text PRIMARY KEY, path tms.storage_path);
	CREATE VIEW public.hits AS SELECT c.* FROM tms.capture c JOIN public.hotlist USING (plate);
SQL

my $folder = PostgreSQL::Test::Utils::tempdir;
my @dump = ('pg_dump', '-d', $node->connstr('postgres'));
# A table or sequence of the extension without the mark would be empty after a restore.
is($node->sql("SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		JOIN pg_class c ON c.oid = d.objid
	WHERE extname = 'tms' AND c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY(e.extconfig)"), '', 'all tables and sequences of the extension are dumped with their rows');
my $original = $node->dump_of;
like($original, qr/COPY tms\.device_secret/, 'secrets are in the dump');
unlike($original, qr/\Q$token\E/, 'but no token');

command_ok([ @dump, '-f', "$folder/plain.sql" ], 'plain dump');
command_ok([ @dump, '-Fc', '-f', "$folder/custom.dump" ], 'custom dump');
my %restore = (
	plain => sub { [ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($_[0]), '-f', "$folder/plain.sql" ] },
	custom => sub { [ 'pg_restore', '-1', '--exit-on-error', '-d', $node->connstr($_[0]), "$folder/custom.dump" ] });

for my $format (sort keys %restore)
{
	my $database = "from_$format";
	my $sql = sub { $node->sql($_[0], dbname => $database) };
	$node->sql("CREATE DATABASE $database");
	command_ok($restore{$format}->($database), "$format: restored in one transaction");
	is($node->dump_of($database), $original, "$format: a dump of it is the same dump");

	is($sql->('SELECT count(*), count(*) FILTER (WHERE lane = 9) FROM tms.capture'), '290|0', "$format: rows, as they were");
	is($sql->("SELECT count(*) FROM pg_extension e JOIN pg_depend d ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
		WHERE extname = 'tms' AND d.objid IN ('tms.capture'::regclass, 'tms.storage_path'::regtype)"), 0,
		"$format: the table is the user's");
	is($sql->("SET ROLE clerk; SELECT count(*) FROM tms.capture; SELECT count(*) FROM tms.fleet"), "99\n1", "$format: policies and grants");
	is($sql->("SELECT from_seq, to_seq, kind FROM tms.device_gap WHERE kind = 'declared'"), '201|210|declared', "$format: gaps");
	is($sql->("SELECT cached FROM tms.fleet"), 5, "$format: heartbeats");

	# It goes on.
	my $twin = Tms::Ledger->new(%$ledger);
	is($sql->($twin->call_sql(301, 350)), 350, "$format: ingest goes on, the token is good");
	is($sql->($twin->call_sql(340, 350)), 350, "$format: what came twice is there once");
	is($sql->('SELECT count(*), count(*) FILTER (WHERE lane = 9) FROM tms.capture'), '340|50', "$format: the user's trigger too");
	my ($status, $out, $error) = $node->psql($database, Tms::Ledger->new(%$ledger, token => 'x' x 43)->call_sql(351, 351));
	like($error, qr/ERROR/, "$format: a wrong token is refused");
	is($sql->("SELECT length(tms.register_device('gate-3', NULL)); SELECT device_id FROM tms.device WHERE code = 'gate-3'"), "43\n3",
		"$format: numbers of devices are not given again");
	cmp_ok($sql->("SELECT tms.request_upload(NULL, '2026-01-01', '2026-01-02')"), '>', $last_request, "$format: nor those of upload requests");
	is($sql->("SELECT tms.partition_ensure(current_date + 30), tms.partition_ensure(current_date + 30)"), 't|f', "$format: days are made");
	is($sql->("SELECT count(*) FROM tms.captures('gate-1', now() - interval '9 days', now() + interval '1 day')"), 340, "$format: questions are answered");
	isnt($node->psql($database, "INSERT INTO public.hotlist VALUES ('x', '../y')"), 0, "$format: the domain still has its rule");
}

# The restored rows come from the dump, not from the script.
$node->sql('CREATE DATABASE empty');
command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('empty'), '-c', 'CREATE EXTENSION tms' ],
	'a new one beside them');
is($node->sql('SELECT count(*) FROM tms.device', dbname => 'empty'), 0, 'is empty');

done_testing();
