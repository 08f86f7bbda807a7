# Changes of the cleaning period: the last good one holds, and a shorter one only counts when it is told twice.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $pc = Tms::Cluster->start_new('period');
my $store = Tms::Store->new('period')->start;
my $agent = Tms::Agent->new(device => 'period-1', token => $pc->add_device('period-1', 'http://127.0.0.1:1', '9 days'),
	conninfo => $pc->agent_conninfo, url => $store->url,
	extra => { path_center => { interval => '100ms', heartbeat => '1h' } })->start;

sub period { my $s = $agent->status; return $s ? $s->{cleaning}{period_seconds} : undef; }
sub logged { my ($pattern) = @_; return scalar(() = read_file($agent->{log}) =~ /$pattern/g); }

sub set_period
{
	my ($value) = @_;
	$pc->sql("UPDATE tms.device SET cleaning_period = $value");
	return;
}

# Starts it anew, with a heartbeat of its own: with an hour there is one answer, that to the report at the start, and no second.
sub restart
{
	my ($heartbeat) = @_;
	$agent->stop;
	$agent->{sections}{path_center}{heartbeat} = $heartbeat;
	$agent->write_config;
	return $agent->start;
}

# --- the first one ever is a shortening as well: until then nothing is cleaned ---
ok(poll_until(sub { $agent->status->{cleaning}{offered_seconds} }, 'an offer'), 'the first answer is an offer');
is(period(), undef, 'and no period is in force');
restart('500ms');
ok(poll_until(sub { period() }, 'a period'), 'the second one counts');
is(period(), 9 * 86400, 'nine days');

# --- a mistake that is put right in time has no effect ---
my ($code, $capture) = $agent->post(jpeg('kept', 5000));
is($code, 201, 'a capture');
ok(poll_until(sub { my $s = $agent->status; $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0 }, 'safe'), 'is safe');
$agent->stop;
set_period(q{'1 second'});
restart('1h');
ok(poll_until(sub { logged(qr/event=cleaning_period_offered seconds=1 keeps_seconds=777600/) }, 'the offer of a second'),
	'a second is told once');
set_period(q{'9 days'});
restart('500ms');
ok(poll_until(sub { !defined $agent->status->{cleaning}{offered_seconds} }, 'no offer'), 'and taken back, over a restart');
is(period(), 9 * 86400, 'nine days hold');
ok(-e "$agent->{dir}/data/cache/$capture->{path}", 'and the capture is there');

# --- a longer one at once ---
set_period(q{'20 days'});
ok(poll_until(sub { period() == 20 * 86400 }, 'twenty days'), 'a longer one is taken');
is(logged(qr/event=cleaning_period_offered seconds=1728000/), 0, 'at once');

# --- what makes no sense is refused, told everywhere, and the last good one holds, also without a path center ---
$pc->sql('ALTER TABLE tms.device DROP CONSTRAINT device_cleaning_period; ALTER TABLE tms.device ALTER cleaning_period DROP NOT NULL');
my $refused = 0;
for my $value ('NULL', q{'0'}, q{'-3 days'}, q{'101 years'})
{
	set_period($value);
	$refused++;
	ok(poll_until(sub { logged(qr/event=cleaning_period_refused keeps_seconds=1728000/) == $refused }, 'a refusal'),
		"$value is refused");
	ok($pc->wait_for_sql(q{SELECT status->'register'->>'error' LIKE '%no cleaning period that makes sense%' FROM tms.device_status}, 't'),
		'and told in the heartbeat');
	set_period(q{'20 days'});
	poll_until(sub { !defined $agent->status->{register}{error} }, 'the good one');
}
set_period('NULL');
$agent->stop;
$pc->stop;
$agent->start;
is(period(), 20 * 86400, 'without a path center the last good one is in force');
ok(-e "$agent->{dir}/data/cache/$capture->{path}", 'and the capture is there');
$pc->start;

# --- a shortening that is meant: two answers, the second after a restart ---
$agent->stop;
set_period(q{'1 second'});
restart('1h');
ok(poll_until(sub { logged(qr/event=cleaning_period_offered seconds=1 keeps_seconds=1728000/) }, 'the offer'), 'told once');
ok(-e "$agent->{dir}/data/cache/$capture->{path}", 'the capture is there');
restart('500ms');
ok(poll_until(sub { !-e "$agent->{dir}/data/cache/$capture->{path}" }, 'the capture leaves', 60),
	'and again after a restart: it counts');
is(logged(qr/event=cleaning_period seconds=1 before_seconds=1728000/), 1, 'from twenty days');
is(($agent->stop)[0], 0, 'stopped');

$pc->stop;
done_testing();
