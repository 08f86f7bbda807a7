# Queries for images end when they are told to, wherever they wait, and leave nothing behind, however many there are and however
# they end. (040 has the engine's own tests of this.)
use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run;
use Test::More;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Stub;
use Tms::Util;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $image = jpeg(1) . 'x' x 200_000;
my $length = length $image;
my $head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n";
my $hang = sub { sysread($_[0], my $nothing, 1); return; };
my $drip = sub { my ($socket, $bytes) = @_; local $SIG{PIPE} = 'IGNORE'; while (syswrite($socket, $bytes)) { select(undef, undef, undef, 0.05); } return; };
my %behavior = (
	silent => sub { $hang->($_[0]) },
	headers => sub { syswrite($_[0], "${head}Content-Le"); $hang->($_[0]) },
	'slow-headers' => sub { syswrite($_[0], $head); $drip->($_[0], "X-Filler: 1\r\n") },
	'no-body' => sub { syswrite($_[0], "${head}Content-Length: $length\r\n\r\n"); $hang->($_[0]) },
	'half-body' => sub { syswrite($_[0], "${head}Content-Length: $length\r\n\r\n" . substr($image, 0, $length / 2)); $hang->($_[0]) },
	'last-byte' => sub { syswrite($_[0], "${head}Content-Length: $length\r\n\r\n" . substr($image, 0, -1)); $hang->($_[0]) },
	drip => sub { syswrite($_[0], "${head}Content-Length: $length\r\n\r\n"); $drip->($_[0], 'x') },
);
my $store = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my ($behavior) = $request->{path} =~ m{^/([a-z-]+)/};
		return $behavior{$behavior}->($socket) if $behavior{$behavior};
		return [ 404, {}, '' ] if $behavior eq 'missing';
		return [ 200, {}, $behavior eq 'wrong' ? 'x' x $length : $image ];
	});
# Accepts connections and says nothing: a TLS handshake that never ends.
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) or die "listen: $!";
my $deaf = deaf_listener();

my $pc = Tms::Cluster->start_new('cancel', preload => 1);
$pc->add_server($store->url . '/good', front_end => 'off', connect_timeout => '60s', first_byte_timeout => '60s', timeout => '60s', breaker_failures => '0');
my $gate = Tms::FrontEnd->new($pc, 'gate');
my @ids = map { $gate->add($image, path => "$_.jpg")->{id} } 1 .. 8;
my $list = 'ARRAY[' . join(', ', @ids) . ']';
sub store_at { my ($url) = @_; $pc->sql("ALTER SERVER image_center OPTIONS (SET url '$url')"); return; }

# --- every stage, every way to ask, both ways to be told ---
my %stages = (
	'connecting' => "http://127.0.0.1:$deaf->{port}/x",
	'the TLS handshake' => 'https://127.0.0.1:' . $mute->sockport . '/x',
	map({ $_ => $store->url . "/$_" } keys %behavior),
);
my @queries = (
	"SELECT length(tms.image($ids[0]))",
	'SELECT count(image) FROM capture_image',
	"SELECT count(image) FROM tms.images($list)",
	"SELECT tms.images($list)");
my @took;
for my $stage (sort keys %stages)
{
	store_at($stages{$stage});
	for my $sql (@queries)
	{
		my $begin = time();
		my (undef, undef, $error) = $pc->psql('postgres', "SET statement_timeout = '150ms'; $sql");
		push @took, time() - $begin;
		like($error, qr/canceling statement due to statement timeout/, "$stage, statement_timeout: $sql");
		# A bound far above what it should take and far below what ends the request itself.
		cmp_ok($took[-1], '<', 20, 'is obeyed at once');
	}
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $pc->connstr('postgres'), '-c', $queries[1] ], '>', \$out, '2>', \$err);
	my $waiting = "FROM pg_stat_activity WHERE query LIKE 'SELECT count(image)%' AND wait_event_type = 'Extension'";
	ok($pc->wait_for_sql("SELECT count(*) $waiting", 1), "$stage: a session waits");
	my $begin = time();
	is($pc->sql("SELECT pg_cancel_backend(pid) $waiting"), 't', 'pg_cancel_backend');
	$session->finish;
	like($err, qr/canceling statement due to user request/, 'is obeyed');
	cmp_ok(time() - $begin, '<', 20, 'at once');
}
note(sprintf('statement_timeout = 150 ms came back after %.0f to %.0f ms, psql included', 1000 * (sort { $a <=> $b } @took)[0], 1000 * (sort { $a <=> $b } @took)[-1]));

# A backend that is terminated, and a server that shuts down, do not wait either.
for my $stage ('connecting', 'half-body')
{
	store_at($stages{$stage});
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $pc->connstr('postgres'), '-c', $queries[1] ], '>', \$out, '2>', \$err);
	my $waiting = "FROM pg_stat_activity WHERE query LIKE 'SELECT count(image)%' AND wait_event_type = 'Extension'";
	ok($pc->wait_for_sql("SELECT count(*) $waiting", 1), "$stage: a session waits");
	is($pc->sql("SELECT pg_terminate_backend(pid) $waiting"), 't', 'pg_terminate_backend');
	$session->finish;
	like($err, qr/terminating connection due to administrator command/, 'is obeyed');
}

# --- name resolution with a name server that never answers, in a network of its own ---
SKIP:
{
	my @inside = qw(unshare --user --map-current-user --keep-caps --mount --net);
	my $mute_server = q{use IO::Socket::INET; my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp') or die; open(my $f, '>', $ARGV[0]); print $f $$; close $f; sleep 600};
	write_file("$folder/resolv.conf", "nameserver 127.0.0.1\n");
	write_file("$folder/pg_ctl", <<"SH");
#!/bin/sh
# Starts what it is told inside, with the mute name server beside it.
set -e
mount --bind "$folder/resolv.conf" /etc/resolv.conf
ip link set lo up
perl -e "\$MUTE_SERVER" "$folder/mute.pid" </dev/null >/dev/null 2>&1 &
while ! [ -s "$folder/mute.pid" ]; do kill -0 \$! ; done
[ \$# -gt 0 ] || { kill "\$(cat "$folder/mute.pid")"; exit 0; }
exec "\$@"
SH
	chmod 0755, "$folder/pg_ctl";
	local $ENV{MUTE_SERVER} = $mute_server;
	skip('no namespaces, or no name server to be in one, for this user', 4)
	  unless IPC::Run::run([ @inside, "$folder/pg_ctl" ], '>', '/dev/null', '2>', '/dev/null');
	unlink("$folder/mute.pid");

	$pc->stop;
	IPC::Run::run([ @inside, "$folder/pg_ctl", 'pg_ctl', '-w', '-D', $pc->data_dir, '-l', $pc->logfile, 'start' ], '>', '/dev/null') or die 'pg_ctl';
	my $started = 1;
	store_at('http://store.example/x');
	for my $sql (@queries[ 0, 1 ])
	{
		my $begin = time();
		my (undef, undef, $error) = $pc->psql('postgres', "SET statement_timeout = '150ms'; $sql");
		like($error, qr/canceling statement due to statement timeout/, "a dead name server, statement_timeout: $sql");
		# The resolver itself gives up after ten seconds.
		cmp_ok(time() - $begin, '<', 5, 'is obeyed long before the resolver gives up');
		note(sprintf('after %.0f ms', 1000 * (time() - $begin)));
	}
	IPC::Run::run([ 'pg_ctl', '-w', '-D', $pc->data_dir, '-m', 'fast', 'stop' ], '>', '/dev/null');
	kill('TERM', read_file("$folder/mute.pid"));
	$pc->{_pid} = undef;
	$pc->start;
}

# --- nothing is left behind: many queries of one session that succeed, fail and are ended in every way ---
my %server = (
	a_good => $store->url . '/good', a_missing => $store->url . '/missing', a_wrong => $store->url . '/wrong',
	a_half => $store->url . '/half-body', a_closed => 'http://127.0.0.1:1/x', a_silent => $store->url . '/silent');
for my $name (sort keys %server)
{
	$pc->sql("CREATE SCHEMA $name");
	$pc->add_server($server{$name}, name => $name, schema => $name, front_end => 'off', breaker_failures => '0');
}
my $round = <<"SQL";
	SELECT length(tms.image($ids[0], 'a_good'));
	SELECT count(image) FROM a_good.capture_image;
	SELECT count(image) FROM tms.images($list, 'a_good');
	SELECT (tms.images($list, 'a_good')).capture_id LIMIT 1;
	SELECT tms.image_url($ids[1], server => 'a_good') <> '';
	SELECT image_error FROM a_missing.capture_image LIMIT 3;
	SELECT image_error FROM a_wrong.capture_image LIMIT 3;
	SELECT image_error FROM a_closed.capture_image LIMIT 3;
	BEGIN;
	DECLARE early CURSOR FOR SELECT image FROM a_good.capture_image;
	FETCH 1 FROM early;
	CLOSE early;
	SAVEPOINT s;
	DECLARE undone CURSOR FOR SELECT image FROM a_half.capture_image;
	SET LOCAL statement_timeout = '20ms';
	FETCH 1 FROM undone;
	ROLLBACK TO s;
	DECLARE left_open CURSOR FOR SELECT tms.images($list, 'a_good');
	FETCH 2 FROM left_open;
	SELECT 1 / (length(tms.image($ids[2], 'a_good')) - $length);
	ROLLBACK;
	DO \$\$ BEGIN PERFORM image FROM a_good.capture_image; RAISE 'stop'; EXCEPTION WHEN raise_exception THEN END \$\$;
	SET tms.on_unavailable = error;
	SELECT count(image) FROM a_missing.capture_image;
	RESET tms.on_unavailable;
	SELECT FROM a_good.capture_image WHERE image IS NOT NULL LIMIT 1;
	SET statement_timeout = '20ms';
	SELECT count(image) FROM a_silent.capture_image;
	SELECT count(*) FROM tms.images($list, 'a_half');
	RESET statement_timeout;
SQL
# 15 of these statements ask for images.
my $rounds = int(($ENV{TMS_LONG} ? 10_000 : 500) / 15) + 1;
# Sockets and files, bytes of all memory contexts, resident pages.
my $measure = "SELECT 'held', (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')), (SELECT sum(total_bytes) FROM pg_backend_memory_contexts),
	(SELECT count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'tms%'), split_part(pg_read_file('/proc/self/statm', 0, 100), ' ', 2);\n";
my $warm = int($rounds / 4) + 1;
my ($rc, $out, $err) = $pc->psql('postgres', "SET jit = off;\n" . $round x $warm . $measure . $round x ($rounds - $warm) . $measure, on_error_stop => 0);
my @held = map { [ split /\|/ ] } $out =~ /^held\|(.*)$/mg;
is(scalar(@held), 2, "$rounds rounds of queries in one session");
is(scalar(() = $err =~ /canceling statement due to statement timeout/g), 3 * $rounds, 'of which some were cancelled');
is(scalar(() = $err =~ /is unavailable/g), $rounds, 'some failed for lack of an image');
is(scalar(() = $err =~ /division by zero/g), $rounds, 'some for reasons of their own');
cmp_ok($held[1][0], '<=', $held[0][0] + 2, "no descriptors are left behind ($held[0][0], $held[1][0])");
cmp_ok($held[1][1], '<=', $held[0][1] + 65536, "no memory ($held[0][1], $held[1][1] bytes)");
is($held[1][2], 0, 'no memory context of ours');
cmp_ok($held[1][3] - $held[0][3], '<', 1024, "and libraries keep none either ($held[0][3], $held[1][3] pages)");
is($pc->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"), 0, 'the session is over');
unlike(read_file($pc->logfile), qr/terminated by signal|PANIC|server process .* exited|WARNING/, 'no crash, no warning');

$pc->stop;
done_testing();
