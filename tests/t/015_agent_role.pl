# The agents' login: it can ingest and nothing else, and no token gets into the log, whatever the server is set to log.
use strict;
use warnings;

use Test::More;
use PostgreSQL::Test::Utils;
use Tms::Cluster;
use Tms::Ledger;
use Tms::Util;

my $node = Tms::Cluster->start_new('path_center', conf => <<'CONF');
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = error
log_parameter_max_length_on_error = -1
CONF
my $token = $node->add_device('gate-1', 'http://10.1.4.17:8440');
$node->add_agent_role;

# Calls tms.ingest as an agent does: the header is a parameter. Returns what the server logged.
my $folder = PostgreSQL::Test::Utils::tempdir;
write_file("$folder/call.sql", 'SELECT accepted_seq FROM tms.ingest(:header::jsonb, ' . join(', ', ("'{}'") x 13) . ");\n");
sub logged
{
	my ($user, $given) = @_;
	my $start = -s $node->logfile;
	my $header = sprintf('{"device": "gate-1", "token": "%s", "ledger": "6f9619ff-8b86-4011-b42d-00c04fc964ff", "oldest_seq": 1, "last_seq": 0,'
		  . ' "first_seq": 1, "uploaded_seq": 0, "uploaded_max": 0, "cleaned_seq": 0, "report_no": 1, "request_seen": 0}', $given);
	IPC::Run::run([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-U', $user, '-h', $node->host, '-p', $node->port, '-D', "header=$header",
		'-f', "$folder/call.sql", 'postgres' ], '>&', \my $out);
	return substr(read_file($node->logfile), $start);
}

my $log = logged('tms_agent', $token);
like($log, qr/execute .*tms\.ingest/, 'a call is logged');
unlike($log, qr/\Q$token\E/, 'without the token');
is($node->sql('SELECT count(*) FROM tms.ledger'), 1, 'it has reached tms.ingest');
my $wrong = 'w' x 43;
$log = logged('tms_agent', $wrong);
like($log, qr/ERROR:/, 'a call with a wrong token fails');
unlike($log, qr/\Q$wrong\E/, 'and the log does not tell it');
like(logged('postgres', $token), qr/\Q$token\E/, 'for others this server logs parameters: the role makes the difference');

# Its limits.
is($node->sql("SET SESSION AUTHORIZATION DEFAULT; SELECT rolconnlimit FROM pg_roles WHERE rolname = 'tms_agent'"), 200, 'a connection limit');
sub as_agent
{
	my ($sql) = @_;
	my (undef, $out, $error) = $node->psql('postgres', $sql, extra_params => [ '-U', 'tms_agent' ]);
	return $out . $error;
}
is(as_agent('SHOW statement_timeout'), '1min', 'a statement timeout');
like(as_agent('SET log_parameter_max_length = -1'), qr/permission denied/, 'it cannot have its parameters logged');
like(as_agent($_), qr/permission denied/, $_)
  for 'SELECT * FROM tms.capture', 'SELECT * FROM tms.device_secret', 'SELECT base_url FROM tms.device', 'SELECT * FROM tms.fleet',
  'SELECT tms.upkeep()', "SELECT tms.register_device('x', NULL)", "SELECT tms.rotate_token('gate-1')", 'CREATE TABLE tms.x ()',
  "SELECT tms.drop_captures(now())", "SELECT tms.partition_ensure(current_date)", "SELECT tms.image(1)";

# Before the library is loaded anybody can set a name like tms.retention; loading it does not take that over.
like(as_agent("SET tms.retention = '1d'; SELECT coalesce(tms.retention()::text, 'off')"), qr/^off.*permission denied/s, 'nor can it change settings');

done_testing();
