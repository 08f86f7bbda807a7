# Manifests: agents write them to the image center hour by hour, and a path center that is lost without a backup is made again
# from them, while the agents, and what they have captured since, go on.
use strict;
use warnings;

use POSIX qw(strftime);
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('manifests')->start;
my $pc = Tms::Cluster->start_new('lost');
my @codes = qw(gate-1 gate-2);
my %token = map { $_ => $pc->add_device($_, 'http://127.0.0.1:9') } @codes;
my %agent = map { $_ => Tms::Agent->new(device => $_, token => $token{$_}, conninfo => $pc->agent_conninfo, url => $store->url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' } })->start } @codes;
my $hour = int(time() / 3600) * 3600;
my $posted = 0;

# Posts a capture of so many hours ago (0: now).
sub post
{
	my ($device, $ago, %record) = @_;
	my $at = $ago == 0 ? time() : $hour - $ago * 3600 + $posted % 3600;
	my ($code, $answer) = $agent{$device}->post(jpeg('manifest ' . $posted++, 3000),
		captured_at => strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($at)), plate => "M$posted", %record);
	$code == 201 or die "not taken in: $code";
	return $answer->{path};
}

# The manifests of a device that are in the store, by name, and their lines.
sub manifests
{
	my ($device) = @_;
	return map { s{^\Q$store->{dir}\E/objects/}{}r => read_file($_) } glob("$store->{dir}/objects/$device/manifest/*/*/*/*/*.jsonl");
}

sub lines { my %all = manifests(@_); return map { split /\n/ } values %all; }

# What a path center says of all captures, device numbers aside.
my $rows = q{SELECT md5(string_agg((to_jsonb(c) - 'device_id')::text || d.code, ',' ORDER BY c.capture_id)), count(*)
	FROM tms.capture AS c JOIN tms.device AS d USING (device_id)};

sub import_all
{
	my ($cluster, $prefix) = @_;
	my ($code, $out, $err) = $cluster->psql('postgres', "CALL tms.import_image_center('image_center', '" . ($prefix // '') . "')");
	return ($code, $err);
}

# --- one manifest an hour ---
for my $n (1 .. 10)
{
	post('gate-1', 3, lane => $n, violation_code => $n == 4 ? '1345' : '', camera => 'a');
	post('gate-1', $n == 5 ? 0 : 2);
	post('gate-2', 2);
}
ok(poll_until(sub { lines('gate-1') == 19 && lines('gate-2') == 10 }, 'manifests', 120), 'what is over is in manifests');
my %written = manifests('gate-1');
# A look at the ledger may come in between two uploads that the sender made seconds apart.
cmp_ok(scalar(keys %written), '<=', 6, 'by the hour, not by the capture');
like($_, qr{^gate-1/manifest/\d{4}/\d\d/\d\d/\d\d/[0-9a-f-]{36}-\d{10}-[0-9a-f]{8}\.jsonl$}, 'its name') for keys %written;
is_deeply([ map { /-([0-9a-f]{8})\.jsonl$/ } sort keys %written ], [ map { substr(sha256_hex($written{$_}), 0, 8) } sort keys %written ],
	'and the digest in it');
post('gate-1', 3, plate => 'LATE');
ok(poll_until(sub { lines('gate-1') == 20 }, 'the straggler', 60), 'one that comes late');
my %later = manifests('gate-1');
is(keys(%later), keys(%written) + 1, 'is in a further part');
is_deeply({ map { $_ => $later{$_} } keys %written }, \%written, 'and nothing that was written has changed');
$agent{'gate-1'}->kill9;
$agent{'gate-1'}->start;

# --- the path center is lost ---
ok($pc->wait_for_sql('SELECT count(*) FROM tms.capture', 31, 60), 'all are registered');
my $before = $pc->sql($rows);
is_deeply([ sort keys %{ { manifests('gate-1') } } ], [ sort keys %later ], 'a start writes none again');
$pc->stop('immediate');
post('gate-2', 1, plate => 'MEANWHILE') for 1 .. 3;
ok(poll_until(sub { lines('gate-2') == 13 }, 'more manifests', 60), 'agents go on without it');

my $new = Tms::Cluster->start_new('found');
$new->add_server($store->url);
my ($code, $err) = import_all($new);
isnt($code, 0, 'no import before front ends are registered');
like($err, qr/manifests of 2 front ends that are not registered.*DETAIL:  gate-1, gate-2\n.*HINT:  Register them/s, 'it names them');
$new->sql("SELECT tms.register_device('$_', 'http://127.0.0.1:9', token => '$token{$_}')") for reverse @codes;
($code, $err) = import_all($new, 'gate-2');
is($code, 0, 'one front end') or diag $err;
like($err, qr/NOTICE:  \d+ manifests of 1 front ends loaded, 13 captures added in /, 'it tells what it did');
is($new->sql('SELECT count(*) FROM tms.capture'), 13, 'its captures alone');
($code, $err) = import_all($new);
like($err, qr/ 20 captures added/, 'then the rest');
unlike($err, qr/WARNING/, 'without problems');
is($new->sql("SELECT accepted_seq > settled_seq FROM tms.ledger WHERE device_id = tms.device_id('gate-1')"), 't',
	'one capture is in no manifest: the place is kept open');
($code, $err) = import_all($new);
like($err, qr/NOTICE:  0 manifests of 2 front ends loaded/, 'loaded once');
$new->sql('TRUNCATE tms.imported_manifest');
($code, $err) = import_all($new);
like($err, qr/ 0 captures added/, 'or again, without duplicates');

# --- and the agents report to the new one ---
$agent{$_}{sections}{path_center}{conninfo} = $new->agent_conninfo for @codes;
for my $device (@codes)
{
	$agent{$device}->write_config;
	kill 'HUP', $agent{$device}{pid};
}
ok($new->wait_for_sql('SELECT count(*) FROM tms.capture', 34, 60), 'ledgers add what no manifest has');
ok($new->wait_for_sql('SELECT count(*) FROM tms.ledger WHERE settled_seq IS NULL AND report_no > 0', 2, 60), 'and settle what was open');
is($new->sql("$rows WHERE plate <> 'MEANWHILE'"), $before, 'every row is as it was, id and all');
is($new->sql('SELECT count(*) FROM tms.device_gap'), 0, 'nothing is missing');
is($new->sql("SELECT count(*) FROM tms.ledger"), 2, 'no ledger has forked');
is($new->sql("SELECT count(*) FROM capture_image WHERE sha256(image) = sha256"), 34, 'every photograph is found');
unlike(read_file($agent{$_}{log}), qr/event=ledger_fork/, "$_ was not told to fork") for @codes;

# --- what no record speaks of ---
$store->put('gate-1/2026/lost.jpg', 'x');
$store->put('stranger/2026/x.jpg', 'x');
$store->put('note.txt', 'x');
is($new->sql("SELECT string_agg(concat_ws(' ', object, bytes, reason), '; ' ORDER BY object) FROM tms.unrecorded_objects()"),
	'gate-1/2026/lost.jpg 1 no capture has this path; note.txt 1 not of a registered front end; stranger/ not of a registered front end',
	'objects that nothing is known of are listed');

# --- the image center is emptied ---
my $lines = lines('gate-2');
system('rm', '-rf', "$store->{dir}/objects/gate-2") == 0 or die;
$new->sql("SELECT tms.request_upload('gate-2', now() - interval '1 day', now() + interval '1 day')");
ok(poll_until(sub { lines('gate-2') == $lines }, 'manifests again', 120), 'a refill brings the manifests as well');

# --- an image center that is away, and one that keeps other bytes ---
$store->stop;
post('gate-1', 1, plate => 'AWAY');
ok(poll_until(sub { read_file($agent{'gate-1'}{log}) =~ /event=image_center_failing/ }, 'failing', 60), 'it is away');
$store->start;
ok(poll_until(sub { grep { /AWAY/ } lines('gate-1') }, 'manifest', 120), 'and back');
$agent{$_}->stop for @codes;

done_testing();
