# tms.request_upload refills an image center that lost its photographs: newest first, beside the backlog, nothing that is still
# there is sent again, what is damaged there is repaired; a restart goes on; and the path center sees how far it is.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $captures = $ENV{TMS_LONG} ? 5000 : 300;
my $pc = Tms::Cluster->start_new('refill', conf => "fsync = off\n");
my $store = Tms::Store->new('refill')->start;
$pc->add_server($store->url, breaker_cooldown => '100ms');

sub new_agent
{
	my ($device, %options) = @_;
	my $port = free_port();
	return Tms::Agent->new(device => $device, token => $pc->add_device($device, "http://127.0.0.1:$port"),
		conninfo => $pc->agent_conninfo, url => $store->url, cache_port => $port,
		extra => { path_center => { interval => '100ms', heartbeat => $options{heartbeat} // '300ms' }, image_center => $options{image_center} // {} })->start;
}
sub take
{
	my ($agent, $text) = @_;
	my ($status, $answer) = $agent->post(jpeg($text, 3000));
	die "HTTP $status" if $status != 201;
	return $answer->{path};
}
sub settled
{
	my ($agent) = @_;
	return poll_until(sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 }, 'empty backlogs', 120);
}
sub log_has { my ($agent, $pattern, $name) = @_; return ok(poll_until(sub { read_file($agent->{log}) =~ $pattern }, "the log: $pattern", 60), $name); }
my $span = "now() - interval '1 day', now() + interval '1 day'";
sub request { my ($device) = @_; return $pc->sql("SELECT tms.request_upload($device, $span)"); }
sub found { return $pc->sql("SELECT sum(captures), sum(in_image_center), sum(only_front_end), sum(nowhere), sum(wrong_bytes), sum(unknown) FROM tms.verify_images($span)"); }
sub progress
{
	my ($id, $what, $expected, $name) = @_;
	return ok($pc->wait_for_sql("SELECT device, $what FROM tms.upload_progress WHERE request_id = $id ORDER BY device", $expected, 120), $name);
}
sub puts { my ($device) = @_; return $store->requests(qr{"PUT /captures/$device/}); }

my ($one, $two) = (new_agent('refill-1'), new_agent('refill-2'));
my @paths = map { take($one, "one $_") } 1 .. $captures;
my @others = map { take($two, "two $_") } 1 .. 5;
settled($_) for $one, $two;
is(found(), join('|', $captures + 5, $captures + 5, 0, 0, 0, 0), 'all are in the image center');

# --- what is still there is confirmed, not sent again; what is damaged is repaired ---
my $before = puts('refill-1');
my $damaged = $store->file("refill-1/$paths[7]");
(my $other = read_file($damaged)) =~ s/one/ONE/;
write_file($damaged, $other);
unlink $store->file("refill-1/$paths[9]");
is(found(), join('|', $captures + 5, $captures + 3, 1, 0, 1, 0), 'one is damaged and one is lost');
my $id = request(q('refill-1'));
progress($id, 'state, held, remaining, not_held, done_at IS NOT NULL', "refill-1|done|$captures|0|0|t", 'a request, done');
is(puts('refill-1') - $before, 2, 'only these two were sent');
log_has($one, qr/event=upload_repairs seq=8 /, 'the repair is told');
is(found(), join('|', $captures + 5, $captures + 5, 0, 0, 0, 0), 'all are there again');
is($pc->sql("SELECT upload_requested, upload_request_done IS NOT NULL, upload_not_held FROM tms.fleet WHERE device = 'refill-1'"), '0|t|0', 'and tms.fleet says so');

# --- everything is gone; the new ones of the backlog go on beside it, and a kill amid it costs nothing ---
$store->stop;
system('rm', '-rf', "$store->{dir}/objects/refill-1", "$store->{dir}/objects/refill-2");
unlink "$store->{dir}/access.log";
$id = request('NULL');
progress($id, 'state, held, remaining', "refill-1|under way|$captures|$captures\nrefill-2|under way|5|5", 'a request to all reaches all');
push @paths, map { take($one, "late $_") } 1 .. 5;
is($pc->sql("SELECT count(*) FROM tms.missing_of_request($id) WHERE found = 'unknown'"), $captures + 10, 'with the image center away nothing is known')
  if $pc->wait_for_sql('SELECT count(*) FROM tms.capture', $captures + 10, 60);
my $begin = time;
$store->start;
ok(poll_until(sub { puts('refill-1') >= 40 }, 'some', 60), 'the refill begins');
$one->kill9;
my @order = map { s/^0+//r } read_file("$store->{dir}/access.log") =~ m{"PUT /captures/refill-1/\S+/(\d+)-\S+ HTTP/1.1" 20[14]}g;
my @of_request = grep { $_ <= $captures } @order;
my @late = grep { $order[$_] > $captures } 0 .. $#order;
cmp_ok($of_request[0], '>', $captures - 20, 'newest first');
# What was under way when the center was found away comes again in between.
cmp_ok(scalar(grep { $_ > 0 && $of_request[$_] > $of_request[ $_ - 1 ] + 20 } 0 .. $#of_request), '<=', 8, 'and on from there');
is(scalar(@late), 5, 'those of the backlog did not wait for them');
$one->start;
progress($id, 'state, held, remaining', "refill-1|done|$captures|0\nrefill-2|done|5|0", 'a restart goes on');
note(sprintf('an image center with %d captures emptied: whole again after %.1f s, with a kill amid it', $captures + 5, time - $begin));
is(found(), join('|', $captures + 10, $captures + 10, 0, 0, 0, 0), 'whole again');
is(scalar(grep { !-e $store->file("refill-1/$_") } @paths), 0, 'object by object');
my %put;
$put{$_}++ for read_file("$store->{dir}/access.log") =~ m{"PUT (/captures/\S+) HTTP/1.1" 20[14]}g;
cmp_ok(scalar(grep { $_ > 1 } values %put), '<=', 16, 'only what was under way at the kill was sent twice');

# --- many requests, one after the other, with one heartbeat ---
my $slow = new_agent('refill-3', heartbeat => '1h');
take($slow, 'three');
settled($slow);
my @ids = map { request(q('refill-3')) } 1 .. 5;
$slow->stop;
$slow->start;
ok($pc->wait_for_sql("SELECT request_seen FROM tms.ledger JOIN tms.device USING (device_id) WHERE code = 'refill-3'", $ids[-1], 60),
	'five requests reach it with one heartbeat');
is(scalar(() = read_file($slow->{log}) =~ /event=upload_request id=/g), 6, 'each is carried out');
is($pc->sql("SELECT count(*) FROM tms.upload_progress WHERE device = 'refill-3' AND state = 'waits'"), 0, 'none waits');
settled($slow);

# --- what no cache holds any more is named ---
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second' WHERE code = 'refill-2'");
# (The ledger notes a deletion after the file is gone.)
ok(poll_until(sub { $two->status->{cached} == 0 }, 'an empty cache', 120), 'a front end has cleaned its cache');
unlink $store->file("refill-2/$others[$_]") for 0, 3;
$id = request(q('refill-2'));
progress($id, 'state, held, not_held', 'refill-2|done|0|5', 'it has nothing to send');
is($pc->sql("SELECT device, path, found, reason FROM tms.missing_of_request($id) ORDER BY capture_id"),
	join("\n", map { "refill-2|$others[$_]|nowhere|image_center: HTTP 404; front_end: HTTP 410" } 0, 3), 'what is lost is named');
is($pc->sql("SELECT upload_not_held FROM tms.fleet WHERE device = 'refill-2'"), 5, 'tms.fleet tells how many the cache did not hold');
is($_->stop, 0, 'stops cleanly') for $one, $two, $slow;

done_testing();
