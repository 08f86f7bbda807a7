# Requests go where they may and nowhere else, whatever names, stores and the environment say; no answer fills memory; and no
# secret is told. (041 has the answers of bad stores one by one.)
use strict;
use warnings;

use IPC::Run;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Stub;
use Tms::Util;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $image = jpeg(1) . 'x' x 50_000;

# A name server in the hands of somebody else: the address of 10.0.0.1.rebound.example is 10.0.0.1, that of
# v6.fe80--1.rebound.example is fe80::1. Loaded into the server in front of the C library's resolver.
write_file("$folder/rebound.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	const char *end = node != NULL ? strstr(node, ".rebound.example") : NULL;
	char address[64];

	if (end != NULL && end - node < (int) sizeof(address))
	{
		int skip = strncmp(node, "v6.", 3) == 0 ? 3 : 0;
		char *c;

		memcpy(address, node + skip, end - node - skip);
		address[end - node - skip] = '\0';
		for (c = address; *c != '\0'; c++)
			if (*c == '-')
				*c = ':';
		return real(address, service, NULL, result);
	}
	return real(node, service, hints, result);
}
C
system('cc', '-shared', '-fPIC', '-O1', '-o', "$folder/rebound.so", "$folder/rebound.c") == 0 or die 'cc failed';

# Proxies and a .netrc of the postmaster's environment, which lead somewhere else or tell a secret.
my $elsewhere = Tms::Stub->start(sub { [ 200, {}, $image ] });
mkdir("$folder/home");
write_file("$folder/home/.netrc", "machine 127.0.0.1 login netrc-user password netrc-password\n");
chmod 0600, "$folder/home/.netrc";
write_file("$folder/home/.curlrc", "proxy = " . $elsewhere->url . "\n");
my $pc;
{
	local @ENV{qw(LD_PRELOAD HOME)} = ("$folder/rebound.so", "$folder/home");
	local @ENV{qw(http_proxy HTTP_PROXY https_proxy all_proxy ALL_PROXY)} = ($elsewhere->url) x 5;
	$pc = Tms::Cluster->start_new('safe', preload => 1, conf => "log_min_messages = debug5\nlog_statement = none\nlog_min_error_statement = panic");
}

my $seen = "$folder/seen";
my $store = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my ($name) = $request->{path} =~ m{^/([a-z0-9-]+)/};
		open(my $note, '>>', $seen);
		print $note join(' ', map { "$_=$request->{headers}{$_}" } sort keys %{ $request->{headers} }), "\n";
		close($note);
		local $SIG{PIPE} = 'IGNORE';
		my $head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n";
		my $pour = sub { my ($bytes) = @_; while (syswrite($socket, $bytes)) { } return; };
		return [ 302, { Location => $elsewhere->url . '/x' }, '' ] if $name eq 'redirect';
		return [ 301, { Location => 'file:///etc/passwd' }, '' ] if $name eq 'redirect-file';
		return [ 401, { 'WWW-Authenticate' => 'Digest realm="x", nonce="y"' }, '' ] if $name eq 'challenge';
		if ($name eq 'headers') { syswrite($socket, $head); return $pour->('X-Filler: ' . 'x' x 8000 . "\r\n"); }
		if ($name eq 'one-header') { syswrite($socket, "${head}X-Filler: "); return $pour->('x' x 8192); }
		if ($name eq 'interim') { return $pour->("HTTP/1.1 103 Early Hints\r\nLink: </" . 'x' x 8000 . ">\r\n\r\n"); }
		if ($name eq 'body') { syswrite($socket, "$head\r\n"); return $pour->('x' x 65536); }
		if ($name eq 'chunks') { syswrite($socket, "${head}Transfer-Encoding: chunked\r\n\r\n"); return $pour->("1\r\nx\r\n" x 1000); }
		if ($name eq 'chunk-line') { syswrite($socket, "${head}Transfer-Encoding: chunked\r\n\r\n1;"); return $pour->('x' x 8192); }
		if ($name eq 'trailers')
		{
			syswrite($socket, "${head}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n", length $image) . "$image\r\n0\r\n");
			return $pour->('X-Filler: ' . 'x' x 8000 . "\r\n");
		}
		return [ 200, { 'Set-Cookie' => 'session=1', 'Strict-Transport-Security' => 'max-age=1000', 'Alt-Svc' => 'h2="127.0.0.1:1"' }, $image ];
	});
my $gate = Tms::FrontEnd->new($pc, 'gate', token => 'token-of-the-gate-' . 'x' x 32);
my $capture = $gate->add($image, path => '1.jpg');
my $unknown = $gate->add($image, path => '2.jpg');
$pc->sql("UPDATE tms.capture SET image_bytes = NULL WHERE capture_id = $unknown->{id}");
$pc->add_server($store->url . '/good', timeout => '40s', first_byte_timeout => '40s', breaker_failures => '0');

# Why a source alone has no image, or 'image' when it has.
sub reason
{
	my ($source, $url, $id) = @_;
	$pc->sql("ALTER SERVER image_center OPTIONS (SET url '$url')") if $source eq 'image_center';
	$pc->sql("UPDATE tms.device SET base_url = '" . ($url =~ s{/x$}{}r) . "'") if $source eq 'front_end';
	return $pc->sql("SET tms.image_source = $source; SELECT coalesce(regexp_replace(image_error, '^$source: ', ''), 'image') FROM capture_image WHERE capture_id = "
		  . ($id // $capture->{id}));
}

# --- addresses: written as such, or as a name server has them ---
my $port = $store->{port};
my @never = qw(169.254.169.254 169.254.0.1 0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 100.100.100.200);
my @never_v6 = qw(fe80::1 febf::1 ff02::1 :: ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:224.0.0.1 ::169.254.169.254 64:ff9b::169.254.169.254
  fd00:ec2::254);
# Where the system has no IPv6, names of such addresses are not even looked up.
my $refused = qr/^address refused$/;
my $refused_v6 = qr/^(?:address refused|host name not found)$/;
for my $source ('image_center', 'front_end')
{
	for my $address (@never)
	{
		like(reason($source, "http://$address:$port/x"), $refused, "$source at $address");
		like(reason($source, "http://$address.rebound.example:$port/x"), $refused, 'by name, too');
	}
	for my $address (@never_v6)
	{
		like(reason($source, "http://[$address]:$port/x"), $refused_v6, "$source at [$address]");
		(my $name = $address) =~ tr/:/-/;
		like(reason($source, "http://v6.$name.rebound.example:$port/x"), $refused_v6, 'by name, too');
	}
}
# Other spellings of the same addresses, as far as the resolver knows them.
like(reason('image_center', "http://$_:$port/x"), $refused, "image_center at $_") for qw(2852039166 0xa9fea9fe 0251.0376.0251.0376 0 0x0);

# Loopback is for front ends that are registered so, in whatever spelling that is plain.
is(reason('front_end', "http://127.0.0.1.rebound.example:$gate->{port}"), 'address refused', 'a front end whose name leads to loopback');
like(reason('front_end', "http://v6.--1.rebound.example:$gate->{port}"), $refused_v6, 'or to that of IPv6');
like(reason('front_end', "http://v6.--ffff-127.0.0.1.rebound.example:$gate->{port}"), $refused_v6, 'or in IPv6 clothes');
is(reason('front_end', "http://127.0.0.1:$gate->{port}"), 'image', 'one that is registered at loopback');
is(reason('front_end', "http://localhost:$gate->{port}"), 'image', 'or at localhost');
is(reason('image_center', "http://127.0.0.1.rebound.example:$port/good"), 'image', 'the image center is where its administrator says');

# --- protocols ---
for my $url ('file:///etc/passwd', 'ftp://127.0.0.1/x', 'gopher://127.0.0.1/x', 'HTTP2://x', 'http://user:password@127.0.0.1/x', 'http://127.0.0.1/x?y', "http://127.0.0.1/a b")
{
	my (undef, undef, $error) = $pc->psql('postgres', "ALTER SERVER image_center OPTIONS (SET url '$url')");
	like($error, qr/ERROR:  invalid value for option "url"\nDETAIL:  The URL/, "not as a URL of a server: $url");
	unlike($error, qr/user:password/, 'and what may hold a password is not repeated') if $url =~ /password/;
	(undef, undef, $error) = $pc->psql('postgres', "SELECT tms.register_device('other', '$url')");
	like($error, qr/ERROR/, "nor of a device");
}

# --- the environment, redirects, cookies ---
my $center = 'image_center';
is(reason($center, $store->url . '/good'), 'image', 'an image');
is(reason($center, $store->url . '/good'), 'image', 'and again');
my $requests = read_file($seen);
unlike($requests, qr/authorization=|netrc/i, 'no .netrc is read');
unlike($requests, qr/cookie=/i, 'no cookie is kept');
is(reason($center, $store->url . '/redirect'), 'HTTP 302, redirect refused', 'no redirect is followed');
is(reason($center, $store->url . '/redirect-file'), 'HTTP 301, redirect refused', 'least of all to a file');
is(reason($center, $store->url . '/challenge'), 'HTTP 401', 'no other way of authentication is talked into');
is($elsewhere->connections, 0, 'neither a proxy nor the aim of a redirect was asked');

# --- answers without end: of all parts of an answer; the front end would serve, but the store has to fail first ---
my $session = $pc->background_psql('postgres');
my $pid = $session->query_safe("SET jit = off; SET tms.image_source = image_center; SELECT pg_backend_pid()");
$session->query_safe("SELECT image_error FROM capture_image WHERE capture_id = $capture->{id}");
my $before = peak_memory($pid);
$pc->sql("ALTER SERVER image_center OPTIONS (ADD max_image_bytes '1MB')");
for my $name (qw(headers one-header interim body chunks trailers chunk-line))
{
	# libcurl passes over what follows the size of a chunk, however long it is: only `timeout` ends that.
	$pc->sql("ALTER SERVER image_center OPTIONS (SET timeout '3s')") if $name eq 'chunk-line';
	for my $id ($capture->{id}, $unknown->{id})
	{
		$pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/$name')");
		my $begin = time();
		like($session->query_safe("SELECT image_error FROM capture_image WHERE capture_id = $id"), qr/^image_center: \S/,
			"$name without end" . ($id == $unknown->{id} ? ', size unknown' : ''));
		cmp_ok(time() - $begin, '<', 30, 'is given up early');
	}
}
cmp_ok((peak_memory($pid) - $before) / 1048576, '<', 8, 'and fills no memory');
$session->quit;
$pc->sql("ALTER SERVER image_center OPTIONS (SET timeout '40s')");

# --- secrets: credentials, tokens, signatures ---
my $told = '';
sub ask { my (undef, $out, $err) = $pc->psql('postgres', $_[0], on_error_stop => 0); $told .= "$out\n$err\n"; return; }
my @urls = ($store->url . '/good', $store->url . '/challenge', $store->url . '/redirect', 'http://127.0.0.1:1/x', 'http://169.254.169.254/x', 'http://no-such-host.invalid/x');
for my $credentials ("ADD username 'reader-of-the-store', ADD password 'password-of-the-store'", "DROP username, DROP password, ADD bearer_token 'bearer-of-the-store'")
{
	$pc->sql("ALTER USER MAPPING FOR PUBLIC SERVER image_center OPTIONS ($credentials)");
	for my $url (@urls)
	{
		$pc->sql("ALTER SERVER image_center OPTIONS (SET url '$url')");
		ask("SET client_min_messages = debug5; SET tms.on_unavailable = error; SELECT length(image) FROM capture_image;
			SET tms.image_source = image_center; SELECT length(image) FROM capture_image; SELECT length(tms.image($capture->{id}));
			SET tms.image_source = front_end; SELECT length(tms.image($capture->{id}));
			EXPLAIN (ANALYZE, VERBOSE) SELECT image FROM capture_image; EXPLAIN (VERBOSE, FORMAT JSON) SELECT image FROM capture_image;
			SELECT * FROM tms.stat_images; SELECT * FROM tms.probe('gate'); SELECT query FROM pg_stat_activity;
			SELECT * FROM pg_foreign_server; SELECT image_error FROM tms.images(ARRAY[$capture->{id}])");
	}
}
like(read_file($seen), qr/authorization=Bearer bearer-of-the-store/, 'the bearer token was sent');
like(read_file($seen), qr/authorization=Basic @{[ encode_base64('reader-of-the-store:password-of-the-store', '') ]}/, 'so were user name and password');
my $secrets = qr/password-of-the-store|bearer-of-the-store|token-of-the-gate|sig=|expires=|Authorization|@{[ encode_base64('reader-of-the-store:password-of-the-store', '') ]}/;
unlike($told, $secrets, 'no secret is told to a client, whatever it asks');
$pc->sql('CREATE ROLE clerk; GRANT USAGE ON FOREIGN SERVER image_center TO clerk; GRANT SELECT ON capture_image, tms.capture TO clerk');
is($pc->sql("SET ROLE clerk; SELECT string_agg(coalesce(umoptions::text, '-'), ',') FROM pg_user_mappings"), '-', 'a user of the server does not see its credentials');
# Statements that carry a secret are the client's; with log_statement = none the rest of the log must be clean.
unlike(read_file($pc->logfile), $secrets, 'nor to the log, at debug5');
unlike(read_file($pc->logfile), qr/terminated by signal|PANIC/, 'no crash');

$pc->stop;
done_testing();
