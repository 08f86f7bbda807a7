# tms.probe against front ends that are there, away, hang, have a wrong clock, or are no front end.
use strict;
use warnings;

use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);
use Tms::Cluster;
use Tms::Stub;
use Tms::Util;

# A time as HTTP writes it.
sub time2str { my ($time) = @_; return strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime($time)); }

my $cluster = Tms::Cluster->start_new('probe', streaming => 1);
my %stub = (
	good => Tms::Stub->start(sub { [ 200, { Date => time2str(time) }, "ok\n" ] }),
	late => Tms::Stub->start(sub { [ 200, { Date => time2str(time - 3600) }, "ok\n" ] }),
	sick => Tms::Stub->start(sub { [ 503, { Date => time2str(time + 120) }, "disk full\n" ] }),
	timeless => Tms::Stub->start(sub { [ 200, {}, 'ok' ] }),
	moved => Tms::Stub->start(sub { [ 301, { Location => 'http://127.0.0.1:1/' }, '' ] }),
	endless => Tms::Stub->start(sub { [ 200, {}, 'x' x 100_000 ] }),
	silent => Tms::Stub->start(sub { sysread($_[1], my $nothing, 1); return; }),
);
$cluster->add_device($_, $stub{$_}->url) for sort keys %stub;
$cluster->add_device('away', 'http://127.0.0.1:' . free_port());
$cluster->add_device('nameless', 'http://no-such-host.invalid:8440');
$cluster->add_device('metadata', 'http://169.254.169.254');
$cluster->sql("SELECT tms.register_device('unset', NULL)");

sub probe { my ($device) = @_; return $cluster->sql("SELECT reachable, latency > '0', clock_offset, error FROM tms.probe('$device')"); }
like(probe('good'), qr/^t\|t\|-?00:00:0[01]\|$/, 'there, with a good clock');
like(probe('late'), qr/^t\|t\|-(01:00:00|00:59:59)\|$/, 'a clock that is an hour late');
like(probe('sick'), qr/^f\|t\|00:0(2:00|1:59|2:01)\|HTTP 503$/, 'one that says it is not well: its clock is known all the same');
is(probe('timeless'), 't|t||', 'an answer without a date');
is(probe('moved'), 'f|t||HTTP 301, redirect refused', 'a redirect');
is(probe('endless'), 'f|t||100000 bytes instead of at most 4096', 'an answer that is no health report');
is(probe('away'), 'f|||connection refused', 'away');
is(probe('nameless'), 'f|||host name not found', 'an unknown host');
is(probe('metadata'), 'f|||address refused', 'a link-local address');
is(probe('unset'), 'f|||device has no address', 'no address');
is(probe('silent'), 'f|||timed out after 4 s before the first byte', 'silent');
my (undef, undef, $error) = $cluster->psql('postgres', "SELECT tms.probe('nobody')");
like($error, qr/there is no device "nobody"/, 'not registered');

is($cluster->sql('SELECT code, ok, error FROM tms.device_probe JOIN tms.device USING (device_id) ORDER BY code'), join("\n",
		'away|f|connection refused', 'endless|f|100000 bytes instead of at most 4096', 'good|t|', 'late|t|', 'metadata|f|address refused',
		'moved|f|HTTP 301, redirect refused', 'nameless|f|host name not found', 'sick|f|HTTP 503',
		'silent|f|timed out after 4 s before the first byte', 'timeless|t|', 'unset|f|device has no address'), 'all of it is kept');
is($cluster->sql("SELECT device FROM tms.fleet WHERE reachable AND clock_offset IS NOT NULL ORDER BY device"), "good\nlate", 'and shown in tms.fleet');

# Many at once: 64 silent ones take as long as a few.
$cluster->sql("SELECT count(tms.register_device('s' || i, '@{[ $stub{silent}->url ]}')) FROM generate_series(1, 64) AS i");
my $begin = time();
is($cluster->sql("SELECT count(*), count(*) FILTER (WHERE reachable), count(DISTINCT device) FROM tms.probe(ARRAY(SELECT code FROM tms.device WHERE code ~ '^s[0-9]' OR code IN ('good', 'late')) || 'nobody'::text)"),
	'66|2|66', 'many at once');
cmp_ok(time() - $begin, '<', 64 * 4 / 2, 'not one after the other');
$cluster->sql("DELETE FROM tms.device WHERE code ~ '^s[0-9]'");

(undef, undef, $error) = $cluster->psql('postgres', "SET statement_timeout = '200ms'; SELECT tms.probe('silent')");
like($error, qr/canceling statement due to statement timeout/, 'a probe can be cancelled');
$cluster->sql("DELETE FROM tms.device_probe");
is($cluster->sql("SET default_transaction_read_only = on; SELECT reachable FROM tms.probe('good')"), 't', 'in a read-only transaction');
is($cluster->sql('SELECT count(*) FROM tms.device_probe'), 0, 'nothing is kept');

$cluster->sql('CREATE ROLE clerk');
(undef, undef, $error) = $cluster->psql('postgres', "SET ROLE clerk; SELECT tms.probe('good')");
like($error, qr/permission denied for function probe/, 'nobody else may probe by default');
is($cluster->sql("GRANT EXECUTE ON FUNCTION tms.probe(text) TO clerk; SET ROLE clerk; SELECT reachable FROM tms.probe('good')"), 't', 'but whoever is granted it');

$cluster->backup('base');
my $standby = Tms::Cluster->new('standby');
$standby->init_from_backup($cluster, 'base', has_streaming => 1);
$standby->start;
$cluster->wait_for_catchup($standby, 'replay', $cluster->lsn('flush'));
is($standby->sql("SELECT pg_is_in_recovery(), reachable FROM tms.probe('good')"), 't|t', 'on a hot standby');
$standby->stop;

$cluster->stop;
done_testing();
