# Photographs cut off anywhere and with any bits turned over, through every function in a live server: each an error with a reason or an
# image, no crash, and no memory kept.
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Picture;
use Tms::Util;

my $rounds = $ENV{TMS_LONG} ? 10_000 : 300;
# glibc learns from a large block that is freed (a flipped bit in a header can ask for one) to keep that much from then on. With
# fixed thresholds it gives all back, and what the server holds is what is in use.
@ENV{qw(MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ MALLOC_TOP_PAD_)} = (131072, 131072, 0);
my $pc = Tms::Cluster->start_new('damage');
$pc->sql('CREATE TABLE photograph (number serial, image bytea); CREATE TABLE outcome (call text, state text, times bigint)');
my $picture = picture(160, 120, sub { my ($x, $y) = @_; return [ ($x * 3 + $y) % 256, ($x ^ $y) % 256, ($x * $y / 16) % 256 ]; });
$pc->sql("INSERT INTO photograph (image) VALUES ($_)")
  for map { hex_literal($_) } encode($picture), encode($picture, '-progressive'), encode($picture, '-arithmetic'), encode($picture, qw(-restart 1)),
  encode($picture, '-grayscale'), with_orientation(encode($picture, qw(-sample 1x1)), 6);

# Real ones as well, when a folder of them is given.
if ($ENV{TMS_PHOTOS})
{
	my @files = sort glob("$ENV{TMS_PHOTOS}/*.jpg");
	$pc->sql('INSERT INTO photograph (image) VALUES (' . hex_literal(read_file($_)) . ')') for grep { -s $_ < 100_000 } @files;
}

# Every function on so many damaged photographs; counts what came of it.
$pc->sql(<<'SQL');
CREATE FUNCTION damage(image bytea, bits int) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
	IF bits = 0 THEN
		RETURN substr(image, 1, (random() * length(image))::int);
	END IF;
	FOR i IN 1 .. bits LOOP
		image := set_bit(image, floor(random() * length(image) * 8)::bigint, floor(random() * 2)::int);
	END LOOP;
	RETURN image;
END $$;
CREATE FUNCTION attempt(call text, image bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made bytea;
	complete boolean;
BEGIN
	EXECUTE 'SELECT ' || call INTO made USING image;
	SELECT i.complete INTO complete FROM tms.jpeg_info(made) AS i;
	RETURN CASE WHEN complete THEN 'image' ELSE 'no image' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION sweep(first int, last int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	damaged bytea;
BEGIN
	FOR n IN first .. last LOOP
		PERFORM setseed(n / 100000.0);
		SELECT damage(p.image, CASE WHEN n % 3 = 0 THEN 0 ELSE 1 + n % 12 END) INTO damaged
			FROM photograph AS p WHERE p.number = 1 + n % (SELECT count(*) FROM photograph);
		INSERT INTO outcome SELECT c, attempt(c, damaged), 1 FROM unnest(ARRAY[
			'convert_to((SELECT i.width::text FROM tms.jpeg_info($1) AS i), ''UTF8'')', 'tms.thumbnail($1, 50)', 'tms.crop($1, 40, 30, 50, 40)',
			'tms.crop($1, 40, 30, 50, 40, true)', 'tms.compose(ARRAY[$1, NULL, $1], 2, 100)', 'tms.plate($1, ''{"plate_box": [9, 80, 30, 30]}'')']) AS c;
	END LOOP;
END $$;
SQL

my $session = $pc->background_psql('postgres', timeout => 1800);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('SET client_min_messages = error');
my $contexts = $pc->sql("SELECT to_regclass('pg_catalog.pg_backend_memory_contexts') IS NOT NULL") eq 't'
  ? 'SELECT sum(used_bytes) FROM pg_backend_memory_contexts' : 'SELECT 0';
# In many transactions: what one of them keeps to its end is not what is looked for. Nor is the peak, in which the largest image is,
# and each page of the shared buffers that rows of outcome came to.
sub sweep
{
	my ($first, $last) = @_;
	$session->query_safe("SELECT sweep($first, $last)");
	# Most of the damaged ones can be decoded as far as they go; of these none can.
	$session->query_safe(q{SELECT count(attempt('tms.thumbnail($1, 50)', substr(image, 1, 150))) FROM photograph, generate_series(1, 100)});
	return ($session->query_safe($contexts), own_memory($pid));
}
sweep(1, 30); # fills the caches
my ($used, $own) = sweep(31, 60);
my ($used_after, $own_after);
($used_after, $own_after) = sweep(61 + $_ * 100, 160 + $_ * 100) for 0 .. $rounds / 100 - 1;
cmp_ok($used_after - $used, '<', 65536, sprintf('memory contexts are as before (grown by %d bytes)', $used_after - $used));
# The short form makes 1,800 calls, and 1,800 that fail: 55 bytes kept by each would be too much.
cmp_ok($own_after - $own, '<', 100_000, sprintf('so is all memory of its own (grown by %d bytes)', $own_after - $own));
$session->quit;

is($pc->sql("SELECT sum(times) FROM outcome"), 6 * ($rounds + 60), 'every call came back');
is($pc->sql("SELECT string_agg(DISTINCT state, ' ') FROM outcome WHERE state NOT IN ('image', '22P03', '22023', '0A000', '54000') AND call !~ 'jpeg_info'"),
	'', 'with an image or an error of its own');
is($pc->sql("SELECT string_agg(DISTINCT state, ' ') FROM outcome WHERE call ~ 'jpeg_info'"), '22P03', 'a width is no image, and no crash');
my $images = $pc->sql("SELECT count(*) FILTER (WHERE state = 'image') * 100 / count(*) FROM outcome WHERE call !~ 'jpeg_info'");
cmp_ok($images, '>', 30, "$images % are images");
note($pc->sql("SELECT call, state, count(*) FROM outcome GROUP BY 1, 2 ORDER BY 1, 2"));
is($pc->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 0, 'the session has ended by itself');
unlike(read_file($pc->logfile), qr/terminated by signal|PANIC/, 'nothing crashed');

$pc->stop;
done_testing();
