# Signature Version 4 as a store sees it, computed apart from the programs under test.
package Tms::Sigv4;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use Exporter 'import';
use Tms::Util;

our @EXPORT = qw(is_signed);

# Is a stub's request, without a query, signed by this key of this region? With a session token, that must be signed too.
sub is_signed
{
	my ($request, %by) = @_;
	my $headers = $request->{headers};
	my ($id, $day, $names, $signature) =
	  ($headers->{authorization} // '') =~
	  m{^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/\Q$by{region}\E/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$}
	  or return 0;
	my $expected = 'host;x-amz-content-sha256;x-amz-date' . (defined $by{token} ? ';x-amz-security-token' : '');
	return 0 if $id ne $by{id} || $names ne $expected || ($headers->{'x-amz-security-token'} // '') ne ($by{token} // '');
	my $canonical = join("\n", $request->{method}, $request->{path}, '',
		(map { "$_:$headers->{$_}" } split /;/, $names), '', $names, $headers->{'x-amz-content-sha256'});
	my $key = "AWS4$by{secret}";
	$key = hmac_sha256($_, $key) for $day, $by{region}, 's3', 'aws4_request';
	my $text = join("\n", 'AWS4-HMAC-SHA256', $headers->{'x-amz-date'}, "$day/$by{region}/s3/aws4_request", sha256_hex($canonical));
	return hmac_sha256_hex($text, $key) eq $signature;
}

1;
