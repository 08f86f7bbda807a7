# Image centers and front ends behind TLS: what is trusted, what is not and why, with certificates made here.
use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run;
use Test::More;
use Tms::Agent;
use Tms::Authority;
use Tms::Cluster;
use Tms::FrontEnd;
use Tms::Store;
use Tms::Util;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $authority = Tms::Authority->new('ours');
my $foreign_authority = Tms::Authority->new('foreign');
my ($ours, $foreign) = ($authority->{pem}, $foreign_authority->{pem});
my %certificate = (
	good => $authority->certificate('good', 'IP:127.0.0.1'),
	expired => $authority->certificate('expired', 'IP:127.0.0.1', qw(-days -1)),
	elsewhere => $authority->certificate('elsewhere', 'DNS:store.example'),
	foreign => $foreign_authority->certificate('foreign-store', 'IP:127.0.0.1'),
	self => Tms::Authority->self_signed('self'),
);

my $pc = Tms::Cluster->start_new('tls', preload => 1);
my $gate = Tms::FrontEnd->new($pc, 'gate');
my $image = jpeg(1) . 'x' x 100_000;
my $capture = $gate->add($image, path => '1.jpg');
my %store = map { $_ => Tms::Store->new($_, tls => $certificate{$_})->start } keys %certificate;
$_->put($capture->{key}, $image) for values %store;
$pc->add_server($store{good}->url, connect_timeout => '20s', first_byte_timeout => '20s', breaker_failures => '0');

# Source and error of the image, its digest checked; options for the server.
sub fetched
{
	my ($options) = @_;
	$pc->sql("ALTER SERVER image_center OPTIONS ($options)") if $options;
	return $pc->sql("SELECT image_source, coalesce(image_error, '-'), encode(sha256(image), 'hex') = '$capture->{sha256}' FROM capture_image WHERE capture_id = $capture->{id}");
}

is(fetched(), 'front_end|image_center: certificate not trusted|t', 'a private authority is not trusted of itself');
is(fetched("ADD ca_file '$ours'"), 'image_center|-|t', 'it is with ca_file');
is(fetched("SET ca_file '$foreign'"), 'front_end|image_center: certificate not trusted|t', 'but not with another authority');
is(fetched("SET ca_file '$folder/nothing.pem'"), 'front_end|image_center: ca_file cannot be read|t', 'a file that is not there');
is(fetched("SET ca_file '$certificate{good}{key}'"), 'front_end|image_center: ca_file cannot be read|t', 'or holds no certificate');
is(fetched("SET ca_file '$ours', SET url '@{[ $store{expired}->url ]}'"), 'front_end|image_center: certificate has expired|t', 'an expired certificate');
is(fetched("SET url '@{[ $store{elsewhere}->url ]}'"), 'front_end|image_center: certificate is for another host|t', 'a certificate for another host');
is(fetched("SET url '@{[ $store{foreign}->url ]}'"), 'front_end|image_center: certificate not trusted|t', 'one of an authority that is not trusted');
is(fetched("SET ca_file '$foreign'"), 'image_center|-|t', 'which may be trusted instead');
is(fetched("SET url '@{[ $store{self}->url ]}', SET ca_file '$certificate{self}{cert}'"), 'image_center|-|t', 'a self-signed one, trusted by name');
is(fetched("SET ca_file '$ours'"), 'front_end|image_center: certificate not trusted|t', 'and not otherwise');

# The wrong protocol on either side.
(my $plain = $store{good}->url) =~ s/^https/http/;
is(fetched("SET url '$plain'"), 'front_end|image_center: HTTP 400|t', 'http to a port that speaks TLS');
my $unsafe = Tms::Store->new('unsafe')->start;
(my $secure = $unsafe->url) =~ s/^http/https/;
is(fetched("SET url '$secure'"), 'front_end|image_center: TLS handshake failed|t', 'https to a port that does not');

# Somebody who takes connections and never says a word.
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16) or die "listen: $!";
is(fetched("SET url 'https://127.0.0.1:@{[ $mute->sockport ]}/x', SET connect_timeout '300ms'"),
	'front_end|image_center: timed out after 300 ms while connecting|t', 'a handshake that never ends: connect_timeout');
is(fetched("SET connect_timeout '20s', SET first_byte_timeout '300ms'"),
	'front_end|image_center: timed out after 300 ms before the first byte|t', 'or first_byte_timeout, whichever is shorter');
is(fetched("SET first_byte_timeout '20s', ADD timeout '300ms'"),
	'front_end|image_center: timed out after 300 ms before the first byte|t', 'or timeout');
$pc->sql('ALTER SERVER image_center OPTIONS (DROP timeout)');

# A change is noticed by a session that has connections already.
my $session = $pc->background_psql('postgres');
$pc->sql("ALTER SERVER image_center OPTIONS (SET url '@{[ $store{good}->url ]}')");
my $source = "SELECT image_source FROM capture_image WHERE capture_id = $capture->{id}";
is($session->query_safe($source), 'image_center', 'a session with a connection');
$pc->sql("ALTER SERVER image_center OPTIONS (SET ca_file '$foreign')");
is($session->query_safe($source), 'front_end', 'which trusts no longer');
$pc->sql("ALTER SERVER image_center OPTIONS (SET ca_file '$ours')");
is($session->query_safe($source), 'image_center', 'and trusts again');
$session->quit;

# Many connections at once.
$gate->add($image, path => "many-$_.jpg", captured_at => "now() - interval '1 day'") for 1 .. 40;
$store{good}->put("gate/many-$_.jpg", $image) for 1 .. 40;
is($pc->sql("SELECT count(*), bool_and(image_source = 'image_center'), bool_and(sha256(image) = sha256) FROM capture_image WHERE path LIKE 'many-%'"),
	'40|t|t', 'a scan over TLS');

# ca_file names a file that the server process reads.
$pc->sql('CREATE ROLE clerk; GRANT USAGE ON FOREIGN DATA WRAPPER tms_fdw TO clerk; ALTER SERVER image_center OWNER TO clerk');
my (undef, undef, $error) = $pc->psql('postgres', "SET ROLE clerk; ALTER SERVER image_center OPTIONS (SET ca_file '$foreign')");
like($error, qr/ERROR:  only a superuser may set option "ca_file"/, 'only a superuser may name it');

# --- a real agent's cache server with TLS ---
my $token = $pc->add_device('secure', 'https://127.0.0.1:1');
my $agent = Tms::Agent->new(device => 'secure', token => $token, conninfo => $pc->agent_conninfo, url => 'http://127.0.0.1:1/captures',
	extra => { cache => { tls_cert => $certificate{good}{cert}, tls_key => $certificate{good}{key} } });
$pc->sql("UPDATE tms.device SET base_url = 'https://127.0.0.1:$agent->{cache_port}' WHERE code = 'secure'");
$agent->start;
my $answer = http('POST', $agent->intake_url . '/v1/captures?plate=TLS', content => $image, headers => { 'Content-Type' => 'image/jpeg' });
is($answer->{status}, 201, 'an agent takes a photograph');
ok($pc->wait_for_sql("SELECT count(*) FROM tms.capture WHERE plate = 'TLS'", 1), 'and registers it');
my $secure_image = "SELECT image_source, image_error, encode(sha256(image), 'hex') = '@{[ sha256_hex($image) ]}' FROM capture_image WHERE plate = 'TLS'";
is($pc->sql("SET tms.image_source = front_end; $secure_image"), 'front_end||t', 'its cache server is asked over TLS');
my $url = $pc->sql("SELECT tms.image_url(capture_id) FROM tms.capture WHERE plate = 'TLS'");
like($url, qr{^https://127\.0\.0\.1:$agent->{cache_port}/v1/images/}, 'and named so in a URL');
IPC::Run::run([ 'curl', '-sS', '--cacert', $ours, '-o', "$folder/loaded.jpg", $url ]);
is(sha256_hex(read_file("$folder/loaded.jpg")), sha256_hex($image), 'which loads');
$pc->sql("ALTER SERVER image_center OPTIONS (SET ca_file '$foreign')");
is($pc->sql("SET tms.image_source = front_end; $secure_image"), '|front_end: certificate not trusted|', 'ca_file holds for front ends, too');
$agent->stop;

unlike(read_file($pc->logfile), qr/terminated by signal|PANIC|BEGIN (?:RSA )?PRIVATE/, 'no crash, no key in the log');
$pc->stop;
done_testing();
