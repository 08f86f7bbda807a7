# A device without an agent: captures registered by tms.ingest, its cache served by a stub that checks signatures.
package Tms::FrontEnd;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 sha1_hex);
use File::Path qw(make_path);
use MIME::Base64 qw(encode_base64url);
use Tms::Stub;
use Tms::Util;

# Tms::FrontEnd->new($cluster, 'gate-1'): registered, its cache server running. With cache => 0 nothing listens there.
sub new
{
	my ($class, $cluster, $device, %options) = @_;
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/cache_${device}_$$";
	my $uuid = sha1_hex($device);
	$uuid =~ s/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/$1-$2-4$3-8$4-$5/;
	make_path($dir);
	my $self = bless {
		cluster => $cluster, device => $device, dir => $dir, ledger => $uuid, seq => 0, report => 0,
		port => free_port(),
		token => $options{token} // "token-of-$device-" . 'x' x 32,
	}, $class;
	$cluster->sql("SELECT tms.register_device('$device', '" . $self->url . "', token => '$self->{token}')");
	$self->start unless defined $options{cache} && !$options{cache};
	return $self;
}

sub url { my $self = shift; return "http://127.0.0.1:$self->{port}"; }

sub start
{
	my ($self) = @_;
	my $key = hmac_sha256('tms cache url v1', $self->{token});
	my $dir = $self->{dir};
	$self->{stub} = Tms::Stub->start(
		sub {
			my ($request) = @_;
			return [ 200, { 'Content-Type' => 'text/plain' }, "ok\n" ] if $request->{path} eq '/healthz';
			my ($path, $expires, $signature) = $request->{path} =~ m{^(/v1/images/[^?]+)\?expires=(\d+)&sig=(.+)$}
			  or return [ 400, {}, 'no signed path' ];
			return [ 403, {}, 'signature' ]
			  if $expires < time() || $signature ne encode_base64url(hmac_sha256("GET\n$path\n$expires", $key));
			my $file = $dir . substr($path, length('/v1/images'));
			return -e $file ? [ 200, {}, read_file($file) ] : [ 404, {}, '' ];
		},
		port => $self->{port});
	return $self;
}

sub stop { my $self = shift; (delete $self->{stub})->stop; return; }

# Requests and connections its cache server got since it was started.
sub requests { my ($self, $pattern) = @_; return $self->{stub}->requests($pattern); }

# Takes a capture: puts it into the cache and registers it. Options: path, captured_at (SQL), cached => 0. Returns
# {id, path, key, bytes, sha256}.
sub add
{
	my ($self, $bytes, %options) = @_;
	my $seq = ++$self->{seq};
	my $path = $options{path} // "2026/$seq.jpg";
	my $captured_at = $options{captured_at} // "now() - interval '1 minute'";
	if ($options{cached} // 1)
	{
		my ($folder) = "$self->{dir}/$path" =~ m{^(.*)/};
		make_path($folder);
		write_file("$self->{dir}/$path", $bytes);
	}
	my $digest = sha256_hex($bytes);
	my $length = length($bytes);
	my $id = $self->_ingest($seq,
		"ARRAY[$captured_at]::timestamptz[], ARRAY['$path'], ARRAY[$length], ARRAY['\\x$digest'::bytea]");
	return { id => $id, path => $path, key => "$self->{device}/$path", bytes => $bytes, sha256 => $digest };
}

# Reports watermarks: uploaded_seq, uploaded_max, cleaned_seq.
sub report
{
	my ($self, %watermarks) = @_;
	$self->{watermarks} = { %{ $self->{watermarks} // {} }, %watermarks };
	$self->_ingest($self->{seq} + 1, 'NULL::timestamptz[], NULL::text[], NULL::integer[], NULL::bytea[]');
	return;
}

sub _ingest
{
	my ($self, $first_seq, $arrays) = @_;
	my $marks = $self->{watermarks} // {};
	my $header = sprintf(
		'{"device": "%s", "token": "%s", "ledger": "%s", "oldest_seq": 1, "last_seq": %d, "first_seq": %d, '
		  . '"uploaded_seq": %d, "uploaded_max": %d, "cleaned_seq": %d, "report_no": %d}',
		$self->{device}, $self->{token}, $self->{ledger}, $self->{seq}, $first_seq,
		map({ $marks->{$_} // $self->{seq} } qw(uploaded_seq uploaded_max)),
		$marks->{cleaned_seq} // 0, ++$self->{report});
	return $self->{cluster}->sql(
		"SELECT tms.capture_id(tms.ledger_number('$self->{ledger}'), $first_seq) FROM tms.ingest('$header', $arrays,
			NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) WHERE accepted_seq = $self->{seq}");
}

1;
