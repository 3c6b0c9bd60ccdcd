# Questions to this machine: programs, users, owners.

# Asks a program that judges a config; what it complains of is shown.
accepts() { # COMPLAINT COMMAND...
    local complaint="$1"
    shift
    "$@" >"$SCRATCH/answer" 2>&1 || {
        indent <"$SCRATCH/answer" >&2
        fail "$complaint" 'its own words are above; put it right, and run this again'
    }
}

has() { command -v "$1" >/dev/null 2>&1; }

home_of() {
    local home
    home=$(getent passwd "$1" | cut -d: -f6)
    printf '%s\n' "${home:-/home/$1}"
}

shell_of() { getent passwd "$1" | cut -d: -f7; }

owner_of() { stat -c %U -- "$1"; }

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; } # FILE: where a process wrote its id

systemd() { [ -d /run/systemd/system ]; }

# The path of a file that was named where this was called.
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$FROM/$1" ;; esac }

# True if root alone decides what lies at PATH: what there is on the way is root's, is no link, and nobody
# else can write to it.
roots_alone() { # PATH
    local at="$1"
    while [ -z "$(find "$at" -maxdepth 0 \( -type l -o ! -uid 0 -o -perm /022 \) 2>/dev/null)" ]; do
        [ "$at" != / ] || return 0
        at=$(dirname "$at")
    done
    return 1
}
