# The status page: what it says, that it needs nothing from elsewhere, and that no text in it is taken for markup. In a real
# browser where there is one (tests/deps installs it for --long).
use strict;
use warnings;

use Test::More;
use IPC::Run ();
use Tms::Agent;
use Tms::Store;
use Tms::Util;

my $store = Tms::Store->new->start;
my $agent = Tms::Agent->new(
	device => 'page-1', token => 'a token', conninfo => 'host=127.0.0.1 port=1 dbname=none user=nobody', url => $store->url);
$agent->start;

sub get { my ($target, $headers) = @_; return http('GET', $agent->intake_url . $target, headers => $headers // {}); }
sub page { return get('/')->{content}; }

# The number of a tile, as in the JSON.
sub tile
{
	my ($page, $id) = @_;
	my ($text) = $page =~ m{id="$id"><h3>[^<]*</h3><b>([^<]*)</b>};
	$text =~ s/,//g if defined $text;
	return $text;
}

# What is wrong with it as HTML, and as a page that needs nothing else.
sub mistakes
{
	my ($page) = @_;
	my (@open, @wrong);
	my %void = map { $_ => 1 } qw(meta link img br);
	my %loose = map { $_ => 1 } qw(td th); # their ends may be left out
	push @wrong, 'no doctype' unless $page =~ s/^<!DOCTYPE html>\n//;
	$page =~ s{<style>([^<]*)</style>}{};
	push @wrong, "the style asks for $1" if $1 =~ /(url\(|\@import)/;
	while ($page =~ m{<(/?)([a-z0-9]+)((?:\s+[a-z-]+="[^"<>]*"|\s+[a-zA-Z-]+="[^"<>]*")*)\s*(/?)>|(<)}g)
	{
		my ($end, $name, $attributes, $closed, $stray) = ($1, $2, $3, $4, $5);
		if ($stray)
		{
			push @wrong, 'stray < in ' . substr($page, pos($page) - 1, 40);
			next;
		}
		push @wrong, "<$name>" if $name =~ /^(script|iframe|object|embed|form|base)$/;
		push @wrong, "attribute $1" if $attributes =~ /\s((?:on\w+|style)="[^"]*)/;
		while ($attributes =~ /(?:href|src)="([^"]*)"/g)
		{
			push @wrong, "reaches out to $1" unless $1 =~ m{^(?:/|data:,$)} && $1 !~ m{^//};
		}
		next if $void{$name} || $loose{$name} || $closed;
		if (!$end) { push @open, $name; }
		elsif (!@open || pop(@open) ne $name) { push @wrong, "</$name>"; }
	}
	push @wrong, "open: @open" if @open;
	(my $text = $page) =~ s/<[^>]*>//g;
	push @wrong, "stray & in $1" if $text =~ /(&(?!amp;|lt;|gt;|quot;|#39;).{0,20})/;
	return \@wrong;
}

# --- the empty agent ---
my $answer = get('/');
is($answer->{status}, 200, 'the page');
is($answer->{headers}{'content-type'}, 'text/html; charset=utf-8', 'is HTML');
like($answer->{headers}{'content-security-policy'}, qr/^default-src 'none'; style-src 'sha256-[A-Za-z0-9+\/]{43}='; img-src 'self' data:; /,
	'with a strict policy');
unlike($answer->{headers}{'content-security-policy'}, qr/unsafe|script/, 'without holes');
is($answer->{headers}{'x-content-type-options'}, 'nosniff', 'and is nothing else');
like($answer->{content}, qr/Nothing has come in yet/, 'an empty agent says so');
is_deeply(mistakes($answer->{content}), [], 'the empty page is well-formed');

# --- captures; texts that look like markup ---
my $photo = jpeg('page', 30_000);
my ($code, $taken) = $agent->post($photo, plate => '<b>"&\'', lane => 3, violation_code => '</a><i>');
is($code, 201, 'a plate that looks like markup');
$agent->post(jpeg("page $_", 10_000), plate => "P$_") for 1 .. 13;
ok(poll_until(sub { my $s = $agent->status; $s->{upload}{backlog} == 0 && $s->{register}{error} }, 'uploads'), 'uploaded');
my ($status, $page) = ($agent->status, page());
is_deeply(mistakes($page), [], 'well-formed');
my %figures = (upload => $status->{upload}{backlog}, register => $status->{register}{backlog}, cache => $status->{cached});
is(tile($page, $_), $figures{$_}, "$_: $figures{$_}, as in the JSON") for sort keys %figures;
like($page, qr/id="state">[1-9]\d* problem/, 'the path center is away: a problem');
like($page, qr{<li class="bad">Path center: [^<]*&quot;127\.0\.0\.1&quot;}, 'that is told');
is(scalar(() = $page =~ /<img /g), 12, 'twelve photographs');
like($page, qr{<strong>P13</strong>}, 'the newest one');
unlike($page, qr/&lt;b&gt;/, 'not the oldest ones');

# It is seen when it is among the last ones.
$agent->post($photo, plate => '<b>"&\'', violation_code => '</a><i>');
$page = page();
like($page, qr{<strong>&lt;b&gt;&quot;&amp;&#39;</strong>}, 'markup in a plate is text');
like($page, qr{violation &lt;/a&gt;&lt;i&gt;}, 'in a violation code too');
is_deeply(mistakes($page), [], 'still well-formed');
isnt(scalar @{ mistakes($page =~ s/&lt;/</r) }, 0, 'which it would not be if nothing were escaped');
isnt(scalar @{ mistakes($page =~ s/&amp;/&/r) }, 0, 'not even an ampersand');
my $slow = get('/?photographs=0')->{content};
unlike($slow, qr/<img/, 'none on a slow link');
is_deeply(mistakes($slow), [], 'which is well-formed too');

# --- photographs ---
my ($link) = $page =~ m{href="(/v1/photographs/[^"]+)"};
$answer = get($link);
ok($answer->{status} == 200 && $answer->{content} eq $photo, 'a photograph');
is($answer->{headers}{'content-type'}, 'image/jpeg', 'of its type');
like($answer->{headers}{'cache-control'}, qr/^private, .*immutable/, 'that a browser keeps');
is(http('HEAD', $agent->intake_url . $link)->{status}, 200, 'its head');
for my $path ('', '.ledgers', '../ledger.db', '..%2f..%2fledger.db', '%2e%2e/ledger.db', '/etc/passwd', 'a' x 3000,
	'2026/11/22/06/1-00000001-00000000.jpg', "$taken->{path}/", substr($taken->{path}, 0, 13))
{
	my $target = "/v1/photographs/$path";
	is(get($target)->{status}, 404, '404: ' . substr($target, 0, 60));
}
is(http('POST', $agent->intake_url . '/', content => '')->{status}, 405, 'nothing can be posted to the page');
is(http('POST', $agent->intake_url . '/v1/captures', content => $photo, headers => { 'Content-Type' => 'image/jpeg', Origin => 'http://evil.example' })->{status},
	403, 'no web page hands in a photograph');

# --- a real browser ---
my ($chromium) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
SKIP:
{
	skip 'no chromium here', 5 unless $chromium;
	my ($out, $err) = ('', '');
	my $before = get('/metrics')->{content} =~ /^tms_agent_http_requests_total\{code="200"\} (\d+)/m ? $1 : die;
	IPC::Run::run([ $chromium, qw(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run), '--window-size=1000,3000',
			"--user-data-dir=$agent->{dir}/chromium", qw(--enable-logging=stderr --virtual-time-budget=4000 --dump-dom), $agent->intake_url . '/' ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(120));
	$status = $agent->status;
	%figures = (upload => $status->{upload}{backlog}, register => $status->{register}{backlog}, cache => $status->{cached});
	is(tile($out, $_), $figures{$_}, "in the browser: $_") for sort keys %figures;
	my $after = get('/metrics')->{content} =~ /^tms_agent_http_requests_total\{code="200"\} (\d+)/m ? $1 : die;
	cmp_ok($after - $before, '>=', 5, 'it loaded photographs');
	unlike($err, qr/CONSOLE.*(?:Content Security|Refused|Failed to load)/, 'and the policy refused nothing');
}

# --- the image center away, the disk nearly full ---
ok(poll_until(sub { $agent->status->{upload}{backlog} == 0 }, 'uploads', 60), 'what came before is uploaded');
$store->stop;
$agent->post(jpeg('away'));
ok(poll_until(sub { page() =~ /<li class="bad">Image center: / }, 'a problem'), 'the image center is away: a problem');
is(tile(page(), 'upload'), 1, 'one waits');
like(page(), qr{<td>image_center<td class="error">}, 'its error is among the last');
$agent->{sections}{cache}{min_free} = '90%';
$agent->write_config;
is($agent->stop, 0, 'stops');
$agent->start;
SKIP:
{
	skip 'more than nine tenths of the disk are free', 3 if $agent->status->{free_bytes} > 0.9 * $agent->status->{total_bytes};
	like(page(), qr/The disk is nearly full: only /, 'the disk is nearly full: a problem');
	ok(poll_until(sub { page() =~ /Nothing that is safe is left to make room/ }, 'a problem'), 'nothing can make room: a problem');
	like(($agent->command('status'))[1], qr/^cleaning .*; the disk is low, and nothing that is safe is left to leave$/m, 'in the table too');
}
is_deeply(mistakes(page()), [], 'well-formed with all of these');

# --- a token ---
$agent->guard_intake('open sesame');
is($agent->stop, 0, 'stops');
$agent->start;
$answer = get('/');
is($answer->{status}, 401, 'the page needs the token');
like($answer->{headers}{'www-authenticate'}, qr/Basic realm=/, 'for which a browser asks');
is(get($link)->{status}, 401, 'photographs too');
is($agent->stop, 0, 'stops at last');

done_testing();
