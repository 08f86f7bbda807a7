# Small things every TAP test needs: ports, waiting for a condition, files, JPEGs.
package Tms::Util;

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use Time::HiRes qw(time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(free_port poll_until wait_for_port deaf_listener connections_to write_file read_file jpeg
  peak_memory own_memory truncated_jpeg http sha256_hex);

# A TCP port that nobody else uses.
sub free_port
{
	return PostgreSQL::Test::Cluster::get_free_port();
}

# Waits until $condition->() is true and returns its value; gives up after $limit seconds (default 30) and returns
# false with a diagnostic. Looks every 20 ms.
sub poll_until
{
	my ($condition, $what, $limit) = @_;
	my $end = time() + ($limit // 30);
	while (1)
	{
		my $value = $condition->();
		return $value if $value;
		last if time() > $end;
		select(undef, undef, undef, 0.02);
	}
	Test::More::diag("gave up waiting for: $what");
	return;
}

# Waits until something accepts connections on a loopback port.
sub wait_for_port
{
	my ($port) = @_;
	return poll_until(
		sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1) },
		"port $port");
}

# A loopback port that answers no connection, as if packets vanished: {port}; lasts as long as what is returned. The
# queue of connections nobody accepts is full, so that the kernel drops further ones.
sub deaf_listener
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!";
	listen($listener, 0) or die "listen: $!";
	my @waiting;
	for (1 .. 4)
	{
		my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $listener->sockport, Blocking => 0);
		push @waiting, $socket;
	}
	return { port => $listener->sockport, listener => $listener, waiting => \@waiting };
}

# Number of connections to a loopback port that are 'established' or wait for an answer ('syn_sent').
sub connections_to
{
	my ($port, $state) = @_;
	my $pattern = sprintf(': [0-9A-F:]+ 0100007F:%04X %s ', $port, { established => '01', syn_sent => '02' }->{$state});
	return scalar(() = read_file('/proc/net/tcp') =~ /$pattern/g);
}

# The most memory a process has had resident so far, in bytes.
sub peak_memory
{
	my ($pid) = @_;
	return read_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 * 1024 : die 'no VmHWM';
}

# Bytes that a process holds now and shares with no other, shared buffers and libraries not counted.
sub own_memory
{
	my ($pid) = @_;
	return read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 * 1024 : die 'no RssAnon';
}

sub write_file
{
	my ($file, $bytes) = @_;
	open(my $handle, '>:raw', $file) or die "$file: $!";
	print $handle $bytes;
	close($handle) or die "$file: $!";
	return $file;
}

sub read_file
{
	my ($file) = @_;
	open(my $handle, '<:raw', $file) or die "$file: $!";
	local $/;
	return <$handle>;
}

# A gray 8x8 JPEG (markers SOI, DQT, SOF0, DHT, SOS, EOI).
my $tiny = pack('H*',
		'ffd8ffdb004300' . '10' x 64
	  . 'ffc0000b080008000801011100'
	  . 'ffc4001f00' . '00010501010101010100000000000000' . '000102030405060708090a0b'
	  . 'ffc400b5100002010303020403050504040000017d010203000411051221314106135161072271143281'
	  . '91a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748'
	  . '494a535455565758595a636465666768696a737475767778797a838485868788898a9293949596979899'
	  . '9aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4'
	  . 'e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa'
	  . 'ffda0008010100003f00' . '2b'
	  . 'ffd9');

# A valid JPEG of about $size bytes, made unique by $text in a comment.
sub jpeg
{
	my ($text, $size) = @_;
	my $comments = '';
	my $left = ($size // 0) - length($tiny) - length($text) - 4;
	$comments = "\xff\xfe" . pack('n', 2 + length($text)) . $text;
	while ($left > 0)
	{
		my $part = $left > 60000 ? 60000 : $left;
		$comments .= "\xff\xfe" . pack('n', 2 + $part) . ('x' x $part);
		$left -= $part + 4;
	}
	return substr($tiny, 0, 2) . $comments . substr($tiny, 2);
}

# The same with its end cut off.
sub truncated_jpeg
{
	my $whole = jpeg(@_);
	return substr($whole, 0, length($whole) - 3);
}

# One HTTP request: http($method, $url, %options of HTTP::Tiny) returns its answer ({status}, {content}, {headers}).
sub http
{
	my ($method, $url, %options) = @_;
	return HTTP::Tiny->new(timeout => 20, proxy => undef)->request($method, $url, \%options);
}

1;
