# What an administrator goes by: man pages that name every command, option and key, a reference that names what is in SQL, and a
# systemd unit whose sandbox the agent can live in.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Cluster;
use Tms::Store;
use Tms::Util;

my $src = $ENV{TMS_SRC} // '.';
my $stage = $ENV{TMS_STAGE};
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my %text = map { $_ => read_file("$src/$_") }
  qw(docs/man/tms-agent.1 docs/man/tms-agent.conf.5 docs/agent.md agent/tms-agent.conf.sample agent/tms-agent.service);

my $pc = Tms::Cluster->start_new('service', conf => "listen_addresses = '127.0.0.1'");
my $store = Tms::Store->new('service')->start;
my $agent = Tms::Agent->new(device => 'service-1', token => $pc->add_device('service-1', 'http://127.0.0.1:1'),
	conninfo => $pc->agent_conninfo, url => $store->url);

# --- the man pages are sound and installed ---
for my $page (qw(tms-agent.1 tms-agent.conf.5))
{
	my $said = `mandoc -Tlint -Wwarning $src/docs/man/$page 2>&1`;
	is($? >> 8, 0, "mandoc has nothing against $page") or diag($said);
	my ($section) = $page =~ /(\d)$/;
	ok(-s "$stage/usr/share/man/man$section/$page", "$page is installed");
}

# --- every command and its options ---
my $program = $ENV{TMS_AGENT} // 'tms-agent';
my $help = `$program --help`;
my @commands = $help =~ /^  (\S+) +\S/mg;
cmp_ok(scalar(@commands), '>', 4, 'there are commands: ' . join(' ', @commands));
for my $command (@commands)
{
	my ($item) = $text{'docs/man/tms-agent.1'} =~ /^(\.It Ic \Q$command\E(?: .*)?\n(?:(?!\.It|\.El).*\n)+)/m;
	ok($item, "$command is in its man page") or next;
	like($text{'docs/agent.md'}, qr/^\| `tms-agent \Q$command\E\b/m, "$command is in docs/agent.md");
	my ($usage) = `$program $command --help` =~ /^usage: (.*)/;
	like($item, qr/Fl -\Q$_\E\b/, "$command: --$_ is in the man page") for $usage =~ /--([a-z-]+)/g;
	my @there = $item =~ /^\.It Ic .*/mg;
	like($usage, qr/--\Q$_\E\b/, "$command: --$_ of the man page is an option") for $there[0] =~ /Fl -([a-z-]+)/g;
}
my @described = $text{'docs/man/tms-agent.1'} =~ /^\.It Ic (\S+)/mg;
is_deeply([ sort @described ], [ sort @commands ], 'and no other');

# --- what PostgreSQL itself tells: functions, views, tables, options, settings ---
my ($reference, $readme) = map { read_file("$src/$_") } qw(docs/sql-reference.md README.md);
for my $name (split /\n/, $pc->sql("SELECT proname FROM pg_proc WHERE pronamespace = 'tms'::regnamespace
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'tms'::regnamespace AND relkind IN ('r', 'v') AND NOT relispartition"))
{
	ok($reference =~ /`(?:CALL )?tms\.\Q$name\E\b/, "tms.$name is in docs/sql-reference.md");
}
$pc->psql('postgres', "CREATE SERVER documented FOREIGN DATA WRAPPER tms_fdw OPTIONS (nonsense '1')", stderr => \my $refused);
my @options = split /, /, ($refused =~ /Valid options here are: (.*)\./)[0] // '';
cmp_ok(scalar(@options), '>', 10, 'a wrong option names the right ones') or diag($refused);
ok($readme =~ /^\| `\Q$_\E` \|/m, "server option $_ is in README.md") for @options;
my @settings = split /\n/, $pc->sql("LOAD 'tms'; SELECT name FROM pg_settings WHERE name LIKE 'tms.%'");
cmp_ok(scalar(@settings), '>', 3, 'there are settings');
ok($readme =~ /^\| `\Q$_\E` \|/m, "setting $_ is in README.md") for @settings;

# --- every key, as the agent itself tells them ---
my ($code, $out) = $agent->command('check-config');
is($code, 0, 'check-config tells all keys');
my ($section, %keys) = ('');
for my $line (split /\n/, $out)
{
	$section = $1 if $line =~ /^\[(\w+)\]/;
	$keys{$section}{$1} = 1 if $line =~ /^(\w+) =/;
}
cmp_ok(scalar(keys %keys), '>=', 5, 'in sections');

# Keys by section of a text whose heads and keys look like that.
sub keys_of
{
	my ($text, $head, $key) = @_;
	my ($in, %found) = ('');
	for my $line (split /\n/, $text)
	{
		$in = $1 if $line =~ $head;
		$found{$in}{$1} = 1 if $line =~ $key && $in ne '';
	}
	return \%found;
}

is_deeply(keys_of($text{'agent/tms-agent.conf.sample'}, qr/^\[(\w+)\]/, qr/^;? ?(\w+) =/),
	\%keys, 'the sample file has every key, and no other');
my ($options) = $text{'docs/man/tms-agent.conf.5'} =~ /(^\.Ss .*?)^\.Sh EXAMPLES/ms;
is_deeply(keys_of($options, qr/^\.Ss \[(\w+)\]/, qr/^\.It Ic (\w+)/), \%keys, 'so has the man page');
my %manual;
$manual{$1}{$2} = 1 while $text{'docs/agent.md'} =~ /^\| `\[(\w+)\] (\w+)` \|/mg;
is_deeply(\%manual, \%keys, 'and docs/agent.md');

# The man page tells the defaults that are in force when nothing is given.
{
	my ($in, %default) = ('');
	for my $line (split /\n/, $options)
	{
		$in = $1 if $line =~ /^\.Ss \[(\w+)\]/;
		$section = $1 if $line =~ /^\.It Ic (\w+)/;
		$default{"$in.$section"} = $1 if $line =~ /^Default: (.+)\.$/;
		$default{"$in.$section"} = 'required' if $line =~ /^Required\.$/;
	}
	my %expected;
	$expected{"$1.$2"} = $3
	  while $text{'docs/agent.md'} =~ /^\| `\[(\w+)\] (\w+)` \| (?:`([^`]+)`|\w*) *\|/mg;
	is_deeply([ grep { $default{$_} ne $expected{$_} } grep { defined $expected{$_} } sort keys %expected ],
		[], 'the man page has the same defaults as docs/agent.md');
	is_deeply([ grep { !defined $default{$_} } map { my $s = $_; map { "$s.$_" } keys %{ $keys{$s} } } sort keys %keys ],
		[], 'and tells one for every key, or that it is required');
}

# --- the unit ---
(my $unit = $text{'agent/tms-agent.service'}) =~ s{^ExecStart=/usr/bin/tms-agent}{ExecStart=$stage/usr/bin/tms-agent}m;
write_file("$tmp/tms-agent.service", $unit);
my $said = `SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no $tmp/tms-agent.service 2>&1`;
is($said, '', 'systemd has nothing against the unit');
my ($exposure) = `systemd-analyze security --offline=true --no-pager $tmp/tms-agent.service 2>&1` =~ /exposure level.*?: ([\d.]+)/;
cmp_ok($exposure // 10, '<', 2.5, 'and finds it well closed: ' . ($exposure // 'no answer'));

# --- every system call of a day's work is one that the unit allows ---
my %allowed;

# Adds a group of system calls with the groups in it; names of groups come from the unit.
sub add_group
{
	my ($group, $into) = @_;
	for my $line (split /\n/, `systemd-analyze syscall-filter '$group' --no-pager`)
	{
		add_group($1, $into) if $line =~ /^ +(\@\S+)$/;
		$into->{$1} = 1 if $line =~ /^ +(\w+)$/;
	}
	return;
}

for my $rule ($text{'agent/tms-agent.service'} =~ /^SystemCallFilter=(.*)$/mg)
{
	my $deny = $rule =~ s/^~//;
	my %these;
	/^\@/ ? add_group($_, \%these) : ($these{$_} = 1) for split ' ', $rule;
	if ($deny) { delete $allowed{$_} for keys %these; }
	else { $allowed{$_} = 1 for keys %these; }
}
ok($allowed{openat} && !$allowed{settimeofday}, 'the filter of the unit is understood');
{
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':detect_leaks=0';
	$agent->start(wrap => [ 'strace', '-f', '-qq', '-o', "$tmp/service.strace" ]);
}
for my $i (1 .. 5)
{
	is(($agent->post(jpeg("service $i", 40_000), lane => $i))[0], 201, 'a photograph is taken in');
}
write_file("$agent->{dir}/spool/.s.jpg", jpeg('spooled'));
rename("$agent->{dir}/spool/.s.jpg", "$agent->{dir}/spool/s.jpg");
ok(poll_until(
		sub {
			my $s = $agent->status;
			$s && $s->{cached} == 6 && $s->{upload}{backlog} == 0 && $s->{register}{backlog} == 0;
		},
		'all uploaded and registered', 60),
	'it is uploaded and registered');
my ($worker) = split ' ', read_file("/proc/$agent->{pid}/task/$agent->{pid}/children");
kill 'HUP', $worker;
ok(poll_until(sub { read_file($agent->{log}) =~ /event=reloaded/ }, 'reloaded', 60), 'a reload');
kill 'TERM', $worker;
waitpid(delete $agent->{pid}, 0);
my %used = map { $_ => 1 } read_file("$tmp/service.strace") =~ /^\d+ +(?:<\.\.\. )?(\w+)[( ]/mg;
delete @used{qw(exit resumed)} if !$used{exit_group};
# The sanitizer's own.
delete @used{qw(personality sigaltstack)} if $program =~ /asan/ || `ldd $stage/usr/bin/tms-agent` =~ /asan/;
is_deeply([ grep { !$allowed{$_} } sort keys %used ], [], 'the agent needs no system call that the unit forbids');
cmp_ok(scalar(keys %used), '>', 40, 'of ' . scalar(keys %used) . ' that it used');

done_testing();
