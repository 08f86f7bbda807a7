# The path center restored from a backup, the image center emptied, a ledger lost: what the cache does not hold any more is
# registered again from the ledger, and nothing twice.
use strict;
use warnings;

use File::Path qw(remove_tree);
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $pc = Tms::Cluster->start_new('reconcile');
my $store = Tms::Store->new('reconcile')->start;
my $token = $pc->add_device('back-1', 'http://127.0.0.1:1');
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

sub new_agent
{
	my (%options) = @_;
	return Tms::Agent->new(device => 'back-1', token => $token, conninfo => $pc->agent_conninfo, url => $store->url,
		extra => { path_center => { interval => '100ms', heartbeat => '300ms', batch => 7 } }, %options);
}

my %taken; # digest => path
my $agent = new_agent()->start;

sub take
{
	my ($name, $count, $who) = @_;
	for my $i (1 .. $count)
	{
		my ($code, $answer) = ($who // $agent)->post(jpeg("$name $i", 3000), plate => "$name$i");
		die "post: $code" if $code != 201;
		$taken{ $answer->{sha256} } = $answer->{path};
	}
	return;
}

sub settled
{
	my ($who) = @_;
	return poll_until(
		sub {
			my $s = ($who // $agent)->status;
			$s && $s->{register}{backlog} == 0 && $s->{upload}{backlog} == 0;
		},
		'registered and uploaded', 60);
}

# One row each, with its record, and no other.
sub whole
{
	my ($name) = @_;
	my $count = keys %taken;
	return ok($pc->wait_for_sql('SELECT count(*), count(DISTINCT sha256), count(DISTINCT path), count(plate) FROM tms.capture',
			"$count|$count|$count|$count", 60),
		"$name: $count captures have a row each");
}

sub set_period
{
	my ($period) = @_;
	$pc->sql("UPDATE tms.device SET cleaning_period = '$period'");
	return;
}

sub cleaned { return poll_until(sub { $agent->status->{cached} == 0 }, 'an empty cache', 60); }

# --- a dump, restored into an empty database; everything is cleaned meanwhile ---
take('dumped', 12);
ok(settled(), 'twelve captures');
my $dump = "$tmp/reconcile_$$.dump";
$pc->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $pc->connstr('postgres') ], 'a dump');
take('later', 20);
ok(settled(), 'and twenty more');
whole('before the restore');
set_period('1 second');
ok(cleaned(), 'all have left the cache');
my $ids = $pc->sql('SELECT md5(string_agg(capture_id::text, chr(44) ORDER BY capture_id)) FROM tms.capture');
$pc->sql('CREATE DATABASE aside', dbname => 'template1');
$pc->sql("UPDATE pg_database SET datallowconn = false WHERE datname = 'postgres';"
	  . "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'", dbname => 'aside');
$pc->sql('DROP DATABASE postgres (FORCE)', dbname => 'aside');
$pc->sql('CREATE DATABASE postgres', dbname => 'aside');
$pc->command_ok([ 'pg_restore', '-1', '-d', $pc->connstr('postgres'), $dump ], 'the dump is restored');
$pc->restart;
take('after', 3);
whole('restored from a dump');
is($pc->sql("SELECT md5(string_agg(capture_id::text, chr(44) ORDER BY capture_id)) FROM tms.capture WHERE plate NOT LIKE 'after%'"),
	$ids, 'under their old ids');
is($pc->sql('SELECT count(*) FROM tms.declared_gap'), 0, 'and no gap');

# --- the same by a copy of the server's files ---
ok(settled(), 'settled');
$pc->stop;
my $files = $pc->data_dir;
is(system('cp', '-a', $files, "$files.backup"), 0, 'a copy of the files');
$pc->start;
take('behind the copy', 15);
ok(settled(), 'fifteen more');
set_period('1 second');
ok(cleaned(), 'and they leave the cache');
$pc->stop('immediate');
remove_tree($files);
rename("$files.backup", $files) or die $!;
$pc->start;
whole('restored from a copy of its files');
is($pc->sql('SELECT count(*) FROM tms.declared_gap'), 0, 'and no gap');

# --- the image center is emptied: what the cache holds is refilled by one request; the rest is known to be lost ---
set_period('1 day');
ok(poll_until(sub { $agent->status->{cleaning}{period_seconds} == 86400 }, 'a day', 60), 'the period is a day');
take('held', 10);
ok(settled(), 'ten more, which the cache holds');
remove_tree($store->file('back-1'));
$pc->sql("SELECT tms.request_upload('back-1', now() - interval '1 hour', now() + interval '1 hour')");
ok(poll_until(sub { 10 == grep { -e $store->file("back-1/$_") } values %taken }, 'ten objects', 60), 'a request refills the image center');
ok(settled(), 'all of what there is');
whole('image center emptied');

# --- ledger.db is lost when part of its captures has been cleaned: what is left keeps its place, nothing is deleted ---
my $seen = $pc->sql('SELECT count(*) FROM tms.ledger');
$agent->stop;
unlink glob("$agent->{dir}/data/ledger.db*");
$agent->start;
take('new ledger', 4);
whole('lost ledger.db');
ok($pc->wait_for_sql('SELECT count(*) FROM tms.ledger', $seen + 1), 'new captures have a ledger of their own');
ok(settled(), 'settled');
is($pc->sql('SELECT count(*) FROM tms.declared_gap'), 0, 'what was cleaned is no gap: it is registered');
is($agent->status->{cached}, 14, 'and nothing was deleted');

# --- and the path center is restored to before some of that: what the ledger lost is a gap, the rest comes back ---
# (the cleaned captures' records were in the lost ledger alone)
my ($old, $held) = split /\|/, $pc->sql("SELECT min(tms.capture_seq(capture_id)), max(tms.capture_seq(capture_id)) FROM tms.capture WHERE plate LIKE 'held%'");
my $lost = $pc->sql("DELETE FROM tms.capture WHERE plate LIKE 'behind the copy%' OR plate LIKE 'held%' RETURNING plate") =~ tr/\n// + 1;
$pc->sql("UPDATE tms.ledger SET accepted_seq = $old - 16, accepted_sha256 = NULL, report_no = 0 WHERE last_seq = $held");
delete $taken{$_} for grep { !-e "$agent->{dir}/data/cache/$taken{$_}" && $pc->sql("SELECT count(*) FROM tms.capture WHERE encode(sha256, 'hex') = '$_'") == 0 } keys %taken;
whole('lost ledger.db and an old backup');
is($pc->sql('SELECT to_seq - from_seq + 1 FROM tms.declared_gap'), 15, 'what nobody holds any more is a declared gap');

# --- a copied disk: the cache server says 410 of a cleaned capture, also when a fork has moved it ---
$agent->stop;
my $dir = "$tmp/reconcile_twin_$$";
is(system('cp', '-a', $agent->{dir}, $dir), 0, 'a copied disk');
my $twin = new_agent(dir => $dir);
my $away = 'host=127.0.0.1 port=1 user=x dbname=x';
my $conninfo = $pc->agent_conninfo;
for my $one ($agent, $twin)
{
	$one->{sections}{path_center}{conninfo} = $away;
	$one->write_config;
	$one->start;
}
take('of the first', 3);
take('of the twin', 3, $twin);
for my $one ($agent, $twin)
{
	$one->stop;
	$one->{sections}{path_center}{conninfo} = $conninfo;
	$one->write_config;
	$one->start;
}
ok(settled($_), 'registered') for $agent, $twin;
whole('copied disk');
my ($forked) = grep { read_file($_->{log}) =~ /event=ledger_forked / } $agent, $twin;
ok($forked, 'one of them has forked');
my $name = $forked == $twin ? 'of the twin' : 'of the first';
my $moved = $pc->sql("SELECT path FROM tms.capture WHERE plate = '${name}1'");
is(http('GET', $forked->signed_url($moved))->{status}, 200, 'its cache serves what was moved');
my ($code, $out) = $forked->command('why', $moved);
is($code, 0, 'why finds it by its path');
set_period('1 second');
ok(poll_until(sub { http('GET', $forked->signed_url($moved))->{status} == 410 }, '410', 60), 'and says 410 once it is cleaned');
is(($_->stop)[0], 0, 'stopped') for $agent, $twin;

$pc->stop;
done_testing();
