# tms.crop, tms.compose, tms.evidence: the right part without loss, the right place on the sheet, shots fetched together, and what is
# missing told.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Picture;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('evidence');
sub made { my ($expression) = @_; return pack('H*', $pc->sql("SELECT encode($expression, 'hex')")); }

# A picture in which every place looks different.
my ($width, $height) = (168, 104);
my $busy = picture($width, $height, sub { my ($x, $y) = @_; return [ ($x * 7 + $y * 3) % 256, ($x * $x + $y) % 200, ($x ^ $y) % 128 * 2 ]; });

# --- lossless: the same coefficients as jpegtran's, whatever the kind ---
my %kind = ('4:2:0' => [], '4:4:4' => [qw(-sample 1x1)], '4:1:1' => [qw(-sample 4x1)], 'odd' => [ '-sample', '2x1,1x2,1x1' ], progressive => ['-progressive'], arithmetic => ['-arithmetic'], restart => [qw(-restart 2B)], gray => ['-grayscale'], 'gray 2x2' => [qw(-grayscale -sample 2x2)]);
for my $kind (sort keys %kind)
{
	my $jpeg = encode($busy, @{ $kind{$kind} });
	for my $box ([ 0, 0, 20, 20 ], [ 70, 40, 33, 17 ], [ 150, 90, 18, 14 ], [ 0, 0, $width, $height ])
	{
		my ($x, $y, $w, $h) = @$box;
		my $crop = made('tms.crop(' . hex_literal($jpeg) . ", $x, $y, $w, $h)");
		# jpegtran widens the box to the left and upwards alone: so it gets ours.
		my ($across, $down) = $kind eq '4:2:0' || $kind eq 'progressive' || $kind eq 'arithmetic' || $kind eq 'restart' ? (16, 16) : $kind eq '4:1:1' ? (32, 8) : $kind eq 'odd' ? (16, 16) : (8, 8);
		my ($left, $top) = ($x - $x % $across, $y - $y % $down);
		my ($right, $bottom) = map { $_->[0] > $_->[1] ? $_->[1] : $_->[0] } [ int(($x + $w + $across - 1) / $across) * $across, $width ], [ int(($y + $h + $down - 1) / $down) * $down, $height ];
		my $expected = filtered($jpeg, 'jpegtran', '-crop', sprintf('%dx%d+%d+%d', $right - $left, $bottom - $top, $left, $top));
		ok(filtered($crop, 'djpeg', '-pnm') eq filtered($expected, 'djpeg', '-pnm'), "$kind, box @$box");
	}
}

# --- exact: the pixels that a full decode has there ---
for my $kind (sort keys %kind)
{
	my $jpeg = encode($busy, @{ $kind{$kind} });
	my $whole = decode($jpeg);
	my ($x, $y, $w, $h) = (53, 37, 61, 43);
	my $part = decode(made('tms.crop(' . hex_literal($jpeg) . ", $x, $y, $w, $h, true)"));
	my ($sum, $count) = (0, 0);
	for my $row (0 .. $h - 1)
	{
		for my $column (0 .. $w - 1)
		{
			my ($is, $was) = ($part->{at}->($column, $row), $whole->{at}->($x + $column, $y + $row));
			$sum += ($is->[$_] - $was->[$_])**2 for 0 .. $#$is;
			$count += @$is;
		}
	}
	is("$part->{width} x $part->{height}", "$w x $h", "$kind: exact size");
	cmp_ok($sum / $count, '<', 500, sprintf('and pixels (mean square error %.1f)', $sum / $count));
}

# --- what stands behind the box is not read: damage there is not told, damage before it is ---
my $jpeg = encode($busy, '-restart', '1');
my $data = index($jpeg, "\xff\xda");
my $cut = substr($jpeg, 0, int($data + 0.6 * (length($jpeg) - $data)));
for my $case ([ 0, 0, 40, 20, 'false', 0 ], [ 0, 0, 40, 20, 'true', 0 ], [ 0, 80, 40, 20, 'false', 1 ], [ 0, 80, 40, 20, 'true', 1 ])
{
	my ($x, $y, $w, $h, $exact, $told) = @$case;
	my (undef, $out, $err) = $pc->psql('postgres', 'SELECT length(tms.crop(' . hex_literal($cut) . ", $x, $y, $w, $h, $exact)) > 100");
	is($out, 't', "a part of a damaged one, at $y, exact $exact");
	is(scalar($err =~ /the image is damaged/), $told ? 1 : '', $told ? 'is told' : 'is whole');
}

# --- the sheet of an event ---
my $hold = PostgreSQL::Test::Utils::tempdir() . '/hold';
my @color = ([ 200, 30, 30 ], [ 30, 160, 60 ], [ 40, 50, 210 ]);
my @shot = ((map { my $n = $_; encode(picture(64, 48, sub { return $color[$n] })) } 0 .. 2), jpeg('gone'));
my $store = Tms::Stub->start(
	sub {
		my ($request) = @_;
		my ($n) = $request->{path} =~ m{/gate/(\d)\.jpg$} or return [ 404, {}, '' ];
		select(undef, undef, undef, 0.01) while -e $hold;
		return $n == 3 ? [ 404, {}, '' ] : [ 200, {}, $shot[$n] ];
	});
$pc->add_server($store->url, first_byte_timeout => '60s', timeout => '60s');
my $gate = Tms::FrontEnd->new($pc, 'gate');
# Captured in the order 1, 0, 3, 2.
my %age = (0 => 8, 1 => 9, 2 => 6, 3 => 7);
for my $n (0 .. 3)
{
	$gate->add($shot[$n], path => "$n.jpg", cached => 0, captured_at => "now() - interval '$age{$n} min'");
}
my $event = '0195b0a0-0000-7000-8000-000000000001';
$pc->sql("UPDATE tms.capture SET event_id = '$event'");
write_file($hold, '');
my ($out, $err) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $pc->connstr('postgres'), '-c', "SELECT encode(tms.evidence('$event'), 'hex')" ], '>', \$out, '2>', \$err);
ok(poll_until(sub { $store->requests(qr/gate/) == 4 }, 'four requests'), 'all shots are asked for at once');
unlink($hold);
$session->finish;
like($err, qr/WARNING:  no image of capture \d+: its place on the sheet is gray\nDETAIL:  image_center: HTTP 404; front_end: HTTP 404/, 'the missing one is told');
chomp $out;
my $sheet = decode(pack('H*', $out));
is("$sheet->{width} x $sheet->{height}", '132 x 100', 'two columns');
my @expected = ($color[1], $color[0], [ 128, 128, 128 ], $color[2]);
my @middle = map { $sheet->{at}->(@$_) } [ 32, 24 ], [ 100, 24 ], [ 32, 76 ], [ 100, 76 ];
ok(!(grep { !close_to($middle[$_], $expected[$_]) } 0 .. 3), 'in the order of time, the missing one gray') or diag(join(' ', map { "[@$_]" } @middle));
is($pc->sql("SELECT tms.evidence('0195b0a0-0000-7000-8000-000000000002') IS NULL"), 't', 'no such event');
is($pc->sql("SELECT i.height FROM tms.jpeg_info(tms.evidence('$event', 'image_center', now() - interval '8.5 min', now() - interval '7.5 min')) AS i"), 48, 'only shots of a span');
like($pc->sql("SET enable_seqscan = off; EXPLAIN SELECT capture_id FROM tms.capture WHERE event_id = '$event'"), qr/Index Scan using capture_\d+_event_id_idx/, 'found by an index');

# --- plates of captures ---
$pc->sql("UPDATE tms.capture SET attributes = '{\"plate_box\": [10, 10, 20, 8]}' WHERE path = '1.jpg'");
is($pc->sql('SELECT i.width, i.height FROM capture_image AS c, tms.jpeg_info(tms.plate(c.image, c.attributes)) AS i WHERE i.width IS NOT NULL'), '32|32', 'the plates of captures that have a box');

$pc->stop;
done_testing();
