# tms.thumbnail on all kinds of JPEGs: the right pixels at the right place, bounded memory, cancels, and only as many decodes as rows.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Picture;
use Tms::Store;
use Tms::Util;

my $pc = Tms::Cluster->start_new('jpeg', conf => "track_functions = all");
my $folder = PostgreSQL::Test::Utils::tempdir();
my ($red, $green, $blue, $yellow) = ([ 200, 30, 30 ], [ 30, 160, 60 ], [ 40, 50, 210 ], [ 220, 200, 40 ]);
my $quarters = sub { my ($width, $height) = @_; return picture($width, $height, sub { my ($x, $y) = @_; return $y < $height / 2 ? $x < $width / 2 ? $red : $green : $x < $width / 2 ? $blue : $yellow; }); };

# What SQL makes of a JPEG, as bytes.
sub made { my ($expression) = @_; return pack('H*', $pc->sql("SELECT encode($expression, 'hex')")); }
# The colors in the middle of the quarters, row by row.
sub quarter_colors
{
	my ($jpeg) = @_;
	my $picture = decode($jpeg);
	my ($width, $height) = @{$picture}{qw(width height)};
	return map { $picture->{at}->(int($width * $_->[0]), int($height * $_->[1])) } [ 0.25, 0.25 ], [ 0.75, 0.25 ], [ 0.25, 0.75 ], [ 0.75, 0.75 ];
}
sub same_colors
{
	my ($jpeg, $wanted, $what, $limit) = @_;
	my @got = quarter_colors($jpeg);
	ok(!(grep { !close_to($got[$_], $wanted->[$_], $limit) } 0 .. 3), $what) or diag(join(' ', map { "[@$_]" } @got));
	return;
}

# --- orientations: what is stored as the EXIF tells it is shown upright ---
my $plain = encode($quarters->(160, 96));
my @turned = (undef, [ 0, 1, 2, 3 ], [ 1, 0, 3, 2 ], [ 3, 2, 1, 0 ], [ 2, 3, 0, 1 ], [ 0, 2, 1, 3 ], [ 2, 0, 3, 1 ], [ 3, 1, 2, 0 ], [ 1, 3, 0, 2 ]);
for my $orientation (1 .. 8)
{
	my $thumbnail = made('tms.thumbnail(' . hex_literal(with_orientation($plain, $orientation)) . ', 40)');
	same_colors($thumbnail, [ map { ($red, $green, $blue, $yellow)[$_] } @{ $turned[$orientation] } ], "orientation $orientation");
	my $picture = decode($thumbnail);
	is("$picture->{width} x $picture->{height}", $orientation < 5 ? '40 x 24' : '24 x 40', 'its size');
}

# --- kinds of JPEGs ---
my $gray = picture(160, 96, sub { return [ 40 + 60 * ($_[0] >= 80) + 80 * ($_[1] >= 48) ] });
my %kind = (
	'4:2:0' => $plain,
	'4:4:4' => encode($quarters->(160, 96), qw(-sample 1x1)),
	'4:2:2' => encode($quarters->(160, 96), qw(-sample 2x1)),
	'4:4:0' => encode($quarters->(160, 96), qw(-sample 1x2)),
	'4:1:1' => encode($quarters->(160, 96), qw(-sample 4x1)),
	'odd sampling' => encode($quarters->(160, 96), ('-sample', '1x1,2x2,1x1')),
	'RGB, not converted' => encode($quarters->(160, 96), qw(-rgb)),
	'progressive' => encode($quarters->(160, 96), qw(-progressive)),
	'arithmetic' => encode($quarters->(160, 96), qw(-arithmetic)),
	'progressive, arithmetic' => encode($quarters->(160, 96), qw(-progressive -arithmetic)),
	'restart markers' => encode($quarters->(160, 96), qw(-restart 1B)),
	'16 bit tables' => encode($quarters->(160, 96), qw(-quality 3)),
	'garbage between markers' => substr($plain, 0, 20) . 'garbage' . substr($plain, 20),
	'garbage behind' => $plain . 'x' x 5000,
	# 16 x 16, the left half red, the right half blue, as Adobe's programs write inks.
	'CMYK' => pack('H*', 'ffd8ffee000e41646f626500640000000002ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17202e2931302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a51524fffdb0043010e0e0e131113261515264f352d354f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4fffc00014080010001004012200021101031101042200ffc40017000101010100000000000000000000000000040506ffc40014100100000000000000000000000000000000ffc4001501010100000000000000000000000000000405ffc40018110002030000000000000000000000000000064382c1ffda000e040100021103110400003f00d05299482c915b092b52d74ec407ffd9'));
for my $name (sort keys %kind)
{
	my $thumbnail = made('tms.thumbnail(' . hex_literal($kind{$name}) . ', 40, 95)');
	my @expected = $name eq 'CMYK' ? ([ 208, 32, 16 ], [ 32, 64, 208 ]) x 2 : ($red, $green, $blue, $yellow);
	same_colors($thumbnail, \@expected, $name, $name =~ /tables/ ? 60 : 32);
}
my $thumbnail = made('tms.thumbnail(' . hex_literal(encode($gray)) . ', 40)');
is(decode($thumbnail)->{count}, 1, 'gray stays gray');
same_colors($thumbnail, [ [40], [100], [120], [180] ], 'and as gray as it was');
my %subsampling = ('4:2:0' => '4:2:0', '4:4:4' => '4:4:4', '4:2:2' => '4:2:2', '4:4:0' => '4:4:0', '4:1:1' => '4:1:1', 'odd sampling' => '1x1,2x2,1x1', 'CMYK' => '2x2,1x1,1x1,2x2');
is($pc->sql('SELECT subsampling FROM tms.jpeg_info(' . hex_literal($kind{$_}) . ')'), $subsampling{$_}, "subsampling $subsampling{$_}") for sort keys %subsampling;

# --- a damaged tail: what came before it is there, the rest is gray, and it is told ---
my $large = encode($quarters->(320, 192));
my $data = index($large, "\xff\xda");
my $cut = substr($large, 0, int($data + 0.6 * (length($large) - $data)));
my ($status, $out, $err) = $pc->psql('postgres', "SELECT encode(tms.thumbnail(" . hex_literal($cut) . ", 160), 'hex')");
like($err, qr/WARNING:  the image is damaged: what could not be decoded is gray\nDETAIL:  Premature end/, 'a damaged tail is told');
my @colors = quarter_colors(pack('H*', $out));
ok(close_to($colors[0], $red) && close_to($colors[1], $green), 'the upper half is there');
my $rest = decode(pack('H*', $out))->{at}->(80, 94);
ok(close_to($rest, [ 128, 128, 128 ], 12), 'the rest is gray') or diag("@$rest");

# --- bombs ---
my $huge = picture(16, 16, sub { return [99] });
my $bomb = encode($huge);
$bomb =~ s/(\xff\xc0\x00\x0b\x08)..../$1 . pack('nn', 65500, 65500)/es or die 'no frame header';
# The last scan two hundred times.
my $scans = encode($huge, '-progressive');
substr($scans, -2, 0) = substr($scans, rindex($scans, "\xff\xda"), -2) x 200;
my $session = $pc->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
$session->query('SELECT tms.thumbnail(' . hex_literal($plain) . ') IS NOT NULL');
my $before = peak_memory($pid);
$session->query('SELECT tms.thumbnail(' . hex_literal($bomb) . ')');
like($session->{stderr}, qr/cannot make a thumbnail of the image\nDETAIL:  65500 x 65500 pixels, more than 100000000\.\nHINT:  The setting tms\.max_pixels/, 'too many pixels');
$session->{stderr} = '';
$session->query('SELECT tms.thumbnail(' . hex_literal($scans) . ')');
like($session->{stderr}, qr/DETAIL:  more than 100 scans/, 'too many scans');
$session->{stderr} = '';
cmp_ok(peak_memory($pid) - $before, '<', 4e6, 'both refused before memory is taken');

# --- 100 million pixels: as large as may be, and canceled at once ---
my $giant = 'P5 10000 10000 255 ' . join('', map { chr(50 + $_ % 150) x 10000 } 1 .. 10000);
write_file("$folder/giant.jpg", filtered($giant, 'cjpeg', '-quality', 75));
write_file("$folder/giant-progressive.jpg", filtered($giant, 'cjpeg', '-quality', 75, '-progressive'));
undef $giant;
for my $name ('giant', 'giant-progressive')
{
	my $call = "SELECT length(tms.thumbnail(pg_read_binary_file('$folder/$name.jpg')))";
	my $started = time();
	cmp_ok($session->query($call), '>', 500, "$name: a thumbnail");
	my $whole = time() - $started;
	$started = time();
	$session->query("SET statement_timeout = '20ms'; $call; RESET statement_timeout");
	like($session->{stderr}, qr/canceling statement due to statement timeout/, 'is canceled');
	$session->{stderr} = '';
	my $canceled = time() - $started;
	note(sprintf('whole: %.0f ms; canceled after 20: %.0f ms', 1000 * $whole, 1000 * $canceled));
	cmp_ok($canceled, '<', $whole, 'before it is done');
}
cmp_ok(peak_memory($pid) - $before, '<', 300e6, sprintf('memory: %.0f MB', (peak_memory($pid) - $before) / 1e6));
$session->quit;

# --- nothing is fetched or decoded that is not asked for ---
my $gate = Tms::FrontEnd->new($pc, 'gate');
my $store = Tms::Store->new('jpeg')->start;
$pc->add_server($store->url);
for my $n (1 .. 40)
{
	my $capture = $gate->add(encode(picture(16, 16, sub { return [ 5 * $n ] })), path => "$n.jpg", cached => 0, captured_at => "now() - interval '$n min'");
	$store->put($capture->{key}, $capture->{bytes});
}
my $query = "SELECT tms.thumbnail(image) FROM capture_image WHERE captured_at > now() - interval '1 day' ORDER BY captured_at DESC LIMIT 20";
is($pc->sql("SELECT count(*) FROM ($query) AS newest"), 20, 'the newest 20');
my $asked = $store->requests(qr{GET /captures/gate/});
is($asked, 0, 'a count needs none of them');
my @thumbnails = split /\n/, $pc->sql($query);
is(scalar(@thumbnails), 20, 'are 20');
is($store->requests(qr{GET /captures/gate/}) - $asked, 20, 'with 20 requests');
my $calls = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'thumbnail'";
ok($pc->wait_for_sql("SELECT ($calls) > 0", 't'), 'decodes are counted');
my $earlier = $pc->sql($calls);
$pc->sql($query);
ok($pc->wait_for_sql("SELECT ($calls) - $earlier", 20), 'and 20 decodes');
$asked = $store->requests(qr{GET /captures/gate/});
$pc->sql("SET plan_cache_mode = force_generic_plan; PREPARE newest (int) AS SELECT tms.thumbnail(image) FROM capture_image WHERE captured_at > now() - interval '1 day' ORDER BY captured_at DESC LIMIT \$1; "
	  . 'EXECUTE newest(2);' x 10);
is($store->requests(qr{GET /captures/gate/}) - $asked, 20, 'also in generic plans');

$pc->stop;
done_testing();
