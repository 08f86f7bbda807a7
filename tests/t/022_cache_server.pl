# The cache server: signed URLs, ranges byte for byte, what is refused and in which order, slow readers, TLS, a quick stop.
use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run;
use Test::More;
use Time::HiRes qw(time);
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $agent = Tms::Agent->new(
	device => 'cache-1',
	token => 'K7gNU3sdo-OL0wNhqoVWhr3g6s1xYv72ol_pe_Unols',
	conninfo => 'host=127.0.0.1 port=1 dbname=x user=x connect_timeout=1',
	url => 'http://127.0.0.1:1/captures');
$agent->start;

# One request by curl, with the target exactly as given: {status, headers (lower-case names), body}.
sub fetch
{
	my ($target, @options) = @_;
	my ($out, $err) = ('', '');
	my $url = $target =~ /^https?:/ ? $target : $agent->base_url . $target;
	IPC::Run::run([ 'curl', '-sS', '-i', '--path-as-is', '--max-time', '20', @options, $url ], '>', \$out, '2>', \$err);
	my ($head, $body) = split /\r\n\r\n/, $out, 2;
	my ($first, @lines) = split /\r\n/, $head // '';
	my %headers = map { my ($n, $v) = split /:\s*/, $_, 2; (lc $n => $v) } @lines;
	my ($status) = ($first // '') =~ m{^HTTP/\S+ (\d+)};
	return { status => $status // 0, headers => \%headers, body => $body // '', error => $err };
}
sub status { return fetch(@_)->{status}; }

# --- the golden vectors, by way of this test's own signing ---
my $vectors = ($ENV{TMS_SRC} // '.') . '/tests/vectors/url_sign.tsv';
my $same = 0;
my @golden = grep { !/^#/ && !/\\/ } split /\n/, read_file($vectors);
for my $line (@golden)
{
	my ($token, $path, $expires, $key, $sig) = split /\t/, $line;
	(my $below = $path) =~ s{^/v1/images/}{};
	$same++ if $agent->signed_target($below, token => $token, expires => $expires) eq "$path?expires=$expires&sig=$sig";
}
is($same, scalar(@golden), 'this test signs as the golden vectors do');

# --- a photograph ---
my $bytes = jpeg('one', 300_000);
my ($code, $answer) = $agent->post($bytes);
is($code, 201, 'a capture is taken');
my $path = $answer->{path};
my $got = fetch($agent->signed_target($path));
is($got->{status}, 200, 'and served');
ok($got->{body} eq $bytes, 'byte for byte');
is($got->{headers}{'content-type'}, 'image/jpeg', 'as a JPEG');
is($got->{headers}{'content-length'}, length($bytes), 'with its length');
is($got->{headers}{etag}, '"' . substr(sha256_hex($bytes), 0, 8) . '"', "and the digest's head");

# Percent-encoding that means the same path is the same path.
(my $encoded = $path) =~ s/([-j])/sprintf('%%%02x', ord($1))/ge;
is(status($agent->signed_target($encoded, signed => "/v1/images/$path")), 200, 'an encoded path is decoded');

$got = fetch($agent->signed_target($path), '-I');
is($got->{status}, 200, 'HEAD with the signature of GET');
is($got->{headers}{'content-length'}, length($bytes), 'has the length');
is($got->{body}, '', 'and no body');

# --- ranges ---
my $last = length($bytes) - 1;
for my $range (
	[ 'bytes=0-0', 0, 1 ], [ 'bytes=100-299', 100, 200 ], [ 'bytes=65530-', 65530, length($bytes) - 65530 ],
	[ 'bytes=-1000', length($bytes) - 1000, 1000 ], [ "bytes=$last-", $last, 1 ],
	[ 'bytes=10-99999999', 10, length($bytes) - 10 ])
{
	my ($header, $from, $length) = @$range;
	$got = fetch($agent->signed_target($path), '-H', "Range: $header");
	is($got->{status}, 206, "$header: 206");
	ok($got->{body} eq substr($bytes, $from, $length), 'these very bytes');
	is($got->{headers}{'content-range'}, sprintf('bytes %d-%d/%d', $from, $from + $length - 1, length($bytes)), 'and where');
}
$got = fetch($agent->signed_target($path), '-H', 'Range: bytes=' . length($bytes) . '-');
is($got->{status}, 416, 'a range behind the end: 416');
is($got->{headers}{'content-range'}, 'bytes */' . length($bytes), 'with the size');
for my $header ('bytes=5-4', 'bytes=0-1,3-4', 'bytes=x-y', 'lines=1-2')
{
	$got = fetch($agent->signed_target($path), '-H', "Range: $header");
	ok($got->{status} == 200 && $got->{body} eq $bytes, "$header: the whole file");
}
is(status($agent->signed_target($path), '-I', '-H', 'Range: bytes=0-0'), 200, 'a range means nothing to HEAD');

# --- 403, the same whether there is such a file or not ---
my $absent = '2026/01/01/00/1-00000000-00000000.jpg';
for my $p ($path, $absent)
{
	my $what = $p eq $path ? 'a file that is there' : 'a file that is not';
	my $target = $agent->signed_target($p);
	my ($plain) = split /\?/, $target;
	is(status($plain), 403, "$what: not signed");
	is(status("$plain?expires=" . int(time() + 60)), 403, "$what: no sig");
	is(status($target =~ s/&sig=.*//sr . '&sig='), 403, "$what: empty sig");
	(my $other = $target) =~ s/(.)$/$1 eq 'A' ? 'E' : 'A'/e;
	is(status($other), 403, "$what: another signature");
	(my $longer = $target) =~ s/expires=(\d+)/'expires=' . ($1 + 1)/e;
	is(status($longer), 403, "$what: another time");
	is(status($agent->signed_target($p, token => 'x')), 403, "$what: another token");
	is(status($agent->signed_target($p, expires => int(time()) - 5)), 403, "$what: expired");
	is(status($agent->signed_target($p, expires => int(time()) + 8 * 86400)), 403, "$what: valid for too long");
	is(status($agent->signed_target($p, signed => "/v1/images/x$p")), 403, "$what: signed for another path");
	is(status($target =~ s/expires=/expires=0x/r), 403, "$what: no number");
}
like(fetch($agent->signed_target($path, expires => int(time()) - 5))->{body}, qr/^the URL has expired$/m, 'the reason is told');

# --- 404, signed ---
is(status($agent->signed_target($absent)), 404, 'never had it: 404');
is(status($agent->signed_target('2026')), 404, 'a folder is no photograph');
is(status($agent->signed_target('')), 404, 'nor is nothing');

# --- no path leaves the folder, signed or not ---
write_file("$agent->{dir}/data/secret.jpg", jpeg('secret'));
symlink("$agent->{dir}/data/secret.jpg", "$agent->{dir}/data/cache/link.jpg");
for my $trick (
	'../secret.jpg', '%2e%2e/secret.jpg', '..%2fsecret.jpg', '%2e%2e%2fsecret.jpg', 'a/../../secret.jpg', '/etc/passwd',
	'%2fetc%2fpasswd', "../../../../../../../../etc/passwd", '.', './', 'x//y', "$path/", "$path/..", "$path%00",
	"$path%00.txt", "%00$path", "$path%0a", "$path%", "$path%2", "$path\\..", 'link.jpg', '../agent.lock', '../ledger.db',
	'a' x 300, 'a/' x 5000 . 'b')
{
	(my $decoded = $trick) =~ s/%([0-9a-f]{2})/chr(hex($1))/gie;
	for my $signed ("/v1/images/$trick", "/v1/images/$decoded")
	{
		$got = fetch($agent->signed_target($trick, signed => $signed));
		ok($got->{status} =~ /^(400|403|404|414|431)$/ && $got->{body} !~ /secret|root:/,
			sprintf('%.40s is refused (%s)', $trick, $got->{status}));
	}
}

# --- methods and other paths ---
for my $method (qw(POST PUT DELETE PATCH OPTIONS))
{
	$got = fetch($agent->signed_target($path), '-X', $method);
	is($got->{status}, 405, "$method: 405");
	is($got->{headers}{allow}, 'GET, HEAD', 'with what is allowed');
}
is(status($agent->signed_target($path), '-X', 'PUT', '--data-binary', 'x' x 100_000), 405, 'PUT with a body: 405');
ok(fetch($agent->signed_target($path), '-X', 'GET', '-d', 'x' x 100_000)->{body} eq $bytes, 'a body of GET is ignored');
is(status('/'), 404, '/ is nothing');
is(status('/v1/images'), 404, '/v1/images is nothing');
is(status('/v1/status'), 404, 'the status is not told here');
$got = fetch('/healthz');
is("$got->{status} $got->{body}", "200 ok\n", '/healthz');
like($got->{headers}{date}, qr/ GMT$/, 'has a date');

# --- bad requests do not harm ---
for my $raw ("\0\0\0\0\r\n\r\n", "GET\r\n\r\n", 'GET ' . 'x' x 100_000 . " HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
	"GET /healthz HTTP/1.1\r\n" . "X: y\r\n" x 20_000)
{
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{cache_port}, Timeout => 5);
	local $SIG{PIPE} = 'IGNORE';
	print $socket $raw;
	shutdown($socket, 1);
	local $/;
	my $ignored = <$socket>;
	close($socket);
}
is(status($agent->signed_target($path)), 200, 'after malformed requests it serves on');

# --- slow readers hold no thread ---
my ($big_code, $big) = $agent->post(jpeg('big', 30_000_000));
is($big_code, 201, 'a large capture');
my @slow = map {
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{cache_port}, Timeout => 5);
	print $socket 'GET ' . $agent->signed_target($big->{path}) . " HTTP/1.1\r\nHost: x\r\n\r\n";
	$socket
} 1 .. 60;
my $begun = grep { defined($_->sysread(my $first, 100)) } @slow;
is($begun, 60, 'sixty readers begin and then read no more');
for (1 .. 5)
{
	$got = fetch($agent->signed_target($path), '--max-time', '5');
	ok($got->{body} eq $bytes, 'others are served meanwhile');
}

# --- a stop is quick, whoever reads ---
my ($exit, $seconds) = $agent->stop;
is($exit, 0, 'TERM with open transfers: exit code 0');
cmp_ok($seconds, '<', $ENV{TMS_SLOW} // 3, 'without waiting for the readers');
close($_) for @slow;
like(read_file($agent->{log}), qr/event=cache_refused reason="[^"]+" requests=\d+/, 'refusals are logged');
cmp_ok(scalar(() = read_file($agent->{log}) =~ /event=cache_refused/g), '<', 20, 'but not each of them');
unlike(read_file($agent->{log}), qr/\Q$agent->{token}\E|sig=/, 'and no secret');

# --- TLS ---
IPC::Run::run([ qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1),
	'-keyout', "$agent->{dir}/key.pem", '-out', "$agent->{dir}/cert.pem" ], '>', \my $o, '2>', \my $e);
chmod 0600, "$agent->{dir}/key.pem";
@{ $agent->{sections}{cache} }{qw(tls_cert tls_key)} = ("$agent->{dir}/cert.pem", "$agent->{dir}/key.pem");
$agent->write_config;
$agent->start;
my $https = "https://127.0.0.1:$agent->{cache_port}" . $agent->signed_target($path);
$got = fetch($https, '--cacert', "$agent->{dir}/cert.pem");
ok($got->{status} == 200 && $got->{body} eq $bytes, 'TLS: the same bytes');
is(fetch($https, '--cacert', "$agent->{dir}/cert.pem", '-H', 'Range: bytes=5-9')->{body}, substr($bytes, 5, 5), 'and ranges');
isnt(status($agent->signed_target($path)), 200, 'not without TLS');
isnt(status($https), 200, 'not with a certificate nobody knows');
$agent->stop;

# A key that is none is told at start, keeps no photograph out, and is read again once it is mended.
my $key = read_file("$agent->{dir}/key.pem");
write_file("$agent->{dir}/key.pem", "no key\n");
$agent->start;
like($agent->log_tail, qr/do tls_cert and tls_key hold PEM texts that belong together/, 'a key that is none: told');
is($agent->status->{parts}{cache_server}{error}, 'tls_cert and tls_key will not do: nobody can connect', 'and shown');
is(($agent->post(jpeg('without a key')))[0], 201, 'intake goes on');
$https = "https://127.0.0.1:$agent->{cache_port}" . $agent->signed_target($path);
isnt(status($https), 200, 'the cache server serves nobody');
write_file("$agent->{dir}/key.pem", $key);
ok(poll_until(sub { fetch($https, '--cacert', "$agent->{dir}/cert.pem")->{status} == 200 }, 'the mended key'),
	'until the key is mended');
is(scalar(() = read_file($agent->{log}) =~ /event=cache_certificate .*error=/g), 1, 'it was told once');
$agent->stop;

# --- 410: it was here ---
my $center = Tms::Cluster->start_new('cache_410');
my $store = Tms::Store->new('cache_410')->start;
my $port = free_port();
my $token = $center->add_device('cache-2', "http://127.0.0.1:$port", '1 second');
my $second = Tms::Agent->new(device => 'cache-2', token => $token, cache_port => $port, conninfo => $center->agent_conninfo,
	url => $store->url)->start;
my $cleaned = ($second->post(jpeg('cleaned')))[1]{path};
ok( poll_until(sub { fetch($second->signed_url($cleaned))->{status} == 410 }, 'cleaned', 60),
	'what was cleaned is gone: 410');
ok(!-e "$second->{dir}/data/cache/$cleaned", 'indeed');
is(fetch($second->signed_url($cleaned =~ s/^\d+/1999/r))->{status}, 404, 'under another name it never was here');
$second->stop;
$store->stop;
$center->stop;

done_testing();
