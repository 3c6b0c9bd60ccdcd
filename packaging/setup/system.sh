# Inspects this machine: programs, users, and owners.

# Runs a program that checks a config. If it reports errors, prints them and fails.
accepts() { # COMPLAINT COMMAND...
    local complaint="$1"
    shift
    "$@" >"$SCRATCH/answer" 2>&1 || {
        clean <"$SCRATCH/answer" | indent >&2
        fail "$complaint" 'its messages are above; fix the cause, and run this again'
    }
}

has() { command -v "$1" >/dev/null 2>&1; }

home_of() {
    local home
    home=$(getent passwd "$1" | cut -d: -f6)
    printf '%s\n' "${home:-/home/$1}"
}

# True if the user exists. getent returns 2 if not.
has_user() {
    local status=0
    getent passwd "$1" >/dev/null || status=$?
    case $status in
        0) return 0 ;;
        2) return 1 ;;
        *) fail "cannot look up the user $1 (status $status)" ;;
    esac
}

shell_of() { getent passwd "$1" | cut -d: -f7; }

owner_of() { stat -c %U -- "$1"; }

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; } # PID FILE

systemd() { [ -d /run/systemd/system ]; }

# Prints the absolute path of a file relative to the directory in which the installer was started.
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$FROM/$1" ;; esac }

# True if only root can change what PATH refers to: each existing component is owned by root, is not a
# symlink, and is writable only by root.
only_root_writes() { # PATH
    local at="$1"
    while [ -z "$(find "$at" -maxdepth 0 \( -type l -o ! -uid 0 -o -perm /022 \) 2>/dev/null)" ]; do
        [ "$at" != / ] || return 0
        at=$(dirname "$at")
    done
    return 1
}
