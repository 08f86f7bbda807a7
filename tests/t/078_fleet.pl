# The fleet as the path center sees it, with real agents: what each says of itself arrives in tms.fleet, worst first.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('fleet');
my (%store, %agent);
for my $name ('well', 'stuck')
{
	$store{$name} = Tms::Store->new->start;
	my $device = "fleet-$name";
	my $port = free_port();
	$agent{$name} = Tms::Agent->new(
		device => $device, token => $cluster->add_device($device, "http://127.0.0.1:$port"), conninfo => $cluster->agent_conninfo,
		url => $store{$name}->url, cache_port => $port);
	$agent{$name}->start;
}

sub fleet { my ($name, $what) = @_; return $cluster->sql("SELECT $what FROM tms.fleet WHERE device = 'fleet-$name'"); }
sub wait_for { my ($name, $what) = @_; return $cluster->wait_for_sql("SELECT $what FROM tms.fleet WHERE device = 'fleet-$name'", 't', 60); }

$agent{well}->post(jpeg("well $_")) for 1 .. 4;
$agent{stuck}->post(jpeg("stuck $_"), captured_at => '2026-11-22T06:03:06Z') for 1 .. 3;
ok(wait_for($_, "cached = " . ($_ eq 'well' ? 4 : 3) . ' AND upload_backlog = 0 AND register_backlog = 0'), "$_: nothing waits") for 'well', 'stuck';
my $status = $agent{well}->status;
is(fleet('well', 'online, cached_bytes, total_bytes, set_aside, gaps, version, upload_error IS NULL, register_error IS NULL, agent_error IS NULL'),
	"t|$status->{cached_bytes}|$status->{total_bytes}|0|0|$status->{version}|t|t|t", 'what a heartbeat says');
is(fleet('well', 'problems IS NULL'), 't', 'nothing is wrong');

# --- an image center goes away, and is asked for everything again ---
$store{stuck}->stop;
$agent{stuck}->post(jpeg('stuck 4'));
ok(wait_for('stuck', 'upload_backlog = 1 AND upload_error IS NOT NULL AND upload_oldest > interval \'0\''), 'one waits');
is(fleet('stuck', 'upload_requested'), 0, 'of its own');
$cluster->sql("SELECT tms.request_upload('fleet-stuck', '2026-11-22', '2026-11-23')");
ok(wait_for('stuck', 'upload_backlog = 4 AND upload_requested = 3'), 'three more by request');
like(($agent{stuck}->command('status'))[1], qr/^image center +4 waiting, .*, 3 of them sent again by request; error: /m, 'as the agent itself says');

# --- worst first ---
$cluster->sql("UPDATE tms.device SET enabled = false WHERE code = 'fleet-well'");
is($cluster->sql('SELECT device, problems FROM tms.fleet'), "fleet-well|{disabled}\nfleet-stuck|", 'what somebody switched off is told');
$cluster->sql("UPDATE tms.device SET enabled = true WHERE code = 'fleet-well'");
$agent{stuck}->stop;
$cluster->sql("UPDATE tms.device_status SET at = at - interval '10 min' WHERE device_id = (SELECT device_id FROM tms.device WHERE code = 'fleet-stuck')");
is($cluster->sql('SELECT device, problems[1] FROM tms.fleet'), "fleet-stuck|offline\nfleet-well|", 'the silent one comes first');

# --- back ---
$store{stuck}->start;
$agent{stuck}->start;
ok(wait_for('stuck', 'online AND upload_backlog = 0 AND upload_requested = 0 AND upload_error IS NULL'), 'all of it is uploaded');
is($cluster->sql("SELECT count(*) FROM tms.fleet WHERE problems IS NOT NULL"), 0, 'and all is well');
is($agent{$_}->stop, 0, "$_ stops") for 'well', 'stuck';

done_testing();
