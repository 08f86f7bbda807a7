# The agent's links: neither center keeps the other waiting, connections are kept, a store that asks for time gets it, names
# and certificates that change are noticed, and a reload refuses nobody.
use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run ();
use Test::More;
use Time::HiRes ();
use Tms::Agent;
use Tms::Authority;
use Tms::Cluster;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $nowhere = 'host=127.0.0.1 port=1 dbname=x user=x';
my $pc = Tms::Cluster->start_new('links', conf => "listen_addresses = '127.0.0.1'");

sub new_agent
{
	my ($device, %options) = @_;
	return Tms::Agent->new(device => $device, token => $options{token} // "token-of-$device",
		conninfo => $options{conninfo} // $nowhere, url => $options{url} // 'http://127.0.0.1:1/captures',
		extra => $options{extra} // {});
}

sub post_all
{
	my ($agent, $name, $count, $bytes) = @_;
	my %taken;
	for (1 .. $count)
	{
		my $photograph = jpeg("$agent->{device} $name $_", $bytes // 20_000);
		my ($code, $answer) = $agent->post($photograph);
		die "post: $code" if $code != 201;
		$taken{ $answer->{path} } = $photograph;
	}
	return \%taken;
}

sub upload_backlog_is
{
	my ($agent, $backlog, $limit) = @_;
	return poll_until(
		sub { my $s = $agent->status; $s && $s->{upload}{backlog} == $backlog },
		"backlog $backlog", $limit);
}

sub logged { my ($agent, $pattern) = @_; return scalar(() = read_file($agent->{log}) =~ /$pattern/g); }

sub log_has
{
	my ($agent, $pattern, $name) = @_;
	return ok(poll_until(sub { logged($agent, $pattern) }, "the log: $pattern", 60), $name);
}

sub rows { my ($device) = @_; return "SELECT count(*) FROM tms.capture JOIN tms.device USING (device_id) WHERE code = '$device'"; }

# --- an image center that takes bodies and never answers ---
my $store = Tms::Store->new('links')->start;
my $silent = Tms::Stub->start(sub { sleep 600; return });
my $agent = new_agent('links-1', token => $pc->add_device('links-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => $silent->url . '/captures')->start;
my $taken = post_all($agent, 'silent', 20);
ok(poll_until(sub { $silent->connections >= 8 }, 'eight hanging uploads'), 'all uploads hang');
ok($pc->wait_for_sql(rows('links-1'), 20, 60), 'registration goes on');
my ($path) = sort keys %$taken;
is(http('GET', $agent->signed_url($path))->{content}, $taken->{$path}, 'so does the cache server');
is($agent->status->{upload}{backlog}, 20, 'nothing is taken for uploaded');
is($agent->stop, 0, 'TERM ends it');
$silent->stop;

# --- a path center that takes connections and never answers ---
my $deaf = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64) or die "listen: $!";
$agent->{sections}{path_center}{conninfo} = 'host=127.0.0.1 port=' . $deaf->sockport . ' dbname=x user=x';
$agent->{sections}{image_center}{url} = $store->url;
$agent->write_config;
$agent->start;
ok(poll_until(sub { connections_to($deaf->sockport, 'established') }, 'a connection'), 'the path center hangs');
post_all($agent, 'deaf', 10);
ok(upload_backlog_is($agent, 0, 60), 'uploads go on');
is($store->requests(qr/"PUT /), 30, 'with one PUT each');
is(http('GET', $agent->signed_url($path))->{status}, 200, 'so does the cache server');
is($agent->stop, 0, 'TERM ends it');
close($deaf);

# --- many uploads, few connections ---
my $objects = "$tmp/links_objects_$$";
mkdir $objects;
my $busy = "$tmp/links_busy_$$";

# An image center in perl: while $busy is there it asks to be left alone.
sub answer
{
	my ($request) = @_;
	(my $key = $request->{path}) =~ tr{/}{!};
	return [ 503, { 'Retry-After' => read_file($busy) }, '' ] if -e $busy;
	if ($request->{method} eq 'PUT')
	{
		write_file("$objects/$key", $request->{body});
		return [ 201, {}, '' ];
	}
	return -e "$objects/$key" ? [ 200, {}, read_file("$objects/$key") ] : [ 404, {}, '' ];
}

my $stub = Tms::Stub->start(\&answer);
$agent = new_agent('links-2', url => $stub->url . '/captures', extra => { image_center => { concurrency => 4 } })->start;
post_all($agent, 'many', 60, 5_000);
ok(upload_backlog_is($agent, 0, 60), 'all are uploaded');
is($stub->requests(qr/^PUT /), 60, '60 PUTs');
cmp_ok($stub->connections, '<=', 5, 'over as many connections as there are uploads at once: ' . $stub->connections);

# --- a store that asks to be left alone ---
write_file($busy, '7');
post_all($agent, 'busy', 6, 5_000);
log_has($agent, qr/event=image_center_failing reason="PUT: HTTP status 503"/, 'a busy store is told about');
my ($waits) = [ read_file($agent->{log}) =~ /status 503" .*retry_in_ms=(\d+)/g ];
is_deeply([ grep { $_ < 7000 || $_ > 10_000 } @$waits ], [], "and left alone as long as it asks: @$waits ms");
my $asked = $stub->requests(qr/^PUT /);
unlink $busy;
ok(upload_backlog_is($agent, 0, 60), 'then all are uploaded');
is($agent->stop, 0, 'TERM ends it');

# --- the image center's name gets another address ---
my $hosts = "$tmp/links_hosts_$$";
write_file("$tmp/resolver.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	char address[64] = "";
	FILE *file;
	if (!node || strcmp(node, "image-center.test") != 0)
		return next(node, service, hints, out);
	file = fopen(getenv("TEST_HOSTS"), "r");
	if (!file || fscanf(file, "%63s", address) != 1)
		return EAI_NONAME;
	fclose(file);
	return next(address, service, hints, out);
}
C
system('gcc', '-shared', '-fPIC', '-o', "$tmp/resolver.so", "$tmp/resolver.c", '-ldl') == 0 or die 'resolver.so';
{
	local $ENV{LD_PRELOAD} = "$tmp/resolver.so";
	local $ENV{TEST_HOSTS} = $hosts;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	write_file($hosts, "127.0.0.1\n");
	$agent = new_agent('links-3', url => "http://image-center.test:$stub->{port}/captures");
	$agent->start;
}
post_all($agent, 'here', 5);
ok(upload_backlog_is($agent, 0), 'uploaded by name');
my $moved = Tms::Stub->start(\&answer, host => '127.0.0.2', port => $stub->{port});
write_file($hosts, "127.0.0.2\n");
$stub->stop;
post_all($agent, 'there', 5);
ok(upload_backlog_is($agent, 0, 90), 'the name has another address: found without a restart');
is($moved->requests(qr/^PUT /), 5, 'and all go there');
if ($ENV{TMS_LONG})
{
	# The old address goes on answering: connections are not kept for ever.
	my $back = Tms::Stub->start(\&answer, port => $stub->{port});
	write_file($hosts, "127.0.0.1\n");
	ok(poll_until(
			sub { post_all($agent, 'again' . Time::HiRes::time(), 1, 1000); sleep 5; $back->requests(qr/^PUT /) },
			'a PUT to the new address', 400),
		'also when the old address goes on answering');
}
is($agent->stop, 0, 'TERM ends it');

# --- so does the path center's: an address where nobody listens, then another one ---
{
	local $ENV{LD_PRELOAD} = "$tmp/resolver.so";
	local $ENV{TEST_HOSTS} = $hosts;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	write_file($hosts, "127.0.0.3\n");
	my $named = $pc->agent_conninfo . ' host=image-center.test';
	$agent = new_agent('links-6', token => $pc->add_device('links-6', 'http://127.0.0.1:1'), conninfo => $named);
	$agent->start;
}
post_all($agent, 'named', 3);
log_has($agent, qr/event=path_center_failing .*127\.0\.0\.3/, 'the path center is not at that address');
write_file($hosts, "127.0.0.1\n");
ok($pc->wait_for_sql(rows('links-6'), 3, 90), 'its name has another address: found without a restart');
is($agent->stop, 0, 'TERM ends it');

# --- certificates ---
my %certificate = map { $_ => Tms::Authority->self_signed($_) } qw(one two three);
my %place = map { $_ => { cert => "$tmp/$_.crt", key => "$tmp/$_.key" } } qw(cache store);
sub install_cert { my ($from, $to) = @_; return Tms::Authority->install($certificate{$from}, $place{$to}); }

# The name in the certificate that is shown to a new connection.
sub shown
{
	my ($port) = @_;
	my $out = '';
	IPC::Run::run([ qw(openssl s_client -connect), "127.0.0.1:$port" ], '<', \'', '>', \$out, '2>', '/dev/null');
	return $out =~ /^subject=CN = (\S+)/m ? $1 : 'none';
}

install_cert('one', 'cache');
$agent = new_agent('links-4', extra => { cache => { tls_cert => $place{cache}{cert}, tls_key => $place{cache}{key} } })->start;
is(shown($agent->{cache_port}), 'one', 'the cache server shows its certificate');
my ($in, $out) = ('', '');
my $session = IPC::Run::start([ qw(openssl s_client -quiet -connect), "127.0.0.1:$agent->{cache_port}" ],
	'<', \$in, '>', \$out, '2>', '/dev/null');
my $asked_again = sub {
	my ($count) = @_;
	$in .= "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	return poll_until(sub { $session->pump_nb; (() = $out =~ /HTTP\/1.1 200 /g) == $count }, "answer $count");
};
ok($asked_again->(1), 'somebody is connected');
install_cert('two', 'cache');
ok(poll_until(sub { shown($agent->{cache_port}) eq 'two' }, 'the new certificate'),
	'its files are replaced: new connections get the new one, without a signal');
ok($asked_again->(2), 'and who was connected stays so');
$session->kill_kill;
write_file($place{cache}{key}, read_file($certificate{three}{key}));
ok(poll_until(sub { shown($agent->{cache_port}); logged($agent, qr/event=cache_certificate /) >= 2 }, 'the mistake told'),
	'a key that does not belong to the certificate is told');
is(shown($agent->{cache_port}), 'two', 'and the last good pair holds');
install_cert('three', 'cache');
ok(poll_until(sub { shown($agent->{cache_port}) eq 'three' }, 'the next certificate'), 'until both are there');
is(logged($agent, qr/event=cache_certificate .*error=/), 1, 'told once');

# --- a reload refuses nobody ---
pipe(my $reader, my $writer);
my $knocking = fork() // die "fork: $!";
if ($knocking == 0)
{
	my ($tries, $refused, $ended) = (0, 0, 0);
	local $SIG{TERM} = sub { $ended = 1 };
	until ($ended)
	{
		for my $port ($agent->{intake_port}, $agent->{cache_port})
		{
			my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
			$refused++ if !$socket && !$ended;
			$tries++;
		}
		Time::HiRes::usleep(1000);
	}
	syswrite($writer, "$tries $refused\n");
	POSIX::_exit(0);
}
for my $count (1 .. 5)
{
	kill 'HUP', $agent->{pid};
	poll_until(sub { logged($agent, qr/event=reloaded /) == $count }, "reload $count", 60) or last;
}
kill 'TERM', $knocking;
my ($tries, $refused) = split ' ', scalar <$reader>;
waitpid($knocking, 0);
is(logged($agent, qr/event=reloaded /), 5, 'reloaded five times');
is($refused, 0, "of $tries connections meanwhile none is refused");
is(shown($agent->{cache_port}), 'three', 'and both are served');

# --- not even one that finds the certificate broken ---
write_file($place{cache}{cert}, "-----BEGIN CERTIFICATE-----\nhalf of it");
kill 'HUP', $agent->{pid};
ok(poll_until(sub { logged($agent, qr/event=reloaded /) == 6 }, 'reload 6', 60), 'a reload with a broken certificate');
is(shown($agent->{cache_port}), 'three', 'the last good one goes on');
is(($agent->post(jpeg('after a broken certificate')))[0], 201, 'and so does intake');
install_cert('one', 'cache');
ok(poll_until(sub { shown($agent->{cache_port}) eq 'one' }, 'the mended certificate'), 'until it is mended');
is($agent->stop, 0, 'TERM ends it');

# --- the image center's certificate is replaced, and then the file it is checked with ---
install_cert('one', 'store');
write_file("$tmp/ca.crt", read_file($certificate{one}{cert}));
my $https = Tms::Store->new('links_tls', tls => $place{store})->start;
$agent = new_agent('links-5', url => $https->url,
	extra => { image_center => { ca_file => "$tmp/ca.crt", rate_limit => '100kB/s' } })->start;
post_all($agent, 'first', 3);
ok(upload_backlog_is($agent, 0), 'uploaded by https');
$https->stop;
install_cert('two', 'store');
$https->start;
post_all($agent, 'second', 3);
log_has($agent, qr/event=image_center_failing reason=".*certificate/, 'a certificate nobody knows is told');
is($agent->status->{upload}{backlog}, 3, 'and nothing goes there');
replace_file("$tmp/ca.crt", read_file($certificate{two}{cert}));
ok(upload_backlog_is($agent, 0, 90), 'ca_file is replaced: uploaded, without a signal');
is($agent->stop, 0, 'TERM ends it');

done_testing();
