# An image center that fails in every way: each query returns all images right, and asks the failing store a bounded number of
# times. Times are bench/run's concern.
use strict;
use warnings;

use Tms::Namespace; # first: starts this file again
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('failover', preload => 1);
my $nginx = Tms::Store->new('failover')->start;
my @gates = map { Tms::FrontEnd->new($cluster, "gate-$_") } 1 .. 3;
my $n = 100;
my $size = 2000;
for my $i (1 .. $n)
{
	my $capture = $gates[ $i % 3 ]->add(jpeg("photograph $i") . 'x' x $size, captured_at => "now() - interval '$i seconds'");
	$nginx->put($capture->{key}, $capture->{bytes});
}
$cluster->add_server($nginx->url, map({ $_ => '20s' } qw(connect_timeout first_byte_timeout timeout)), concurrency => 16,
	breaker_cooldown => '1h');

# Timeouts hold for the front ends too, which may be slow on a busy machine: short only where the center makes everybody wait.
my %waits = map { $_ => 1 } ('blackholed', 'answering one byte a second', 'not answering');
sub timeouts
{
	my ($value) = @_;
	return "ALTER SERVER image_center OPTIONS (SET connect_timeout '$value', SET first_byte_timeout '$value', SET timeout '$value');";
}

my $right = "count(*) FILTER (WHERE sha256(image) = sha256)";
my $query = "SELECT $right, count(*) FILTER (WHERE image_source = 'front_end'), count(*) FROM capture_image";
is($cluster->sql($query), "$n|0|$n", 'a center that works delivers all images');
is($nginx->requests, $n, 'each of them once');

# How the image center fails: what makes it so, returns its URL and a function that counts the requests it got, if any can.
sub stub
{
	my ($handler) = @_;
	my $stub = Tms::Stub->start($handler);
	return ($stub->url . '/captures', sub { $stub->requests }, $stub);
}
my %failures = (
	stopped => sub {
		my $port = free_port();
		return ("http://127.0.0.1:$port/captures");
	},
	blackholed => sub {
		my $deaf = deaf_listener();
		return ("http://127.0.0.1:$deaf->{port}/captures", undef, $deaf);
	},
	'answering 500' => sub { stub(sub { [ 500, {}, 'out of order' ] }) },
	'answering wrong bytes' => sub {
		stub(
			sub {
				my ($key) = $_[0]{path} =~ m{^/captures/(.*)};
				my $bytes = read_file($nginx->file($key));
				substr($bytes, -10, 1) = 'y';
				return [ 200, {}, $bytes ];
			});
	},
	'answering one byte a second' => sub {
		stub(
			sub {
				my ($request, $socket) = @_;
				local $SIG{PIPE} = 'IGNORE';
				syswrite($socket, "HTTP/1.1 200 OK\r\nContent-Length: " . length(jpeg('')) . "\r\n\r\n");
				while (syswrite($socket, 'x')) { select(undef, undef, undef, 1); }
				return;
			});
	},
	'not answering' => sub { stub(sub { sysread($_[1], my $nothing, 1); return; }) },
);
my %options = (
	'with breaker' => { breaker_failures => 5, hedge_after => 'off', concurrency => 16 },
	'with breaker and hedge' => { breaker_failures => 5, hedge_after => '60ms', concurrency => 16 },
	'without either' => { breaker_failures => 0, hedge_after => 'off', concurrency => 64 }, # every image waits: fewer turns
	'with hedge alone' => { breaker_failures => 0, hedge_after => '60ms', concurrency => 16 },
);
$cluster->sql("ALTER SERVER image_center OPTIONS (ADD breaker_failures '5', ADD hedge_after 'off')");

# Requests sent to the image center, by the path center's own count.
sub sent
{
	return $cluster->sql("SELECT requests FROM tms.stat_images WHERE source = 'image_center'");
}

for my $failure (sort keys %failures)
{
	for my $with (sort keys %options)
	{
		my ($url, $count, $keeper) = $failures{$failure}->();
		my $o = $options{$with};
		$cluster->sql(timeouts($waits{$failure} ? '2s' : '20s') . " ALTER SERVER image_center OPTIONS (SET url '$url', SET breaker_failures '$o->{breaker_failures}',
				SET hedge_after '$o->{hedge_after}', SET concurrency '$o->{concurrency}'); SELECT tms.stat_images_reset()");
		my $name = "center $failure, $with";
		is($cluster->sql($query), "$n|$n|$n", "$name: the first query gets all images");
		my $first = sent();
		cmp_ok($count->(), '<=', $first, "$name: the store saw no more requests than were sent") if $count;
		if ($o->{breaker_failures} == 0)
		{
			is($first, $n, "$name: each is asked for once");
			next;
		}
		cmp_ok($first, '<=', 16, "$name: no more were sent than are under way at once");
		cmp_ok($first, '>=', 5, "$name: and as many as open the breaker");
		is($cluster->sql($query), "$n|$n|$n", "$name: the next query gets all images");
		is(sent(), $first, "$name: without a request to the center");
		like($cluster->sql('SELECT DISTINCT image_error FROM capture_image LIMIT 1'), qr/^image_center: circuit breaker open \(.+\)$/,
			"$name: image_error says why");
	}
}

# Packets to the center vanish: before a session has asked it, and while its connections are open.
SKIP: {
	skip 'no network namespace for this user', 9 unless Tms::Namespace::available();
	$cluster->sql(timeouts('2s') . ' SELECT tms.breaker_reset()');
	$cluster->sql("ALTER SERVER image_center OPTIONS (SET concurrency '16')");
	my $at = "ALTER SERVER image_center OPTIONS (SET url '" . $nginx->url . "', SET hedge_after '%s', SET breaker_failures '%d'); SELECT tms.stat_images_reset()";
	my $drop = Tms::Namespace::drop_command($nginx->{port});
	for my $with ([ 'off', 5 ], [ '60ms', 5 ])
	{
		$cluster->sql(sprintf($at, @$with));
		is($cluster->sql("$query;\n\\! $drop\n$query; $query"), "$n|0|$n\n$n|$n|$n\n$n|$n|$n", "packets dropped under way, hedge_after $with->[0]");
		cmp_ok(sent(), '<=', $n + 16, 'cost no more requests than are under way at once');
		is($cluster->sql("SELECT state FROM tms.stat_breaker WHERE endpoint LIKE '%:$nginx->{port}'"), 'open', 'and open the breaker');
		Tms::Namespace::restore();
		$cluster->sql("SELECT tms.breaker_reset()");
	}
	Tms::Namespace::drop($nginx->{port});
	$cluster->sql("SELECT tms.stat_images_reset()");
	is($cluster->sql("$query; $query"), "$n|$n|$n\n$n|$n|$n", 'packets dropped from the first connection on');
	cmp_ok(sent(), '<=', 16, 'cost no more either');
	Tms::Namespace::restore();
	is($cluster->sql("SELECT tms.breaker_reset(); $query"), "\n$n|0|$n", 'and when they come again, the center serves');
}

# One by one, as an application without the foreign table asks: the failures that open the breaker, and no more.
my ($url, $count, $stub) = $failures{'answering 500'}->();
$cluster->sql(timeouts('20s') . " ALTER SERVER image_center OPTIONS (SET url '$url', SET breaker_failures '5', SET hedge_after 'off',
		SET concurrency '16')");
is($cluster->sql("SELECT $right FROM (SELECT tms.image(capture_id) AS image, sha256 FROM tms.capture OFFSET 0) c"), $n, 'tms.image 100 times');
is($count->(), 5, 'asks the failing center five times');
is($cluster->sql("SELECT count(*) FROM tms.images(ARRAY(SELECT capture_id FROM tms.capture)) WHERE image_source = 'front_end'"), $n, 'tms.images');
is($count->(), 5, 'and not again');
like($cluster->sql('SELECT tms.image_url(capture_id) FROM tms.capture LIMIT 1'), qr{/v1/images/.*&sig=}, 'tms.image_url leads to the front end');
is($cluster->sql("SET plan_cache_mode = force_generic_plan; PREPARE q AS $query; " . 'EXECUTE q; ' x 10), join("\n", ("$n|$n|$n") x 10),
	'ten executions of a generic plan');
is($count->(), 5, 'do not ask it either');

# Failures that say nothing about the source: missing objects, and credentials that are wrong for one user.
for my $status (404, 403, 401)
{
	my $picky = Tms::Stub->start(sub { [ $status, {}, '' ] });
	$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $picky->url ]}/captures')");
	is($cluster->sql($query), "$n|$n|$n", "HTTP $status: the front ends deliver");
	is($picky->requests, $n, "HTTP $status: and the center was asked for each");
}

# The log: wrong digests once for each object, breakers once for each outage.
my $log = read_file($cluster->logfile);
my @digests = $log =~ /LOG:  wrong digest of capture (\d+) from image_center\n.*DETAIL:  Device "gate-\d", path "2026\/\d+\.jpg"\./g;
my %seen;
$seen{$_}++ for @digests;
cmp_ok(scalar(@digests), '>=', 5, 'wrong digests are in the log, with device and path');
is(scalar(grep { $_ > 1 } values %seen), 0, 'each object once, though it was asked for again and again');
like($log, qr/LOG:  circuit breaker of image_center http:\/\/127\.0\.0\.1:\d+ opened after 5 failures in a row\n.*DETAIL:  The last one: HTTP 500\./, 'so are breakers that open');
unlike($log, qr/sig=/, 'but no signed URL');
unlike($log, qr/terminated by signal|PANIC/, 'no crash');

$cluster->stop;
done_testing();
