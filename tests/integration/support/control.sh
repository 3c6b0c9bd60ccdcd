#!/bin/sh
# Replaces root's helper and systemd: an instance is a process, and its directory exists while it runs.
set -eu
cd ROOT
echo "$*" >>calls
directory=ROOT/run/${2:-none}
end() {
    # The shell leads a session, and the application is in its process group.
    [ ! -e "run/$1/pid" ] || kill -- "-$(cat "run/$1/pid")" 2>/dev/null || :
    rm -rf "run/$1"
}
case $1 in
    start)
        echo "$directory/s"
        rm -f "$directory/draining"
        [ ! -e "$directory" ] || exit 0
        mkdir -p "$directory"
        cd "site/releases/$2"
        # shellcheck disable=SC2016 # the inner shell expands them
        setsid sh -c 'echo $$ >"$1/pid"; SOCKET=$1/s; export SOCKET; SERVE; rm -rf "$1"' sh "$directory" >"ROOT/log-$2" 2>&1 </dev/null &
        while [ -e "$directory" ] && [ ! -e "$directory/pid" ]; do sleep 0.01; done
        ;;
    stop) end "$2" ;;
    stop-all)
        for other in run/*; do end "${other#run/}"; done
        ;;
    live)
        for other in run/*; do
            [ "$other" = "run/$2" ] || touch "$other/draining"
        done
        ;;
    drained) for other in run/*; do [ ! -e "$other/draining" ] || end "${other#run/}"; done ;;
    log) cat "log-$2" ;;
esac
