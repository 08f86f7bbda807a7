# The cleaner: a photograph leaves the cache only when it is in the image center now, registered, and old enough.
use strict;
use warnings;

use File::Path qw(remove_tree);
use POSIX qw(strftime);
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('cleaner');
my $store = Tms::Store->new('cleaner')->start;

sub new_agent
{
	my ($device, $url) = @_;
	return Tms::Agent->new(device => $device, token => $pc->add_device($device, 'http://127.0.0.1:1'),
		conninfo => $pc->agent_conninfo, url => $url,
		extra => { path_center => { interval => '100ms', heartbeat => '300ms' } })->start;
}

# Takes captures in; returns {path => bytes}.
sub post_all
{
	my ($agent, $name, $count, %fields) = @_;
	my %taken;
	for my $i (1 .. $count)
	{
		my $bytes = jpeg("$agent->{device} $name $i", 20_000);
		my ($code, $answer) = $agent->post($bytes, %fields);
		die "post: $code" if $code != 201;
		$taken{ $answer->{path} } = $bytes;
	}
	return \%taken;
}

sub cache_file { my ($agent, $path) = @_; return "$agent->{dir}/data/cache/$path"; }

# How many of these are in the cache.
sub cached { my ($agent, $taken) = @_; return scalar(grep { -e cache_file($agent, $_) } keys %$taken); }

sub cached_is
{
	my ($agent, $taken, $count) = @_;
	return poll_until(sub { cached($agent, $taken) == $count }, "$count of them in the cache");
}

# How many of these the image center has, byte for byte.
sub stored
{
	my ($agent, $taken) = @_;
	return scalar(grep { my $file = $store->file("$agent->{device}/$_"); -e $file && read_file($file) eq $taken->{$_} }
		  keys %$taken);
}

# Both backlogs are empty: everything taken in is safe.
sub is_safe
{
	my ($agent) = @_;
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 },
		'empty backlogs');
}

sub set_period
{
	my ($agent, $period) = @_;
	$pc->sql("UPDATE tms.device SET cleaning_period = '$period' WHERE code = '$agent->{device}'");
	return;
}

sub logged { my ($agent, $pattern) = @_; return scalar(() = read_file($agent->{log}) =~ /$pattern/g); }

sub log_has
{
	my ($agent, $pattern, $name) = @_;
	return ok(poll_until(sub { logged($agent, $pattern) }, "the log: $pattern"), $name);
}

# --- old enough, registered, in the image center ---
my $agent = new_agent('clean-1', $store->url);
my $young = post_all($agent, 'young', 10);
ok(is_safe($agent), 'captures are registered and uploaded');
is(cached($agent, $young), 10, 'and stay in the cache: the period is seven days');
set_period($agent, '1 second');
ok(cached_is($agent, $young, 0), 'the period is a second: they leave the cache');
is(stored($agent, $young), 10, 'and are in the image center');
ok(poll_until(sub { $agent->status->{cached} == 0 }, 'none cached'), 'the status counts none');
is(http('GET', $agent->signed_url((keys %$young)[0]))->{status}, 410, 'the cache server says that it had them');
ok($pc->wait_for_sql('SELECT cleaned_seq FROM tms.ledger', 10), 'the path center knows that they have left');
ok(logged($agent, qr/event=cache_cleaned files=\d+ /), 'the log tells');

# --- registered and uploaded, but captured later than taken in: the later time counts; also the witness of a sweep ---
my $witness = post_all($agent, 'witness', 1, captured_at => strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time() + 6)));
ok(is_safe($agent), 'one with a time some seconds ahead is safe in both centers');
is(cached($agent, $witness), 1, 'and stays');

# --- uploaded, but not registered ---
$pc->sql("UPDATE tms.device SET enabled = false WHERE code = 'clean-1'");
my $unregistered = post_all($agent, 'unregistered', 3);
ok(poll_until(sub { stored($agent, $unregistered) == 3 }, 'three uploaded'), 'the path center takes no records');
ok(cached_is($agent, $witness, 0), 'a sweep goes by');
is(cached($agent, $unregistered), 3, 'what is not registered stays');
$pc->sql("UPDATE tms.device SET enabled = true WHERE code = 'clean-1'");
ok(cached_is($agent, $unregistered, 0), 'once registered it goes');

# --- registered, but the image center is away ---
$store->stop;
my $waiting = post_all($agent, 'waiting', 3);
set_period($agent, '1 day');
ok($pc->wait_for_sql("SELECT status->'upload'->>'backlog' FROM tms.device_status", 3), 'the image center is away');
$store->start;
ok(is_safe($agent), 'and back: uploaded');
$store->stop;
set_period($agent, '1 second');
log_has($agent, qr/event=cleaner_waits reason="Failed to connect/, 'away again when they are old enough: told');
is(cached($agent, $waiting), 3, 'and they stay');
$store->start;
ok(cached_is($agent, $waiting, 0), 'when the image center can be asked again, they go');

# --- an emptied or damaged image center gets them again before they leave the cache ---
set_period($agent, '1 day');
ok(poll_until(sub { logged($agent, qr/event=cleaning_period seconds=86400 before_seconds=1\b/) == 2 }, 'a day'),
	'the period is a day again');
my $emptied = post_all($agent, 'emptied', 6);
ok(is_safe($agent), 'captures are safe');
my @paths = sort keys %$emptied;
unlink $store->file("clean-1/$_") for @paths[ 0 .. 3 ];
truncate($store->file("clean-1/$paths[4]"), 1000) or die "truncate: $!";
is(stored($agent, $emptied), 1, 'the image center loses four and damages one');
set_period($agent, '1 second');
ok(cached_is($agent, $emptied, 0), 'they leave the cache');
is(stored($agent, $emptied), 6, 'after the image center has got them again');
is(logged($agent, qr/event=not_in_image_center .*reason="HEAD: HTTP status 404"/), 4, 'the lost ones were told');
is(logged($agent, qr/event=not_in_image_center .*reason="HEAD: the store has 1000 bytes instead of \d+"/),
	1, 'and the damaged one');

# --- upload requests ---
set_period($agent, '1 day');
my $requested = post_all($agent, 'requested', 8);
ok(is_safe($agent), 'captures are safe');
remove_tree($store->file('clean-1'));
is(stored($agent, $requested), 0, 'the image center is emptied');
my $request = $pc->sql("SELECT tms.request_upload('clean-1', now() - interval '1 hour', now() + interval '1 hour')");
ok(poll_until(sub { stored($agent, $requested) == 8 }, 'eight stored'), 'an upload request refills it');
ok($pc->wait_for_sql('SELECT request_seen FROM tms.ledger', $request), 'and is acknowledged');
is(logged($agent, qr/event=upload_request id=$request/), 1, 'it is carried out once');
$agent->stop;
$agent->start;
ok(is_safe($agent), 'also after a restart');
is(logged($agent, qr/event=upload_request id=$request/), 1, 'only once');

# --- the period holds without a path center, across restarts ---
set_period($agent, '2 seconds');
log_has($agent, qr/event=cleaning_period seconds=2 /, 'the period is two seconds');
$store->stop;
my $kept = post_all($agent, 'kept', 4);
ok(poll_until(sub { $agent->status->{register}{backlog} == 0 }, 'registered'),
	'captures are registered, the image center is away');
$agent->stop;
$pc->stop;
$store->start;
$agent->start;
ok(cached_is($agent, $kept, 0), 'without the path center the last period it told holds, also after a restart');
is(stored($agent, $kept), 4, 'and they are in the image center');
$pc->start;

# --- killed while it cleans ---
set_period($agent, '1 day');
log_has($agent, qr/event=cleaning_period seconds=86400 before_seconds=2\b/, 'the period is a day again');
my $many = post_all($agent, 'many', 60);
ok(is_safe($agent), 'sixty captures are safe');
set_period($agent, '1 second');
for my $left (50, 35, 20, 5)
{
	poll_until(sub { cached($agent, $many) <= $left }, "$left left");
	$agent->kill9;
	is(scalar(grep { !-e cache_file($agent, $_) && !-e $store->file("clean-1/$_") } keys %$many), 0,
		'killed while it cleans: nothing is gone from both');
	$agent->start;
}
ok(cached_is($agent, $many, 0), 'it finishes');
is(stored($agent, $many), 60, 'and all are in the image center');
ok(poll_until(sub { $agent->status->{cached} == 0 }, 'counters', 60), 'the counters are right');
is(($agent->stop)[0], 0, 'stopped');

# --- an image center that answers, but not usefully ---
my $answers = "$PostgreSQL::Test::Utils::tmp_check/head_answers_$$";
my $dir = "$PostgreSQL::Test::Utils::tmp_check/head_objects_$$";
mkdir $dir;
write_file($answers, '200');
my $stub = Tms::Stub->start(
	sub {
		my ($request) = @_;
		(my $name = $request->{path}) =~ tr{/}{!};
		if ($request->{method} eq 'PUT')
		{
			write_file("$dir/$name", $request->{body});
			return [ 201, {}, '' ];
		}
		my ($status, $date) = split /;/, read_file($answers);
		return [ $status, $date ? { Date => $date } : {}, -e "$dir/$name" ? read_file("$dir/$name") : '' ];
	});
my $second = new_agent('clean-2', $stub->url . '/captures');
my $taken = post_all($second, 'odd', 5);
ok(is_safe($second), 'captures are safe in a store of moods');
write_file($answers, '503');
set_period($second, '1 second');
log_has($second, qr/event=cleaner_waits reason="HEAD: HTTP status 503"/, 'it does not want to answer: told');
is(cached($second, $taken), 5, 'and nothing goes');
write_file($answers, '403');
log_has($second, qr/event=cleaner_waits reason="HEAD: HTTP status 403"/, 'it refuses: told');
is(cached($second, $taken), 5, 'and nothing goes');
write_file($answers, '302');
log_has($second, qr/event=cleaner_waits reason="HEAD: HTTP status 302 \(redirects are not followed\)"/,
	'it redirects: told');
is(cached($second, $taken), 5, 'and nothing goes');
write_file($answers, '200;Mon, 01 Jan 2024 00:00:00 GMT');
log_has($second, qr/event=cleaner_waits reason="the image center's clock is behind/,
	'its clock says that they are young: told');
is(cached($second, $taken), 5, 'and nothing goes');
write_file($answers, '200');
ok(cached_is($second, $taken, 0), 'when it answers as it should, they go');
is(($second->stop)[0], 0, 'stopped');

$pc->stop;
done_testing();
