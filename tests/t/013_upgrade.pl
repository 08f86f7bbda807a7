# The way from this version of the extension to the next one: ALTER EXTENSION UPDATE in a database that is in use, and a
# dump of this version restored where the next one is installed.
use strict;
use warnings;

use Test::More;
use PostgreSQL::Test::Utils;
use Tms::Util;

# A PostgreSQL of our own, so that other tests do not see the next version.
my $stage = PostgreSQL::Test::Utils::tempdir . '/stage';
system('cp', '-a', $ENV{TMS_STAGE}, $stage) == 0 or die 'no copy of the installation';
$ENV{PATH} = "$stage/bin:$ENV{PATH}";
require Tms::Cluster;
require Tms::Ledger;

chomp(my $shared = `$stage/bin/pg_config --sharedir`);
my $extensions = "$shared/extension";
like($extensions, qr/^\Q$stage\E/, 'it is the copy that is changed');
my ($version) = read_file("$extensions/tms.control") =~ /^default_version = '(.*)'$/m;

my $node = Tms::Cluster->start_new('path_center');
my $token = $node->add_device('gate-1', 'http://10.1.4.17:8440');
my $ledger = Tms::Ledger->new(device => 'gate-1', token => $token, ledger => '6f9619ff-8b86-4011-b42d-00c04fc964ff');
is($node->sql($ledger->call_sql(1, 50)), 50, "captures in version $version");

my $folder = PostgreSQL::Test::Utils::tempdir;
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('postgres'), '-f', "$folder/old.dump" ], 'a dump of it');

# --- the next version comes: a column more, and a function ---
write_file("$extensions/tms--$version--next.sql", <<'SQL');
ALTER TABLE tms.device ADD COLUMN vendor text NOT NULL DEFAULT 'unknown';
CREATE FUNCTION tms.vendors() RETURNS bigint LANGUAGE sql AS 'SELECT count(DISTINCT vendor) FROM tms.device';
SQL
(my $control = read_file("$extensions/tms.control")) =~ s/^default_version = .*$/default_version = 'next'/m;
write_file("$extensions/tms.control", $control);

# What must work in the database, whichever way it came to the next version.
sub check
{
	my ($how, $database) = @_;
	my $sql = sub { $node->sql($_[0], dbname => $database) };
	is($sql->("SELECT extversion FROM pg_extension WHERE extname = 'tms'"), 'next', "$how: it is the next version");
	is($sql->('SELECT vendor, tms.vendors() FROM tms.device'), 'unknown|1', "$how: with what is new in it");
	is($sql->(Tms::Ledger->new(%$ledger)->call_sql(51, 60)), 60, "$how: ingest goes on");
	is($sql->('SELECT count(*), count(DISTINCT capture_id) FROM tms.capture'), '60|60', "$how: all captures are there");
	is($sql->("SELECT count(*) FROM tms.track('P55', now() - interval '1 day', now())"), 1, "$how: questions are answered");
	is($sql->("SELECT length(tms.rotate_token('gate-1')), (SELECT count(*) FROM tms.fleet), tms.partition_ensure(current_date + 40)"),
		'43|1|t', "$how: functions of the version before work");
	is($sql->("SELECT * FROM tms.upkeep() WHERE outcome LIKE 'failed%'"), '', "$how: upkeep runs");
	return;
}

$node->sql('CREATE DATABASE restored');
command_ok([ 'pg_restore', '-1', '--exit-on-error', '-d', $node->connstr('restored'), "$folder/old.dump" ],
	'the dump is restored where the next version is installed');
check('restored', 'restored');

$node->sql('ALTER EXTENSION tms UPDATE');
check('updated', 'postgres');

# Both ways lead to the same objects.
sub objects
{
	return $node->sql(<<'SQL', dbname => $_[0]);
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tms') AND deptype = 'e'
ORDER BY 1
SQL
}
is(objects('restored'), objects('postgres'), 'both ways lead to the same objects');

# Every version that can be installed, and every way from one to another, works.
my $paths = $node->sql("SELECT string_agg(format('%s %s', source, target), ',' ORDER BY source, target)
	FROM pg_extension_update_paths('tms') WHERE path IS NOT NULL");
for my $pair (split /,/, $paths)
{
	my ($from, $to) = split / /, $pair;
	$node->sql('DROP DATABASE IF EXISTS walk', dbname => 'postgres');
	$node->sql('CREATE DATABASE walk');
	is($node->sql("CREATE EXTENSION tms VERSION '$from'; ALTER EXTENSION tms UPDATE TO '$to'; SELECT tms.create_capture_table();
		SELECT extversion FROM pg_extension WHERE extname = 'tms'", dbname => 'walk'), "\n$to", "from $from to $to");
}

done_testing();
