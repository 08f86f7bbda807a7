# A scriptable HTTP server for stores and front ends that misbehave.
#
#   my $stub = Tms::Stub->start(sub { my ($request, $socket) = @_; ... });
#
# The handler runs in a child process, once per request; $request has method, path (as sent), headers (lower-case names),
# body. It returns [status, {header => value}, body], or undef after it has written to $socket itself (the connection is
# then closed). Every request is a line "METHOD PATH" in the log; every connection a line "CONNECT".
package Tms::Stub;

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Tms::Util;

my $serial = 0;

sub start
{
	my ($class, $handler, %options) = @_;
	my $listener = IO::Socket::INET->new(
		LocalAddr => $options{host} // '127.0.0.1', LocalPort => $options{port} // 0, Listen => 128, ReuseAddr => 1)
	  or die "stub: $!";
	my $self = bless {
		port => $listener->sockport,
		log => "$PostgreSQL::Test::Utils::tmp_check/stub_$$" . '_' . $serial++ . '.log',
	}, $class;
	write_file($self->{log}, '');
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		setpgrp(0, 0);
		$SIG{CHLD} = 'IGNORE';
		$SIG{TERM} = 'DEFAULT';
		while (1)
		{
			my $socket = $listener->accept or next;
			my $child = fork();
			if (defined $child && $child == 0)
			{
				close($listener);
				$self->_connection($socket, $handler);
				POSIX::_exit(0);
			}
			close($socket);
		}
	}
	close($listener);
	$self->{pid} = $pid;
	return $self;
}

sub url { my $self = shift; return "http://127.0.0.1:$self->{port}"; }

sub _note
{
	my ($self, $line) = @_;
	open(my $log, '>>', $self->{log}) or return;
	syswrite($log, "$line\n");
	close($log);
	return;
}

sub _connection
{
	my ($self, $socket, $handler) = @_;
	$self->_note('CONNECT');
	my $buffer = '';
	while (1)
	{
		while ($buffer !~ /\r\n\r\n/)
		{
			sysread($socket, $buffer, 65536, length($buffer)) or return;
		}
		my ($head, $rest) = split /\r\n\r\n/, $buffer, 2;
		my ($first, @lines) = split /\r\n/, $head;
		my ($method, $path) = split / /, $first;
		my %headers = map { my ($n, $v) = split /:\s*/, $_, 2; (lc $n => $v) } @lines;
		syswrite($socket, "HTTP/1.1 100 Continue\r\n\r\n") if lc($headers{expect} // '') eq '100-continue';
		my $length = $headers{'content-length'} // 0;
		while (length($rest) < $length)
		{
			sysread($socket, $rest, 65536, length($rest)) or return;
		}
		$buffer = substr($rest, $length);
		$self->_note("$method $path");
		my $answer = $handler->(
			{ method => $method, path => $path, headers => \%headers, body => substr($rest, 0, $length) }, $socket);
		return unless $answer;
		my ($status, $out, $body) = @$answer;
		$body //= '';
		my %all = ('Content-Length' => length($body), 'Content-Type' => 'image/jpeg', %{ $out // {} });
		my $text = "HTTP/1.1 $status Stub\r\n" . join('', map { "$_: $all{$_}\r\n" } sort keys %all) . "\r\n";
		$text .= $body unless $method eq 'HEAD';
		my $at = 0;
		while ($at < length($text))
		{
			my $written = syswrite($socket, $text, length($text) - $at, $at) or return;
			$at += $written;
		}
	}
}

# Number of log lines that match.
sub requests
{
	my ($self, $pattern) = @_;
	my @lines = split /\n/, read_file($self->{log});
	return scalar(grep { defined $pattern ? /$pattern/ : $_ ne 'CONNECT' } @lines);
}

sub connections { my $self = shift; return $self->requests(qr/^CONNECT$/); }

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'TERM', -$pid;
	waitpid($pid, 0);
	return;
}

sub DESTROY { my $self = shift; local ($?, $!, $@); $self->stop; return; }

1;
