# SPDX-License-Identifier: MIT
# mptcp.pl never-accepts|stops-reading|sink PORT: servers with MPTCP sockets.
use strict;
use warnings;
use Socket;

my ($role, $port) = @ARGV;
my $IPPROTO_MPTCP = 262;
socket(my $listener, AF_INET, SOCK_STREAM, $IPPROTO_MPTCP) or die "socket: $!";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!";
bind($listener, sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
listen($listener, 16) or die "listen: $!";
$| = 1;
print "ready\n";
sleep if $role eq 'never-accepts';
accept(my $client, $listener) or die "accept: $!";
sysread($client, my $block, 1000);
sleep if $role eq 'stops-reading';
while (sysread($client, $block, 65536)) { }
