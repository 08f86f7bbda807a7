# A ledger without an agent: calls tms.ingest with captures that are made up from their seq.
package Tms::Ledger;

use strict;
use warnings;

# Tms::Ledger->new(device => code, token => ..., ledger => uuid, at => SQL of the time of capture 0, step => interval)
sub new
{
	my ($class, %options) = @_;
	return bless { at => "now() - interval '1 hour'", step => '1 second', report_no => 0, last_seq => 0, %options }, $class;
}

# SQL of a call that brings captures $first .. $last; none of them is a heartbeat.
sub call_sql
{
	my ($self, $first, $last, %header) = @_;
	$self->{report_no}++;
	$self->{last_seq} = $last if $last > $self->{last_seq};
	my %all = (
		device => $self->{device}, token => $self->{token}, ledger => $self->{ledger}, oldest_seq => 1,
		last_seq => $self->{last_seq}, first_seq => $first, uploaded_seq => 0, uploaded_max => 0, cleaned_seq => 0,
		report_no => $self->{report_no}, request_seen => 0, %header);
	my $header = join(', ', map { "'$_', " . ($all{$_} =~ /^\d+$/ ? $all{$_} : "'$all{$_}'") } sort keys %all);
	my $previous = $first > 1 ? ", 'prev_sha256', encode(sha256('$self->{ledger}:" . ($first - 1) . "'), 'hex')" : '';
	my $rows = $last - $first + 1;
	my $array = sub { "(SELECT array_agg($_[0] ORDER BY s) FROM generate_series($first, $last) AS s)" };
	my $absent = sub { "array_fill(NULL::$_[0], ARRAY[$rows])" };
	return "SELECT accepted_seq FROM tms.ingest(jsonb_build_object($header$previous), "
	  . join(', ',
		$rows < 1
		? map { "'{}'" } 1 .. 13
		: ($array->("$self->{at} + s * interval '$self->{step}'"), $array->("'$self->{device}/' || s || '.jpg'"),
			$array->('s::int + 1000'), $array->("sha256(('$self->{ledger}:' || s)::bytea)"), $array->("'P' || s"),
			(map { $absent->('text') } 1 .. 3), $absent->('smallint'), $absent->('smallint'), $absent->('text'),
			$absent->('uuid'), $absent->('jsonb')))
	  . ')';
}

1;
