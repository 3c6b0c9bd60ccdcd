# Questions to this machine: programs, users, owners.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

# Asks a program that talks even when all is well; what it complains of is shown.
passes() { # COMMAND...
    "$@" >"$SCRATCH/answer" 2>&1 || {
        indent <"$SCRATCH/answer" >&2
        return 1
    }
}

has() { command -v "$1" >/dev/null 2>&1; }

home_of() {
    local home
    home=$(getent passwd "$1" | cut -d: -f6) || :
    printf '%s\n' "${home:-/home/$1}"
}

shell_of() { getent passwd "$1" | cut -d: -f7; }

owner_of() { stat -c %U -- "$1"; }

group_of() { id -gn "$1" 2>/dev/null || printf '%s\n' "$1"; }

alive() { # PID FILE
    [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

systemd() { [ -d /run/systemd/system ]; }

absolute() { # PATH
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$FROM/$1" ;;
    esac
}

# True if root alone decides what lies at PATH: what there is on the way is root's, is no link, and nobody
# else can write to it.
roots_alone() { # PATH
    local at="$1"
    while :; do
        if [ -e "$at" ] || [ -L "$at" ]; then
            case $(stat -c '%F:%u:%a' -- "$at") in
                'symbolic link':* | *:0:*[2367] | *:0:*[2367]?) return 1 ;;
                *:0:*) ;;
                *) return 1 ;;
            esac
        fi
        [ "$at" != / ] || return 0
        at=$(dirname "$at")
    done
}
