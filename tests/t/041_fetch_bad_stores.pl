# An image center that lies, hangs or breaks off: every such answer has a short reason, and the front end serves instead.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $image = jpeg(1) . 'x' x 60000;
my $length = length($image);
my $head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n";
my $hang = sub { my ($socket) = @_; sysread($socket, my $nothing, 1); return; }; # until the client gives up

# What the store does, by the last part of the path (the object is $image), and the reason that is shown.
my @cases = (
	[ 'missing.jpg', sub { [ 404, {}, 'no such object' ] }, qr/^HTTP 404$/ ],
	[ 'error.jpg', sub { [ 500, {}, 'x' x 1000 ] }, qr/^HTTP 500$/ ],
	[ 'endless-error.jpg', sub { [ 503, {}, 'x' x 5_000_000 ] }, qr/^HTTP 503$/ ],
	[ 'forbidden.jpg', sub { [ 403, {}, '' ] }, qr/^HTTP 403$/ ],
	[ 'partial.jpg', sub { [ 206, {}, $image ] }, qr/^HTTP 206$/ ],
	[ 'no-content.jpg', sub { [ 204, {}, '' ] }, qr/^HTTP 204$/ ],
	[ 'redirect.jpg', sub { [ 302, { Location => '/captures/bad/good.jpg' }, '' ] }, qr/^HTTP 302, redirect refused$/ ],
	[ 'other-bytes.jpg', sub { [ 200, {}, 'y' . substr($image, 1) ] }, qr/^wrong digest$/ ],
	[ 'too-few.jpg', sub { [ 200, {}, substr($image, 0, 4096) ] }, qr/^4096 of $length bytes$/ ],
	[ 'empty.jpg', sub { [ 200, {}, '' ] }, qr/^0 of $length bytes$/ ],
	[ 'too-many.jpg', sub { [ 200, {}, $image . 'z' ] }, qr/^@{[ $length + 1 ]} bytes instead of $length$/ ],
	[ 'huge-length.jpg', sub { syswrite($_[1], "${head}Content-Length: 99999999999999999999\r\n\r\nxx"); $hang->($_[1]); },
		qr/bytes instead of $length$|^the answer broke off$|^not an HTTP answer$/ ],
	[ 'html.jpg', sub { [ 200, { 'Content-Type' => 'text/html' }, '<html>Welcome</html>' ] },
		qr/^HTML page instead of an image$/ ],
	[ 'html-typed-jpeg.jpg', sub { [ 200, {}, "\n <!DOCTYPE html>" . ' ' x 100000 ] }, qr/^HTML page instead of an image$/ ],
	[ 'chunked-too-many.jpg', sub {
			my $all = $image x 3;
			syswrite($_[1], "${head}Transfer-Encoding: chunked\r\n\r\n");
			syswrite($_[1], sprintf("%x\r\n", length($all)) . $all . "\r\n0\r\n\r\n");
			return;
		}, qr/^more than $length bytes$/ ],
	[ 'breaks-off.jpg', sub { syswrite($_[1], "${head}Content-Length: $length\r\n\r\n" . substr($image, 0, 9000)); return; },
		qr/^9000 of $length bytes$/ ],
	[ 'no-answer.jpg', sub { $hang->($_[1]) }, qr/^timed out after 500 ms before the first byte$/ ],
	[ 'header-only.jpg', sub { syswrite($_[1], "${head}Content-Length: $length\r\n\r\n"); $hang->($_[1]); },
		qr/^timed out after 1 s with 0 of $length bytes$/ ],
	[ 'drip.jpg', sub {
			syswrite($_[1], "${head}Content-Length: $length\r\n\r\n");
			local $SIG{PIPE} = 'IGNORE';
			while (syswrite($_[1], 'x')) { select(undef, undef, undef, 0.1); }
			return;
		}, qr/^timed out after 1 s with [1-9]\d? of $length bytes$/ ],
	[ 'closes.jpg', sub { return; }, qr/^connection closed without an answer$/ ],
	[ 'not-http.jpg', sub { syswrite($_[1], "SSH-2.0-OpenSSH_9.2\r\n"); return; }, qr/^not an HTTP answer$/ ],
	[ 'huge-header.jpg', sub {
			local $SIG{PIPE} = 'IGNORE';
			syswrite($_[1], $head);
			syswrite($_[1], "X-Filler: " . 'x' x 1000 . "\r\n") for 1 .. 200;
			return;
		}, qr/^header of more than 65536 bytes$/ ],
	[ 'compressed.jpg', sub { [ 200, { 'Content-Encoding' => 'gzip' }, substr($image, 0, 500) ] }, qr/^500 of $length bytes$/ ],
);
my %behavior = map { $_->[0] => $_->[1] } @cases;

my $cluster = Tms::Cluster->start_new('bad', preload => 1);
my $store = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my ($name) = $request->{path} =~ m{([^/]+)$};
		return $behavior{$name} ? $behavior{$name}->($request, $socket) : [ 200, {}, $image ];
	});
my $gate = Tms::FrontEnd->new($cluster, 'bad');
$cluster->add_server($store->url . '/captures', first_byte_timeout => '20s', timeout => '30s',
	breaker_failures => 0); # each case by itself

# The reason why the image center alone cannot deliver, from the error's detail.
sub reason
{
	my ($capture, $source) = @_;
	my ($rc, $out, $err) = $cluster->psql('postgres',
		"SET tms.on_unavailable = 'error'; SET tms.image_source = '$source'; SELECT length(tms.image($capture->{id}))");
	return $err =~ /DETAIL:  $source: (.*)/ ? $1 : "no error: $out $err";
}

sub digest_of
{
	my ($capture) = @_;
	return $cluster->sql("SELECT encode(sha256(tms.image($capture->{id})), 'hex')");
}

my $good = $gate->add($image, path => 'bad/good.jpg');
is(digest_of($good), $good->{sha256}, 'a good answer is taken');
is($gate->requests, 0, 'and the front end is not asked');

$cluster->sql('SELECT tms.stat_images_reset()');
for my $case (@cases)
{
	my ($name, undef, $expected) = @$case;
	my $capture = $gate->add($image, path => "bad/$name");
	my ($patience, $limit) = $expected =~ /timed out/ ? ('500ms', '1s') : ('20s', '30s');
	$cluster->sql("ALTER SERVER image_center OPTIONS (SET first_byte_timeout '$patience', SET timeout '$limit')");
	like(reason($capture, 'image_center'), $expected, "$name: reason");
	is(digest_of($capture), $capture->{sha256}, "$name: the front end serves instead");
}
my $n = @cases;
is( $cluster->sql("SELECT requests, images, errors, digest_failures, failovers FROM tms.stat_images WHERE source = 'image_center'"),
	2 * $n . '|0|' . 2 * $n . "|2|$n", 'all of it is counted for the image center');
is( $cluster->sql("SELECT requests, images, bytes, errors, failovers FROM tms.stat_images WHERE source = 'front_end'"),
	"$n|$n|" . $n * $length . '|0|0', 'and for the front ends');

$cluster->sql("ALTER SERVER image_center OPTIONS (SET first_byte_timeout '20s', SET timeout '30s')");

# The store goes away altogether.
$store->stop;
is(reason($good, 'image_center'), 'connection refused', 'stopped store: reason');
is(digest_of($good), $good->{sha256}, 'stopped store: the front end serves instead');

# A store that takes no connection, asked more often in one session than a backend has descriptors: the session lives on.
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1);
my @in_queue = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Blocking => 0) } 1 .. 4;
is($cluster->sql(<<SQL), "400|timed out after 10 ms while connecting\nt", 'no descriptor is counted as taken for ever by connections that timed out');
	BEGIN;
	ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:@{[ $full->sockport ]}/x', ADD connect_timeout '10ms',
		ADD concurrency '50');
	SET LOCAL tms.image_source = image_center;
	SELECT count(*), string_agg(DISTINCT substr(image_error, 15), '; ') FROM tms.images(array_fill($good->{id}::bigint, ARRAY[400]));
	ROLLBACK;
	SELECT sha256(tms.image($good->{id})) = '\\x$good->{sha256}';
SQL
close($_) for $full, @in_queue;

# Both fail: NULL, or an error that names both.
my $nowhere = $gate->add($image, path => 'bad/missing.jpg.nowhere', cached => 0);
is($cluster->sql("SELECT tms.image($nowhere->{id}) IS NULL"), 't', 'no source has it: NULL');
my ($rc, $out, $err) = $cluster->psql('postgres', "SET tms.on_unavailable = 'error'; SELECT tms.image($nowhere->{id})");
like($err, qr/ERROR:  image of capture $nowhere->{id} is unavailable/, 'or an error');
like($err, qr/DETAIL:  image_center: connection refused; front_end: HTTP 404/, 'that names every source and its reason');
unlike($err, qr/expires|sig=|127\.0\.0\.1|http:/, 'and no URL');

# Addresses that must not be asked.
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url 'http://169.254.169.254/latest')");
is(reason($good, 'image_center'), 'address refused', 'link-local addresses are refused');
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url 'http://[::ffff:169.254.169.254]/latest')");
like(reason($good, 'image_center'), qr/^(address refused|host name not found)$/, 'also in IPv6 clothes'); # the latter without IPv6
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url 'http://0.0.0.0:@{[ $gate->{port} ]}/x')");
is(reason($good, 'image_center'), 'address refused', 'and the unspecified one, which would be this machine');
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url 'http://no-such-host.invalid/x')");
is(reason($good, 'image_center'), 'host name not found', 'unknown host');

my $log = read_file($cluster->logfile);
unlike($log, qr/sig=/, 'no signed URL in the log');
ok($log !~ /terminated by signal|PANIC/, 'no crash');

$cluster->stop;
done_testing();
