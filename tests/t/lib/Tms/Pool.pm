# pgbouncer in transaction mode on a loopback port, in front of a path center, for agents.
package Tms::Pool;

use strict;
use warnings;

use POSIX ();
use Tms::Util;

my $serial = 0;

# Tms::Pool->new($cluster, size => connections to the server, clients => how many may connect); started by start().
sub new
{
	my ($class, $cluster, %options) = @_;
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/pgbouncer_$$" . '_' . $serial++;
	mkdir $dir;
	my $self = bless { dir => $dir, port => free_port() }, $class;
	my ($host, $port) = ($cluster->host, $cluster->port);
	my $size = $options{size} // 2;
	my $clients = $options{clients} // 100;
	write_file("$dir/users", "\"tms_agent\" \"\"\n");
	write_file("$dir/pgbouncer.ini", <<"INI");
[databases]
postgres = host=$host port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $self->{port}
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
pool_mode = transaction
max_client_conn = $clients
default_pool_size = $size
server_reset_query =
server_login_retry = 1
query_wait_timeout = 10
logfile = $dir/log
INI
	return $self;
}

# For an agent.
sub conninfo { my $self = shift; return "host=127.0.0.1 port=$self->{port} dbname=postgres user=tms_agent"; }

sub start
{
	my ($self) = @_;
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>&', \*STDOUT);
		exec('sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec pgbouncer "$0"', "$self->{dir}/pgbouncer.ini") or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	wait_for_port($self->{port}) or die 'pgbouncer does not listen';
	return $self;
}

# Ends it, and with it every connection, by a signal (default TERM).
sub stop
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} or return;
	kill $signal // 'TERM', $pid;
	waitpid($pid, 0);
	return;
}

sub DESTROY { my $self = shift; local ($?, $!, $@); $self->stop('KILL'); return; }

1;
