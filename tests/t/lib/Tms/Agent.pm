# A real tms-agent with folders of its own.
package Tms::Agent;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use File::Path qw(make_path);
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use POSIX ();
use Tms::Util;

my $serial = 0;

# Tms::Agent->new(device => 'gate-1', token => '...', conninfo => '...', url => 'http://.../captures',
#                 extra => {section => {key => value}}); started by start(). Ports are chosen.
sub new
{
	my ($class, %options) = @_;
	my $dir = $options{dir} // "$PostgreSQL::Test::Utils::tmp_check/agent_$options{device}_$$" . '_' . $serial++;
	make_path("$dir/data", "$dir/spool");
	my $self = bless {
		dir => $dir,
		device => $options{device},
		token => $options{token},
		intake_port => free_port(),
		cache_port => $options{cache_port} // free_port(),
		program => $ENV{TMS_AGENT} // 'tms-agent',
		config => "$dir/tms-agent.conf",
		log => "$dir/agent.log",
	}, $class;
	write_file("$dir/token", "$options{token}\n");
	chmod 0600, "$dir/token";
	my %sections = (
		agent => { device => $options{device}, token_file => "$dir/token", data_dir => "$dir/data" },
		intake => { spool_dir => "$dir/spool", listen => "127.0.0.1:$self->{intake_port}" },
		path_center => { conninfo => $options{conninfo}, interval => '1s', heartbeat => '1s' },
		image_center => { url => $options{url} },
		cache => { listen => "127.0.0.1:$self->{cache_port}" },
	);
	my $extra = $options{extra} // {};
	for my $section (keys %$extra)
	{
		$sections{$section}{$_} = $extra->{$section}{$_} for keys %{ $extra->{$section} };
	}
	$self->{sections} = \%sections;
	$self->write_config;
	return $self;
}

sub write_config
{
	my ($self) = @_;
	my $text = '';
	for my $section (sort keys %{ $self->{sections} })
	{
		my $keys = $self->{sections}{$section};
		$text .= "[$section]\n" . join('', map { "$_ = $keys->{$_}\n" } grep { defined $keys->{$_} } sort keys %$keys);
	}
	return write_file($self->{config}, $text);
}

# Gives [intake] a token_file; in force after the next start.
sub guard_intake
{
	my ($self, $token) = @_;
	write_file("$self->{dir}/intake_token", "$token\n");
	chmod 0600, "$self->{dir}/intake_token";
	$self->{sections}{intake}{token_file} = "$self->{dir}/intake_token";
	return $self->write_config;
}

sub base_url { my $self = shift; return "http://127.0.0.1:$self->{cache_port}"; }
sub intake_url { my $self = shift; return "http://127.0.0.1:$self->{intake_port}"; }

# Starts the agent (wrap => [...] puts a program such as strace in front) and waits until it listens.
sub start
{
	my ($self, %options) = @_;
	my @command = (@{ $options{wrap} // [] }, $self->{program}, 'run', '--config', $self->{config});
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDERR, '>>', $self->{log});
		open(STDOUT, '>&', \*STDERR);
		exec(@command) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	return $self if $options{no_wait};
	wait_for_port($self->{intake_port}) or die 'agent does not listen: ' . $self->log_tail;
	wait_for_port($self->{cache_port}) or die 'agent does not serve its cache: ' . $self->log_tail;
	return $self;
}

# Lines of its log that are not key=value; what a sanitizer has to say is none either.
sub malformed_log_lines
{
	my ($self) = @_;
	my $pair = qr/[a-z0-9_]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]+)/;
	return grep { !/^time=\d{4}-\d\d-\d\dT[\d:.]+Z level=(?:debug|info|warning|error) event=[a-z0-9_]+(?: $pair)* ?$/ }
	  split /\n/, (-e $self->{log} ? read_file($self->{log}) : '');
}

# TERM; returns the exit status ($?) and the seconds it took.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	my $begin = Time::HiRes::time();
	kill 'TERM', $pid;
	waitpid($pid, 0);
	my ($status, $seconds) = ($?, Time::HiRes::time() - $begin);
	Test::More::fail("a log line is not key=value: $_") for $self->malformed_log_lines;
	return wantarray ? ($status, $seconds) : $status;
}

sub kill9
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'KILL', $pid;
	waitpid($pid, 0);
	return;
}

# Attaches strace to a thread of the running agent, by its name, or to all of them, those to come included: trace => 'calls',
# inject => 'what strace is to do to them'. Each thread has a count of its own of each call. The trace is in {dir}/trace.
sub strace
{
	my ($self, %options) = @_;
	my $thread = $self->{pid};
	if ($options{thread})
	{
		# It has its name only once it has run; others may end while we look.
		poll_until(
			sub {
				my ($comm) = grep { (eval { read_file($_) } // q()) eq "$options{thread}\n" } glob("/proc/$self->{pid}/task/*/comm");
				($thread) = ($comm // '') =~ m{/(\d+)/comm$};
				return defined $thread;
			},
			"thread $options{thread}") or die "no thread $options{thread}";
	}
	my $said = "$self->{dir}/strace";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDERR, '>', $said);
		exec('strace', $options{thread} ? () : '-f', '-o', "$self->{dir}/trace", '-e', "trace=$options{trace}",
			$options{inject} ? ('-e', "inject=$options{inject}") : (), '-p', $thread)
		  or POSIX::_exit(127);
	}
	$self->{strace} = $pid;
	poll_until(sub { -e $said && read_file($said) =~ /attached/ }, 'strace') or die 'strace cannot attach: ' . read_file($said);
	return;
}

# Was it killed, though nobody was told yet?
sub is_zombie
{
	my ($self) = @_;
	return $self->{pid} && (eval { read_file("/proc/$self->{pid}/stat") } // '') =~ /\) Z /;
}

# Detaches it again.
sub strace_end
{
	my ($self) = @_;
	my $pid = delete $self->{strace} or return;
	# On TERM it lets the agent go on. When the agent was killed, strace may wait for it for ever: it is killed as well.
	kill $self->is_zombie ? 'KILL' : 'TERM', $pid;
	if (!poll_until(sub { waitpid($pid, POSIX::WNOHANG) != 0 }, 'the end of strace', 10))
	{
		kill 'KILL', $pid;
		waitpid($pid, 0);
	}
	unlink("$self->{dir}/strace");
	return;
}

sub log_tail
{
	my ($self) = @_;
	my @lines = split /\n/, (-e $self->{log} ? read_file($self->{log}) : '');
	return join("\n", @lines > 20 ? @lines[-20 .. -1] : @lines);
}

# POSTs a capture; %fields go to the query string. Returns (HTTP status, decoded JSON).
sub post
{
	my ($self, $bytes, %fields) = @_;
	my $query = join('&', map { "$_=" . _escape($fields{$_}) } sort keys %fields);
	my $answer = http('POST', $self->intake_url . '/v1/captures' . ($query eq '' ? '' : "?$query"),
		content => $bytes, headers => { 'Content-Type' => 'image/jpeg' });
	my $json = eval { decode_json($answer->{content}) };
	return ($answer->{status}, $json // $answer->{content});
}

sub _escape
{
	my ($text) = @_;
	$text =~ s/([^A-Za-z0-9._~-])/sprintf('%%%02X', ord($1))/ge;
	return $text;
}

# The signed target "/v1/images/PATH?expires=...&sig=..." of the cache server; options: token, expires (Unix seconds, default
# in five minutes), signed (the path that is signed, default the decoded one).
sub signed_target
{
	my ($self, $path, %options) = @_;
	my $token = $options{token} // $self->{token};
	my $expires = $options{expires} // time() + 300;
	my $signed = $options{signed} // "/v1/images/$path";
	my $sig = encode_base64url(hmac_sha256("GET\n$signed\n$expires", hmac_sha256('tms cache url v1', $token)));
	return "/v1/images/$path?expires=$expires&sig=$sig";
}

sub signed_url { my ($self, @arguments) = @_; return $self->base_url . $self->signed_target(@arguments); }

# Decoded GET /v1/status.
sub status
{
	my ($self) = @_;
	return eval { decode_json(http('GET', $self->intake_url . '/v1/status')->{content}) };
}

# Runs another command of the agent: (exit code, stdout, stderr).
sub command
{
	my ($self, @arguments) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $self->{program}, $arguments[0], '--config', $self->{config}, @arguments[1 .. $#arguments] ],
		'>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	kill 'TERM', $self->{strace} if $self->{strace};
	kill 'KILL', $self->{pid} if $self->{pid};
	return;
}

1;
