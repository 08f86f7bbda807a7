# An S3 store: a private Ceph with its S3 gateway on a loopback port (tests/ceph).
package Tms::Ceph;

use strict;
use warnings;

use Tms::Util;

my $script = ($ENV{TMS_SRC} // '.') . '/tests/ceph';

# Tms::Ceph->new('name', tls => {cert, key}); started by start(), after which {access_key_id} and {secret_access_key} are those
# of a user who may do everything.
sub new
{
	my ($class, $name, %options) = @_;
	return bless {
		dir => "$PostgreSQL::Test::Utils::tmp_check/ceph_${name}_$$",
		port => free_port(),
		tls => $options{tls},
	}, $class;
}

# Scheme, host and port; and the URL of the bucket that is there from the start.
sub origin { my $self = shift; return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}"; }
sub url { my $self = shift; return $self->origin . '/captures'; }

# [image_center] of an agent; options take the place of what is here.
sub agent_options
{
	my ($self, %options) = @_;
	my $file = write_file("$self->{dir}.secret", delete($options{secret}) // $self->{secret_access_key});
	chmod 0600, $file;
	return { store => 's3', access_key_id => $self->{access_key_id}, secret_access_key_file => $file, %options };
}

sub _run
{
	my ($self, @arguments) = @_;
	local $ENV{CEPH_S3_PORT} = $self->{port};
	local ($ENV{CEPH_TLS_CERT}, $ENV{CEPH_TLS_KEY}) = @{ $self->{tls} // {} }{qw(cert key)} if $self->{tls};
	PostgreSQL::Test::Utils::run_log([ $script, $self->{dir}, @arguments ]) or die "tests/ceph @arguments";
	return;
}

# Starts everything, with options of radosgw such as --rgw_max_concurrent_requests=2.
sub start
{
	my ($self, @options) = @_;
	$self->{owner} = $$;
	$self->_run('start', @options);
	$self->{access_key_id} = read_file("$self->{dir}/s3.key");
	$self->{secret_access_key} = read_file("$self->{dir}/s3.secret");
	return $self;
}

# The gateway alone: away (connections are refused) and back, with what was stored.
sub gateway_stop { my $self = shift; return $self->_run('gateway-stop'); }
sub gateway_start { my ($self, @options) = @_; return $self->_run('gateway-start', @options); }

# radosgw-admin
sub admin { my ($self, @arguments) = @_; return $self->_run('admin', @arguments); }

# One signed request without a body, by curl: (HTTP status, body). Options: secret, headers => [...].
sub request
{
	my ($self, $method, $key, %options) = @_;
	my $secret = $options{secret} // $self->{secret_access_key};
	my ($body, $stderr);
	my $payload = $options{content} // '';
	my @send = $payload ne '' ? ('--data-binary', '@' . write_file("$self->{dir}/request", $payload)) : ();
	IPC::Run::run([ 'curl', '-ksS', '--path-as-is', '--max-time', '30', '-w', '\n%{http_code}', '--aws-sigv4', 'aws:amz:us-east-1:s3',
			'--user', "$self->{access_key_id}:$secret", '-H', 'x-amz-content-sha256: ' . sha256_hex($payload),
			'-H', 'Content-Type: image/jpeg', ($method eq 'HEAD' ? '-I' : ('-X', $method)), @send,
			$self->url . ($key eq '' ? '' : "/$key") ],
		'>', \$body, '2>', \$stderr);
	return ($2, $1) if $body =~ /^(.*)\n(\d+)$/s;
	die "curl: $stderr";
}

# The bytes of an object, or undef when there is none.
sub get
{
	my ($self, $key) = @_;
	my ($status, $body) = $self->request('GET', $key);
	return $status == 200 ? $body : undef;
}

# Puts an object there directly; removes one.
sub put
{
	my ($self, $key, $bytes) = @_;
	my ($status) = $self->request('PUT', $key, content => $bytes);
	die "PUT $key: $status" if $status != 200;
	return;
}

sub remove { my ($self, $key) = @_; return $self->request('DELETE', $key); }

sub stop
{
	my ($self) = @_;
	$self->_run('stop') if delete $self->{owner};
	return;
}

# A child of the test that ends must not take the store with it.
sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	$self->stop if ($self->{owner} // 0) == $$;
	return;
}

1;
