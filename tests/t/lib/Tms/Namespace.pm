# A network namespace for a test, in which it can make packets vanish. `use Tms::Namespace;` first of all: the test is started
# again inside one, with every server that it starts. Needs no root, but a kernel that gives namespaces to users; else
# available() tells why there is none.
package Tms::Namespace;

use strict;
use warnings;

my $enter = 'ip link set lo up && nft "add table inet tms; add chain inet tms input { type filter hook input priority 0; }"';

sub import
{
	return if $ENV{TMS_NAMESPACE};
	$ENV{PATH} .= ':/usr/sbin:/sbin';
	my @unshare = ('unshare', '--user', '--map-current-user', '--net', '--keep-caps', 'sh', '-c');
	$ENV{TMS_NAMESPACE} = 'none';
	return if system(@unshare, "$enter >/dev/null 2>&1") != 0;
	$ENV{TMS_NAMESPACE} = 'own';
	exec(@unshare, "$enter && exec \"\$@\"", 'sh', $^X, map({ "-I$_" } @INC), $0, @ARGV) or die "unshare: $!";
}

sub available { return $ENV{TMS_NAMESPACE} eq 'own'; }

# The command that drops all packets to a TCP port, of connections there are and of new ones.
sub drop_command { my ($port) = @_; return "nft add rule inet tms input tcp dport $port drop"; }

sub drop { my ($port) = @_; system(drop_command($port)) == 0 or die 'nft'; return; }

# Lets all packets through again.
sub restore { system('nft flush chain inet tms input') == 0 or die 'nft'; return; }

1;
