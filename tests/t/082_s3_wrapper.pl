# The whole way over a real S3 store (Ceph): front end, image center, SQL; presigned URLs; and what the wrapper says of S3
# stores that refuse, lose or lie.
use strict;
use warnings;

use POSIX qw(strftime);
use Test::More;
use Tms::Agent;
use Tms::Ceph;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Sigv4;
use Tms::Stub;
use Tms::Util;

my $ceph = Tms::Ceph->new('wrapper')->start;
my $pc = Tms::Cluster->start_new('s3');
my %credentials = (access_key_id => $ceph->{access_key_id}, secret_access_key => $ceph->{secret_access_key});

# A server of an S3 store with a user mapping.
sub add_server
{
	my ($name, $url, %mapping) = @_;
	$pc->sql("CREATE SERVER $name FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '$url', store 's3')");
	$pc->sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ("
		  . join(', ', map { "$_ '$mapping{$_}'" } sort keys %mapping) . ')')
	  if %mapping;
	return;
}

# --- agent, store, SQL ---
my $agent = Tms::Agent->new(device => 's3-way', token => $pc->add_device('s3-way', 'http://127.0.0.1:9'),
	conninfo => $pc->agent_conninfo, url => $ceph->url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' }, image_center => $ceph->agent_options });
$agent->start;
my %bytes_of;
for my $n (1 .. 8)
{
	my $bytes = jpeg("way $n", 20_000 * $n);
	my ($code, $answer) = $agent->post($bytes, plate => "S3-$n");
	is($code, 201, "taken in: $n");
	$bytes_of{ $answer->{path} } = $bytes;
}
add_server('image_center', $ceph->url, %credentials);
$pc->sql('IMPORT FOREIGN SCHEMA tms FROM SERVER image_center INTO public');
ok($pc->wait_for_sql('SELECT bool_and(uploaded_seq = 8) FROM tms.ledger', 't', 60), 'all are uploaded and registered');
my $good = "SELECT count(*) FROM capture_image WHERE sha256(image) = sha256 AND image_source = 'image_center' AND image_error IS NULL";
is($pc->sql($good), 8, 'all come from the store, byte for byte');
is($pc->sql("SET plan_cache_mode = force_generic_plan; PREPARE p AS $good; " . 'EXECUTE p; ' x 10), join("\n", (8) x 10), 'ten times');
unlike($pc->sql('EXPLAIN (ANALYZE, VERBOSE) SELECT image FROM capture_image'), qr/\Q$ceph->{access_key_id}\E|test\+secret|Signature/,
	'EXPLAIN shows no key');

# --- presigned URLs ---
my $id = $pc->sql("SELECT capture_id FROM capture_image WHERE plate = 'S3-3'");
my $path = $pc->sql("SELECT path FROM capture_image WHERE plate = 'S3-3'");
my $url = $pc->sql("SELECT tms.image_url($id, '10 min')");
like($url, qr{^\Q@{[$ceph->url]}\E/s3-way/\Q$path\E\?X-Amz-Algorithm=AWS4-HMAC-SHA256&.*&X-Amz-Expires=600&}, 'a presigned URL');
unlike($url, qr/test\+secret|test%2Bsecret/, 'without the secret');
my $got = http('GET', $url);
is($got->{status}, 200, 'anybody can load it');
is($got->{content}, $bytes_of{$path}, 'byte for byte');
(my $other = $url) =~ s/\Q$path\E/$path.x/;
is(http('GET', $other)->{status}, 403, 'it holds for no other object');
is(http('PUT', $url, content => 'x')->{status}, 403, 'and for no other method');
my $short = $pc->sql("SELECT tms.image_url($id, '1 second')");
ok(poll_until(sub { http('GET', $short)->{status} == 403 }, 'expiry'), 'it expires');
is($ceph->get("s3-way/$path"), $bytes_of{$path}, 'the object is untouched');

# --- a store that loses objects: what is not there any more is no permission to clean the cache ---
$ceph->remove("s3-way/$path");
is($pc->sql("SELECT image_error FROM capture_image WHERE capture_id = $id"),
	'image_center: HTTP 404 NoSuchKey; front_end: connection refused', 'an object that is lost: told');
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second' WHERE code = 's3-way'");
ok(poll_until(sub { !grep { -e "$agent->{dir}/data/cache/$_" } keys %bytes_of }, 'an empty cache', 60),
	'the cache is cleaned');
is($ceph->get("s3-way/$path"), $bytes_of{$path}, 'but what the store had lost was uploaded again first');
is($pc->sql($good), 8, 'and all come from the store');
$agent->stop;

# --- refusals of the store, in one line ---
add_server('no_key', $ceph->url);
add_server('wrong_secret', $ceph->url, %credentials, secret_access_key => 'not-the-secret');
add_server('wrong_key', $ceph->url, %credentials, access_key_id => 'NOBODY');
add_server('no_bucket', $ceph->origin . '/absent', %credentials);
sub error_of
{
	my ($server, $capture) = @_;
	my ($code, $out, $err) = $pc->psql('postgres', "SET tms.image_source = 'image_center'; SET tms.on_unavailable = 'error';
		SELECT tms.image($capture, '$server')");
	return $err =~ /^DETAIL:  (.*)$/m ? $1 : "no error: $code";
}
my %refusals = (
	no_key => 'image_center: HTTP 403 AccessDenied: access_key_id may not do this here',
	wrong_secret => 'image_center: HTTP 403 SignatureDoesNotMatch: secret_access_key, or region, is wrong',
	wrong_key => 'image_center: HTTP 403 InvalidAccessKeyId: the store does not know access_key_id',
	no_bucket => 'image_center: HTTP 404 NoSuchBucket: there is no such bucket; make it, or correct url',
);
is(error_of($_, $id), $refusals{$_}, "$_: told") for sort keys %refusals;
unlike(read_file($pc->logfile), qr/Signature=|Credential=/, 'no signature is in the log');

# --- stores that do other things; which, the object's name says ---
my $front = Tms::FrontEnd->new($pc, 's3-front');
my $endless = "$PostgreSQL::Test::Utils::tmp_check/s3_endless_$$";
my %bodies = (
	region => [ 301, '<Error><Code>PermanentRedirect</Code><Endpoint>b.other.example</Endpoint><Region>other</Region></Error>' ],
	skew => [ 403, '<Error><Code>RequestTimeTooSkewed</Code></Error>' ],
	slow => [ 503, '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>' ],
	bomb => [ 400, '<!DOCTYPE x [<!ENTITY a "' . 'a' x 1000 . '"><!ENTITY b "' . '&a;' x 100 . '">]><Error><Code>&b;</Code></Error>' ],
	bytes => [ 400, '<Error><Code>' . join('', map { chr } 1 .. 59, 61 .. 255) . '</Code></Error>' ],
	other => [ 200, 'x' x 5000 ],
);
my $stub = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		return [ 403, {}, '<Error><Code>SignatureDoesNotMatch</Code></Error>' ]
		  unless is_signed($request, id => 'AK', secret => 'SK', token => 'the/token+==', region => 'us-east-1');
		my ($mode) = $request->{path} =~ m{/2026/(\w+)\.jpg$};
		return [ $bodies{$mode}[0],
			$mode eq 'skew' ? { Date => strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time() - 20 * 60 - 30)) } : {}, $bodies{$mode}[1] ]
		  if $bodies{$mode};
		my $sent = syswrite($socket, "HTTP/1.1 500 Stub\r\nContent-Length: 1073741824\r\n\r\n<Error><Code>InternalError</Code>");
		local $SIG{PIPE} = 'IGNORE';
		while ($sent < 1073741824) { $sent += syswrite($socket, 'x' x 65536) // last; }
		write_file($endless, $sent);
		return;
	});
add_server('stub', $stub->url . '/captures', access_key_id => 'AK', secret_access_key => 'SK', session_token => 'the/token+==');
my %words = (
	region => qr/^image_center: HTTP 301 PermanentRedirect: the bucket is in region other: set region, and url to b\.other\.example$/,
	skew => qr/^image_center: HTTP 403 RequestTimeTooSkewed: the clock of this machine is 20 minutes ahead of the store's$/,
	slow => qr/^image_center: HTTP 503 SlowDown: Please reduce your request rate\.$/,
	bomb => qr/^image_center: HTTP 400 &b;$/,
	bytes => qr/^image_center: HTTP 400 [ -~]+$/,
	other => qr/^image_center: wrong digest$/,
	endless => qr/^image_center: HTTP 500 InternalError$/,
);
for my $mode (sort keys %words)
{
	my $capture = $front->add($mode eq 'other' ? 'y' x 5000 : jpeg($mode, 5000),
		path => "2026/$mode.jpg");
	like(error_of('stub', $capture->{id}), $words{$mode}, "$mode: told in one line");
	is($pc->sql("SELECT sha256(tms.image($capture->{id}, 'stub')) = '\\x$capture->{sha256}'"), 't', "$mode: the front end has it");
}
ok(poll_until(sub { -s $endless }, 'the endless answer'), 'an error of 1 GB');
cmp_ok(read_file($endless), '<', 32 * 1024 * 1024, 'is not read to its end');

done_testing();
