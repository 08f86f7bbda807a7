# Ledgers that were lost, went back in time, were copied or put back: every acknowledged capture has exactly one row, with
# the record it came with, and its bytes.
use strict;
use warnings;

use Test::More;
use File::Copy ();
use File::Path qw(remove_tree);
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('recover')->start;
my $pc = Tms::Cluster->start_new('recover');
$pc->add_server($store->url);

my $captures = 0;

# A device with its agent (not started) and the list of what was acknowledged.
sub new_front_end
{
	my ($code, %options) = @_;
	my $port = free_port();
	my $token = $pc->add_device($code, "http://127.0.0.1:$port");
	my $agent = Tms::Agent->new(device => $code, token => $token, conninfo => $pc->agent_conninfo, url => $store->url,
		cache_port => $port, %options);
	return { code => $code, token => $token, agent => $agent, acknowledged => {} };
}

# Takes n captures and remembers what the agent promised.
sub take
{
	my ($front_end, $n, $agent) = @_;
	$agent //= $front_end->{agent};
	for (1 .. $n)
	{
		my $bytes = jpeg("$front_end->{code} capture " . ++$captures, 3000);
		my $plate = "R$captures";
		my ($status, $answer) = $agent->post($bytes, plate => $plate);
		is($status, 201, "$front_end->{code}: $plate is acknowledged") or diag($agent->log_tail);
		$front_end->{acknowledged}{ sha256_hex($bytes) } = $plate;
	}
	return;
}

# "sha256|plate" of every row of a device.
sub rows_of
{
	my ($code) = @_;
	return [ split /\n/, $pc->sql("SELECT encode(sha256, 'hex'), plate FROM tms.capture
		WHERE device_id = (SELECT device_id FROM tms.device WHERE code = '$code') ORDER BY 1, 2") ];
}

# Every acknowledged capture has exactly one row with its plate; no other row is there.
sub whole_ok
{
	my ($front_end, $name) = @_;
	my @expected = sort map { "$_|$front_end->{acknowledged}{$_}" } keys %{ $front_end->{acknowledged} };
	my $got;
	poll_until(sub { $got = rows_of($front_end->{code}); @$got >= @expected }, "rows of $front_end->{code}");
	# Nothing more comes afterwards: all ledgers are reported to their ends, twice.
	my $reports = "SELECT min(report_no) FROM tms.ledger l JOIN tms.device d USING (device_id) WHERE d.code = '$front_end->{code}'
		AND last_seen_at > now() - interval '5 s'";
	my $from = $pc->sql($reports);
	poll_until(sub { ($pc->sql($reports) || 0) > ($from || 0) + 2 }, 'two more reports', 15);
	is_deeply(rows_of($front_end->{code}), \@expected, "$name: every capture has exactly one row");
	return;
}

sub images_ok
{
	my ($front_end, $source, $name) = @_;
	is($pc->sql("SET tms.image_source = $source; SELECT count(*) FILTER (WHERE sha256(image) = sha256) = count(*)
			FROM capture_image WHERE device = '$front_end->{code}'"), 't', "$name: all bytes from $source");
	return;
}

sub data_dir { my $agent = shift; return "$agent->{dir}/data"; }

sub copy_tree
{
	my ($from, $to) = @_;
	remove_tree($to);
	system('cp', '-a', $from, $to) == 0 or die "cp $from $to";
	return;
}

sub remove_ledger
{
	my ($agent) = @_;
	unlink(glob(data_dir($agent) . '/ledger.db*'));
	return;
}

# --- lost ledger.db beside a full cache, after everything was registered ---
{
	my $f = new_front_end('lost-1');
	$f->{agent}->start;
	take($f, 10);
	whole_ok($f, 'before the loss');
	my $ids = $pc->sql("SELECT array_agg(capture_id ORDER BY capture_id) FROM capture_image WHERE device = 'lost-1'");
	$f->{agent}->stop;
	remove_ledger($f->{agent});
	$f->{agent}->start;
	take($f, 3);
	whole_ok($f, 'lost ledger.db');
	is($pc->sql("SELECT array_agg(capture_id ORDER BY capture_id) FROM (SELECT capture_id FROM capture_image
		WHERE device = 'lost-1' AND capture_id = ANY('$ids')) c"), $ids, 'the ids stay');
	images_ok($f, 'front_end', 'lost ledger.db');
	is($pc->sql("SELECT count(*) FROM tms.ledger JOIN tms.device USING (device_id) WHERE code = 'lost-1'"), '2',
		'new captures have a new ledger');
	is($f->{agent}->stop, 0, 'stops cleanly');
}

# --- lost before anything was registered: the record comes back from what travels with the file ---
{
	my $f = new_front_end('lost-2');
	my $conninfo = $f->{agent}{sections}{path_center}{conninfo};
	$f->{agent}{sections}{path_center}{conninfo} = 'host=127.0.0.1 port=1 dbname=none user=nobody';
	$f->{agent}->write_config;
	$f->{agent}->start;
	take($f, 12);
	$f->{agent}->kill9;
	remove_ledger($f->{agent});
	$f->{agent}{sections}{path_center}{conninfo} = $conninfo;
	$f->{agent}->write_config;
	$f->{agent}->start;
	whole_ok($f, 'lost before registration');
	is($pc->sql('SELECT count(*) FROM tms.device_gap g JOIN tms.ledger USING (ledger_no) JOIN tms.device d ON d.device_id = ledger.device_id
		WHERE d.code = \'lost-2\''), '0', 'and no gap is declared');
	images_ok($f, 'front_end', 'lost before registration');
	$f->{agent}->stop;
}

# --- a damaged ledger.db is moved aside ---
{
	my $f = new_front_end('damaged-1');
	$f->{agent}->start;
	take($f, 6);
	whole_ok($f, 'before the damage');
	$f->{agent}->stop;
	unlink(glob(data_dir($f->{agent}) . '/ledger.db-*'));
	write_file(data_dir($f->{agent}) . '/ledger.db', 'this was a database once ' x 500);
	$f->{agent}->start;
	take($f, 2);
	whole_ok($f, 'damaged ledger.db');
	is(scalar(my @kept = glob(data_dir($f->{agent}) . '/ledger.db.damaged-*')), 1, 'the damaged file is kept');
	$f->{agent}->stop;
}

# --- ledger.db alone went back in time (restored from a backup) ---
{
	my $f = new_front_end('back-1');
	$f->{agent}->start;
	take($f, 5);
	$f->{agent}->stop;
	my $old = "$f->{agent}{dir}/old.db";
	File::Copy::copy(data_dir($f->{agent}) . '/ledger.db', $old) or die $!;
	$f->{agent}->start;
	take($f, 5);
	whole_ok($f, 'before going back');
	$f->{agent}->stop;
	remove_ledger($f->{agent});
	File::Copy::copy($old, data_dir($f->{agent}) . '/ledger.db') or die $!;
	$f->{agent}->start;
	take($f, 4);
	whole_ok($f, 'ledger.db went back in time');
	images_ok($f, 'front_end', 'ledger.db went back in time');
	$f->{agent}->stop;
}

# --- the whole disk went back in time: what it took since then is in both centers, and stays ---
{
	my $f = new_front_end('back-2');
	$f->{agent}->start;
	take($f, 5);
	whole_ok($f, 'before the snapshot');
	$f->{agent}->stop;
	copy_tree(data_dir($f->{agent}), "$f->{agent}{dir}/snapshot");
	$f->{agent}->start;
	take($f, 5);
	whole_ok($f, 'after the snapshot');
	$pc->wait_for_sql("SELECT bool_and(uploaded_seq = last_seq) FROM tms.ledger JOIN tms.device USING (device_id) WHERE code = 'back-2'", 't');
	$f->{agent}->stop;
	copy_tree("$f->{agent}{dir}/snapshot", data_dir($f->{agent}));
	$f->{agent}->start;
	take($f, 7);
	whole_ok($f, 'the disk went back in time');
	images_ok($f, 'image_center', 'the disk went back in time') if poll_until(
		sub { $pc->sql("SELECT count(*) FILTER (WHERE image_source IS NULL) FROM capture_image WHERE device = 'back-2'") eq '0' },
		'all images');
	$f->{agent}->stop;
}

# --- a copied disk: both twins go on, under the same device ---
{
	my $f = new_front_end('twin-1');
	$f->{agent}->start;
	take($f, 4);
	whole_ok($f, 'before the copy');
	$f->{agent}->stop;
	my $twin = Tms::Agent->new(device => 'twin-1', token => $f->{token}, conninfo => $pc->agent_conninfo, url => $store->url);
	copy_tree(data_dir($f->{agent}), data_dir($twin));
	$f->{agent}->start;
	$twin->start;
	for (1 .. 3)
	{
		take($f, 2);
		take($f, 2, $twin);
	}
	whole_ok($f, 'copied disk');
	is($f->{agent}->stop, 0, 'one twin stops cleanly');
	is($twin->stop, 0, 'and the other');
}

# --- a replaced disk, and the old one put back ---
{
	my $f = new_front_end('disk-1');
	$f->{agent}->start;
	take($f, 4);
	whole_ok($f, 'first disk');
	$f->{agent}->stop;
	copy_tree(data_dir($f->{agent}), "$f->{agent}{dir}/first");
	remove_tree(data_dir($f->{agent}));
	mkdir(data_dir($f->{agent}));
	$f->{agent}->start;
	take($f, 4);
	whole_ok($f, 'second disk');
	$f->{agent}->stop;
	copy_tree("$f->{agent}{dir}/first", data_dir($f->{agent}));
	$f->{agent}->start;
	take($f, 4);
	whole_ok($f, 'first disk again');
	is($pc->sql("SELECT count(*) FROM tms.ledger JOIN tms.device USING (device_id) WHERE code = 'disk-1'"), '2',
		'it goes on with its own ledger');
	$f->{agent}->stop;
}

done_testing();
