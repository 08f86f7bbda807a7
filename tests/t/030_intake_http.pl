# Intake by HTTP: what is acknowledged, and the answer to each kind of bad input.
use strict;
use warnings;

use Test::More;
use IO::Socket::INET;
use Tms::Agent;
use Tms::Util;

# Neither center is there: intake does not care.
my $agent = Tms::Agent->new(
	device => 'http-1', token => 'a token', conninfo => 'host=127.0.0.1 port=1 dbname=none user=nobody',
	url => 'http://127.0.0.1:1/captures');
$agent->start;
my $data = "$agent->{dir}/data";

sub cached { my $path = shift; return -e "$data/cache/$path" ? read_file("$data/cache/$path") : undef; }

# The side file or attribute is not looked at here: what is registered is tested in ledger_recover.
sub quarantined { my @files = grep { !/\.reason$/ } glob("$data/quarantine/*"); return @files; }

# --- what is taken ---
my $photo = jpeg('one', 150_000);
my ($status, $answer) = $agent->post($photo, captured_at => '2026-11-22T14:03:05.25+08:00', plate => 'WA56660', lane => 2,
	speed_kmh => 87, plate_class => '02', plate_color => 'blue', direction => 'north', violation_code => '1208',
	event_id => '8f14e45f-ceea-4677-a8b1-0f6c2b3d4e5f', camera => 'C-7');
is($status, 201, 'a photograph with its record is taken');
is($answer->{seq}, 1, 'the first seq');
is($answer->{sha256}, sha256_hex($photo), 'its digest');
like($answer->{path}, qr{^2026/11/22/06/1-[0-9a-f]{8}-\Q@{[substr(sha256_hex($photo), 0, 8)]}\E\.jpg$}, 'its path, by captured_at in UTC');
ok(cached($answer->{path}) eq $photo, 'its bytes are in the cache');

($status, $answer) = $agent->post(jpeg('two'));
is("$status $answer->{seq}", '201 2', 'without a record');
($status, $answer) = $agent->post(truncated_jpeg('three', 5000), attributes => '{"operator": "x"}');
is("$status $answer->{seq}", '201 3', 'a damaged tail is taken');

sub form
{
	my (@parts) = @_;
	my $body = '';
	for my $part (@parts)
	{
		my ($name, $value, $file) = @$part;
		$body .= "--edge\r\nContent-Disposition: form-data; name=\"$name\"" . ($file ? "; filename=\"$file\"\r\nContent-Type: image/jpeg" : '')
		  . "\r\n\r\n$value\r\n";
	}
	my $answer = http('POST', $agent->intake_url . '/v1/captures', content => "$body--edge--\r\n",
		headers => { 'Content-Type' => 'multipart/form-data; boundary=edge' });
	return ($answer->{status}, JSON::PP->new->allow_nonref->decode($answer->{content}));
}
my $formed = jpeg('form', 90_000);
($status, $answer) = form([ 'plate', 'FORM1' ], [ 'image', $formed, 'a.jpg' ], [ 'lane', '3' ]);
is($status, 201, 'a form is taken');
ok(cached($answer->{path}) eq $formed, 'with the bytes of part image');
($status, $answer) = form([ 'plate', 'FORM2' ]);
is($status, 400, 'a form without a photograph');
like($answer->{error}, qr/image/, 'names the part');
($status, $answer) = form([ 'image', $formed, 'a.jpg' ], [ 'image', $formed, 'b.jpg' ]);
is($status, 400, 'two photographs in a form');
($status, $answer) = form([ 'image', $formed, 'a.jpg' ], [ 'lane', 'left' ]);
is($status, 400, 'a malformed part');
like($answer->{error}, qr/lane/, 'is named');
($status, $answer) = form([ 'image', $formed, 'a.jpg' ], [ 'plate', 'P' x 10_000 ]);
is($status, 400, 'a plate of 10,000 characters in a form');
$status = http('POST', $agent->intake_url . '/v1/captures', content => "--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
	headers => { 'Content-Type' => 'multipart/form-data; boundary=edge' })->{status};
is($status, 400, 'a part without a name');

# --- what is not a JPEG ---
my $before = quarantined();
for my $case ([ 'text', 'this is no photograph' ], [ 'PNG', "\x89PNG\r\n\x1a\n" . "\0" x 500 ], [ 'HTML', '<html></html>' ],
	[ 'two bytes', "\xff\xd8" ], [ 'zeros', "\0" x 100_000 ])
{
	($status, $answer) = $agent->post($case->[1]);
	is($status, 422, "$case->[0]: 422");
	like($answer->{error}, qr/JPEG/, "$case->[0]: says why");
}
is(scalar(quarantined()) - $before, 5, 'their bytes are kept in quarantine');
($status, $answer) = $agent->post('');
is($status, 422, 'an empty body: 422');

# --- what is too large ---
($status) = $agent->post("\xff\xd8" . 'x' x 40_000_000);
ok($status == 413 || $status == 599, "40 MB: refused ($status)");
# A client that waits for permission gets the answer before it sends anything.
my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{intake_port}) or die $!;
print $socket "POST /v1/captures HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 40000000\r\nExpect: 100-continue\r\n\r\n";
like(scalar(<$socket>), qr{^HTTP/1\.1 413 }, '40 MB with Expect: 413 at once');
close($socket);

# --- malformed records: each names its field ---
my @malformed = (
	[ captured_at => 'yesterday' ], [ captured_at => '2026-13-01T00:00:00Z' ], [ captured_at => '2026-02-30T00:00:00Z' ],
	[ captured_at => '1970-01-01T00:00:00Z' ], [ captured_at => '9999-01-01T00:00:00Z' ], [ captured_at => '2026-11-22T14:03:05' ],
	[ lane => 'two' ], [ lane => '-1' ], [ lane => '1000' ], [ lane => '2.5' ], [ lane => '99999999999999999999' ],
	[ speed_kmh => 'fast' ], [ speed_kmh => '-3' ], [ speed_kmh => '70000' ],
	[ plate => 'P' x 10_000 ], [ plate => "A\x01B" ], [ plate => "\xff\xfe" ], [ plate => "A\0B" ],
	[ plate_class => 'c' x 100 ], [ plate_color => 'b' x 100 ], [ direction => 'n' x 100 ], [ violation_code => 'v' x 100 ],
	[ event_id => 'not-a-uuid' ], [ event_id => '8f14e45f-ceea-4677-a8b1' ],
	[ attributes => '[1]' ], [ attributes => '{"a":' ], [ attributes => '"text"' ], [ attributes => '{"a": "' . 'x' x 9000 . '"}' ],
	[ 'n' x 200 => 'long name' ],
);
my ($last) = map { $_->[1]{seq} } [ $agent->post(jpeg('marker one')) ];
for my $case (@malformed)
{
	my ($field, $value) = @$case;
	($status, $answer) = $agent->post(jpeg("malformed $field"), $field => $value);
	(my $shown = substr($value, 0, 30)) =~ s/[^ -~]/?/g;
	is($status, 400, "$field = $shown: 400");
	like(ref $answer ? $answer->{error} : $answer, qr/\Q@{[substr($field, 0, 30)]}\E/, '... that names the field');
}
(undef, $answer) = $agent->post(jpeg('marker two'));
is($answer->{seq}, $last + 1, 'refused captures use up no seq');

# --- other requests ---
my $base = $agent->intake_url;
is(http('GET', "$base/v1/captures")->{status}, 405, 'GET of captures');
is(http('POST', "$base/healthz", content => '')->{status}, 405, 'POST to healthz');
is(http('GET', "$base/healthz")->{status}, 200, 'healthz');
is(http('GET', "$base/nothing")->{status}, 404, 'an unknown path');
is(http('GET', "$base/../../etc/passwd")->{status}, 404, 'a path that climbs');
is($agent->status->{device}, 'http-1', 'status');

# --- clients that stop half-way leave nothing behind ---
for my $head ("POST /v1/captures HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" . substr($photo, 0, 5000),
	"POST /v1/captures HTTP/1.1\r\nHo", "rubbish\r\n\r\n", "\0\0\0\0")
{
	my $half = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{intake_port}) or die $!;
	print $half $head;
	$half->flush;
	close($half);
}
ok(poll_until(sub { !glob("$data/tmp/*") }, 'an empty tmp folder'), 'half a body leaves nothing in tmp/');
($status, $answer) = $agent->post(jpeg('marker three'));
is("$status $answer->{seq}", '201 ' . ($last + 2), 'and intake goes on');

# --- a refusal reaches senders that look for an answer only when they have sent it all ---
sub sent_to_the_end
{
	my ($head, $expected, $name) = @_;
	my $sender = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{intake_port}) or die $!;
	local $SIG{PIPE} = 'IGNORE';
	my $sent = print $sender "$head HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n", 'x' x 8_000_000;
	$sender->flush;
	return like(scalar(<$sender>) // '', qr/ $expected /, "$name: $expected is read after 8 MB");
}
sent_to_the_end(@$_) for [ 'POST /v1/captures?lane=left', 400, 'a malformed field' ], [ 'POST /v1/capture', 404, 'another path' ],
	[ 'PUT /v1/captures', 405, 'another method' ], [ "POST /v1/captures HTTP/1.1\r\nOrigin: http://elsewhere\r\nX:", 403, 'a web page' ];
my $waiting = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{intake_port}) or die $!;
print $waiting "POST /v1/captures?lane=left HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 8000000\r\n\r\n";
like(scalar(<$waiting>), qr/ 400 /, 'one that waits for 100 Continue is refused at once');

# --- more connections than are served: the operator hears of it, and it passes ---
my @held = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $agent->{intake_port}) } 1 .. 300;
ok(poll_until(sub { read_file($agent->{log}) =~ /event=intake_crowded connections=256 / }, 'intake_crowded'), 'too many connections are told');
close($_) for grep { $_ } @held;
ok(poll_until(sub { ($agent->post(jpeg('after the crowd')))[0] == 201 }, 'taken again'), 'and when they are gone intake goes on');
is(scalar(() = read_file($agent->{log}) =~ /event=intake_crowded/g), 1, 'told once');

# --- a token, when one is configured ---
$agent->guard_intake('open sesame');
is($agent->stop, 0, 'stops');
$agent->start;
is(($agent->post(jpeg('token')))[0], 401, 'without the token');
sent_to_the_end('POST /v1/captures', 401, 'no token');
for my $case ([ 'Bearer wrong', 401 ], [ 'Basic b3BlbiBzZXNhbWU=', 401 ], [ 'Bearer open sesame', 201 ])
{
	is(http('POST', "$base/v1/captures", content => jpeg("token $case->[0]"),
			headers => { 'Content-Type' => 'image/jpeg', Authorization => $case->[0] })->{status}, $case->[1], "Authorization: $case->[0]");
}
is(http('GET', "$base/healthz")->{status}, 200, 'healthz needs none');
is($agent->stop, 0, 'stops again');

my $log = read_file($agent->{log});
unlike($log, qr/open sesame|a token/, 'no secret in the log');
unlike($log, qr/Sanitizer|runtime error/, 'no sanitizer report');

done_testing();
