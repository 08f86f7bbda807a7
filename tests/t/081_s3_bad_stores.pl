# The uploader and S3 stores that do all kinds of things: what is wrong is said in one line, nothing is taken for uploaded
# that is not, and all arrives once the store is itself again.
use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use File::Path qw(make_path);
use Test::More;
use Tms::Agent;
use Tms::Sigv4;
use Tms::Stub;
use Tms::Util;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $objects = "$tmp/s3_objects_$$";
my $healed = "$tmp/s3_healed_$$";
my $endless = "$tmp/s3_endless_$$";
make_path($objects);
write_file("$tmp/s3_secret_$$", "wJalrXUtnFEMI/K7MDENG\n");
chmod 0600, "$tmp/s3_secret_$$";

sub new_agent
{
	my ($device, $url, %image_center) = @_;
	return Tms::Agent->new(device => $device, token => "token-of-$device",
		conninfo => 'host=127.0.0.1 port=1 dbname=x user=x', url => $url,
		extra => { image_center => {
				store => 's3', region => 'test-1', access_key_id => 'AKTEST',
				secret_access_key_file => "$tmp/s3_secret_$$", %image_center } });
}

sub post
{
	my ($agent, $bytes) = @_;
	my ($code, $answer) = $agent->post($bytes);
	die "post: $code" if $code != 201;
	return $answer->{path};
}

sub backlog_is
{
	my ($agent, $backlog) = @_;
	return poll_until(sub { my $s = $agent->status; $s && $s->{upload}{backlog} == $backlog }, "backlog $backlog", 60);
}

sub file_of { my ($key) = @_; $key =~ tr{/}{!}; return "$objects/$key" }

sub log_has
{
	my ($agent, $pattern, $name) = @_;
	return ok(poll_until(sub { read_file($agent->{log}) =~ $pattern }, "the log: $pattern", 60), $name);
}

sub error { my ($status, $code, $more) = @_; return [ $status, {}, "<?xml version=\"1.0\"?><Error><Code>$code</Code>$more</Error>" ] }

my $bomb = '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
  . join('', map { my $n = chr(ord('a') + $_); my $p = chr(ord('a') + $_ - 1); "<!ENTITY $n \"" . "&$p;" x 10 . '">' } 1 .. 9)
  . ']><Error><Code>&j;</Code><Message>&j;</Message></Error>';

# What it does to a PUT, by the photograph's own text; and the log's words for it.
my %modes = (
	region => [ sub { error(301, 'PermanentRedirect', '<Endpoint>b.test-2.example</Endpoint><Region>test-2</Region>') },
		'PUT: HTTP 301 PermanentRedirect: the bucket is in region test-2: set region, and url to b.test-2.example' ],
	malformed => [ sub { error(400, 'AuthorizationHeaderMalformed', '<Message>m</Message><Region>test-2</Region>') },
		'PUT: HTTP 400 AuthorizationHeaderMalformed: the bucket is in region test-2: set region' ],
	denied => [ sub { error(403, 'AccessDenied', '<Message>no</Message>') },
		'PUT: HTTP 403 AccessDenied: access_key_id may not do this here' ],
	invalid => [ sub { error(400, 'InvalidArgument', '<Message>an argument &lt;x&gt;&#10; is invalid</Message>') },
		'PUT: HTTP 400 InvalidArgument: an argument <x>&#10; is invalid' ],
	slow => [ sub { error(503, 'SlowDown', '<Message>Please reduce your request rate.</Message>') },
		'PUT: HTTP 503 SlowDown: Please reduce your request rate.' ],
	conflict => [ sub { error(409, 'ConditionalRequestConflict', '') }, 'PUT: HTTP 409 ConditionalRequestConflict' ],
	bomb => [ sub { [ 500, {}, $bomb ] }, 'PUT: HTTP 500 &j;: &j;' ],
	html => [ sub { [ 502, {}, '<html><h1>Bad gateway</h1></html>' ] }, 'PUT: HTTP 502' ],
	binary => [ sub { [ 400, {}, join('', map { chr } 0 .. 255) ] }, 'PUT: HTTP 400' ],
	endless => [ \&endless, 'PUT: HTTP 500 InternalError: x{100,}' ],
	other => [ sub { my ($file, $bytes) = @_; kept($file, scalar(reverse($bytes)), 1) },
		'PUT: the store has kept other bytes than were sent' ],
	short => [ sub { my ($file, $bytes) = @_; kept($file, substr($bytes, 0, 1000), 0) },
		'HEAD: the store has 1000 bytes instead of \d+|GET: the store has fewer bytes than' ],
	nothing => [ sub { [ 200, {}, '' ] }, '(?:HEAD|GET): HTTP 404' ],
);

# 1 GB of error, as long as somebody reads it; what was read is noted.
sub endless
{
	my ($file, $bytes, $socket) = @_;
	my $sent = syswrite($socket, "HTTP/1.1 500 Stub\r\nContent-Length: 1073741824\r\n\r\n<Error><Code>InternalError</Code><Message>");
	local $SIG{PIPE} = 'IGNORE';
	while ($sent < 1073741824)
	{
		$sent += syswrite($socket, 'x' x 65536) // last;
	}
	write_file($endless, $sent);
	return;
}

sub kept
{
	my ($file, $bytes, $tag) = @_;
	write_file($file, $bytes);
	return [ 200, $tag ? { ETag => '"' . md5_hex($bytes) . '"' } : {}, '' ];
}

sub answer
{
	my ($request, $socket) = @_;
	my ($key) = $request->{path} =~ m{^/captures/(.*)};
	my $file = file_of($key);
	return error(403, 'SignatureDoesNotMatch', '') unless is_signed($request, id => 'AKTEST', secret => 'wJalrXUtnFEMI/K7MDENG', region => 'test-1');
	if ($request->{method} ne 'PUT')
	{
		return [ 404, {}, '' ] unless -e $file;
		my $bytes = read_file($file);
		return [ 200, { ETag => '"' . md5_hex($bytes) . '"' }, $bytes ];
	}
	my $bytes = $request->{body};
	return error(400, 'XAmzContentSHA256Mismatch', '') if $request->{headers}{'x-amz-content-sha256'} ne sha256_hex($bytes);
	return $modes{$1}[0]->($file, $bytes, $socket) if !-e $healed && $bytes =~ /mode:(\w+)/;
	return error(412, 'PreconditionFailed', '') if -e $file && ($request->{headers}{'if-none-match'} // '') eq '*';
	return kept($file, $bytes, 0) if $bytes =~ /tag:none/;
	write_file($file, $bytes);
	return [ 200, { ETag => '"' . ('0' x 32) . '"', 'x-amz-server-side-encryption' => 'aws:kms' }, '' ] if $bytes =~ /tag:kms/;
	return [ 200, { ETag => '"' . md5_hex($bytes) . '"', 'x-amz-server-side-encryption' => 'AES256' }, '' ];
}

my $stub = Tms::Stub->start(\&answer);
my $agent = new_agent('bad-1', $stub->url . '/captures', concurrency => 4)->start;
my (%path_of, %all);
for my $mode (sort keys %modes)
{
	for my $bytes (jpeg("mode:$mode", 40_000), map { jpeg("good $_ beside $mode", 40_000) } 1, 2)
	{
		my $path = post($agent, $bytes);
		$path_of{$mode} = $path if $bytes =~ /mode:/;
		$all{$path} = $bytes;
	}
}
ok(backlog_is($agent, scalar(keys %modes)), 'objects that fail alone do not stop the others');
for my $mode (sort keys %modes)
{
	log_has($agent, qr/event=upload_\w+ seq=\d+ path=\Q$path_of{$mode}\E reason="?(?:$modes{$mode}[1])/,
		"$mode: told and not taken for uploaded");
}
ok(poll_until(sub { -s $endless }, 'the endless answer'), 'an error of 1 GB');
cmp_ok(read_file($endless), '<', 32 * 1024 * 1024, 'is not read to its end');
is($agent->status->{upload}{backlog}, scalar(keys %modes), 'all of these still wait');
is($agent->status->{set_aside}, 0, 'none is set aside');
$agent->stop;
$agent->start;
write_file($healed, '');
ok(poll_until(sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 && $s->{set_aside} == 2 }, 'no backlog', 60),
	'once the store is healed, all are uploaded; after a restart what the store has damaged is somebody else\'s');
$all{ $path_of{other} } = scalar reverse($all{ $path_of{other} });
$all{ $path_of{short} } = substr($all{ $path_of{short} }, 0, 1000);
is_deeply([ grep { read_file(file_of("bad-1/$_")) ne $all{$_} } sort keys %all ], [], 'byte for byte');

# --- what the store itself has damaged is replaced, as long as the agent knows that it was so ---
unlink $healed;
my $bytes = jpeg('mode:other again', 40_000);
my $path = post($agent, $bytes);
log_has($agent, qr/path=\Q$path\E reason="PUT: the store has kept other bytes/, 'the store has kept other bytes: told');
write_file($healed, '');
ok(backlog_is($agent, 0), 'and once it is healed');
is(read_file(file_of("bad-1/$path")), $bytes, 'it gets the right ones');
is($agent->status->{set_aside}, 2, 'nothing more is set aside');

# --- with the right entity tag nothing more is asked; without one, or with one that is no MD5, it is ---
for ([ 'good tag', 0 ], [ 'tag:none', 1 ], [ 'tag:kms', 1 ])
{
	my ($text, $gets) = @$_;
	$path = post($agent, jpeg($text, 5_000));
	ok(backlog_is($agent, 0), "$text: uploaded");
	is($stub->requests(qr{^GET .*\Q$path\E$}), $gets, "read back: $gets times");
	is($stub->requests(qr{^PUT .*\Q$path\E$}), 1, 'and one PUT');
}
$agent->stop;
unlike(read_file($agent->{log}), qr/wJalrXUtnFEMI|Signature=/, 'no secret is in the log');

# --- stores that do not know If-None-Match ---
for ([ 501, 'NotImplemented' ], [ 400, 'InvalidRequest' ])
{
	my ($status, $code) = @$_;
	my $old = Tms::Stub->start(
		sub {
			my ($request) = @_;
			return error($status, $code, '') if defined $request->{headers}{'if-none-match'};
			return answer(@_);
		});
	my $plain = new_agent("old-$status", $old->url . '/captures', concurrency => 2)->start;
	post($plain, jpeg("$status $_", 5_000)) for 1 .. 20;
	ok(backlog_is($plain, 0), "a store that answers $status $code to the condition gets all without it");
	log_has($plain, qr/event=store_may_overwrite /, 'which is told');
	cmp_ok($old->requests(qr/^PUT/), '<=', 24, 'and remembered: ' . $old->requests(qr/^PUT/) . ' PUTs of 20');
	unlike(read_file($plain->{log}), qr/event=(upload_refused|image_center_)/, 'and is no failure');
	$plain->stop;
}

done_testing();
