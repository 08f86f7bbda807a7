# Images by source: the order of sources, failover, caps on requests and memory, pauses of a cursor, rights, a standby.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $cluster = Tms::Cluster->start_new('image', preload => 1, streaming => 1);
my $nginx = Tms::Store->new('image')->start;
my $gate = Tms::FrontEnd->new($cluster, 'gate');
$cluster->add_server($nginx->url);

# Registers an image; in => 'store', 'cache', 'both' or 'none' tells where it is.
my $n_images = 0;
sub capture
{
	my ($in, %options) = @_;
	my $image = jpeg(++$n_images) . 'x' x ($options{size} // 5000);
	my $capture = $gate->add($image, cached => $in =~ /cache|both/ ? 1 : 0, %options);
	$nginx->put($capture->{key}, $image) if $in =~ /store|both/;
	return $capture;
}

# image_source, image_error and whether the bytes are right.
sub fetched
{
	my ($capture, $settings) = @_;
	return $cluster->sql(($settings // '') . "
		SELECT coalesce(image_source, '-'), coalesce(image_error, '-'), coalesce(encode(sha256(image), 'hex') = '$capture->{sha256}', image IS NOT NULL)
		FROM capture_image WHERE capture_id = $capture->{id}");
}

# --- which source ---
my %in = map { $_ => capture($_) } qw(both store cache none);
$gate->report(uploaded_seq => 4, uploaded_max => 4);
is(fetched($in{both}), 'image_center|-|t', 'in both: from the image center');
is(fetched($in{store}), 'image_center|-|t', 'only there');
is(fetched($in{cache}), 'front_end|image_center: HTTP 404|t', 'only in the cache: from the front end, and why');
is(fetched($in{none}), '-|image_center: HTTP 404; front_end: HTTP 404|f', 'in neither: NULL, and why');
is(fetched($in{both}, 'SET tms.image_source = front_end;'), 'front_end|-|t', 'tms.image_source = front_end');
is(fetched($in{store}, 'SET tms.image_source = front_end;'), '-|front_end: HTTP 404|f', 'asks nobody else');
is(fetched($in{cache}, 'SET tms.image_source = image_center;'), '-|image_center: HTTP 404|f', 'nor does image_center');

$cluster->sql("ALTER SERVER image_center OPTIONS (ADD prefer 'front_end')");
is(fetched($in{both}), 'front_end|-|t', 'prefer = front_end');
is(fetched($in{store}), 'image_center|front_end: HTTP 404|t', 'and the image center second');
$cluster->sql("ALTER SERVER image_center OPTIONS (DROP prefer, ADD front_end 'off')");
is(fetched($in{cache}), '-|image_center: HTTP 404|f', 'front_end = off');
is(fetched($in{cache}, 'SET tms.image_source = front_end;'), '-|front_end: turned off for this server|f', 'even if asked for');
$cluster->sql("ALTER SERVER image_center OPTIONS (DROP front_end)");

my ($asked_store, $asked_gate) = ($nginx->requests, $gate->requests);
my $fresh = capture('both');
$gate->report(uploaded_seq => 4, uploaded_max => 4);
is(fetched($fresh), 'front_end|-|t', 'above uploaded_max: the front end first');
is($nginx->requests - $asked_store, 0, 'the image center is not asked');
is($cluster->sql("SELECT capture_id % 4294967296, expected_source FROM capture_image ORDER BY 1"),
	join("\n", '1|both', '2|both', '3|both', '4|both', '5|front_end'), 'expected_source by the watermarks');
$gate->report(uploaded_seq => 2, uploaded_max => 4, cleaned_seq => 3);
is($cluster->sql("SELECT capture_id % 4294967296, expected_source FROM capture_image ORDER BY 1"),
	join("\n", '1|image_center', '2|image_center', '3|image_center', '4|front_end', '5|front_end'), 'what is cleaned was uploaded');
$gate->report(uploaded_seq => 1, uploaded_max => 2, cleaned_seq => 3);
is($cluster->sql("SELECT capture_id % 4294967296, expected_source FROM capture_image ORDER BY 1"),
	join("\n", '1|image_center', '2|image_center', '3|lost', '4|front_end', '5|front_end'), 'what is cleaned and not there is lost');
is($nginx->requests - $asked_store, 0, 'without any request');
$gate->report(uploaded_seq => 1000, uploaded_max => 1000, cleaned_seq => 0);

# --- rows and devices that name no image ---
my $odd = capture('both');
my $update = "UPDATE tms.capture SET %s WHERE capture_id = $odd->{id}";
$cluster->sql(sprintf($update, 'sha256 = NULL'));
is(fetched($odd), '-|the capture has no digest|f', 'a NULL digest is refused');
is($cluster->sql("SELECT tms.image($odd->{id}) IS NULL"), 't', 'also by tms.image');
$cluster->sql(sprintf($update, "sha256 = sha256('x')"));
is(fetched($odd), '-|image_center: wrong digest; front_end: wrong digest|f', 'a wrong one: never other bytes');
$cluster->sql(sprintf($update, "sha256 = '\\x$odd->{sha256}', image_bytes = NULL"));
is(fetched($odd), 'image_center|-|t', 'a NULL size is no obstacle');
$cluster->sql(sprintf($update, 'image_bytes = 40000000'));
is(fetched($odd), '-|the capture is larger than max_image_bytes|f', 'more than max_image_bytes is not asked for');
$cluster->sql("ALTER SERVER image_center OPTIONS (ADD max_image_bytes '4000')");
$cluster->sql(sprintf($update, 'image_bytes = NULL'));
like(fetched($odd), qr/^-\|image_center: \d+ bytes instead of at most 4000; front_end: \d+ bytes instead of at most 4000\|f$/, 'nor taken');
$cluster->sql("ALTER SERVER image_center OPTIONS (DROP max_image_bytes)");
$cluster->sql(sprintf($update, 'image_bytes = ' . length $odd->{bytes}));
$cluster->sql('ALTER TABLE tms.capture ALTER path TYPE text');
$cluster->sql(sprintf($update, "path = '../../etc/passwd'"));
is(fetched($odd), '-|image_center: storage path is not valid; front_end: storage path is not valid|f', 'a path that leaves its folder');
$cluster->sql(sprintf($update, 'path = NULL'));
is(fetched($odd), '-|the capture has no storage path|f', 'a NULL path');
$cluster->sql("UPDATE tms.capture SET path = '$odd->{path}' WHERE capture_id = $odd->{id};
	ALTER TABLE tms.capture ALTER path TYPE tms.storage_path; UPDATE tms.device SET enabled = false");
is(fetched($in{cache}), '-|image_center: HTTP 404; front_end: device is disabled|f', 'a disabled device is not asked');
$cluster->sql("UPDATE tms.device SET enabled = true, base_url = NULL");
is(fetched($in{cache}), '-|image_center: HTTP 404; front_end: device has no address or key|f', 'nor one without an address');
$cluster->sql("UPDATE tms.device SET base_url = '" . $gate->url . "'");
$cluster->sql("UPDATE tms.capture SET device_id = 99 WHERE capture_id = $odd->{id}");
is(fetched($odd), '-|image_center: device is not registered; front_end: device is not registered|f', 'nor one that nobody knows');
$cluster->sql("DELETE FROM tms.capture WHERE capture_id = $odd->{id}");

# --- tms.image: planned after sort and limit, and not at all when nobody looks ---
my @many = map { capture('store') } 1 .. 40;
my $asked = $nginx->requests;
is($cluster->sql('SELECT sum(length(image)) FROM (SELECT tms.image(capture_id) AS image FROM tms.capture ORDER BY captured_at DESC, capture_id DESC LIMIT 7) x'),
	length(join('', map { $_->{bytes} } @many[-7 .. -1])), 'tms.image in the select list above ORDER BY and LIMIT');
is($nginx->requests - $asked, 7, 'is called for the rows that are left');
is($cluster->sql('SELECT count(*) FROM (SELECT capture_id, tms.image(capture_id) AS image FROM tms.capture) x WHERE capture_id > 0'),
	$cluster->sql('SELECT count(*) FROM tms.capture'), 'a subquery whose image nobody uses');
is($nginx->requests - $asked, 7, 'fetches none');
is($cluster->sql('SELECT tms.image(4711) IS NULL, tms.image(NULL) IS NULL'), 't|t', 'an unknown capture_id: NULL');

# --- rights ---
$cluster->sql("CREATE ROLE clerk LOGIN; CREATE ROLE reader LOGIN; GRANT EXECUTE ON FUNCTION tms.image(bigint, text) TO reader");
sub refused
{
	my ($role, $sql) = @_;
	my (undef, $out, $error) = $cluster->psql('postgres', "SET ROLE $role; $sql");
	return $error =~ /ERROR:  (.*)/ ? $1 : $out;
}
my $call = "SELECT length(tms.image($in{both}{id}))";
is(refused('clerk', $call), 'permission denied for function image', 'tms.image is nobody\'s by default');
is(refused('reader', $call), 'permission denied for foreign server image_center', 'it needs USAGE on the server');
$cluster->sql('GRANT USAGE ON FOREIGN SERVER image_center TO reader');
like(refused('reader', $call), qr/^permission denied for table capture/, 'and the right to read the row');
$cluster->sql('GRANT SELECT ON tms.capture TO reader; ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON tms.capture USING (capture_id <> ' . $in{store}{id} . ')');
is(refused('reader', $call), length($in{both}{bytes}), 'then it works');
is(refused('reader', "SELECT tms.image($in{store}{id}) IS NULL"), 't', 'but not for a row that row security hides');
is(refused('reader', "SELECT length(tms.image($in{both}{id}, 'nowhere'))"), 'server "nowhere" does not exist', 'an unknown server');
$cluster->sql('ALTER TABLE tms.capture DISABLE ROW LEVEL SECURITY');

# --- caps on requests: as many connections as requests at a time ---
my $store = Tms::Stub->start(
	sub {
		my ($request) = @_;
		select(undef, undef, undef, 0.02);
		my ($key) = $request->{path} =~ m{^/captures/(.*)};
		my $file = $nginx->file($key);
		return -e $file ? [ 200, {}, read_file($file) ] : [ 404, {}, '' ];
	});
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store->url ]}/captures', ADD concurrency '3')");
is($cluster->sql("SELECT count(*) FROM capture_image WHERE image IS NOT NULL AND image_source = 'image_center'"), 43, 'a scan over a slow store');
is($store->connections, 3, 'keeps to its concurrency');

my $slow_gate = Tms::FrontEnd->new($cluster, 'slow', cache => 0);
my @slow = map { $slow_gate->add(jpeg(1000 + $_), path => "$_.jpg") } 1 .. 24;
my $cache = Tms::Stub->start(
	sub {
		select(undef, undef, undef, 0.02);
		my ($path) = $_[0]{path} =~ m{^/v1/images/([^?]*)};
		return [ 200, {}, read_file("$slow_gate->{dir}/$path") ];
	},
	port => $slow_gate->{port});
$cluster->sql("ALTER SERVER image_center OPTIONS (SET concurrency '16', ADD per_device_concurrency '2')");
is($cluster->sql("SELECT count(*) FROM capture_image WHERE device = 'slow' AND image IS NOT NULL AND image_source = 'front_end'"), 24, 'a scan over a slow front end');
is($cache->connections, 2, 'keeps to its per_device_concurrency');
is($cache->requests, 24, 'and asks once for each');

# --- prefetch_memory: what is asked for ahead is bounded ---
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $nginx->url ]}', ADD prefetch_memory '1MB')");
my @large = map { capture('store', size => 400_000, captured_at => "now() - interval '1 day'") } 1 .. 12;
$asked = $nginx->requests(qr{captures/gate/});
my $large = "SELECT length(image) FROM capture_image WHERE image_bytes > 400000";
is($cluster->sql("BEGIN; DECLARE c CURSOR FOR $large; FETCH 1 FROM c"), length($large[0]{bytes}), 'the first of many large ones');
cmp_ok($nginx->requests(qr{captures/gate/}) - $asked, '<=', 3, 'is fetched with no more others than prefetch_memory holds');
is($cluster->sql("SELECT count(*), sum(l) FROM ($large) AS t (l)"), '12|' . 12 * length($large[0]{bytes}), 'and all of them come through it');
$cluster->sql("ALTER SERVER image_center OPTIONS (SET prefetch_memory '64kB')");
is($cluster->sql("SELECT count(*), sum(l) FROM ($large) AS t (l)"), '12|' . 12 * length($large[0]{bytes}), 'even one by one');

# --- a store that loses patience while a cursor pauses is asked again, and has not failed ---
my $patient = $gate->add('p' x 1000, path => 'pause/first.jpg', captured_at => "now() - interval '2 days'", cached => 0);
my $paused = $gate->add('q' x 20_000_000, path => 'pause/second.jpg', captured_at => "now() - interval '2 days'", cached => 0);
my $impatient = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		return [ 200, {}, 'p' x 1000 ] if $request->{path} =~ /first/;
		my $left = 20_000_000;
		syswrite($socket, "HTTP/1.1 200 OK\r\nContent-Length: $left\r\n\r\n");
		$socket->blocking(0);
		while ($left > 0)
		{
			my $ready = '';
			vec($ready, fileno($socket), 1) = 1;
			return if !select(undef, $ready, undef, 0.7);
			$left -= syswrite($socket, 'q' x ($left > 65536 ? 65536 : $left)) // return;
		}
		return;
	});
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $impatient->url ]}', SET prefetch_memory '64MB', SET concurrency '16')");
is( $cluster->sql("BEGIN;
		DECLARE c CURSOR FOR SELECT image_source, image_error, encode(sha256(image), 'hex') FROM capture_image WHERE path LIKE 'pause/%';
		FETCH 1 FROM c; SELECT pg_sleep(2.5); FETCH 1 FROM c"),
	"image_center||$patient->{sha256}\n\nimage_center||$paused->{sha256}", 'a cursor that pauses gets its images');
is($impatient->requests(qr/second/), 2, 'the second one was asked for again');

# --- the planner does not compile for images: that takes longer than it could save ---
my ($cost) = $cluster->sql('EXPLAIN (FORMAT JSON) SELECT tms.image(c) FROM generate_series(1::bigint, 10000) AS c') =~ /"Total Cost": ([\d.]+)/;
cmp_ok($cost, '<', $cluster->sql("SELECT setting FROM pg_settings WHERE name = 'jit_above_cost'"), 'as many images as a statement may ask for stay below jit_above_cost');

# --- a standby ---
$cluster->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $nginx->url ]}', SET concurrency '16')");
$cluster->backup('base');
my $standby = Tms::Cluster->new('standby');
$standby->init_from_backup($cluster, 'base', has_streaming => 1);
$standby->start;
$cluster->wait_for_catchup($standby, 'replay', $cluster->lsn('flush'));
is($standby->sql("SELECT pg_is_in_recovery(), length(tms.image($in{both}{id})), length(tms.image($in{cache}{id}))"),
	't|' . join('|', map { length $in{$_}{bytes} } qw(both cache)), 'tms.image on a hot standby, from both sources');
$nginx->stop;
is($standby->sql("SELECT length(tms.image($in{both}{id}))"), length($in{both}{bytes}), 'also without the image center');
is($standby->sql("SELECT failovers FROM tms.stat_images WHERE source = 'image_center'"), 2, 'which is counted there');
$standby->stop;

$cluster->stop;
done_testing();
