# The ledger protocol against the real tms.ingest: a randomized simulation of agents, disks, messages and restores.
# A seed that fails is repeated, with every step told, by: ledger_protocol CONNINFO TOKEN 1 SEED (see tests/simulate/).
use strict;
use warnings;

use Test::More;
use Tms::Cluster;
use Tms::Util;

my $runs = $ENV{TMS_LONG} ? 20_000 : 300;
my $seed = $ENV{TMS_SEED} // int(rand(1_000_000_000));

my $source = $ENV{TMS_SRC} // '.';
my $program = "$PostgreSQL::Test::Utils::tmp_check/ledger_protocol";
my $include = `pkg-config --cflags libpq`;
chomp $include;
is(system("cc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -I$source $include -o $program $source/tests/simulate/*.c"
			. " $source/common/capture_id.c $source/common/sha256.c -lpq -lcrypto"), 0, 'the simulation compiles');

my $pc = Tms::Cluster->start_new('protocol', conf => 'fsync = off');
my $token = $pc->sql("SELECT tms.register_device('sim-1', NULL)");
my $conninfo = sprintf('host=%s port=%d dbname=postgres user=%s', $pc->host, $pc->port, $pc->sql('SELECT current_user'));
my $out = `$program '$conninfo' '$token' $runs $seed 2>&1`;
is($? >> 8, 0, "seed $seed: every capture has exactly one row or is in a gap");
like($out, qr/^$runs runs, \d+ steps, \d+ calls, 0 violations$/m, 'all runs came to rest');
diag($out) if $out !~ /, 0 violations/;
note($out);

done_testing();
