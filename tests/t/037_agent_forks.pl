# Copied and rolled-back front ends, and a path center that was restored: every capture has exactly one row in the end.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $pc = Tms::Cluster->start_new('forks');
my $store = Tms::Store->new('forks')->start;
my $token = $pc->add_device('fork-1', 'http://127.0.0.1:1');
my $conninfo = $pc->agent_conninfo;
my $away = 'host=127.0.0.1 port=1 user=x dbname=x';
my %bytes_of; # by digest: every photograph that was ever acknowledged

sub new_agent
{
	my ($dir) = @_;
	return Tms::Agent->new(device => 'fork-1', token => $token, conninfo => $conninfo, url => $store->url,
		extra => { path_center => { interval => '100ms', heartbeat => '300ms', batch => 4 } },
		defined $dir ? (dir => $dir) : ());
}

# A copy of a stopped agent's disk.
sub copy_of
{
	my ($agent, $name) = @_;
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/fork_${name}_$$";
	system('cp', '-a', $agent->{dir}, $dir) == 0 or die 'cp';
	unlink "$dir/agent.log";
	return new_agent($dir);
}

sub connect_to
{
	my ($agent, $where) = @_;
	$agent->{sections}{path_center}{conninfo} = $where;
	$agent->write_config;
	return $agent->start;
}

sub post_all
{
	my ($agent, $name, $count) = @_;
	for my $i (1 .. $count)
	{
		my $bytes = jpeg("$name $i", 15_000);
		my ($code, $answer) = $agent->post($bytes);
		die "post: $code" if $code != 201;
		$bytes_of{ $answer->{sha256} } = $bytes;
	}
	return;
}

# Every photograph ever acknowledged has exactly one row, under the path of its object.
sub complete
{
	my ($name) = @_;
	my $count = keys %bytes_of;
	ok($pc->wait_for_sql('SELECT count(*), count(DISTINCT sha256), count(DISTINCT path) FROM tms.capture',
			"$count|$count|$count"),
		"$name: $count captures have a row each");
	my %path_of = map { split /\|/ } split /\n/, $pc->sql("SELECT encode(sha256, 'hex'), path FROM tms.capture");
	my $right = poll_until(
		sub {
			for my $digest (keys %bytes_of)
			{
				my $file = $store->file('fork-1/' . ($path_of{$digest} // '-'));
				return 0 if !-e $file || read_file($file) ne $bytes_of{$digest};
			}
			return 1;
		},
		'all objects');
	ok($right, "$name: and their objects in the image center are theirs");
	is($pc->sql('SELECT count(*) FROM tms.declared_gap'), 0, "$name: no gap");
	return;
}

# Nothing of this agent's waits any more.
sub settled
{
	my ($agent) = @_;
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{register}{backlog} == 0 && $s->{upload}{backlog} == 0 },
		'registered and uploaded');
}

sub ledgers { my ($agent) = @_; return @{ $agent->status->{ledgers} }; }

# --- a copied disk: both go on with the same numbers ---
my $first = new_agent()->start;
post_all($first, 'common', 5);
ok(settled($first), 'five captures are registered');
$first->stop;
my $twin = copy_of($first, 'twin');
connect_to($_, $away) for $first, $twin;
post_all($first, 'of the first', 4);
post_all($twin, 'of the twin', 6);
$_->stop for $first, $twin;
connect_to($_, $conninfo) for $first, $twin;
complete('two with the same past');
my ($sealed) = grep { $_->{sealed} } map { ledgers($_) } $first, $twin;
is($sealed->{last_seq}, 5, 'one of them has sealed the common past');
is(scalar(map { ledgers($_) } $first, $twin), 3, 'and goes on under a ledger of its own');
is($pc->sql('SELECT count(*), count(DISTINCT device_id) FROM tms.ledger'), '2|1', 'the path center knows both');
post_all($first, 'more of the first', 3);
post_all($twin, 'more of the twin', 3);
complete('both go on');

# --- copied once more, with records that nobody has registered yet ---
$_->stop for $first, $twin;
connect_to($twin, $away);
post_all($twin, 'before the copy', 3);
$twin->stop;
my $triplet = copy_of($twin, 'triplet');
connect_to($_, $away) for $twin, $triplet;
post_all($twin, 'twin after the copy', 2);
post_all($triplet, 'triplet after the copy', 5);
$_->stop for $twin, $triplet;
connect_to($_, $conninfo) for $first, $twin, $triplet;
complete('three');
is($pc->sql('SELECT count(*) FROM tms.ledger'), '3', 'three ledgers');

# --- the path center is set back to before they parted, and another one comes first ---
$_->stop for $first, $twin, $triplet;
my ($common) = $pc->sql('SELECT ledger_no FROM tms.ledger ORDER BY first_seen_at LIMIT 1');
$pc->sql("DELETE FROM tms.capture WHERE tms.capture_ledger_no(capture_id) <> $common"
	  . ' OR tms.capture_seq(capture_id) > 3;'
	  . "DELETE FROM tms.ledger_day WHERE ledger_no <> $common; DELETE FROM tms.ledger WHERE ledger_no <> $common;"
	  . 'UPDATE tms.ledger SET accepted_seq = 3, accepted_sha256 = NULL, report_no = 0');
is($pc->sql('SELECT count(*) FROM tms.capture'), 3, 'the path center is set back');
for my $agent ($triplet, $twin, $first)
{
	$agent->start;
	ok(settled($agent), 'one comes after the other');
}
complete('restored');

# --- a front end's disk is set back: what it takes in next has numbers that are given already ---
$first->stop;
my $restored = copy_of($first, 'backup');
$first->start;
post_all($first, 'after the backup', 7);
ok(settled($first), 'seven more are registered');
$first->stop;
$restored->start;
post_all($restored, 'after the restore', 3);
ok(settled($restored), 'the restored disk goes on');
complete('disk set back');

# --- the last one's captures are compared from the end back to where they parted ---
my ($active) = grep { !$_->{sealed} } ledgers($restored);
my $ledger = $pc->sql("SELECT ledger_no FROM tms.ledger WHERE ledger = '$active->{ledger}'");
$restored->stop;
my $other = copy_of($restored, 'other');
connect_to($restored, $conninfo);
post_all($restored, 'one side', 6);
ok(settled($restored), 'one side is registered');
$restored->stop;
my $accepted = $pc->sql("SELECT accepted_seq FROM tms.ledger WHERE ledger_no = $ledger");
$pc->sql("DELETE FROM tms.capture WHERE tms.capture_ledger_no(capture_id) = $ledger"
	  . " AND tms.capture_seq(capture_id) > $accepted - 6;"
	  . "UPDATE tms.ledger SET accepted_seq = $accepted - 6, accepted_sha256 = NULL WHERE ledger_no = $ledger");
$other->start;
post_all($other, 'other side', 8);
ok(settled($other), 'the path center is set back, and the other side fills the place');
$restored->start;
poll_until(sub { $restored->status && read_file($restored->{log}) =~ /event=ledger_fork / }, 'a fork');
ok(settled($restored), 'the first side comes back');
complete('traced back');
like(read_file($restored->{log}), qr/event=ledger_fork .*from=${\ ($accepted - 5)}\b/, 'to where they parted');

is(($_->stop)[0], 0, 'stopped') for $twin, $triplet, $restored, $other;
$pc->stop;
done_testing();
