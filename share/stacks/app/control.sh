#!/bin/sh
# Installed by bluegreen's install.sh for @REPO@. Later runs do not overwrite manual changes.
# Starts and stops the instances of the application @APP@. The deploy user may run it as root with sudo,
# so it accepts only its verbs and names of releases.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
APP=@APP@
SITE=@SITE@
INSTANCE=bluegreen-app-$APP
WORKER=bluegreen-worker-$APP
DRAIN=bluegreen-drain-$APP
# Only with --port: the ports of the instances.
FIRST_PORT=@PORT@ LAST_PORT=@LAST_PORT@

fail() {
    printf '%s\n' "$1" >&2
    exit 2
}

release() {
    case ${#1} in 29 | 3[0-9]) ;; *) fail 'invalid name of a release' ;; esac
    case $1 in *[!0-9TZa-f-]* | -*) fail 'invalid name of a release' ;; esac
}

number() { case $1 in '' | *[!0-9]* | ??????*) fail 'invalid number' ;; esac }

# Prints the releases with an active instance or worker: running UNIT
running() {
    systemctl list-units --all --plain --no-legend --state=active,activating,reloading,deactivating "$1@*.service" |
        sed -nE "s/^$1@([0-9TZa-f-]+)\.service .*/\1/p"
}

# Chooses a port for the instance of a release: its file is the environment of the unit. The lock is held until the instance
# has started, so that no other call removes the file.
choose_port() {
    ports=/run/bluegreen-ports/$APP
    mkdir -p "$ports"
    exec 9>"$ports/.lock"
    flock -w 30 9 || fail 'cannot lock the ports'
    for file in "$ports"/*; do
        [ ! -e "$file" ] || running "$INSTANCE" | grep -qx "${file##*/}" || rm -f "$file"
    done
    [ ! -e "$ports/$1" ] || return 0
    port=$FIRST_PORT
    while cat "$ports"/* 2>/dev/null | grep -qx "PORT=$port" || ss -Hltn "sport = :$port" | grep -q .; do
        port=$((port + 1))
        [ "$port" -le "$LAST_PORT" ] || fail "no port from $FIRST_PORT to $LAST_PORT is free"
    done
    echo "PORT=$port" >"$ports/$1"
}

cancel() { systemctl stop "$DRAIN-$1.timer" 2>/dev/null || :; }

start() {
    cancel "$1"
    [ -z "$FIRST_PORT" ] || choose_port "$1"
    systemctl start "$INSTANCE@$1.service"
}

# Stops the instance of a release after the given number of seconds.
drain() {
    systemctl --quiet is-active "$DRAIN-$1.timer" ||
        systemd-run --quiet --collect --unit="$DRAIN-$1" --on-active="$2" --timer-property=AccuracySec=100ms "$0" expire "$1"
}

# Runs the worker of one release and stops all others. With `idle`, all are stopped when this returns.
worker() {
    [ -e "/etc/systemd/system/$WORKER@.service" ] || return 0
    if [ -n "$2" ]; then
        for other in $(running "$WORKER"); do systemctl stop "$WORKER@$other.service"; done
        return 0
    fi
    for other in $(running "$WORKER"); do
        [ "$other" = "$1" ] || systemctl stop --no-block "$WORKER@$other.service"
    done
    systemctl start "$WORKER@$1.service"
}

live() {
    start "$1"
    for other in $(running "$INSTANCE"); do
        [ "$other" = "$1" ] || drain "$other" "$2"
    done
    worker "$1" "$3"
}

live_release() { basename "$(readlink "$SITE/current")"; }

log() {
    journalctl --sync 2>/dev/null || :
    set -- -u "$INSTANCE@$1.service" -u "$WORKER@$1.service" --lines="$2" --output=cat --no-pager ${3:+--follow}
    exec journalctl --quiet "$@"
}

verb=${1-}
case $verb:$# in
    status:1)
        for name in $(running "$INSTANCE"); do
            if systemctl --quiet is-active "$DRAIN-$name.timer"; then
                echo "$name draining"
            else
                echo "$name $(systemctl is-active "$INSTANCE@$name.service")"
            fi
        done
        exit
        ;;
    boot:1)
        # A release that was never started by a deployment, such as an adopted site, is not an application.
        [ -L "$SITE/current/.app.sock" ] || exit 0
        name=$(live_release)
        release "$name"
        # The worker waits for `bluegreen resume`, which determines whether this side is public.
        start "$name"
        exit
        ;;
esac
[ $# -ge 2 ] || fail 'usage: start|stop|log RELEASE, live RELEASE SECONDS [idle], status'
release "$2"
case $verb:$# in
    start:2)
        start "$2"
        echo "/run/bluegreen/$APP/$2/s"
        ;;
    stop:2)
        cancel "$2"
        systemctl stop "$INSTANCE@$2.service"
        systemctl reset-failed "$INSTANCE@$2.service" 2>/dev/null || :
        ;;
    live:3)
        number "$3"
        live "$2" "$3" ''
        ;;
    live:4)
        number "$3"
        [ "$4" = idle ] || fail 'usage: live RELEASE SECONDS [idle]'
        live "$2" "$3" idle
        ;;
    log:3 | log:4)
        number "$3"
        log "$2" "$3" "${4:+follow}"
        ;;
    expire:2) [ "$(live_release)" = "$2" ] || systemctl stop "$INSTANCE@$2.service" ;;
    *) fail 'usage: start|stop RELEASE, live RELEASE SECONDS [idle], log RELEASE LINES, status' ;;
esac
