# A front end that many sessions ask at once gets a bounded number of requests, and whatever ends a session frees its share.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Stub;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('slots', preload => 1, conf => 'max_connections = 40');
my $gate = Tms::FrontEnd->new($cluster, 'gate', cache => 0);
my $quick = Tms::FrontEnd->new($cluster, 'quick');
my $n = 12;
$gate->add(jpeg("photograph $_"), captured_at => "now() - interval '$_ seconds'") for 1 .. $n;
$quick->add(jpeg("another $_"), captured_at => "now() - interval '$_ seconds'") for 1 .. $n;

# The cache server notes each request from its beginning to its end; how it behaves is in a file.
my $under_way = "$PostgreSQL::Test::Utils::tmp_check/under_way";
my $mode_file = "$PostgreSQL::Test::Utils::tmp_check/slots_mode";
mkdir $under_way;
sub mode { write_file("$mode_file.new", $_[0]); rename("$mode_file.new", $mode_file); return; }
sub under_way { return scalar(() = glob("$under_way/*")); }
mode('slow');
my $cache = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my ($path) = $request->{path} =~ m{^/v1/images/([^?]*)};
		my $mark = write_file("$under_way/$$", '');
		my $mode = read_file($mode_file);
		write_file("$under_way.most.$$." . time(), under_way());
		if ($mode eq 'slow') { select(undef, undef, undef, 0.1); }
		else
		{
			# until it is told to go on, or the client goes away
			while (read_file($mode_file) eq 'hang')
			{
				my $ready = '';
				vec($ready, fileno($socket), 1) = 1;
				last if select($ready, undef, undef, 0.02);
			}
		}
		unlink $mark;
		return [ 200, {}, read_file("$gate->{dir}/$path") ];
	},
	port => $gate->{port});
# The most requests that were under way at once since the last call.
sub most
{
	my $most = 0;
	for my $file (glob("$under_way.most.*"))
	{
		my $seen = read_file($file);
		$most = $seen if $seen > $most;
		unlink $file;
	}
	return $most;
}
$cluster->add_server("http://127.0.0.1:" . free_port() . '/captures', prefer => 'front_end', per_device_concurrency => 2,
	first_byte_timeout => '60s', timeout => '60s', breaker_failures => 0);
my $query = "SELECT count(*) FILTER (WHERE sha256(image) = sha256), string_agg(DISTINCT image_source, ',') FROM capture_image WHERE device = 'gate'";

my $serial = 0;
sub session
{
	my ($sql) = @_;
	my $self = { out => '', err => '', name => 'session-' . ++$serial };
	$self->{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $cluster->connstr('postgres') . " application_name=$self->{name}", '-c', $sql ],
		'>', \$self->{out}, '2>', \$self->{err});
	return $self;
}
sub outcome { my ($session) = @_; IPC::Run::finish($session->{handle}); return $session->{out}; }

# --- many sessions at once ---
is($cluster->sql($query), "$n|front_end", 'one session gets its images');
is(most(), 2, 'with per_device_concurrency requests at once');
is(join('', map { outcome($_) } map { session($query) } 1 .. 8), "$n|front_end\n" x 8, 'eight sessions at once get theirs');
my $most = most();
cmp_ok($most, '<=', 4, 'with no more than twice as many requests at once');
cmp_ok($most, '>=', 3, 'and more than one session has');

# --- full: others wait, cancellably; what ends a holder lets them go on ---
mode('hang');
my $before = $cache->requests;
my @holders = map { session($query) } 1 .. 2;
ok(poll_until(sub { under_way() == 4 }, 'four requests'), 'two sessions take all slots');
my (undef, undef, $error) = $cluster->psql('postgres', "SET statement_timeout = '300ms'; $query");
like($error, qr/canceling statement due to statement timeout/, 'a third one waits, and obeys its statement_timeout');
is($cache->requests - $before, 4, 'without a request');
is($cluster->sql("SET statement_timeout = '30s'; SELECT count(*) FILTER (WHERE sha256(image) = sha256) FROM capture_image WHERE device = 'quick'"), $n, 'another front end is not affected');
my $both = session("SELECT count(*) FROM capture_image WHERE sha256(image) = sha256 AND device IN ('gate', 'quick')");
ok(poll_until(sub { $quick->requests >= 2 * $n }, 'images of the other front end'), 'also within one scan');
my $waiting = session($query);
for my $function ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $holder = shift @holders;
	$before = $cache->requests;
	is($cluster->sql("SELECT $function(pid) FROM pg_stat_activity WHERE application_name = '$holder->{name}'"), 't', $function);
	outcome($holder);
	like($holder->{err}, qr/canceling|terminating/, 'ends a holder');
	ok(poll_until(sub { $cache->requests - $before == 2 }, 'two more requests'), 'whose slots go to those that wait');
	# The front end learns of those that were given up a moment later.
	ok(poll_until(sub { under_way() == 4 }, 'four requests'), 'four are under way again');
}
most();
mode('slow');
is(outcome($waiting), "$n|front_end\n", 'which get all their images');
is(outcome($both), 2 * $n . "\n", 'as does the other');
cmp_ok(most(), '<=', 4, 'never more than four at once');

# --- several cursors of one session do not wait for each other ---
my @cursors = map { "c$_" } 1 .. 4;
my $declare = join(' ', map { "DECLARE $_ CURSOR FOR SELECT capture_id FROM capture_image WHERE image IS NOT NULL AND device = 'gate' ORDER BY captured_at;" } @cursors);
my $fetch = join(' ', map { my $i = $_; map { "FETCH 1 FROM $_;" } @cursors } 1 .. $n);
is(scalar(() = $cluster->sql("BEGIN; SET LOCAL statement_timeout = '120s'; $declare $fetch COMMIT") =~ /^\d+$/mg), 4 * $n, 'four cursors in turn');
cmp_ok(most(), '<=', 4, 'within the same limit');

# --- a cursor that pauses gives its slots back after the timeout of its requests ---
$cluster->sql("ALTER SERVER image_center OPTIONS (SET per_device_concurrency '1', SET timeout '1s', SET first_byte_timeout '1s')");
my ($in, $out, $err) = ('', '', '');
my @pausing = map { my $o = ''; my $i = "BEGIN; DECLARE c CURSOR FOR SELECT image_source FROM capture_image WHERE device = 'gate'; FETCH 1 FROM c; SELECT 'fetched';\n";
	{ out => \$o, in => \$i, handle => IPC::Run::start([ 'psql', '-XAtq', '-d', $cluster->connstr('postgres') ], '<', \$i, '>', \$o, '2>', \$err) } } 1 .. 2;
for my $pausing (@pausing)
{
	ok(poll_until(sub { $pausing->{handle}->pump_nb; ${ $pausing->{out} } =~ /fetched/ }, 'the first row'), 'a cursor fetches a row and pauses');
}
is($cluster->sql("SET statement_timeout = '60s'; $query"), "$n|front_end", 'others get their images all the same');
for my $pausing (@pausing)
{
	${ $pausing->{out} } = '';
	${ $pausing->{in} } .= "FETCH ALL FROM c; COMMIT; SELECT 'done';\n\\q\n";
	ok(poll_until(sub { $pausing->{handle}->pump_nb; ${ $pausing->{out} } =~ /done/ }, 'the rest'), 'the cursor goes on');
	is(scalar(() = ${ $pausing->{out} } =~ /front_end/g), $n - 1, 'and gets the rest');
	$pausing->{handle}->finish;
}
unlike(read_file($cluster->logfile), qr/terminated by signal|PANIC/, 'no crash');
$cluster->stop;
done_testing();
