# Intake by spool folder: what is there at start, what is moved in or closed later, and what cannot be used.
use strict;
use warnings;

use IPC::Run;
use Test::More;
use JSON::PP;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new('spool')->start;
my $pc = Tms::Cluster->start_new('spool');
my $port = free_port();
my $token = $pc->add_device('spool-1', "http://127.0.0.1:$port");
my $agent = Tms::Agent->new(device => 'spool-1', token => $token, conninfo => $pc->agent_conninfo, url => $store->url, cache_port => $port);
my $spool = "$agent->{dir}/spool";
my $data = "$agent->{dir}/data";

# Writes beside the folder and moves in: what appears is complete.
sub move_in
{
	my ($name, $bytes, $record) = @_;
	for my $pair ($record ? [ ($name =~ s/\.[^.]*$/.json/r), ref $record ? encode_json($record) : $record ] : (), [ $name, $bytes ])
	{
		write_file("$agent->{dir}/moving", $pair->[1]);
		rename("$agent->{dir}/moving", "$spool/$pair->[0]") or die $!;
	}
	return;
}

sub row { my $bytes = shift; return "FROM tms.capture WHERE sha256 = '\\x" . sha256_hex($bytes) . "'"; }
sub gone_ok { my $name = shift; ok(poll_until(sub { !-e "$spool/$name" }, "$name gone"), "$name is gone from the spool"); return; }
sub reason_of { my $name = shift; my ($file) = glob("$data/quarantine/*$name.reason"); return $file ? read_file($file) : undef; }

# --- at start ---
my $early = jpeg('early', 80_000);
move_in('early.jpg', $early, { plate => 'EARLY1', lane => 4, captured_at => '2026-11-20T10:00:00Z', camera => 'north' });
utime(time() - 60, time() - 60, "$spool/early.jpg");
$agent->start;
gone_ok('early.jpg');
gone_ok('early.json');
ok($pc->wait_for_sql('SELECT plate, lane, captured_at, attributes ' . row($early), 'EARLY1|4|2026-11-20 10:00:00+00|{"camera": "north"}'),
	'with its record') or diag($pc->sql('SELECT * FROM tms.capture'));

# --- moved in, and written in place ---
my $moved = jpeg('moved');
move_in('moved.JPEG', $moved);
gone_ok('moved.JPEG');
my $written = jpeg('written', 300_000);
open(my $slow, '>:raw', "$spool/written.jpg") or die $!;
$slow->autoflush(1);
print $slow substr($written, 0, 100_000);
print $slow substr($written, 100_000);
ok(-e "$spool/written.jpg", 'a file that is being written is left alone');
close($slow);
gone_ok('written.jpg');
ok($pc->wait_for_sql('SELECT count(*) ' . row($_), '1'), 'registered') for $moved, $written;

# --- the longest names there are: too long for a record beside one, and for a hidden name ---
for my $long ('n' x 249, 'm' x 251)
{
	move_in("$long.jpg", jpeg($long));
	gone_ok("$long.jpg");
	ok($pc->wait_for_sql('SELECT count(*) ' . row(jpeg($long)), '1'), 'taken');
}

# --- many at once ---
my @many = map { jpeg("many $_", 3000) } 1 .. 60;
move_in("many$_.jpg", $many[ $_ - 1 ], { plate => "MANY$_" }) for 1 .. 60;
ok($pc->wait_for_sql("SELECT count(*), count(DISTINCT sha256) FROM tms.capture WHERE plate LIKE 'MANY%'", '60|60'), '60 at once');
is(scalar(my @left = glob("$spool/*")), 0, 'the spool is empty');

# --- a damaged tail is taken ---
my $cut = truncated_jpeg('cut', 9000);
move_in('cut.jpg', $cut);
ok($pc->wait_for_sql("SELECT attributes->>'jpeg' " . row($cut), 'truncated'), 'a damaged tail is taken, and told');

# --- what cannot be used ---
my %bad = (
	'text.jpg' => [ 'no photograph', undef, qr/not a JPEG/ ],
	'field.jpg' => [ jpeg('field'), { lane => 'left' }, qr/lane/ ],
	'time.jpg' => [ jpeg('time'), { captured_at => '1970-01-01T00:00:00Z' }, qr/captured_at/ ],
	'plate.jpg' => [ jpeg('plate'), { plate => 'P' x 10_000 }, qr/plate/ ],
	'broken.jpg' => [ jpeg('broken'), '{"plate": ', qr/JSON|json/ ],
	'list.jpg' => [ jpeg('list'), '[1, 2]', qr/object/ ],
	'latin.jpg' => [ jpeg('latin'), "{\"plate\": \"\xe9\"}", qr/UTF-8|JSON|json/ ],
	'large.jpg' => [ jpeg('large', 34_000_000), undef, qr/too large/ ],
);
for my $name (sort keys %bad)
{
	my ($bytes, $record, $why) = @{ $bad{$name} };
	move_in($name, $bytes, $record);
	gone_ok($name);
	ok(poll_until(sub { reason_of($name) }, "reason of $name"), "$name has a reason");
	like(reason_of($name), $why, '... that says what is wrong');
	my ($kept) = grep { !/\.reason$/ } glob("$data/quarantine/*$name");
	ok($kept && read_file($kept) eq $bytes, '... and all its bytes are kept');
}
is($pc->sql('SELECT count(*) ' . row(jpeg('field'))), '0', 'and none is registered');

# --- left alone ---
write_file("$spool/.hidden.jpg", jpeg('hidden'));
write_file("$spool/upload.jpg.part", jpeg('part'));
write_file("$spool/alone.json", '{}');
symlink('/etc/passwd', "$spool/link.jpg");
my $after = jpeg('after');
move_in('after.jpg', $after);
gone_ok('after.jpg');
ok(-e "$spool/.hidden.jpg" && -e "$spool/upload.jpg.part" && -e "$spool/alone.json" && -l "$spool/link.jpg",
	'hidden, unfinished and foreign files are left alone');

# --- a writer that takes its time: its file is not taken before it is closed, however long it lies still ---
my $stalled = jpeg("stalled", 9000);
open(my $writer, '>:raw', "$spool/slow.jpg") or die $!;
$writer->autoflush(1);
print $writer substr($stalled, 0, 4000);
utime(time() - 3600, time() - 3600, "$spool/slow.jpg");
my $passing = jpeg('passing');
move_in('passing.jpg', $passing);
gone_ok('passing.jpg');
# Two looks through the folder, which other files that nobody told of show: a link makes no event.
for my $n (1 .. 2)
{
	write_file("$agent->{dir}/told$n", jpeg("told $n"));
	link("$agent->{dir}/told$n", "$spool/told$n.jpg") or die $!;
	gone_ok("told$n.jpg");
}
ok(-e "$spool/slow.jpg", 'a file that is being written is left alone');
print $writer substr($stalled, 4000);
close($writer);
gone_ok('slow.jpg');
ok($pc->wait_for_sql('SELECT count(*) ' . row($stalled), '1'), 'and taken whole when it is closed');

# --- a crash between taking and unlinking: the file is still there, and is not taken twice ---
my $twice = jpeg('twice');
write_file("$agent->{dir}/twice", $twice);
link("$agent->{dir}/twice", "$spool/twice.jpg") or die $!;
gone_ok('twice.jpg');
ok($pc->wait_for_sql('SELECT count(*) ' . row($twice), '1'), 'taken once');
$agent->kill9;
link("$agent->{dir}/twice", "$spool/twice.jpg") or die $!;
$agent->start;
gone_ok('twice.jpg');
my $later = jpeg('later');
move_in('later.jpg', $later);
ok($pc->wait_for_sql('SELECT count(*) ' . row($later), '1'), 'what comes later is taken');
is($pc->sql('SELECT count(*) ' . row($twice)), '1', 'what was taken before the crash is not taken again');
move_in('twice.jpg', $twice);
ok($pc->wait_for_sql('SELECT count(*) ' . row($twice), '2'), 'another file is another capture, be its bytes the same');

# --- a camera that always uses the same name: what comes under it while the last one is taken is another photograph ---
# Someone who writes to ledger.db holds the intake up at its last step.
my ($sql, $busy) = ('', '');
my $holder = IPC::Run::start([ 'sqlite3', "$data/ledger.db" ], '<', \$sql, '>', \$busy);
sub hold { ($sql, $busy) = ("BEGIN IMMEDIATE; SELECT 'held';\n", ''); IPC::Run::pump($holder) until $busy =~ /held/; return; }
sub let_go { ($sql, $busy) = ("COMMIT; SELECT 'over';\n", ''); IPC::Run::pump($holder) until $busy =~ /over/; return; }
# Bytes of a photograph are all read when its copy in tmp/ is that long.
sub copied_ok { my $bytes = shift; ok(poll_until(sub { grep { -s $_ == length $bytes } glob("$data/tmp/*") }, 'copied'), 'being taken'); return; }

my @same = map { jpeg("same name $_", 5000 + $_) } 1 .. 4;
hold();
move_in('same.jpg', $same[0], { plate => 'SAME1' });
copied_ok($same[0]);
move_in('same.jpg', $same[1], { plate => 'SAME2' });
let_go();
ok($pc->wait_for_sql('SELECT plate ' . row($same[0]), 'SAME1'), 'one that was replaced while it was taken');
ok($pc->wait_for_sql('SELECT plate ' . row($same[1]), 'SAME2'), '... and the one in its place, with its own record');
gone_ok('same.jpg');
gone_ok('same.json');
hold();
move_in('same.jpg', $same[2]);
copied_ok($same[2]);
open(my $again, '>:raw', "$spool/same.jpg") or die $!;
$again->autoflush(1);
print $again substr($same[3], 0, 3000);
let_go();
ok($pc->wait_for_sql('SELECT count(*) ' . row($same[2]), '1'), 'one that was written over after it was read');
ok(-e "$spool/same.jpg" || poll_until(sub { -e "$spool/same.jpg" }, 'put back'), 'stays for its writer');
print $again substr($same[3], 3000);
close($again);
gone_ok('same.jpg');
ok($pc->wait_for_sql('SELECT count(*) ' . row($same[3]), '1'), '... and is taken again when that is done');
$holder->finish;
is(scalar(my @hidden = glob("$spool/.tms*")), 0, 'nothing is left hidden');

# --- a crash just before a file was removed: it has its hidden name still, and may be one that nobody took ---
$agent->kill9;
my $left = jpeg('left hidden');
write_file("$agent->{dir}/moving", $left);
rename("$agent->{dir}/moving", "$spool/.tms-taken-left.jpg") or die $!;
$agent->start;
ok($pc->wait_for_sql('SELECT count(*) ' . row($left), '1'), 'what a crash left hidden is taken');
ok(poll_until(sub { !-e "$spool/.tms-taken-left.jpg" && !-e "$spool/left.jpg" }, 'left.jpg gone'), 'and gone');

# --- two agents never take from one folder: each photograph would be two captures ---
my $other = Tms::Agent->new(device => 'spool-1', token => $token, conninfo => $pc->agent_conninfo, url => $store->url, extra => { intake => { spool_dir => $spool } });
isnt(system("timeout 30 $other->{program} run --config '$other->{config}' 2>'$other->{log}'"), 0, 'another agent on the same spool does not start');
like(read_file($other->{log}), qr/key=intake\.spool_dir .*another agent/, '... and says why');

is($agent->stop, 0, 'stops cleanly');
unlike(read_file($agent->{log}), qr/Sanitizer|runtime error/, 'no sanitizer report');
done_testing();
