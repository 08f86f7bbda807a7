# Records in another character set, by every way in: the path center has them in UTF-8, and bytes that are no text are told.
use strict;
use warnings;

use Encode qw(encode);
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Util;

my $pc = Tms::Cluster->start_new('charset', conf => "listen_addresses = '127.0.0.1'");
my $agent = Tms::Agent->new(device => 'gbk-1', token => $pc->add_device('gbk-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => 'http://127.0.0.1:1/captures', extra => { intake => { charset => 'GBK' } })
  ->start;

my ($plate, $color, $name) = map { pack('U*', @$_) } [ 0x7ca4, 0x42, 0x31, 0x32, 0x33 ], [ 0x84dd ], [ 0x8def, 0x53e3 ];
my %gbk = map { $_ => encode('GBK', $_) } $plate, $color, $name;
my %utf8 = map { $_ => encode('UTF-8', $_) } $plate, $color, $name;

# What the path center has of a photograph: plate, color, attributes.
sub row_is
{
	my ($photograph, $expected, $test) = @_;
	my $query = "SELECT plate || '|' || plate_color || '|' || coalesce(attributes::text, '')"
	  . " FROM tms.capture WHERE sha256 = '\\x" . sha256_hex($photograph) . "'";
	my $row;
	poll_until(sub { ($row = $pc->sql($query)) ne '' }, 'a row', 60);
	utf8::encode($row) if utf8::is_utf8($row);
	return is($row, $expected, $test);
}

# --- query string: value and name ---
my $photograph = jpeg('query');
my ($code, $answer);
my $escape = sub { join('', map { sprintf('%%%02X', ord) } split //, $_[0]) };
$code = http('POST',
	$agent->intake_url . '/v1/captures?plate=' . $escape->($gbk{$plate}) . '&plate_color=' . $escape->($gbk{$color}) . '&'
	  . $escape->($gbk{$name}) . '=' . $escape->($gbk{$color}),
	content => $photograph, headers => { 'Content-Type' => 'image/jpeg' })->{status};
is($code, 201, 'a query string in GBK is taken');
row_is($photograph, qq($utf8{$plate}|$utf8{$color}|{"$utf8{$name}": "$utf8{$color}"}), 'and stored in UTF-8');

# --- form ---
$photograph = jpeg('form');
my $form = join('', map { "--edge\r\nContent-Disposition: form-data; name=\"$_->[0]\"\r\n\r\n$_->[1]\r\n" }
	  [ plate => $gbk{$plate} ], [ plate_color => $gbk{$color} ])
  . "--edge\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n$photograph\r\n--edge--\r\n";
my %form_headers = (headers => { 'Content-Type' => 'multipart/form-data; boundary=edge' });
is(http('POST', $agent->intake_url . '/v1/captures', content => $form, %form_headers)->{status}, 201,
	'form parts in GBK are taken');
row_is($photograph, "$utf8{$plate}|$utf8{$color}|", 'and stored in UTF-8');

# --- side file; the second byte of one character is a backslash ---
$photograph = jpeg('side');
my $backslash = pack('U', 0x81f7);
write_file("$agent->{dir}/spool/side.json",
	encode('GBK', qq({"plate": "$plate", "plate_color": "$color", "note": "$backslash"})));
write_file("$agent->{dir}/moving", $photograph);
rename("$agent->{dir}/moving", "$agent->{dir}/spool/side.jpg") or die "rename: $!";
row_is($photograph, qq($utf8{$plate}|$utf8{$color}|{"note": ") . encode('UTF-8', $backslash) . '"}',
	'a side file in GBK is stored in UTF-8');

# --- put: the terminal speaks UTF-8, whatever the cameras speak ---
write_file("$agent->{dir}/put.jpg", jpeg('put'));
my ($exit, $out, $err) = $agent->command('put', '--field', "plate=$utf8{$plate}", '--field', "plate_color=$utf8{$color}",
	"$agent->{dir}/put.jpg");
is($exit, 0, 'put sends to the listener');
row_is(jpeg('put'), "$utf8{$plate}|$utf8{$color}|", 'and its text arrives as it was typed');
my %listen = (config => "$agent->{dir}/spool-only.conf");
{
	(my $text = read_file($agent->{config})) =~ s/^listen = 127\.0\.0\.1:$agent->{intake_port}\n//m;
	write_file($listen{config}, $text);
}
write_file("$agent->{dir}/put.jpg", jpeg('put by spool'));
local $agent->{config} = $listen{config};
($exit, $out, $err) = $agent->command('put', '--field', "plate=$utf8{$plate}", '--field', "plate_color=$utf8{$color}",
	"$agent->{dir}/put.jpg");
is($exit, 0, 'put by way of the spool');
row_is(jpeg('put by spool'), "$utf8{$plate}|$utf8{$color}|", 'does so too');
($exit, $out, $err) = $agent->command('put', '--field', "plate=\xf0\x9f\x9a\x97", "$agent->{dir}/put.jpg");
is($exit, 1, 'put refuses what that character set does not have');

# --- bytes that are no text ---
($code, $answer) = $agent->post(jpeg('bad'), plate => "\xd4");
is($code, 400, 'half a character is refused');
is($answer->{error}, 'plate: not valid GBK', 'naming field and character set')
  or diag(explain($answer));
write_file("$agent->{dir}/spool/bad.json", qq({"plate": "\xff"}));
write_file("$agent->{dir}/moving", jpeg('bad side'));
rename("$agent->{dir}/moving", "$agent->{dir}/spool/bad.jpg") or die "rename: $!";
ok(poll_until(sub { !-e "$agent->{dir}/spool/bad.jpg" }, 'quarantine'), 'a side file that is no text is set aside');
my ($reason) = glob("$agent->{dir}/data/quarantine/*bad.jpg.reason");
like(read_file($reason), qr/^record: not valid GBK\n/, 'with the reason');
is($agent->stop, 0, 'TERM ends it');

# --- without the key UTF-8 is strict ---
my $strict = Tms::Agent->new(device => 'gbk-2', token => 'x', conninfo => 'host=127.0.0.1 port=1 dbname=x user=x',
	url => 'http://127.0.0.1:1/captures')->start;
($code, $answer) = $strict->post(jpeg('strict'), plate => $gbk{$plate});
is($code, 400, 'GBK without charset is refused');
is($answer->{error}, 'plate: not valid UTF-8', 'naming the field');
is($strict->stop, 0, 'TERM ends it');

done_testing();
