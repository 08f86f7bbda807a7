# docs/tms-gallery: a page of its own with the photographs of a query, in which texts stay texts.
use strict;
use warnings;

use IPC::Run;
use MIME::Base64 qw(decode_base64);
use Test::More;
use Tms::Cluster;
use Tms::Picture;
use Tms::Util;

my $pc = Tms::Cluster->start_new('gallery');
my @color = ([ 200, 30, 30 ], [ 40, 50, 210 ]);
$pc->sql('CREATE TABLE shown (n int, image bytea, plate text)');
$pc->sql("INSERT INTO shown VALUES ($_, " . hex_literal(encode(picture(64, 48, sub { return $color[$_] }))) . ", 'WA\"<b>&$_')") for 0, 1;
$pc->sql("INSERT INTO shown VALUES (2, NULL, '</main><script>alert(1)</script>%s')");

# The page, or what psql says.
sub gallery
{
	my ($query, %environment) = @_;
	local %ENV = (%ENV, PGHOST => $pc->host, PGPORT => $pc->port, PGDATABASE => 'postgres', %environment);
	my ($out, $err) = ('', '');
	my $passed = IPC::Run::run([ "$ENV{TMS_SRC}/docs/tms-gallery", defined $query ? $query : () ], '>', \$out, '2>', \$err);
	return ($passed, $out, $err);
}

my ($passed, $page) = gallery("SELECT image, plate, n FROM shown ORDER BY n;\n", TMS_GALLERY_SIDE => 32, TMS_GALLERY_TITLE => 'Gate <4>');
ok($passed, 'a page');
like($page, qr{\A<!DOCTYPE html>.*<title>Gate &lt;4&gt;</title>.*</html>\Z}s, 'from its beginning to its end');
my @images = $page =~ m{src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)"}g;
is(scalar(@images), 2, 'with two images');
for my $n (0, 1)
{
	my $picture = decode(decode_base64($images[$n]));
	is("$picture->{width} x $picture->{height}", '32 x 24', 'of the size asked for');
	ok(close_to($picture->{at}->(16, 12), $color[$n]), 'the right one');
}
like($page, qr{<div class="none"></div><figcaption><i>plate</i> &lt;/main&gt;&lt;script&gt;alert\(1\)&lt;/script&gt;%s<br><i>n</i> 2</figcaption>}, 'a gray field for the one that is not there; texts are texts');
like($page, qr{<i>plate</i> WA"&lt;b&gt;&amp;0<br><i>n</i> 0}, 'columns in their order');
unlike($page, qr{<script|https?:}, 'nothing that runs or is loaded');

($passed, $page, my $err) = gallery('SELECT nonsense FROM shown');
ok(!$passed, 'a mistake in the query is a failure');
like($err, qr/column "nonsense" does not exist/, 'that PostgreSQL tells');
($passed, undef, $err) = gallery(undef);
ok(!$passed, 'without a query');
like($err, qr/tms-gallery "SELECT image/, 'it tells how it is called');

$pc->stop;
done_testing();
