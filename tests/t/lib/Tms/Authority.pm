# A certificate authority and the certificates that it signs, made by openssl. A certificate is {cert, key}, the names of two files.
package Tms::Authority;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use Tms::Util;

our @EXPORT = qw(replace_file);

my $serial = 0;

# Tms::Authority->new('ours'): {pem} is the file of its own certificate.
sub new
{
	my ($class, $name) = @_;
	my $stem = "$PostgreSQL::Test::Utils::tmp_check/authority_$$" . '_' . $serial++;
	my $self = bless { stem => $stem, pem => "$stem.pem" }, $class;
	_openssl(qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj), "/CN=authority $name", '-keyout', "$stem.key", '-out', $self->{pem});
	return $self;
}

sub _openssl
{
	my (@arguments) = @_;
	my $said;
	IPC::Run::run([ 'openssl', @arguments ], '>', '/dev/null', '2>', \$said) or die $said;
	return;
}

# One of 127.0.0.1 that nobody signed but itself.
sub self_signed
{
	my ($class, $name) = @_;
	my $stem = "$PostgreSQL::Test::Utils::tmp_check/self_signed_$$" . '_' . $serial++;
	_openssl(qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj), "/CN=$name", qw(-addext subjectAltName=IP:127.0.0.1),
		'-keyout', "$stem.key", '-out', "$stem.pem");
	return { cert => "$stem.pem", key => "$stem.key" };
}

# certificate('name', 'IP:127.0.0.1', @options of openssl x509 such as -days => -1)
sub certificate
{
	my ($self, $name, $alternative, @options) = @_;
	my $stem = "$self->{stem}_" . $serial++;
	@options = qw(-days 2) unless @options;
	_openssl(qw(req -newkey rsa:2048 -nodes -subj), "/CN=$name", '-keyout', "$stem.key", '-out', "$stem.csr");
	write_file("$stem.ext", "subjectAltName=$alternative\n");
	_openssl(qw(x509 -req -in), "$stem.csr", '-CA', $self->{pem}, '-CAkey', "$self->{stem}.key", '-CAcreateserial',
		'-extfile', "$stem.ext", '-out', "$stem.pem", @options);
	return { cert => "$stem.pem", key => "$stem.key" };
}

# Puts a certificate in the place of another one, both of its files, as programs that renew certificates do.
sub install
{
	my ($class, $certificate, $place) = @_;
	replace_file($place->{$_}, read_file($certificate->{$_})) for qw(cert key);
	return;
}

# Gives a file other bytes, all at once.
sub replace_file
{
	my ($file, $bytes) = @_;
	write_file("$file.new", $bytes);
	chmod 0600, "$file.new";
	rename("$file.new", $file) or die "rename: $!";
	return;
}

1;
