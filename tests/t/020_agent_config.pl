# The agent's configuration as its user meets it: mistakes with file, line and key, what is in force, no secrets.
use strict;
use warnings;

use Test::More;
use Tms::Agent;
use Tms::Util;

my $secret = 'sesame-4711';
my $agent = Tms::Agent->new(
	device => 'config-1',
	token => $secret,
	conninfo => "host=127.0.0.1 port=1 dbname=x user=x password=$secret",
	url => 'http://127.0.0.1:1/captures');

# Replaces the configuration's text and returns (exit code, stdout, stderr without its times) of check-config.
sub check
{
	my ($text) = @_;
	write_file($agent->{config}, $text);
	my ($code, $out, $err) = $agent->command('check-config');
	$err =~ s/^time=\S+ //mg;
	return ($code, $out, $err);
}

my $good = read_file($agent->{config});

# --- a good one ---
my ($code, $out, $err) = check($good);
is($code, 0, 'a good configuration is good');
is($err, '', 'and nothing is said against it');
like($out, qr/^\[agent\]\ndevice = config-1\n/, 'what is in force is printed, by section');
like($out, qr/^batch = 500$/m, 'defaults too');
like($out, qr/^interval = 1s$/m, 'and what was given');
like($out, qr/^conninfo = \(set\)$/m, 'conninfo is not printed');
unlike("$out$err", qr/\Q$secret\E/, 'no secret is printed');

# What is printed can be read again, but for the conninfo.
(my $again = $out) =~ s/\(set\)/host=h/;
is((check($again))[1], $out, 'check-config of what check-config prints prints the same');

# --- every mistake is told with file, line and key ---
($code, $out, $err) = check(<<"END");
[agent]
device = gate/1
tokenfile = /x
[paths]
batch = 1
[path_center]
batch = 0
interval = 10
[image_center]
url = http://h/c
store = tape
[cache]
listen = 8440
END
is($code, 2, 'mistakes: exit code 2');
is($out, '', 'nothing is in force');
my $at = qq{level=error event=config file="$agent->{config}"};
is($err, <<"END", 'all mistakes at once, exactly');
$at line=2 key="agent.device" error="\\"gate/1\\" is not a device code: a letter or digit, then letters, digits, \\".\\", \\"_\\", \\"-\\", 63 at most"
$at line=3 key="agent.tokenfile" error="unknown key; did you mean \\"token_file\\"?"
$at line=4 section="paths" error="unknown section"
$at line=7 key="path_center.batch" error="\\"0\\" is outside 1 to 10000"
$at line=8 key="path_center.interval" error="\\"10\\" has no unit; units are ms s min h days day d"
$at line=11 key="image_center.store" error="\\"tape\\" is no kind of store; use http or s3"
$at line=13 key="cache.listen" error="\\"8440\\" is not host:port or [address]:port"
$at key="agent.token_file" error="is missing"
$at key="agent.data_dir" error="is missing"
$at key="path_center.conninfo" error="is missing"
END

# --- the commands that need a configuration refuse a bad one in the same way ---
for my $command (qw(run status))
{
	($code, $out, $err) = $agent->command($command);
	is($code, 2, "$command with mistakes: exit code 2");
	like($err, qr/line=7 key="path_center.batch"/, "$command tells them");
}
write_file("$agent->{dir}/photo.jpg", jpeg('x'));
is(($agent->command('put', "$agent->{dir}/photo.jpg"))[0], 2, 'put with mistakes: exit code 2');

# --- secrets ---
check($good);
chmod 0644, "$agent->{dir}/token";
($code, $out, $err) = $agent->command('check-config');
is($code, 0, 'a token that others can read is allowed');
like($err, qr/level=warning event=config .*key="agent.token_file" error=.*has mode 0644: others/, 'but warned of');
chmod 0000, "$agent->{dir}/token";
SKIP:
{
	skip 'root reads everything', 2 if $> == 0;
	($code, $out, $err) = $agent->command('check-config');
	is($code, 2, 'a token that cannot be read is a mistake');
	like($err, qr/key="agent.token_file" error="cannot read .*: Permission denied"/, 'and said so');
}
chmod 0600, "$agent->{dir}/token";
write_file("$agent->{dir}/token", "two\nlines\n");
($code, $out, $err) = $agent->command('check-config');
is($code, 2, 'a token of two lines is a mistake');
unlike($err, qr/two|lines\n/, 'and its text is not told');
write_file("$agent->{dir}/token", "$secret\n");

# --- the file itself ---
rename($agent->{config}, "$agent->{config}.away");
($code, $out, $err) = $agent->command('check-config');
is($code, 2, 'no configuration: exit code 2');
like($err, qr/file="\Q$agent->{config}\E" error="cannot open: No such file or directory"/, 'and which one is missing');
rename("$agent->{config}.away", $agent->{config});

# --- the sample file: good as it stands once the token is there ---
(my $sample = read_file(($ENV{TMS_SRC} // '.') . '/agent/tms-agent.conf.sample')) =~ s{/etc/tms/token}{$agent->{dir}/token};
($code, $out, $err) = check($sample);
is("$code$err", '0', 'the sample file has no mistakes');
like($out, qr/^listen = 127\.0\.0\.1:8441$/m, 'its comments behind values are cut');

done_testing();
