# SIGKILL during intake: every 201 is found again, exactly once, equal in bytes. The judge is the senders' own list.
use strict;
use warnings;

use Test::More;
use POSIX ();
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $rounds = $ENV{TMS_LONG} ? 500 : 20;
my $senders = 8;

my $store = Tms::Store->new('kill')->start;
my $pc = Tms::Cluster->start_new('kill');
my $cache_port = free_port();
my $token = $pc->add_device('kill-1', "http://127.0.0.1:$cache_port");
my $agent = Tms::Agent->new(
	device => 'kill-1', token => $token, conninfo => $pc->agent_conninfo, url => $store->url, cache_port => $cache_port);
$pc->add_server($store->url);

# Posts photographs one after the other until the agent is gone; writes a line "sha256 ledger seq" for each 201.
sub send_until_gone
{
	my ($list, $sender, $round) = @_;
	open(my $out, '>>', $list) or POSIX::_exit(1);
	$out->autoflush(1);
	for my $n (1 .. 100_000)
	{
		my $bytes = jpeg("round $round sender $sender number $n", 2000 + 997 * ($n % 40));
		my ($status, $answer) = $agent->post($bytes, plate => "K$round$sender", lane => $sender);
		last if $status == 599;
		print $out sha256_hex($bytes), " $answer->{ledger} $answer->{seq}\n" if $status == 201;
		print $out "refused $status\n" if $status != 201;
	}
	close($out);
	POSIX::_exit(0);
}

my $list = "$PostgreSQL::Test::Utils::tmp_check/kill_acknowledged";
for my $round (1 .. $rounds)
{
	$agent->start;
	my $before = -e $list ? -s $list : 0;
	my @pids;
	for my $sender (1 .. $senders)
	{
		my $pid = fork() // die "fork: $!";
		send_until_gone($list, $sender, $round) if $pid == 0;
		push @pids, $pid;
	}
	# Some are acknowledged, a different number in each round, and more are under way.
	poll_until(sub { (-e $list ? -s $list : 0) > $before + 100 * (1 + $round % 7) }, "captures in round $round")
	  or BAIL_OUT('no capture was acknowledged: ' . $agent->log_tail);
	$agent->kill9;
	waitpid($_, 0) for @pids;
}

my @lines = split /\n/, read_file($list);
my %acknowledged = map { my ($sha256, $ledger, $seq) = split / /; ($sha256 => "$ledger $seq") } grep { !/^refused/ } @lines;
my $count = keys %acknowledged;
cmp_ok($count, '>=', $rounds * 2, "$count captures were acknowledged in $rounds rounds");
is(scalar(grep { /^refused/ } @lines), 0, 'none was refused');

$agent->start;
$pc->wait_for_sql("SELECT (SELECT count(*) FROM tms.capture) >= $count AND bool_and(accepted_seq = last_seq AND uploaded_seq = last_seq)
	FROM tms.ledger", 't', 60);
my %rows;
for my $row (split /\n/, $pc->sql("SELECT encode(c.sha256, 'hex'), l.ledger || ' ' || tms.capture_seq(c.capture_id)
	FROM tms.capture c JOIN tms.ledger l ON l.ledger_no = tms.capture_ledger_no(c.capture_id)"))
{
	my ($sha256, $place) = split /\|/, $row;
	push @{ $rows{$sha256} }, $place;
}
my @lost = grep { !$rows{$_} } keys %acknowledged;
my @twice = grep { @{ $rows{$_} } > 1 } keys %rows;
my @moved = grep { $rows{$_} && $rows{$_}[0] ne $acknowledged{$_} } keys %acknowledged;
is(scalar(@lost), 0, 'every acknowledged capture has a row');
is(scalar(@twice), 0, 'none has two');
is(scalar(@moved), 0, 'each under the ledger and seq that its sender was told');

for my $source ('image_center', 'front_end')
{
	is( $pc->sql("SET tms.max_images = 1000000; SET tms.image_source = $source; SELECT count(*), count(*) FILTER (WHERE sha256(image) = sha256 AND image_source = '$source')
			FROM capture_image"),
		join('|', (scalar(keys %rows)) x 2),
		"all bytes are equal from $source");
}
is($pc->sql('SELECT count(*) FROM tms.device_gap'), '0', 'no gap');
is($agent->stop, 0, 'stops cleanly');
unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');

done_testing();
