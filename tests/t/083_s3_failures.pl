# The table of failures, on a real S3 store (Ceph): what is down, what goes on meanwhile, and how long until all is whole
# again. Nothing is ever lost, nothing is there twice.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use Tms::Agent;
use Tms::Ceph;
use Tms::Cluster;
use Tms::Util;

my $ceph = Tms::Ceph->new('failures')->start;
my $pc = Tms::Cluster->start_new('s3_failures');
my $cache_port = free_port();
my $agent = Tms::Agent->new(device => 's3-fail', token => $pc->add_device('s3-fail', "http://127.0.0.1:$cache_port"),
	conninfo => $pc->agent_conninfo, url => $ceph->url, cache_port => $cache_port,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' }, image_center => $ceph->agent_options });
$agent->start;
$pc->sql("CREATE SERVER image_center FOREIGN DATA WRAPPER tms_fdw
	OPTIONS (url '@{[$ceph->url]}', store 's3', breaker_cooldown '100ms');
	CREATE USER MAPPING FOR PUBLIC SERVER image_center
	OPTIONS (access_key_id '$ceph->{access_key_id}', secret_access_key '$ceph->{secret_access_key}');
	IMPORT FOREIGN SCHEMA tms FROM SERVER image_center INTO public");

my %bytes_of; # all that were ever acknowledged, by path

sub take_in
{
	my ($name) = @_;
	for my $n (1 .. 5)
	{
		my $bytes = jpeg("$name $n", 20_000 * $n);
		my ($code, $answer) = $agent->post($bytes);
		die "post: $code" if $code != 201;
		$bytes_of{ $answer->{path} } = $bytes;
	}
	return pass("$name: captures go on");
}

# How many captures a query gets from this source with the right digest; -1 when a row is missing or there twice.
sub images_from
{
	my ($source) = @_;
	my ($rows, $paths, $images) = split /\|/, $pc->sql(
		"SELECT count(*), count(DISTINCT path), count(*) FILTER (WHERE image_source = '$source' AND sha256(image) = sha256)
			FROM capture_image");
	return $rows == keys %bytes_of && $paths == $rows ? $images : -1;
}

# Where they are: captures, in the image center, only in front ends, nowhere, wrong bytes, unknown.
sub places
{
	return $pc->sql("SELECT sum(captures), sum(in_image_center), sum(only_front_end), sum(nowhere), sum(wrong_bytes), sum(unknown)
		FROM tms.verify_images(now() - interval '1 day', now() + interval '1 day')");
}

sub whole_again
{
	my ($name) = @_;
	my $begin = time();
	my $whole = poll_until(
		sub {
			my $s = $agent->status;
			return $s && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 && images_from('image_center') == keys %bytes_of;
		},
		'all of it', 60);
	ok($whole, sprintf('%s: whole again after %.1f s', $name, time() - $begin));
	is(places(), join('|', scalar(keys %bytes_of), scalar(keys %bytes_of), 0, 0, 0, 0), "$name: verify_images finds all of them");
	is_deeply([ grep { ($ceph->get("s3-fail/$_") // '') ne $bytes_of{$_} } sort keys %bytes_of ], [], "$name: byte for byte");
	return;
}

take_in('at first');
whole_again('at first');

# --- the image center is down ---
$ceph->gateway_stop;
take_in('image center down');
ok($pc->wait_for_sql('SELECT count(*) FROM tms.capture', scalar(keys %bytes_of), 60), 'image center down: captures are registered');
is(images_from('front_end'), scalar(keys %bytes_of), 'image center down: front ends serve all');
$ceph->gateway_start;
whole_again('image center down');

# --- the path center is down ---
$pc->stop;
take_in('path center down');
ok(poll_until(sub { my $s = $agent->status; $s && $s->{upload}{backlog} == 0 }, 'uploads', 60), 'path center down: images are uploaded');
$pc->start;
whole_again('path center down');

# --- both are down ---
$ceph->gateway_stop;
$pc->stop;
take_in('both down');
$agent->kill9;
$agent->start;
is($agent->status->{upload}{backlog}, 5, 'both down: what was acknowledged outlives a kill of the agent');
$pc->start;
$ceph->gateway_start;
whole_again('both down');

# --- the front end is away, for a while or for good ---
$agent->stop;
is(images_from('image_center'), scalar(keys %bytes_of), 'front end away: the image center serves what was uploaded');
$agent->start;
take_in('front end back');
whole_again('front end back');

# --- the image center is emptied ---
$ceph->remove("s3-fail/$_") for keys %bytes_of;
is(images_from('front_end'), scalar(keys %bytes_of), 'image center emptied: front ends serve all');
is(places(), join('|', scalar(keys %bytes_of), 0, scalar(keys %bytes_of), 0, 0, 0), 'image center emptied: verify_images finds it');
$pc->sql("SELECT tms.request_upload('s3-fail', now() - interval '1 day', now() + interval '1 day')");
whole_again('image center emptied, tms.request_upload');
is($agent->status->{set_aside}, 0, 'nothing is set aside');

# --- the path center is restored from an old backup ---
my $backup = "$PostgreSQL::Test::Utils::tmp_check/s3_failures.dump";
$pc->command_ok([ 'pg_dump', '-Fc', '-f', $backup, '-h', $pc->host, '-p', $pc->port, '-d', 'postgres' ], 'a backup of the path center');
my $in_backup = keys %bytes_of;
take_in('after the backup');
whole_again('after the backup');
my %id_of = map { split /\|/ } split /\n/, $pc->sql('SELECT path, capture_id FROM tms.capture');
$agent->stop;
$pc->sql('DROP SERVER image_center CASCADE; DROP TABLE tms.capture; DROP EXTENSION tms CASCADE; DROP SCHEMA IF EXISTS tms CASCADE');
$pc->command_ok([ 'pg_restore', '-1', '-h', $pc->host, '-p', $pc->port, '-d', 'postgres', $backup ], 'old backup: restored');
$pc->restart;
is($pc->sql('SELECT count(*) FROM tms.capture'), $in_backup, 'old backup: the last ones are missing');
$agent->start;
take_in('old backup');
whole_again('old backup');
my %id_now = map { split /\|/ } split /\n/, $pc->sql('SELECT path, capture_id FROM tms.capture');
is(scalar(grep { $id_now{$_} ne $id_of{$_} } keys %id_of), 0, 'old backup: under their old ids');

# --- the front end is gone for good, with photographs that it had not uploaded ---
$ceph->gateway_stop;
take_in('front end for good');
ok($pc->wait_for_sql('SELECT count(*) FROM tms.capture', scalar(keys %bytes_of), 60), 'front end for good: the last ones are registered');
my $uploaded = keys(%bytes_of) - 5;
ok($pc->wait_for_sql('SELECT max(uploaded_max) FROM tms.ledger', $uploaded, 60), 'front end for good: and not uploaded');
$agent->kill9;
system('rm', '-rf', "$agent->{dir}/data");
$ceph->gateway_start;
is(images_from('image_center'), $uploaded, 'front end for good: the image center serves all the others');
$pc->sql("UPDATE tms.ledger SET last_seen_at = last_seen_at - interval '2 hours'");
is($pc->sql("SELECT device, kind, captures FROM tms.device_gap"), 's3-fail|not uploaded|5', 'front end for good: device_gap tells of the rest');
is(places(), join('|', $uploaded + 5, $uploaded, 0, 0, 0, 5), 'front end for good: and verify_images');

done_testing();
