# selftest: a table that tells what the agent rests on, and leaves nothing behind.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Stub;
use Tms::Util;

my $pc = Tms::Cluster->start_new('selftest', conf => "listen_addresses = '127.0.0.1'");
my $store = Tms::Store->new('selftest')->start;
my $agent = Tms::Agent->new(device => 'self-1', token => $pc->add_device('self-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => $store->url);
my $data = "$agent->{dir}/data";

# Runs it with --json: (exit code, {check => {...}}, stderr).
sub selftest
{
	my ($code, $out, $err) = $agent->command('selftest', '--json');
	my $all = eval { decode_json($out) } // diag("no JSON: $out$err");
	return ($code, { map { $_->{name} => $_ } @{ $all->{checks} } }, $err, $all->{state});
}

sub configure
{
	my ($section, $key, $value) = @_;
	$agent->{sections}{$section}{$key} = $value;
	$agent->write_config;
	return;
}

sub left_behind { opendir(my $folder, $data); return [ grep { !/^\.\.?$/ } readdir($folder) ]; }

# --- all is there ---
my ($code, $check, $err) = selftest();
my $sound = `stat -f -c %T $data` =~ /^(?:tmpfs|ramfs)$/ ? 1 : 0; # the exit code when all is well: tests may run in memory
is($code, $sound, "centers that answer and a disk that writes: exit code $sound");
is($check->{$_}{state}, 'ok', "$_ is good") for qw(disk_write disk_rename image_center path_center);
for my $figure (qw(median_us p99_us longest_us write_median_us per_second))
{
	cmp_ok($check->{disk_sync}{$figure}, '>=', 0, "disk_sync tells $figure");
}
cmp_ok($check->{disk_sync}{longest_us}, '>=', $check->{disk_sync}{median_us}, 'the longest is no shorter than the median');
cmp_ok($check->{disk_space}{free_bytes}, '>', 0, 'free bytes');
cmp_ok(abs($check->{image_center_clock}{seconds}), '<=', 60, 'the store\'s clock');
ok(exists $check->{$_}, "$_ is looked at") for qw(disk disk_attributes clock);
is_deeply(left_behind(), [], 'nothing is left in data_dir');
is($store->requests(qr/"(PUT|POST|DELETE)/), 0, 'nothing was written to the image center');
is($pc->sql('SELECT count(*) FROM tms.ledger'), 0, 'nor to the path center');

# --- the table ---
my ($exit, $out) = $agent->command('selftest');
is($exit, $sound, 'the table has the same exit code');
my @lines = split /\n/, $out;
is_deeply([ grep { !/^\S+ +(?:ok|warning|failed) +\S/ } @lines ], [], 'one line a check');
is(scalar(@lines), scalar(keys %$check), 'for each of them');
like($out, qr/^disk_space +\w+ +[\d.]+ [kMGT]?B of [\d.]+ [kMGT]?B free/m, 'sizes in the units of status');

# --- beside a running agent ---
$agent->start;
is((selftest())[0], $sound, 'it may run beside the agent');
is($agent->stop, 0, 'TERM ends the agent');

# --- centers that are away or refuse ---
$store->stop;
($code, $check) = selftest();
is($code, 1, 'an image center that is away: exit code 1');
like($check->{image_center}{text}, qr/connect/i, 'and why');
my $stub = Tms::Stub->start(sub { return [ 403, { Date => 'Sun, 06 Nov 1994 08:49:37 GMT' }, '' ] });
configure('image_center', 'url', $stub->url . '/captures');
($code, $check) = selftest();
is($check->{image_center}{state}, 'failed', 'credentials that are refused');
like($check->{image_center}{text}, qr/403/, 'are told');
is($check->{image_center_clock}{state}, 'warning', 'a store with another clock is told');
# --- what an S3 store says ---
write_file("$agent->{dir}/secret", "secret-words\n");
chmod 0600, "$agent->{dir}/secret";
configure('image_center', 'store', 's3');
configure('image_center', 'access_key_id', 'AKIDEXAMPLE');
configure('image_center', 'secret_access_key_file', "$agent->{dir}/secret");
my $says = "$agent->{dir}/s3_says";
my $s3 = Tms::Stub->start(
	sub {
		my ($status, $word) = split ' ', read_file($says);
		return [ $status, { 'Content-Type' => 'application/xml' }, "<Error><Code>$word</Code><Message>m</Message></Error>" ];
	});
configure('image_center', 'url', $s3->url . '/captures');
for ([ 404, 'NoSuchKey', 'ok' ], [ 404, 'NoSuchBucket', 'failed' ], [ 403, 'InvalidAccessKeyId', 'failed' ],
	[ 403, 'SignatureDoesNotMatch', 'failed' ], [ 403, 'AccessDenied', 'warning' ])
{
	my ($status, $word, $state) = @$_;
	write_file($says, "$status $word");
	($code, $check) = selftest();
	is($check->{image_center}{state}, $state, "$word: $state") or diag($check->{image_center}{text});
}
configure('image_center', $_, undef) for qw(store access_key_id secret_access_key_file);
configure('image_center', 'url', $stub->url . '/captures');

configure('path_center', 'conninfo', $pc->agent_conninfo . ' password=wrong user=nobody_at_all');
($code, $check) = selftest();
is($check->{path_center}{state}, 'failed', 'a role that is not let in');
unlike(encode_json($check), qr/wrong/, 'without its password');
configure('path_center', 'conninfo', "host=$agent->{dir}/absent port=1 user=nobody");
($code, $check) = selftest();
like($check->{path_center}{text}, qr/No such file or directory; Is the server running/, 'the lines of libpq\'s reason stay apart');

# --- a disk that keeps nothing; one that is full ---
SKIP:
{
	my ($tmpfs) = grep { -d && -w } qw(/dev/shm);
	my ($kind) = $tmpfs ? split(' ', `stat -f -c %T $tmpfs`) : '';
	skip('no tmpfs', 3) if $kind ne 'tmpfs';
	mkdir "$tmpfs/tms_selftest_$$" or die "mkdir: $!";
	configure('agent', 'data_dir', "$tmpfs/tms_selftest_$$");
	($code, $check) = selftest();
	rmdir "$tmpfs/tms_selftest_$$" or fail('something was left behind');
	is($code, 1, 'memory is no disk: exit code 1');
	like($check->{disk_kind}{text}, qr/^tmpfs: it is memory/, 'and why');
	is($check->{disk_sync}{state}, 'warning', 'its syncs cost nothing, which is told');
}
configure('agent', 'data_dir', "$agent->{dir}/absent");
($code, $check) = selftest();
is($check->{disk}{state}, 'failed', 'a folder that is not there is told');
write_file($agent->{config}, "[agent]\n");
is(($agent->command('selftest'))[0], 2, 'a configuration with mistakes: exit code 2');

done_testing();
