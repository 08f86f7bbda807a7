# tms-agent why: what happened to a capture, by which rule, with which receipts; or what keeps it.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $pc = Tms::Cluster->start_new('why');
my $store = Tms::Store->new('why')->start;
my $agent = Tms::Agent->new(device => 'why-1', token => $pc->add_device('why-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => $store->url,
	extra => { path_center => { interval => '100ms', heartbeat => '300ms' } })->start;

sub why
{
	my (@arguments) = @_;
	my ($code, $out, $err) = $agent->command('why', '--json', @arguments);
	return $code == 0 ? decode_json($out) : { code => $code, error => $err };
}

sub because { my $story = why(@_); return join('; ', @{ $story->{cache}{stays_because} // [] }); }

sub state_of
{
	my ($seq, $wanted, $name) = @_;
	return ok(poll_until(sub { $wanted->(why($seq)) }, $name, 60), $name);
}

# --- neither center has it ---
$store->stop;
$pc->stop;
my ($code, $first) = $agent->post(jpeg('first', 4000), plate => 'WHY1');
is($code, 201, 'a capture');
my $story = why(1);
is($story->{path}, $first->{path}, 'its path');
is($story->{sha256}, $first->{sha256}, 'its digest');
is($story->{uploaded}{at}, undef, 'not uploaded');
ok(!$story->{registered}{confirmed}, 'not registered');
like(because(1), qr/not verified in the image center.*not registered: .* up to 0.*not expired|no cleaning period/, 'and so it stays')
  or diag(because(1));
my ($text) = ($agent->command('why', 1))[1];
like($text, qr/^uploaded     no$/m, 'the text says so');
like($text, qr/^in the cache yes\nbecause      it is not verified/m, 'with the reasons');
like($text, qr/^disk         [\d.]+ [kMGT]?B free, [\d.]+ [kMGT]?B wanted$/m, 'and the disk, in the units of status');

# --- both have it ---
$store->start;
$pc->start;
state_of(1, sub { $_[0]{uploaded}{at} && $_[0]{registered}{confirmed} }, 'it is uploaded and registered');
$story = why(1);
is($story->{uploaded}{verified_by}, 'its bytes, read back, have the digest', 'how that was verified: nginx tells no digest');
like($story->{uploaded}{etag}, qr/^"[0-9a-f-]+"$/, 'with its entity tag');
like($story->{registered}{at}, qr/^\d{4}-\d\d-\d\dT.*Z$/, 'when it was registered');
cmp_ok($story->{registered}{report_no}, '>', 0, 'in answer to which report');
state_of(1, sub { join('', @{ $_[0]{cache}{stays_because} }) =~ /^not expired: .* the cleaning period is 604800 s$/ },
	'all that keeps it is the cleaning period');

# --- by all its names, whether the agent runs or not ---
my $uuid = $story->{ledger};
my $number = sprintf('%08x', $story->{capture_id} >> 32);
is($story->{capture_id}, $pc->sql("SELECT capture_id FROM tms.capture WHERE plate = 'WHY1'"), 'its id is that of the path center');
for my $name (1, $story->{capture_id}, "$uuid:1", "$number:1", $first->{path})
{
	is(why($name)->{sha256}, $first->{sha256}, "found as $name");
}
$agent->stop;
is(why($first->{path})->{sha256}, $first->{sha256}, 'also when no agent runs');
ok(!-e "$agent->{dir}/data/ledger.db-journal", 'and nothing is written');
$agent->start;
my ($exit, $out, $err) = $agent->command('why', 77);
is($exit, 1, 'an unknown seq');
like($err, qr/77 is not in the ledger/, 'is told');
is(($agent->command('why', $_))[0], 2, "no name of a capture: $_") for 'x', '-1', '1:x', 'xyz:1', '../etc/passwd';
is(($agent->command('why'))[0], 2, 'no capture at all');

# --- lost by the image center, found missing, uploaded again, cleaned ---
unlink $store->file("why-1/$first->{path}");
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second'");
state_of(1, sub { !$_[0]{cache}{held} }, 'it leaves the cache');
$story = why(1);
like($story->{uploaded}{missing_at}, qr/^\d{4}-/, 'the image center had lost it meanwhile');
is($story->{uploaded}{missing}, 'HEAD: HTTP status 404', 'as it said itself');
ok(-e $store->file("why-1/$first->{path}"), 'it was uploaded again before');
my $receipt = $story->{cache}{receipt};
is($receipt->{rule}, 'expired', 'by which rule it left');
is($receipt->{period_seconds}, 1, 'with the period in force');
cmp_ok($receipt->{age_seconds}, '>=', 1, 'its age');
is($receipt->{image_center}, 'size and unchanged entity tag', 'how the image center was asked');
is($receipt->{etag}, $story->{uploaded}{etag}, 'what it answered');
like($receipt->{image_center_time}, qr/^\d{4}-/, 'at which time by its clock');
like($story->{cache}{cleaned_at}, qr/^\d{4}-/, 'and when');
($text) = ($agent->command('why', 1))[1];
like($text, qr/^cleaned      \d{4}\S+, by the rule "expired": \d+ s old, cleaning period 1 s$/m, 'the text says so');

# --- an object that was replaced since it was verified is read again, not taken for the same ---
$pc->sql("UPDATE tms.device SET cleaning_period = '1 day'");
ok(poll_until(sub { $agent->status->{cleaning}{period_seconds} == 86400 }, 'a day'), 'the period is a day');
my @more = map { ($agent->post(jpeg("more $_", 4000)))[1] } 1 .. 2;
state_of(3, sub { $_[0]{uploaded}{at} && $_[0]{registered}{confirmed} && why(2)->{uploaded}{at} }, 'two more');
my ($same, $other) = map { $store->file("why-1/$_->{path}") } @more;
my $bytes = read_file($same);
utime(1_600_000_000, 1_600_000_000, $same);
write_file($other, 'y' x -s $other);
utime(1_500_000_000, 1_500_000_000, $other);
$pc->sql("UPDATE tms.device SET cleaning_period = '1 second'");
state_of($_, sub { !$_[0]{cache}{held} }, "seq $_ leaves the cache") for 2, 3;
is(why(2)->{cache}{receipt}{image_center}, 'bytes read back', 'the same bytes under another entity tag were read back');
is(why(3)->{uploaded}{missing}, 'GET: the store has other bytes', 'other bytes of the same size were noticed');
is(sha256_hex(read_file($other)), $more[1]{sha256}, 'and replaced by the right ones');

is(($agent->stop)[0], 0, 'stopped');

$pc->stop;
done_testing();
