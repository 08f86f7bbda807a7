# The fetch engine: connections kept and counted, cancels obeyed at every stage, nothing leaked, credentials sent and not told.
use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);
use PostgreSQL::Test::Utils ();
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

# A name server that never answers: getaddrinfo of one host hangs. Loaded into the server.
my $folder = PostgreSQL::Test::Utils::tempdir();
write_file("$folder/slow_resolver.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");

	while (node != NULL && strcmp(node, "slow-name.invalid") == 0)
		sleep(60);
	return real(node, service, hints, result);
}
C
system('cc', '-shared', '-fPIC', '-O1', '-o', "$folder/slow_resolver.so", "$folder/slow_resolver.c") == 0 or die 'cc failed';

my $image = jpeg(1) . 'x' x 300_000;
my $cluster;
{
	# A proxy in the postmaster's environment must not matter.
	local $ENV{LD_PRELOAD} = "$folder/slow_resolver.so";
	local $ENV{http_proxy} = 'http://127.0.0.1:1';
	$cluster = Tms::Cluster->start_new('fetch', preload => 1, conf => "log_statement = none\nlog_min_messages = debug1");
}

# A store that notes the Authorization header, and hangs where the path says so.
my $hang = sub { my ($socket) = @_; sysread($socket, my $nothing, 1); return; };
my $store = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		open(my $note, '>>', "$folder/authorization");
		print $note (($request->{headers}{authorization} // 'none'), "\n");
		close($note);
		return $hang->($socket) if $request->{path} =~ /no-answer/;
		return [ 404, {}, '' ] if $request->{path} =~ /missing/;
		return [ 200, {}, $image ] unless $request->{path} =~ /no-end/;
		syswrite($socket, "HTTP/1.1 200 OK\r\nContent-Length: " . length($image) . "\r\n\r\n" . substr($image, 0, 5000));
		return $hang->($socket);
	});
my $gate = Tms::FrontEnd->new($cluster, 'gate');
$cluster->add_server($store->url . '/captures', front_end => 'off', connect_timeout => '60s', first_byte_timeout => '60s', timeout => '60s');
my %capture = map { $_ => $gate->add($image, path => "$_.jpg") } qw(good no-answer no-end missing);
my %image = map { $_ => "tms.image($capture{$_}{id})" } keys %capture;

# --- connections are kept between queries, and made anew after a change of the server ---
my $before = $store->connections;
is( $cluster->sql(join(' ', map { "SELECT encode(sha256($image{good}), 'hex');" } 1 .. 5)),
	join("\n", ($capture{good}{sha256}) x 5), 'five queries of one session get the image');
is($store->connections - $before, 1, 'over one connection');
is($cluster->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"),
	0, 'the session is over');

$before = $store->connections;
my $other = Tms::Stub->start(sub { [ 200, {}, $image ] });
is( $cluster->sql("PREPARE q AS SELECT length($image{good}); EXECUTE q;
		ALTER SERVER image_center OPTIONS (SET url '@{[ $other->url ]}/x'); EXECUTE q;
		ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/captures'); EXECUTE q;"),
	join("\n", (length $image) x 3), 'ALTER SERVER between executions of a prepared statement');
is($other->requests(qr/^GET \/x\/gate\/good\.jpg$/), 1, 'sends the second one to the new address');
is($store->connections - $before, 2, 'and the idle connections of before are closed');

# --- credentials ---
sub authorization
{
	my ($options) = @_;
	$cluster->sql("ALTER USER MAPPING FOR PUBLIC SERVER image_center OPTIONS ($options); SELECT length($image{good})");
	my @lines = split /\n/, read_file("$folder/authorization");
	return $lines[-1];
}
is(authorization("ADD username 'reader', ADD password 'pass:word-of-the-store'"),
	'Basic ' . encode_base64('reader:pass:word-of-the-store', ''), 'user name and password');
is(authorization("SET password 'another-secret'"), 'Basic ' . encode_base64('reader:another-secret', ''), 'changed password');
is(authorization("DROP username, DROP password, ADD bearer_token 'token-of-the-store'"), 'Bearer token-of-the-store', 'bearer token');
is(authorization("DROP bearer_token"), 'none', 'none');

# --- cancels and timeouts, at every stage ---
# A listener whose queue is full: connections to it are never made.
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $!";
my @queue = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Blocking => 0) } 1 .. 8;
my %stages = (
	'name resolution' => [ 'http://slow-name.invalid/captures', 'good' ],
	'connecting' => [ 'http://127.0.0.1:' . $full->sockport . '/captures', 'good' ],
	'waiting for the first byte' => [ $store->url . '/captures', 'no-answer' ],
	'reading the body' => [ $store->url . '/captures', 'no-end' ],
);
for my $stage (sort keys %stages)
{
	my ($url, $name) = @{ $stages{$stage} };
	$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '$url')");
	my $begin = time();
	my (undef, undef, $error) =
	  $cluster->psql('postgres', "SET statement_timeout = '200ms'; SELECT length($image{$name})", on_error_stop => 0);
	like($error, qr/canceling statement due to statement timeout/, "$stage: statement_timeout");
	cmp_ok(time() - $begin, '<', 20, "$stage: long before the fetch would give up");

	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $cluster->connstr('postgres'), '-c', "SELECT length($image{$name})" ],
		'>', \$out, '2>', \$err);
	my $waiting = "FROM pg_stat_activity WHERE query LIKE 'SELECT length(tms%' AND wait_event_type = 'Extension'";
	ok($cluster->wait_for_sql("SELECT count(*) $waiting", 1), "$stage: the session waits");
	$begin = time();
	is($cluster->sql("SELECT pg_cancel_backend(pid) $waiting"), 't', "$stage: pg_cancel_backend");
	$session->finish;
	like($err, qr/canceling statement due to user request/, "$stage: is obeyed");
	cmp_ok(time() - $begin, '<', 20, "$stage: long before the fetch would give up");
}
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/captures')");

# A connect timeout of its own.
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url 'http://127.0.0.1:@{[ $full->sockport ]}/x', SET connect_timeout '300ms')");
my (undef, undef, $error) = $cluster->psql('postgres', "SET tms.on_unavailable = error; SELECT $image{good}");
like($error, qr/image_center: timed out after 300 ms while connecting/, 'connect_timeout');
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/captures', SET connect_timeout '60s')");

# --- nothing is left behind, whatever ended the queries ---
my $open = "SELECT count(*) FROM pg_ls_dir('/proc/self/fd');";
my $round = join("\n",
	"SELECT length($image{good});", "SELECT length($image{missing});", 'BEGIN;', 'SAVEPOINT s;',
	"SET LOCAL statement_timeout = '50ms';", "SELECT length($image{'no-end'});", 'ROLLBACK TO s;', "SELECT length($image{good});",
	'ROLLBACK;', "DO \$\$ BEGIN PERFORM $image{good}; RAISE EXCEPTION 'stop'; END \$\$;", "SET statement_timeout = '50ms';",
	"SELECT length($image{'no-answer'});", 'SET statement_timeout = 0;', "SET tms.on_unavailable = error;",
	"SELECT length($image{missing});", 'RESET tms.on_unavailable;') . "\n";
my ($rc, $out, $err) = $cluster->psql('postgres', "$round $open" . $round x 8 . "$open SELECT count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'tms%';",
	on_error_stop => 0);
my @lines = split /\n/, $out;
my ($first, $last, $contexts) = (grep { !/^(?:\d{6})?$/ } @lines);
is(scalar(() = $err =~ /canceling statement due to statement timeout/g), 18, 'statements were cancelled');
is(scalar(() = $err =~ /ERROR:  stop/g), 9, 'and failed after a fetch');
is(scalar(() = $err =~ /is unavailable/g), 9, 'and failed for lack of an image');
is(scalar(grep { $_ eq length($image) } @lines), 18, 'and others succeeded');
is($last, $first, 'no descriptor is left behind by any of them');
is($contexts, 0, 'and no memory');

# --- many queries, one session ---
$before = $store->connections;
my $requests = $store->requests;
is($cluster->sql("SELECT count(length(tms.image($capture{good}{id}))) FROM generate_series(1, 200)"), 200, '200 images one by one');
is($store->requests - $requests, 200, 'each with its own request');
is($store->connections - $before, 1, 'over one connection');

# --- tms.max_images holds for a whole statement ---
(undef, undef, $error) = $cluster->psql('postgres', "SET tms.max_images = 10; SELECT count(length(tms.image($capture{good}{id} + g * 0))) FROM generate_series(1, 11) AS g");
like($error, qr/ERROR:  statement asks for more than 10 images/, 'more than tms.max_images');
like($error, qr/HINT:  Select fewer rows/, 'with a hint');
is($cluster->sql("SET tms.max_images = 10; SELECT count(length(tms.image($capture{good}{id} + g * 0))) FROM generate_series(1, 10) AS g;
		SELECT length($image{good})"), "10\n" . length($image), 'exactly as many in each of two statements');

my $log = read_file($cluster->logfile);
unlike($log, qr/word-of-the-store|another-secret|token-of-the-store|Authorization/, 'no credentials in the log');
unlike($log, qr/terminated by signal|PANIC|server process .* exited/, 'no crash');

$cluster->stop;
done_testing();
