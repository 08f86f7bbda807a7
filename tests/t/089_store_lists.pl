# Listing what image centers hold, and rebuilding from them: an S3 store (Ceph) page by page, and stores that list rubbish,
# list for ever, are busy, refuse, or have manifests that are none.
use strict;
use warnings;

use POSIX qw(strftime);
use Test::More;
use Tms::Agent;
use Tms::Ceph;
use Tms::Cluster;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('lists');
my $token = $pc->add_device('gate-1', 'http://127.0.0.1:9');

# Adds a server; gives the last line of what a statement says, error or result.
sub add_server
{
	my ($name, $url, $options, %mapping) = @_;
	$pc->sql("CREATE SERVER $name FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '$url'" . join('', map { ", $_ '$options->{$_}'" } sort keys %$options) . ')');
	$pc->sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (" . join(', ', map { "$_ '$mapping{$_}'" } sort keys %mapping) . ')') if %mapping;
	return;
}

sub said
{
	my ($sql) = @_;
	my ($code, $out, $err) = $pc->psql('postgres', $sql);
	return $code == 0 ? $out : $err;
}

# --- Ceph, whose lists have three objects a page; the image center is a folder of the bucket ---
my $ceph = Tms::Ceph->new('lists')->start('--rgw_max_listing_results=3');
my $url = $ceph->url . '/province/7';
my $agent = Tms::Agent->new(device => 'gate-1', token => $token, conninfo => $pc->agent_conninfo, url => $url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' }, image_center => $ceph->agent_options })->start;
my $hour = int(time() / 3600) * 3600;
for my $n (0 .. 9)
{
	my ($code) = $agent->post(jpeg("list $n", 2000), captured_at => strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($hour - ($n % 5 + 1) * 3600)), lane => $n);
	die "not taken in: $code" if $code != 201;
}
add_server('ceph', $url, { store => 's3' }, access_key_id => $ceph->{access_key_id}, secret_access_key => $ceph->{secret_access_key});
$ceph->put('other/x.jpg', 'x');
$ceph->put('province/7/gate-1/strange.jpg', 'x');
$ceph->put('province/70', 'x');
my $count = q{SELECT count(*) FROM tms.list_objects('ceph', 'gate-1/manifest/', true)};
ok($pc->wait_for_sql($count, 5, 120), 'a manifest an hour');
ok($pc->wait_for_sql('SELECT uploaded_seq FROM tms.ledger', 10, 60), 'registered');
is(said(q{SELECT string_agg(concat_ws(' ', object, bytes), ', ' ORDER BY object) FROM tms.list_objects('ceph')}), 'gate-1/',
	'what is beside the folder is not listed');
is(said(q{SELECT count(*) FROM tms.list_objects('ceph', 'gate-1/', true) WHERE bytes > 0}), 16, 'all pages');
is(said(q{SELECT string_agg(object, ', ' ORDER BY object) FROM tms.list_objects('ceph', 'gate-1/') WHERE object !~ '\d{4}/$'}),
	'gate-1/manifest/, gate-1/strange.jpg', 'one level');
is(said(q{SELECT string_agg(object, ', ') FROM tms.unrecorded_objects('ceph')}), 'gate-1/strange.jpg', 'what no row speaks of');
my $rows = q{SELECT md5(string_agg(c::text, ',' ORDER BY capture_id)) FROM tms.capture AS c};
my $before = $pc->sql($rows);
$agent->stop;
$pc->sql('TRUNCATE tms.capture, tms.ledger, tms.ledger_day, tms.declared_gap');
like(said(q{CALL tms.import_image_center('ceph')}), qr/^$/, 'import');
is($pc->sql($rows), $before, 'every row is as it was');
$agent->start;
ok($pc->wait_for_sql('SELECT uploaded_seq FROM tms.ledger WHERE report_no > 0', 10, 60), 'the agent goes on');
is($pc->sql($rows), $before, 'without a duplicate');
$agent->stop;
$ceph->stop;

# --- stores that do other things ---
my $ledger = '12345678-0000-4000-8000-0000000000aa';
my $line = sub {
	my ($seq) = @_;
	return sprintf(qq({"ledger":"%s","seq":%d,"path":"a/%d.jpg","sha256":"%s","bytes":1,"captured_at":"%s"}\n), $ledger, $seq, $seq,
		sha256_hex("$seq"), strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($hour)));
};
my $name = "gate-1/manifest/2026/01/01/00/$ledger-";
my $contents = sub {
	return join('', map { "<Contents><Key>$_</Key><Size>1</Size></Contents>" } @_);
};
my $list = sub { my ($inside) = @_; return "<?xml version=\"1.0\"?><ListBucketResult>$inside</ListBucketResult>"; };
my $busy = "$PostgreSQL::Test::Utils::tmp_check/lists_busy_$$";
my $sent = "$PostgreSQL::Test::Utils::tmp_check/lists_sent_$$";

# Writes without end, and notes how much was taken.
my $endless = sub {
	my ($socket, $begin) = @_;
	my $all = 0;
	syswrite($socket, $begin);
	while (my $written = syswrite($socket, 'x' x 1_000_000))
	{
		$all += $written;
		last if $all >= 1_000_000_000;
	}
	write_file($sent, $all);
	return undef;
};

# What a store of that name answers to a list: [status, body], by its bucket.
my %lists = (
	loop => sub { [ 200, $list->('<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>' . $contents->('gate-1/x')) ] },
	forever => sub { [ 200, $list->('<IsTruncated>true</IsTruncated><NextContinuationToken>' . rand() . '</NextContinuationToken>' . $contents->('gate-1/x')) ] },
	tokenless => sub { [ 200, $list->('<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>') ] },
	other => sub { [ 200, '<html>no</html>' ] },
	cut => sub { [ 200, '<ListBucketResult>' . $contents->('gate-1/x') . '<Contents><Key>gate-1/y' ] },
	refused => sub { [ 403, '<Error><Code>AccessDenied</Code></Error>' ] },
	bomb => sub { [ 200, '<!DOCTYPE x [<!ENTITY a "' . 'a' x 1000 . '">]>' . $list->($contents->('gate-1/&a;&lt;&#65;')) ] },
	negative => sub { [ 200, $list->($contents->('gate-1/x') . '<Contents><Key>gate-1/z</Key><Size>-1</Size></Contents>' . $contents->('gate-1/y')) ] },
	keyless => sub { [ 200, $list->('<Contents><Size>1</Size></Contents>' . $contents->('gate-1/y')) ] },
	nameless => sub { [ 200, $list->('<CommonPrefixes></CommonPrefixes>' . $contents->('gate-1/y')) ] },
	busy => sub {
		open(my $file, '>>', $busy);
		print $file '.';
		close($file);
		return -s $busy < 3 ? [ 503, '<Error><Code>SlowDown</Code></Error>' ] : [ 200, $list->($contents->('gate-1/x')) ];
	},
);
my $stub = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my ($path, $query) = split /\?/, $request->{path}, 2;
		my ($bucket) = $path =~ m{^/(\w+)};
		return $endless->($socket, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") if $bucket eq 'endless';
		my ($status, $body) = @{ $lists{$bucket}->() };
		return [ $status, {}, $body ];
	});
my %errors = (
	loop => qr/lists its objects without end: a page leads back to itself/,
	tokenless => qr/lists its objects without end/,
	other => qr/does not list its objects: what it answers is not a list/,
	cut => qr/what it answers is not a list/,
	refused => qr/does not list its objects: HTTP 403 AccessDenied: access_key_id may not do this here\n.*HINT:  The user needs the right s3:ListBucket/s,
	bomb => qr{^gate-1/&a;<&#65;$},
	(map { $_ => qr/what it answers is not a list/ } qw(negative keyless nameless)),
	busy => qr{^gate-1/x$},
	forever => qr/canceling statement due to statement timeout/,
	endless => qr/does not list its objects: more than 67108864 bytes/,
);
for my $bucket (sort keys %errors)
{
	add_server($bucket, $stub->url . "/$bucket", { store => 's3' }, access_key_id => 'k', secret_access_key => 's');
	my $limit = $bucket eq 'forever' ? q{SET statement_timeout = '2s'; } : '';
	like(said("${limit}SELECT object FROM tms.list_objects('$bucket', 'gate-1/', true)"), $errors{$bucket}, "S3: $bucket");
}
is($stub->requests(qr{/busy\?}), 3, 'a busy store is asked again');
ok(poll_until(sub { -s $sent }, 'the endless list'), 'a list of 1 GB');
cmp_ok(read_file($sent), '<', 100_000_000, 'is not read to its end');
$stub->stop;

# A plain HTTP store; what it has is in %pages.
my %files = (
	"/$name" . 'good.jsonl' => $line->(1) . $line->(2),
	"/$name" . 'cut.jsonl' => $line->(4) . substr($line->(5), 0, 40),
	"/$name" . 'none.jsonl' => "\x00\xff\n" x 100,
	"/$name" . '0000000006-00000000.jsonl' => $line->(6),
);
my %pages = (
	'/' => '[' . join(',', map { qq({"name":"$_","type":"directory"}) } qw(gate-1 gate-9 no$code), '..') . ',{"name":"x","type":"file","size":7}]',
	'/gate-9/manifest/' => '[{"name":"2026","type":"directory"}]',
	'/gate-1/manifest/' => '[{"name":"2026","type":"directory"},{"name":"note.txt","type":"file","size":3}]',
	'/gate-1/manifest/2026/' => '[{"name":"01","type":"directory"}]',
	'/gate-1/manifest/2026/01/' => '[{"name":"01","type":"directory"}]',
	'/gate-1/manifest/2026/01/01/' => '[{"name":"00","type":"directory"}]',
	'/gate-1/manifest/2026/01/01/00/' => '[' . join(',', map { m{([^/]+)$}; qq({"name":"$1","type":"file","size":) . length($files{$_}) . '}' } sort keys %files)
	  . qq(,{"name":"$ledger-huge.jsonl","type":"file","size":1},{"name":"$ledger-gone.jsonl","type":"file","size":1}]),
	'/loop/' => '[{"name":"a","type":"directory"},{"name":"..","type":"directory"},{"name":"x/y","type":"directory"}]',
	'/html/' => '<html>index</html>',
	'/object/' => '{"name":1}',
	'/numbers/' => '[1,2]',
	'/nameless/' => '[{"type":"file","size":1}]',
	'/sizeless/' => '[{"name":"a","type":"file","size":"x"}]',
);
my $plain = Tms::Stub->start(
	sub {
		my ($request, $socket) = @_;
		my $path = $request->{path} =~ s{^/c}{}r;
		return $endless->($socket, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") if $path =~ /huge/;
		return [ 200, {}, $pages{'/loop/'} ] if $path =~ m{^/loop/};
		my $body = $pages{$path} // $files{$path};
		return defined $body ? [ 200, {}, $body ] : [ 404, {}, '' ];
	});
add_server('plain', $plain->url . '/c', {});
is(said("SELECT count(*) FROM tms.list_objects('plain', 'gate-7/manifest/', true)"), 0, 'a folder that is not there is empty');
like(said("SELECT * FROM tms.list_objects('plain', '$_/', true)"), qr/what it answers is not a list.*HINT:  nginx needs "autoindex on; autoindex_format json;"/s, "HTTP: $_")
  for qw(html object numbers nameless sizeless);
is(said("SELECT string_agg(DISTINCT regexp_replace(object, '^(loop|a|/)*', ''), ', ') FROM tms.list_objects('plain', 'loop/', true)"), ', ../, x/y/',
	'a folder in itself ends with the length of names, and strange names are not gone into');
like(said("SELECT * FROM tms.list_objects('plain', '$_')"), qr/invalid folder/, "no folder: $_") for 'x', '../', '/', 'a//', 'a?b/', "a\tb/";
like(said(q{CALL tms.import_image_center('plain')}), qr/manifests of 1 front ends that are not registered.*gate-9/s, 'an unknown front end');
said(q{CALL tms.import_image_center('plain', 'gate-1')});
is($pc->sql("SELECT string_agg(seq, ',' ORDER BY seq) FROM (SELECT (capture_id & 4294967295)::text AS seq FROM tms.capture WHERE path LIKE 'a/%') AS c"),
	'1,2,4,6', 'what is a record is loaded');
my %problems = map { split /\|/, $_, 2 } split /\n/,
  $pc->sql(q{SELECT regexp_replace(object, '^.*[0-9a-f]{12}-|^.*/', ''), problems FROM tms.imported_manifest WHERE object NOT LIKE '%/7/%' AND problems IS NOT NULL});
is($problems{'cut.jsonl'}, '{"line 2 is not a JSON object","the last line has no end"}', 'cut off');
like($problems{'none.jsonl'}, qr/^\{("line \d+ is not a JSON object",){20}"and 80 more"\}$/, 'no manifest at all');
is($problems{'0000000006-00000000.jsonl'}, '{"its bytes are not those that its name speaks of"}', 'changed');
like($problems{'huge.jsonl'}, qr/more than 16777216 bytes/, 'a manifest of 1 GB');
is($problems{'gone.jsonl'}, '{"HTTP 404"}', 'one that is gone');
is($problems{'note.txt'}, '{"not the name of a manifest of a registered front end"}', 'something else');
is($pc->sql("SELECT string_agg(from_seq || '-' || to_seq, ',' ORDER BY from_seq) FROM tms.device_gap WHERE kind = 'declared'"), '3-3,5-5', 'what is missing is told');

# Rights, and an end by a cancel.
$pc->sql('CREATE ROLE nobody; GRANT USAGE ON SCHEMA tms TO nobody');
like(said("SET ROLE nobody; $_"), qr/permission denied/, "not for everybody: $_")
  for "SELECT * FROM tms.list_objects('plain')", "SELECT * FROM tms.get_objects('plain', '{a}', 1)", "CALL tms.import_image_center('plain')",
  "SELECT * FROM tms.unrecorded_objects('plain')";
$pc->sql('GRANT EXECUTE ON FUNCTION tms.list_objects(text, text, boolean) TO nobody');
like(said(q{SET ROLE nobody; SELECT * FROM tms.list_objects('plain')}), qr/permission denied for foreign server plain/, 'nor without USAGE');
$plain->stop;
add_server('away', $plain->url . '/c', {});
my $begin = Time::HiRes::time();
like(said(q{SET statement_timeout = '500ms'; SELECT * FROM tms.list_objects('away')}), qr/statement timeout/, 'a store that is away is asked with patience');
cmp_ok(Time::HiRes::time() - $begin, '<', 10, 'which a cancel ends');
like(said(q{SELECT * FROM tms.list_objects('away')}), qr/server "away" does not list its objects: connection refused/, 'and an error in the end');

done_testing();
