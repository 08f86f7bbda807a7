# Every link behind TLS with a private authority: agent to image center and path center, path center to image center and front
# end. Certificates of others, expired ones and those of another host are refused; authority and certificates are replaced one
# after the other while agent, PostgreSQL and a session go on.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Authority;
use Tms::Ceph;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $ours = Tms::Authority->new('ours');
my $foreign = Tms::Authority->new('foreign');
my $next = Tms::Authority->new('next');

# Where everybody looks: the file of those who are trusted, and a certificate for each server and for the agent as a client.
my $trust = "$tmp/trust.pem";
my %place = map { $_ => { cert => "$tmp/$_.pem", key => "$tmp/$_.key" } } qw(store cache path_center client);
my %name = (store => 'IP:127.0.0.1', cache => 'IP:127.0.0.1', path_center => 'DNS:localhost', client => 'DNS:client');
sub trust { my (@authorities) = @_; return replace_file($trust, join('', map { read_file($_->{pem}) } @authorities)); }

sub install
{
	my ($whose, $authority, %options) = @_;
	my $certificate = $authority->certificate($whose eq 'client' ? 'tms_agent' : $whose, $options{name} // $name{$whose}, @{ $options{openssl} // [] });
	return Tms::Authority->install($certificate, $place{$whose});
}
trust($ours);
install($_, $ours) for keys %place;

my $pc = Tms::Cluster->start_new('path_center', preload => 1, conf => <<"CONF");
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = '$place{path_center}{cert}'
ssl_key_file = '$place{path_center}{key}'
ssl_ca_file = '$trust'
CONF
my $conninfo = $pc->agent_conninfo . ' host=localhost hostaddr=127.0.0.1 sslmode=verify-full'
  . " sslrootcert=$trust sslcert=$place{client}{cert} sslkey=$place{client}{key}";
write_file($pc->data_dir . '/pg_hba.conf', "local all all trust\nhostssl all tms_agent 127.0.0.1/32 cert\n");
$pc->reload;

my $store = Tms::Store->new('tls', tls => $place{store})->start;
$pc->add_server($store->url, ca_file => $trust, breaker_failures => '0', connect_timeout => '20s', first_byte_timeout => '20s');
my $agent = Tms::Agent->new(device => 'gate', token => $pc->add_device('gate', 'https://127.0.0.1:1'), conninfo => $conninfo, url => $store->url,
	extra => {
		path_center => { interval => '100ms', heartbeat => '500ms' },
		image_center => { ca_file => $trust },
		cache => { tls_cert => $place{cache}{cert}, tls_key => $place{cache}{key} } });
$pc->sql("UPDATE tms.device SET base_url = 'https://127.0.0.1:$agent->{cache_port}'");
$agent->start;

my $taken = 0;

# The agent takes so many photographs.
sub take
{
	my ($count) = @_;
	for (1 .. $count)
	{
		my ($status) = $agent->post(jpeg('tls ' . ++$taken, 2000));
		die "post: $status" if $status != 201;
	}
	return;
}

# Ends all connections to the image center, which then shows the certificate that is there.
sub restart_store { $store->stop; $store->start; return; }

# The path center reads its files again, and every agent has to connect anew.
sub reload
{
	$pc->reload;
	$pc->sql("SELECT pg_terminate_backend(pid) FROM unnest(ARRAY(SELECT pid FROM pg_stat_activity WHERE usename = 'tms_agent')) AS pid");
	return;
}

# All of them are in both centers.
sub whole
{
	my ($name) = @_;
	ok($pc->wait_for_sql('SELECT count(*), count(DISTINCT sha256) FROM tms.capture', "$taken|$taken", 90), "$name: registered");
	ok($pc->wait_for_sql('SELECT uploaded_seq FROM tms.ledger', $taken, 90), "$name: uploaded");
	return;
}

# What the agent says of a center ('upload', 'register').
sub trouble
{
	my ($center, $pattern, $name) = @_;
	return ok(poll_until(sub { my $status = $agent->status; $status && ($status->{$center}{error} // '') =~ $pattern }, "$center: $pattern", 60), $name);
}

# A session asks one source for all images: how many came, and why others did not.
sub images
{
	my ($session, $source) = @_;
	return $session->query_safe("SET tms.image_source = $source;
		SELECT count(*) FILTER (WHERE sha256(image) = sha256), string_agg(DISTINCT image_error, ' ') FROM capture_image");
}

take(5);
whole('all links with certificates of a private authority');
my $session = $pc->background_psql('postgres');
is(images($session, 'image_center'), '5|', 'images of the image center');
is(images($session, 'front_end'), '5|', 'and of the front end');
is($pc->sql("SELECT string_agg(DISTINCT client_dn, ' ') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'tms_agent' AND ssl"),
	'/CN=tms_agent', 'the agent logs in with its certificate');

# --- what is refused: certificates, and what is said of them by the image center's clients and by libpq ---
my @bad = (
	[ 'a foreign authority', sub { install($_[0], $foreign) }, qr/certificate/, 'certificate not trusted', qr/certificate verify failed/ ],
	[ 'an expired one', sub { install($_[0], $ours, openssl => [qw(-days -1)]) }, qr/certificate has expired/, 'certificate has expired',
		qr/certificate verify failed/ ],
	[ 'of another host', sub { install($_[0], $ours, name => 'DNS:elsewhere.example') }, qr/certificate/, 'certificate is for another host',
		qr/server certificate for "elsewhere.example" does not match host name "localhost"/ ]);
for my $case (@bad)
{
	my ($what, $install, $agent_says, $wrapper_says) = @$case;
	my $uploaded = $store->requests(qr/"PUT /);
	$install->('store');
	restart_store();
	take(1);
	trouble('upload', $agent_says, "image center, $what: told");
	is($store->requests(qr/"PUT /), $uploaded, "image center, $what: nothing goes there");
	is(images($session, 'image_center'), "0|image_center: $wrapper_says", "image center, $what: nor does the wrapper ask it");
	install('store', $ours);
	restart_store();
	whole("image center, $what, mended");
}
for my $case (@bad)
{
	my ($what, $install, undef, undef, $libpq_says) = @$case;
	$install->('path_center');
	reload();
	take(1);
	trouble('register', $libpq_says, "path center, $what: told");
	is($pc->sql('SELECT count(*) FROM tms.capture'), $taken - 1, "path center, $what: nothing goes there");
	install('path_center', $ours);
	reload();
	whole("path center, $what, mended");
}

# --- the authority is replaced: both are trusted for a while, nobody is restarted ---
my @pids = ($agent->{pid}, $session->query_safe('SELECT pg_backend_pid()'));
trust($ours, $next);
install($_, $next) for keys %place;
restart_store();
reload();
take(2);
whole('certificates of the next authority');
my $count = "$taken|";
for my $source (qw(image_center front_end))
{
	ok(poll_until(sub { images($session, $source) eq $count }, "images of $source", 60), "a session of before trusts the next authority's: $source");
}
trust($next);
reload();
take(2);
whole('the next authority alone');
install('store', $ours);
restart_store();
# Connections that were made before the file was read again go on.
ok(poll_until(sub { restart_store(); images($session, 'image_center') eq '0|image_center: certificate not trusted' }, 'distrust', 60),
	'a session of before trusts the old authority no more');
ok( poll_until(
		sub {
			my $upload = $agent->status->{upload};
			if ($upload->{backlog} == 0)
			{
				restart_store();
				take(1);
			}
			return ($upload->{error} // '') =~ /certificate/;
		},
		'distrust', 90),
	'nor does the agent');
install('store', $next);
restart_store();
whole('in the end');
is(join(' ', $agent->{pid}, $session->query_safe('SELECT pg_backend_pid()')), "@pids", 'all without a restart');
$session->quit;

# --- an S3 store behind TLS ---
if ($ENV{TMS_LONG})
{
	my $ceph = Tms::Ceph->new('tls', tls => $place{store})->start;
	$agent->{sections}{image_center} = { url => $ceph->url, ca_file => $trust, %{ $ceph->agent_options } };
	$agent->write_config;
	kill 'HUP', $agent->{pid};
	ok(poll_until(sub { read_file($agent->{log}) =~ /event=reloaded / }, 'reload'), 'the agent turns to an S3 store');
	my $before = $taken;
	take(3);
	whole('S3 over TLS');
	$pc->sql("CREATE SERVER s3 FOREIGN DATA WRAPPER tms_fdw OPTIONS (url '@{[ $ceph->url ]}', store 's3', ca_file '$trust');
		CREATE USER MAPPING FOR PUBLIC SERVER s3 OPTIONS (access_key_id '$ceph->{access_key_id}', secret_access_key '$ceph->{secret_access_key}')");
	my $of_s3 = "SET tms.image_source = image_center;
		SELECT count(*) FROM tms.capture WHERE tms.capture_seq(capture_id) > $before AND sha256(tms.image(capture_id, 's3')) = sha256";
	is($pc->sql($of_s3), 3, 'the wrapper fetches from it');
	$pc->sql("ALTER SERVER s3 OPTIONS (SET ca_file '$foreign->{pem}')");
	is($pc->sql($of_s3), 0, 'not without trusting it');
	$ceph->stop;
}

is($agent->stop, 0, 'the agent stops cleanly');
my $logs = read_file($agent->{log}) . read_file($pc->logfile);
unlike($logs, qr/PANIC|terminated by signal|Sanitizer|runtime error|PRIVATE KEY/, 'no crash, no key in a log');
$pc->stop;
done_testing();
