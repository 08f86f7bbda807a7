# pg_upgrade of a path center, by linking its files and, with --long, by copying them: the same captures, registry and foreign
# servers, images are found, and agents go on where they were.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $node = Tms::Cluster->start_new('before', preload => 1);
my $store = Tms::Store->new('upgrade')->start;
$node->add_server($store->url);
$node->sql("CREATE TABLE public.hotlist (plate text, path tms.storage_path)");
my $agent = Tms::Agent->new(device => 'gate', token => $node->add_device('gate', 'http://127.0.0.1:1'), conninfo => $node->agent_conninfo, url => $store->url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' } });
$agent->start;
my $taken = 0;
sub take { my ($count) = @_; is(($agent->post(jpeg('upgrade ' . ++$taken)))[0], 201, "capture $taken is taken") for 1 .. $count; return; }

# Everything taken has a row and an image.
sub whole
{
	my ($pc, $name) = @_;
	ok($pc->wait_for_sql('SELECT accepted_seq, uploaded_seq FROM tms.ledger', "$taken|$taken", 90), "$name: the agent goes on");
	is($pc->sql("SELECT count(*), count(DISTINCT capture_id), bool_and(sha256(image) = sha256) FROM capture_image"), "$taken|$taken|t",
		"$name: each capture has one row and its image");
	return;
}

take(5);
whole($node, 'before');

my $bin = "$ENV{TMS_STAGE}/bin";
my @quick = grep { `pg_upgrade --help` =~ /$_/ } '--no-sync';
my %options = (copy => [@quick], link => [ @quick, '--link' ]);
for my $mode ($ENV{TMS_LONG} ? 'copy' : (), 'link')
{
	my $next = Tms::Cluster->new($mode);
	$next->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$next->append_conf('postgresql.conf', "shared_preload_libraries = 'tms'");
	take(1);
	whole($node, "until the upgrade ($mode)");
	$agent->stop;
	my $before = $node->dump_of;
	my $role = "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'tms_agent'";
	my $limits = $node->sql($role);
	$node->stop;
	chdir $PostgreSQL::Test::Utils::tmp_check;
	my @command = ('pg_upgrade', @{ $options{$mode} }, '-d', $node->data_dir, '-D', $next->data_dir, '-b', $bin, '-B', $bin, '-s', $node->host,
			'-p', $node->port, '-P', $next->port);
	PostgreSQL::Test::Utils::run_log(\@command) or BAIL_OUT("pg_upgrade, $mode");

	$next->start;
	is($next->dump_of, $before, "$mode: a dump of it is the same dump");
	is($next->sql($role), $limits, "$mode: so are the role's limits");
	$agent->{sections}{path_center}{conninfo} =~ s/port=\d+/'port=' . $next->port/e;
	$agent->write_config;
	$agent->start;
	take(2);
	whole($next, $mode);
	is($next->sql("SELECT * FROM tms.upkeep() WHERE outcome LIKE 'failed%'"), '', "$mode: upkeep runs");
	isnt($next->psql('postgres', "INSERT INTO public.hotlist VALUES ('x', '../y')"), 0, "$mode: the domain still has its rule");
	is($next->sql("DROP TABLE public.hotlist; ALTER EXTENSION tms UPDATE; SELECT count(*) FROM tms.fleet"), 1, "$mode: it is an extension as before");
	$next->sql('CREATE TABLE public.hotlist (plate text, path tms.storage_path)');
	$node = $next;
}
$agent->stop;
unlike(read_file($node->logfile), qr/PANIC|terminated by signal/, 'no crash');
$node->stop;
done_testing();
