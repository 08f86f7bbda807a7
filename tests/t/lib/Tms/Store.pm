# An image center: a private nginx with WebDAV PUT on a loopback port.
package Tms::Store;

use strict;
use warnings;

use File::Path qw(make_path);
use Tms::Util;

# Tms::Store->new('name', server_conf => 'extra nginx lines', tls => {cert, key}); started by start().
sub new
{
	my ($class, $name, %options) = @_;
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/store_${name}_$$";
	make_path("$dir/objects", "$dir/tmp");
	my $self = bless {
		dir => $dir,
		port => $options{port} // free_port(),
		scheme => $options{tls} ? 'https' : 'http',
		pid => undef,
	}, $class;
	my $tls = $options{tls} ? "ssl_certificate $options{tls}{cert}; ssl_certificate_key $options{tls}{key};" : '';
	my $ssl = $options{tls} ? ' ssl' : '';
	my $extra = $options{server_conf} // '';
	my $user = $> == 0 ? 'user root;' : '';
	write_file("$dir/nginx.conf", <<"CONF");
$user
worker_processes 2;
pid $dir/nginx.pid;
error_log $dir/error.log warn;
daemon on;
events { worker_connections 512; }
http {
	client_body_temp_path $dir/tmp;
	proxy_temp_path $dir/tmp; fastcgi_temp_path $dir/tmp; uwsgi_temp_path $dir/tmp; scgi_temp_path $dir/tmp;
	access_log $dir/access.log;
	sendfile on; keepalive_requests 100000; tcp_nodelay on;
	client_max_body_size 64m;
	server {
		listen 127.0.0.1:$self->{port}$ssl;
		$tls
		location /captures/ {
			alias $dir/objects/;
			dav_methods PUT DELETE;
			create_full_put_path on;
			autoindex on;
			autoindex_format json;
		}
		$extra
	}
}
CONF
	return $self;
}

sub url { my $self = shift; return "$self->{scheme}://127.0.0.1:$self->{port}/captures"; }

# File of an object by key.
sub file { my ($self, $key) = @_; return "$self->{dir}/objects/$key"; }

sub start
{
	my ($self) = @_;
	system('/usr/sbin/nginx', '-p', $self->{dir}, '-c', "$self->{dir}/nginx.conf") == 0 or die 'nginx did not start';
	wait_for_port($self->{port}) or die 'nginx does not answer';
	$self->{pid} = Tms::Util::poll_until(sub { -s "$self->{dir}/nginx.pid" }, 'nginx.pid')
	  && (read_file("$self->{dir}/nginx.pid") + 0);
	return $self;
}

# Stops at once (connections are cut) and waits until it is gone.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'TERM', $pid;
	Tms::Util::poll_until(sub { !kill(0, $pid) }, 'end of nginx');
	return;
}

# Number of requests in the access log that match $pattern (all without one).
sub requests
{
	my ($self, $pattern) = @_;
	return 0 unless -e "$self->{dir}/access.log";
	my @lines = split /\n/, read_file("$self->{dir}/access.log");
	return scalar(grep { !defined $pattern || /$pattern/ } @lines);
}

# Puts an object there directly.
sub put
{
	my ($self, $key, $bytes) = @_;
	my $file = $self->file($key);
	my ($folder) = $file =~ m{^(.*)/};
	make_path($folder);
	return write_file($file, $bytes);
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	kill 'TERM', $self->{pid} if $self->{pid};
	return;
}

1;
