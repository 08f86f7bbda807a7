# Pictures for tests of what is done with photographs: drawn here, encoded and decoded by cjpeg and djpeg.
package Tms::Picture;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils ();
use Tms::Util;

our @EXPORT = qw(picture encode decode filtered with_orientation hex_literal close_to);

# A picture of $width x $height; $color->($x, $y) is an array of one (gray) or three samples. Returns PGM or PPM.
sub picture
{
	my ($width, $height, $color) = @_;
	my $samples = '';
	my $count;
	for my $y (0 .. $height - 1)
	{
		for my $x (0 .. $width - 1)
		{
			my $pixel = $color->($x, $y);
			$count //= @$pixel;
			$samples .= pack('C*', @$pixel);
		}
	}
	return ($count == 1 ? 'P5' : 'P6') . "\n$width $height\n255\n$samples";
}

# What a program makes of bytes: filtered($bytes, 'jpegtran', '-arithmetic').
sub filtered
{
	my ($bytes, @command) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '<', \$bytes, '>', \$out, '2>', \$err) or die "@command: $err";
	return $out;
}

# A picture as JPEG, by cjpeg with these options.
sub encode { my ($picture, @options) = @_; return filtered($picture, 'cjpeg', '-quality', 95, @options); }

# A JPEG's pixels: {width, height, count, at => sub ($x, $y) that returns the samples}.
sub decode
{
	my ($jpeg) = @_;
	my $picture = filtered($jpeg, 'djpeg', '-pnm');
	my ($kind, $width, $height) = $picture =~ /\AP([56])\s+(\d+)\s+(\d+)\s+255\s/ or die 'no picture';
	my ($start, $count) = ($+[0], $kind == 5 ? 1 : 3);
	return {
		width => $width, height => $height, count => $count,
		at => sub { my ($x, $y) = @_; return [ unpack('C*', substr($picture, $start + ($y * $width + $x) * $count, $count)) ]; },
	};
}

# A JPEG with an EXIF segment that tells an orientation.
sub with_orientation
{
	my ($jpeg, $orientation) = @_;
	my $tiff = 'MM' . pack('nNnnnNnnN', 42, 8, 1, 0x0112, 3, 1, $orientation, 0, 0);
	return substr($jpeg, 0, 2) . "\xff\xe1" . pack('n', 8 + length $tiff) . "Exif\0\0$tiff" . substr($jpeg, 2);
}

# Bytes as a literal in SQL.
sub hex_literal { my ($bytes) = @_; return "'\\x" . unpack('H*', $bytes) . "'::bytea"; }

# Are two pixels the same but for what compression does?
sub close_to
{
	my ($one, $other, $limit) = @_;
	return @$one == @$other && !grep { abs($one->[$_] - $other->[$_]) > ($limit // 24) } 0 .. $#$one;
}

1;
