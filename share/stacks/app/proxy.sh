#!/bin/sh
# Installed by bluegreen's install.sh for @REPO@. Later runs do not overwrite manual changes.
# Passes on what the socket of an instance of @APP@ receives to its port: SOCKET PORT. It runs as the application's user.
set -eu
while :; do
    rm -f "$1"
    # The web server is a member of the group, to which systemd-socket-activate gives no right.
    (until chmod 660 "$1" 2>/dev/null; do sleep 0.02; done) &
    # Without the limit, each health check of an application that does not listen yet adds a line to its output.
    systemd-socket-activate --listen="$1" -E SYSTEMD_LOG_LEVEL=crit \
        /lib/systemd/systemd-socket-proxyd --connections-max=8192 "127.0.0.1:$2" || :
    sleep 1
done
