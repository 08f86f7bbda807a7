# The uploader: every capture reaches the image center, byte for byte, however the image center behaves meanwhile.
use strict;
use warnings;

use File::Path qw(make_path);
use MIME::Base64 qw(encode_base64);
use Test::More;
use Tms::Agent;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $no_path_center = 'host=127.0.0.1 port=1 dbname=x user=x';
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

sub new_agent
{
	my ($device, $url, %image_center) = @_;
	return Tms::Agent->new(device => $device, token => "token-of-$device", conninfo => $no_path_center, url => $url,
		extra => { image_center => \%image_center });
}

# Takes captures in and returns {path => bytes}.
sub post_all
{
	my ($agent, @all) = @_;
	my %taken;
	for my $bytes (@all)
	{
		my ($code, $answer) = $agent->post($bytes);
		is($code, 201, "taken in: $answer->{path}");
		$taken{ $answer->{path} } = $bytes;
	}
	return \%taken;
}

sub backlog_is
{
	my ($agent, $backlog, $limit) = @_;
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{upload}{backlog} == $backlog },
		"backlog $backlog", $limit);
}

# Paths of $taken whose object is not there, byte for byte.
sub not_stored
{
	my ($agent, $taken, $file_of) = @_;
	return [ grep { my $file = $file_of->("$agent->{device}/$_"); !-e $file || read_file($file) ne $taken->{$_} }
		  sort keys %$taken ];
}

sub logged { my ($agent, $pattern) = @_; return scalar(() = read_file($agent->{log}) =~ /$pattern/g); }

sub stops_at_once
{
	my ($agent, $name) = @_;
	my ($exit, $seconds) = $agent->stop;
	is($exit, 0, "$name: TERM ends it");
	cmp_ok($seconds, '<', $ENV{TMS_SLOW} // 2, "$name: at once");
	return;
}

# --- nginx, away and back ---
my $store = Tms::Store->new('uploader')->start;
my $agent = new_agent('up-1', $store->url)->start;
my $taken = post_all($agent, map { jpeg("capture $_", 30_000) } 1 .. 20);
ok(backlog_is($agent, 0), 'all are uploaded');
is_deeply(not_stored($agent, $taken, sub { $store->file(@_) }), [], 'and are in the image center, byte for byte');
is($store->requests(qr/"PUT /), 20, 'with one PUT each');
is($store->requests(qr/"GET .* 200 /), 20, 'and read back once each: nginx tells no digest');
cmp_ok($store->requests(qr/"HEAD /), '<=', 8, 'which is asked for only until that is known');
is($agent->status->{upload}{error}, undef, 'no error is told');

$store->stop;
my $later = post_all($agent, map { jpeg("away $_", 30_000) } 1 .. 12);
ok(poll_until(sub { logged($agent, qr/event=image_center_failing /) > 1 }, 'failures'),
	'the image center is away: told');
is($agent->status->{upload}{backlog}, 12, 'what is taken in meanwhile waits');
like($agent->status->{upload}{error}, qr/connect/i, 'the status says why');
$store->start;
ok(backlog_is($agent, 0), 'the image center is back: uploaded');
is_deeply(not_stored($agent, $later, sub { $store->file(@_) }), [], 'byte for byte');
ok(logged($agent, qr/event=image_center_back /), 'and told');

# --- it waits across a restart ---
$store->stop;
$later = post_all($agent, map { jpeg("restart $_", 30_000) } 1 .. 5);
stops_at_once($agent, 'image center away');
$store->start;
$agent->start;
ok(backlog_is($agent, 0), 'after a restart what waited is uploaded');
is_deeply(not_stored($agent, $later, sub { $store->file(@_) }), [], 'byte for byte');

# --- a store that hangs ---
my @workers = split ' ', `ps -o pid= --ppid $store->{pid}`;
kill 'STOP', $store->{pid}, @workers;
$later = post_all($agent, map { jpeg("stopped $_", 300_000) } 1 .. 10);
ok(poll_until(sub { connections_to($store->{port}, 'established') }, 'a connection'),
	'the image center hangs with uploads under way');
stops_at_once($agent, 'image center hangs');
kill 'CONT', $store->{pid}, @workers;
$agent->start;
ok(backlog_is($agent, 0), 'and goes on where it was');
is_deeply(not_stored($agent, $later, sub { $store->file(@_) }), [], 'byte for byte');

# --- nobody answers a connection at all: a full backlog drops it ---
{
	my $deaf = deaf_listener();
	my $lost = new_agent('up-2', "http://127.0.0.1:$deaf->{port}/captures")->start;
	post_all($lost, jpeg('into the void'));
	ok(poll_until(sub { connections_to($deaf->{port}, 'syn_sent') }, 'a SYN without an answer'), 'packets vanish');
	stops_at_once($lost, 'packets vanish');
}

# --- files that are missing or damaged are set aside; the rest goes on ---
$store->stop;
my $good = post_all($agent, map { jpeg("good $_", 50_000) } 1 .. 6);
my @bad = sort keys %{ post_all($agent, map { jpeg("bad $_", 50_000) } 1 .. 4) };
unlink "$agent->{dir}/data/cache/$bad[0]";
for ([ $bad[1], 30_000, 'x' ], [ $bad[2], 49_999, 'x' ])
{
	my ($path, $at, $byte) = @$_;
	chmod 0600, "$agent->{dir}/data/cache/$path";
	open(my $file, '+<:raw', "$agent->{dir}/data/cache/$path") or die "$path: $!";
	seek($file, $at, 0);
	print $file $byte ^ 'y';
	close($file);
}
truncate("$agent->{dir}/data/cache/$bad[3]", 20_000) or die "truncate: $!";
$store->start;
ok(poll_until(sub { $agent->status->{set_aside} == 4 }, 'four set aside'), 'missing and damaged files are set aside');
ok(backlog_is($agent, 0), 'and nothing waits any more');
is_deeply(not_stored($agent, $good, sub { $store->file(@_) }), [], 'the others are uploaded');
ok(!-e $store->file("up-1/$_"), "no damaged object is in the image center: $_") for @bad;
for ([ $bad[0], 'the file is missing' ], [ $bad[1], 'the file has other bytes than were recorded' ],
	[ $bad[3], 'the file has another size than was recorded' ])
{
	my ($path, $reason) = @$_;
	ok(logged($agent, qr/level=error event=upload_set_aside path=\Q$path\E reason="$reason"/), "told: $reason");
}
stops_at_once($agent, 'with some set aside');

# --- a store that does all kinds of things; which one, the photograph's own text says, until it is healed ---
my $elsewhere = Tms::Stub->start(sub { return [ 200, {}, '' ] });
my $objects = "$tmp/stub_objects_$$";
my $healed = "$tmp/stub_healed_$$";
make_path($objects);
my $file_of = sub { my ($key) = @_; $key =~ tr{/}{!}; return "$objects/$key" };

sub answer
{
	my ($request) = @_;
	my ($key) = $request->{path} =~ m{^/captures/(.*)};
	my $file = $file_of->($key);
	return [ 401, {}, '' ]
	  if ($request->{headers}{authorization} // '') ne 'Basic ' . encode_base64('agent:s3cret-word', '');
	if ($request->{method} eq 'HEAD' || $request->{method} eq 'GET')
	{
		return [ 404, {}, 'no such object' ] unless -e $file;
		my $bytes = read_file($file);
		return [ 200, $bytes =~ /mode:silent/ ? {} : { ETag => '"' . sha256_hex($bytes) . '"' }, $bytes ];
	}
	my $bytes = $request->{body};
	return [ 400, {}, '' ] if $request->{headers}{'x-content-sha256'} ne sha256_hex($bytes);
	my $mode = !-e $healed && $bytes =~ /mode:(\w+)/ ? $1 : 'ok';
	return [ $mode, { Location => $elsewhere->url . "/captures/$key" }, 'no' ] if $mode =~ /^\d+$/;
	return if $mode eq 'reset';
	my %kept = (
		html => '<html>Please log in</html>',
		short => substr($bytes, 0, 1000),
		other => scalar reverse($bytes),
		silent => substr($bytes, 0, -500) . reverse(substr($bytes, -500)),
	);
	write_file($file, $kept{$mode} // $bytes) unless $mode eq 'nothing';
	return [ 201, {}, $mode eq 'html' ? $kept{html} : '' ];
}

my $stub = Tms::Stub->start(\&answer);
write_file("$tmp/password", "s3cret-word\n");
chmod 0600, "$tmp/password";
my %reason_of = (
	500 => 'PUT: HTTP status 500',
	507 => 'PUT: HTTP status 507',
	403 => 'PUT: HTTP status 403',
	413 => 'PUT: HTTP status 413',
	302 => 'PUT: HTTP status 302 \(redirects are not followed\)',
	307 => 'PUT: HTTP status 307 \(redirects are not followed\)',
	html => 'HEAD: the store has 26 bytes instead of 40002',
	short => 'HEAD: the store has 1000 bytes instead of 40002',
	other => 'HEAD: the store has other bytes',
	nothing => 'HEAD: HTTP status 404',
	reset => 'Empty reply from server',
);
{
	# A proxy in the environment is not asked.
	local $ENV{http_proxy} = $elsewhere->url;
	local $ENV{ALL_PROXY} = $elsewhere->url;
	$agent = new_agent('up-3', $stub->url . '/captures', username => 'agent', password_file => "$tmp/password",
		concurrency => 4)->start;
}
# Between two of them are two good ones.
my (%path_of, %all);
my $among = {};
for my $mode (sort keys %reason_of)
{
	my $bytes = jpeg("mode:$mode", 40_000);
	$bytes .= "\0" x (40_002 - length($bytes)) if length($bytes) < 40_002;
	$path_of{$mode} = (keys %{ post_all($agent, $bytes) })[0];
	$all{ $path_of{$mode} } = $bytes;
	$among = { %$among, %{ post_all($agent, map { jpeg("good $_ beside $mode", 40_000) } 1, 2) } };
}
ok(backlog_is($agent, scalar(keys %reason_of)), 'objects that fail alone do not stop the others');
is_deeply(not_stored($agent, $among, $file_of), [], 'which are stored');
for my $mode (sort keys %reason_of)
{
	my $bytes = length($all{ $path_of{$mode} });
	(my $reason = $reason_of{$mode}) =~ s/40002/$bytes/;
	my $line = qr/level=warning event=upload_\w+ seq=\d+ path=\Q$path_of{$mode}\E reason="?$reason/;
	ok(poll_until(sub { logged($agent, $line) }, "the log for $mode"), "$mode: told and not taken for uploaded");
}
is($agent->status->{upload}{backlog}, scalar(keys %reason_of), 'all of these still wait');
stops_at_once($agent, 'a store of many faults');
$agent->start;
write_file($healed, '');
ok(backlog_is($agent, 0), 'once the store is healed, all are uploaded');
is_deeply(not_stored($agent, { %all, %$among }, $file_of), [], 'byte for byte');
is($elsewhere->requests, 0, 'no redirect was followed, no proxy asked');
is(logged($agent, qr/s3cret-word|token-of/), 0, 'no secret is in the log');

# --- a store that tells no digest is read back; with verify = length the size is enough ---
{
	unlink $healed;
	my %image_center = (username => 'agent', password_file => "$tmp/password");
	my $by_digest = new_agent('up-4', $stub->url . '/captures', %image_center)->start;
	my ($path) = keys %{ post_all($by_digest, jpeg('mode:silent', 20_000)) };
	ok(poll_until(sub { logged($by_digest, qr/path=\Q$path\E reason="GET: the store has other bytes"/) }, 'the log'),
		'other bytes of the right size are noticed');
	is($by_digest->status->{upload}{backlog}, 1, 'and not taken for uploaded');
	write_file($healed, '');
	ok(backlog_is($by_digest, 0), 'healed, it is uploaded');
	stops_at_once($by_digest, 'read back');
	unlink $healed;
	my $by_length = new_agent('up-5', $stub->url . '/captures', %image_center, verify => 'length')->start;
	my $requests = $stub->requests(qr/^GET /);
	post_all($by_length, jpeg('mode:silent', 20_000));
	ok(backlog_is($by_length, 0), 'with verify = length its size is enough');
	is($stub->requests(qr/^GET /), $requests, 'and nothing is read back');
	stops_at_once($by_length, 'by length');
	write_file($healed, '');
}

# --- a store that only refuses is asked by one request at a time ---
unlink $healed;
my $busy = Tms::Stub->start(
	sub { my ($request) = @_; return -e $healed ? answer($request) : [ 503, {}, 'slow down' ] });
stops_at_once($agent, 'idle');
$agent->{sections}{image_center}{url} = $busy->url . '/captures';
$agent->{sections}{image_center}{concurrency} = 16;
$agent->write_config;
$agent->start;
$good = post_all($agent, map { jpeg("while busy $_", 10_000) } 1 .. 60);
ok(poll_until(sub { logged($agent, qr/event=image_center_failing /) >= 5 }, 'five failed attempts'),
	'a busy store is told about');
cmp_ok($busy->requests, '<', 40, 'and not asked for every object: ' . $busy->requests . ' requests');
write_file($healed, '');
ok(backlog_is($agent, 0, 60), 'and gets all of them when it is itself again');
is_deeply(not_stored($agent, $good, $file_of), [], 'byte for byte');
stops_at_once($agent, 'at the end');

done_testing();
