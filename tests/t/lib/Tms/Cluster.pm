# A path center: a private PostgreSQL with the extension, on top of PostgreSQL::Test::Cluster.
package Tms::Cluster;

use strict;
use warnings;

use parent 'PostgreSQL::Test::Cluster';

# Tms::Cluster->start_new('pc', preload => 1, conf => "...", extension => 1): initialized, started, extension and
# capture table made (unless extension => 0).
sub start_new
{
	my ($class, $name, %options) = @_;
	my $self = $class->new($name);
	$self->init(allows_streaming => $options{streaming} // 0, extra => ['--locale=C', '--encoding=UTF8']);
	$self->append_conf('postgresql.conf', "shared_preload_libraries = 'tms'") if $options{preload};
	$self->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$self->start;
	$self->safe_psql('postgres', 'CREATE EXTENSION tms; SELECT tms.create_capture_table()')
	  if $options{extension} // 1;
	return $self;
}

# Runs SQL and returns what psql prints (unaligned, tuples only).
sub sql
{
	my ($self, $sql, %options) = @_;
	return $self->safe_psql($options{dbname} // 'postgres', $sql);
}

# What pg_dump writes, without what differs every time it is called.
sub dump_of
{
	my ($self, $database) = @_;
	my ($text, $errors) = ('', '');
	IPC::Run::run([ 'pg_dump', '-d', $self->connstr($database // 'postgres') ], '>', \$text, '2>', \$errors) or die $errors;
	return join("\n", grep { !/^\\(un)?restrict / } split /\n/, $text);
}

# Registers a device and returns its token.
sub add_device
{
	my ($self, $code, $base_url, $period) = @_;
	$period //= '7 days';
	return $self->sql("SELECT tms.register_device('$code', '$base_url', '$period')");
}

# Creates (once) the role agents log in as.
sub add_agent_role
{
	my ($self) = @_;
	return if $self->{_agent_role}++;
	$self->sql("SELECT tms.create_agent_role('tms_agent')");
	return;
}

# conninfo for an agent.
sub agent_conninfo
{
	my ($self) = @_;
	$self->add_agent_role;
	return sprintf('host=%s port=%d dbname=postgres user=tms_agent', $self->host, $self->port);
}

# Makes a server, a user mapping for PUBLIC, and public.capture_image.
sub add_server
{
	my ($self, $url, %options) = @_;
	my $name = delete $options{name} // 'image_center';
	my $schema = delete $options{schema} // 'public';
	my $list = join(', ', "url '$url'", map { "$_ '$options{$_}'" } sort keys %options);
	$self->sql("CREATE SERVER $name FOREIGN DATA WRAPPER tms_fdw OPTIONS ($list);
		CREATE USER MAPPING FOR PUBLIC SERVER $name;
		IMPORT FOREIGN SCHEMA tms FROM SERVER $name INTO $schema;");
	return;
}

# True once the query returns $expected; waits up to $limit seconds.
sub wait_for_sql
{
	my ($self, $query, $expected, $limit) = @_;
	return Tms::Util::poll_until(
		sub {
			my ($rc, $out) = $self->psql('postgres', $query);
			return defined $out && $rc == 0 && $out eq $expected;
		},
		"$query = $expected", $limit);
}

1;
