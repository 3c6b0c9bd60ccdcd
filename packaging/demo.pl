#!/usr/bin/perl
# Web server, front end, and visitors of the demonstration. Needs only perl-base, which every Debian has.
#
#   demo.pl server PORT-FILE NAME SITE                serves the live page of a site as the server NAME
#   demo.pl front PORT-FILE PUBLIC-FILE SIDE=PORT...  forwards each request to the side named in PUBLIC-FILE
#   demo.pl visitors PORT STOP-FILE                   sends requests until STOP-FILE exists, then prints a
# summary
#
# The first two listen on a free port and write it to PORT-FILE. All exit after ten minutes.
use strict;
use warnings;
use IO::Socket::INET;

my ($role, @arguments) = @ARGV;
alarm 600;
$SIG{CHLD} = $SIG{PIPE} = 'IGNORE';
if    ($role eq 'server')   { server(@arguments) }
elsif ($role eq 'front')    { front(@arguments) }
elsif ($role eq 'visitors') { visitors(@arguments) }

sub server {
    my ($port_file, $name, $site) = @_;
    serve($port_file, sub {
        my $page = slurp("$site/current/index.html");
        return "HTTP/1.0 200 OK\r\nX-Served-By: $name\r\nContent-Length: " . length($page) . "\r\n\r\n$page";
    });
}

sub front {
    my ($port_file, $public, @sides) = @_;
    my %port = map { split /=/ } @sides;
    serve($port_file, sub {
        chomp(my $side = slurp($public));
        return ask($port{$side}, shift) || "HTTP/1.0 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    });
}

# Serves each request in a separate process.
sub serve {
    my ($port_file, $answer) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128) or die "cannot listen: $@\n";
    open my $file, '>', "$port_file.new" or die "$port_file: $!\n";
    print $file $listener->sockport, "\n";
    close $file;
    rename "$port_file.new", $port_file or die "$port_file: $!\n";
    while (1) {
        my $client = $listener->accept or next;
        next if fork;
        my $request = '';
        while (my $line = <$client>) {
            $request .= $line;
            last if $line eq "\r\n";
        }
        print $client $answer->($request);
        exit;
    }
}

# Returns the whole response of a server, or an empty string.
sub ask {
    my ($port, $request) = @_;
    my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or return '';
    print $server $request;
    local $/;
    return <$server> // '';
}

sub visitors {
    my ($port, $stop) = @_;
    my ($asked, $failed, %pages) = (0, 0);
    until (-e $stop) {
        my $answer = ask($port, "GET / HTTP/1.0\r\n\r\n");
        my ($page) = $answer =~ m{^HTTP/1.0 200 .*?\r\n\r\n(.+)\n}s;
        $asked++;
        if (defined $page) { $pages{$page}++ } else { $failed++ }
        select undef, undef, undef, 0.01;
    }
    print "$asked requests, $failed failed: ", join(', ', map { "$pages{$_} times $_" } sort keys %pages), "\n";
    exit($failed > 0);
}

sub slurp {
    open my $file, '<', shift or return '';
    local $/;
    return <$file> // '';
}
