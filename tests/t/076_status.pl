# What an operator sees: status as table and JSON, over restarts, and /metrics, which Prometheus can read.
use strict;
use warnings;

use Test::More;
use MIME::Base64 qw(encode_base64);
use JSON::PP;
use Tms::Agent;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new->start;
my $agent = Tms::Agent->new(
	device => 'seen-1', token => 'a token', conninfo => 'host=127.0.0.1 port=1 dbname=none user=nobody', url => $store->url);
$agent->start;
my $file = "$agent->{dir}/data/status.json";

sub scrape
{
	my ($headers) = @_;
	return http('GET', $agent->intake_url . '/metrics', headers => $headers // {});
}

# Reads the text format strictly: what is wrong with it, and the series by name and labels.
sub parse
{
	my ($text) = @_;
	my (@wrong, %help, %type, %series, %done);
	my $family = '';
	push @wrong, 'no line end at the end' unless $text =~ /\n\z/;
	for my $line (split /\n/, $text)
	{
		if ($line =~ /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/)
		{
			my ($what, $name, $rest) = ($1, $2, $3);
			my $seen = $what eq 'HELP' ? \%help : \%type;
			push @wrong, "$what of $name twice" if exists $seen->{$name};
			push @wrong, "$name comes in parts" if $done{$name};
			push @wrong, "type $rest of $name" if $what eq 'TYPE' && $rest !~ /^(counter|gauge|histogram)$/;
			$seen->{$name} = $rest;
			$done{$family} = 1 if $family ne $name;
			$family = $name;
			next;
		}
		my ($name, $labels, $value) = $line =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^{}]*)\})? (-?[0-9.e+-]+)$/;
		if (!defined $name)
		{
			push @wrong, "line: $line";
			next;
		}
		(my $base = $name) =~ s/_(?:bucket|sum|count)$// if ($type{$family} // '') eq 'histogram';
		push @wrong, "$name is not in its family" if ($base // $name) ne $family;
		push @wrong, "labels $labels" if defined $labels && $labels !~ /^[a-z_]+="[^"\\\n]*"(?:,[a-z_]+="[^"\\\n]*")*$/;
		my $key = defined $labels ? "$name\{$labels}" : $name;
		push @wrong, "$key twice" if exists $series{$key};
		$series{$key} = $value;
	}
	for my $name (keys %type)
	{
		push @wrong, "$name has no HELP" unless $help{$name};
		push @wrong, "counter $name does not end in _total" if $type{$name} eq 'counter' && $name !~ /_total$/;
		push @wrong, "$type{$name} $name ends in _total" if $type{$name} ne 'counter' && $name =~ /_total$/;
		push @wrong, "$name: a name of another program" unless $name =~ /^(?:tms_agent|process)_/;
		next unless $type{$name} eq 'histogram';
		my @buckets = map { $series{$_} } sort { bound($a) <=> bound($b) } grep { /^\Q${name}_bucket\E\{/ } keys %series;
		for my $i (1 .. $#buckets) { push @wrong, "$name: a bucket less than one before" if $buckets[$i] < $buckets[ $i - 1 ]; }
		push @wrong, "$name: +Inf is not the count"
		  unless defined $series{"${name}_bucket{le=\"+Inf\"}"} && $series{"${name}_bucket{le=\"+Inf\"}"} == $series{"${name}_count"};
	}
	return { wrong => \@wrong, series => \%series, type => \%type };
}
sub bound { my ($key) = @_; return $key =~ /le="\+Inf"/ ? 9e99 : $key =~ /le="([^"]+)"/ ? $1 : die $key; }

# --- the empty agent ---
my $answer = scrape();
is($answer->{status}, 200, 'metrics');
is($answer->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'of the type Prometheus expects');
my $before = parse($answer->{content});
is_deeply($before->{wrong}, [], 'in a form Prometheus takes');
is($before->{series}{'tms_agent_backlog_captures{destination="image_center"}'}, 0, 'nothing waits for the image center');
is($before->{series}{'tms_agent_build_info{version="' . $agent->status->{version} . '"}'}, 1, 'the version');
cmp_ok(abs($before->{series}{process_start_time_seconds} - time()), '<', 600, 'when the process started');
cmp_ok($before->{series}{process_resident_memory_bytes}, '>', 1_000_000, 'its memory');
cmp_ok($before->{series}{process_open_fds}, '>', 5, 'its files');

# --- captures, one refused ---
$agent->post(jpeg("seen $_", 20_000), plate => "SEEN$_") for 1 .. 3;
$agent->post('no photograph');
ok(poll_until(sub { $agent->status->{upload}{backlog} == 0 }, 'uploads'), 'uploaded');
my $status = $agent->status;
my $after = parse(scrape()->{content});
is_deeply($after->{wrong}, [], 'still in good form');
is_deeply([ sort keys %{ $after->{type} } ], [ sort keys %{ { %{ $before->{type} }, %{ $after->{type} } } } ], 'no family is lost');
my @back = grep { ($after->{type}{ s/_(?:bucket|sum|count)?\{.*|_(?:sum|count)$//r } // $after->{type}{ s/\{.*//r } // '') =~ /counter|histogram/
		&& $after->{series}{$_} < $before->{series}{$_} } keys %{ $before->{series} };
is_deeply(\@back, [], 'no counter went back');
my %expected = (
	tms_agent_captures_taken_total => 3, tms_agent_captures_taken_bytes_total => $status->{cached_bytes},
	tms_agent_captures_uploaded_total => 3, tms_agent_captures_uploaded_bytes_total => $status->{cached_bytes},
	'tms_agent_http_requests_total{code="201"}' => 3, 'tms_agent_http_requests_total{code="422"}' => 1,
	tms_agent_intake_duration_seconds_count => 3, tms_agent_fsync_duration_seconds_count => 3,
	tms_agent_upload_duration_seconds_count => 3, tms_agent_ingest_duration_seconds_count => 0,
	'tms_agent_backlog_captures{destination="image_center"}' => 0, 'tms_agent_backlog_captures{destination="path_center"}' => 3,
	tms_agent_cached_captures => 3, tms_agent_cached_bytes => $status->{cached_bytes}, tms_agent_disk_size_bytes => $status->{total_bytes},
	'tms_agent_part_failing{part="path_center"}' => 1, 'tms_agent_part_failing{part="image_center"}' => 0,
);
is($after->{series}{$_}, $expected{$_}, $_) for sort keys %expected;
cmp_ok($after->{series}{'tms_agent_backlog_oldest_age_seconds{destination="path_center"}'}, '>', 0, 'the oldest waits');

# --- the last errors stay to be seen ---
$store->stop;
$agent->post(jpeg('seen 4'), plate => 'SEEN4');
ok(poll_until(sub { $agent->status->{upload}{error} }, 'an error'), 'the image center is away');
$store->start;
ok(poll_until(sub { my $s = $agent->status; $s->{upload}{backlog} == 0 && !$s->{upload}{error} }, 'no error'), 'and back');
my ($remembered) = grep { $_->{part} eq 'image_center' } @{ $agent->status->{errors} };
ok($remembered->{count} >= 1 && $remembered->{error} ne '', 'its error is remembered');
my ($code, $table) = $agent->command('status');
is($code, 0, 'status');
like($table, qr/^image center +nothing waits$/m, 'names the image center');
like($table, qr/^path center +4 waiting, the oldest for \d+ (?:s|min); error: /m, 'and what waits for the path center');
like($table, qr/^last errors .*\n(?:.*\n)*.* image_center +\Q$remembered->{error}\E$/m, 'and the last errors');
like($table, qr/^cleaning +nothing: the path center has not told a period yet; 0 cleaned$/m, 'and that nothing is cleaned');
like($table, qr/^safe until /m, 'and until when it is safe');

# --- a restart ---
is($agent->stop, 0, 'stops');
my $left = decode_json(read_file($file));
is($left->{history}{samples}[-1][1], 4, 'status.json holds how many were taken');
# As if the run before had begun two hours ago, and stopped an hour ago.
$_->[0] -= 3600 for @{ $left->{history}{samples} };
unshift @{ $left->{history}{samples} }, [ $left->{history}{samples}[0][0] - 3600, 0, 0, 0, 1 ];
write_file($file, encode_json($left));
$agent->start;
$status = $agent->status;
ok(defined $status->{intake_per_hour}, 'the rate of intake is known at once after a restart');
like($status->{safe_until} // 'null', qr/^\d{4}-|^null$/, 'and so is what follows from it');
is($status->{history}{samples}[-1][1], 4, 'the count goes on');
$agent->post(jpeg('seen 5'));
is($agent->status->{history}{samples}[-1][1], 5, 'from there');
$agent->kill9;
write_file($file, $_) and ok($agent->start && $agent->status->{device} eq 'seen-1', 'starts with a damaged status.json') and $agent->kill9
  for '', '{"history":', '{"history": {"samples": {"a": [1]}}}', '{"history": {"samples": [[1e300, -1, "x"], [], 7]}}';

# --- with a token ---
$agent->guard_intake('open sesame');
$agent->start;
is(scrape()->{status}, 401, 'metrics need the token');
is(scrape({ Authorization => 'Bearer open sesame' })->{status}, 200, 'as a bearer token');
is(scrape({ Authorization => 'Basic ' . encode_base64('anybody:open sesame', '') })->{status}, 200, 'or as a password');
is(scrape({ Authorization => 'Basic ' . encode_base64('open sesame:wrong', '') })->{status}, 401, 'not as a name');
is(scrape({ Authorization => $_ })->{status}, 401, "not with $_") for 'Basic', 'Basic !', 'Bearer ', 'Digest open sesame';
is(http('GET', $agent->intake_url . '/healthz')->{status}, 200, 'healthz needs none');
is($agent->stop, 0, 'stops with a token');

done_testing();
