#!/bin/sh
# Installed by bluegreen's install.sh. The login shell of the account bluegreen-front, whose keys may run the front end's
# switch and nothing else. It becomes root by sudo, for this program alone, and then runs the switch with the settings
# from a file that only root can read.
#
#   front-end -c LINE     the login shell; LINE comes from the client
#   front-end VERB ...    as root
#
# Backquotes in messages are literal.
# shellcheck disable=SC2016
set -euf
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
SELF=/usr/local/lib/bluegreen/front-end
CONFIG=/etc/bluegreen/front-end.conf
SWITCHES=/usr/local/lib/bluegreen/switches

stop() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

refuse() {
    stop 'this account does not run that command' 'it runs `show`, `set SIDE`, `drained SIDE`, and `weight SIDE PERCENT`'
}

is_number() { # TEXT DIGITS
    [ -n "$1" ] && [ ${#1} -le "$2" ] || return 1
    case $1 in *[!0-9]*) return 1 ;; esac
}

# Accepts one call, and nothing else: VERB [SIDE [PERCENT]] [--force] [--within SECONDS].
parse() {
    verb=${1-} side='' percent='' force='' within=''
    case $verb:$# in
        show:*) shift ;;
        set:1 | drained:1 | weight:[12]) refuse ;;
        set:* | drained:*) side=$2 && shift 2 ;;
        weight:*) side=$2 percent=$3 && shift 3 ;;
        *) refuse ;;
    esac
    case $verb:$side in
        show:) ;;
        *: | *:-* | *:*[!a-z0-9-]*) refuse ;;
    esac
    [ ${#side} -le 64 ] || refuse
    [ "$verb" != weight ] || is_number "$percent" 3 || refuse
    while [ $# -gt 0 ]; do
        if [ "$verb $1" = 'set --force' ]; then
            force=1
            shift
        elif [ "$1" = --within ] && is_number "${2-}" 5 && [ "$2" -gt 0 ]; then
            within=$2
            shift 2
        else
            refuse
        fi
    done
}

if [ "$(id -u)" -ne 0 ]; then
    case $#:${1-} in 2:-c) ;; *) refuse ;; esac
    # The keys have a forced command, too, which sshd passes instead of the client's.
    if [ "$2" = "$SELF" ]; then line=${SSH_ORIGINAL_COMMAND-}; else line=$2; fi
    case $line in *[!a-z0-9\ -]*) refuse ;; esac
    # shellcheck disable=SC2086 # words, without expansion of patterns
    set -- $line
    parse "$@"
    exec sudo -n "$SELF" "$@"
fi

parse "$@"
# The switch gets none of the caller's environment.
[ "${BLUEGREEN_FRONT_END-}" = "$$" ] ||
    exec env -i "BLUEGREEN_FRONT_END=$$" "PATH=$PATH" "LC_ALL=$LC_ALL" HOME=/root "$SELF" "$@"
[ -r "$CONFIG" ] || stop "\`$CONFIG\` does not exist" 'run `install.sh --front-end --switch NAME` on that machine'
[ -z "$(find "$CONFIG" -maxdepth 0 \( ! -uid 0 -o -perm /022 \))" ] ||
    stop "\`$CONFIG\` is writable by other users than root" "chown root: $CONFIG; chmod 600 $CONFIG"
SWITCH='' WITHIN=90
# All variables set from here on are for the switch.
set -a
# shellcheck source=/dev/null
. "$CONFIG"
set +a
[ -z "$force" ] || export SWITCH_FORCE=1
case $SWITCH in
    '') stop "\`$CONFIG\` names no switch" 'run `install.sh --front-end --switch NAME` on that machine' ;;
    /*) ;;
    *) SWITCH=$SWITCHES/$SWITCH ;;
esac
[ -z "$within" ] || [ "$within" -ge "$WITHIN" ] || WITHIN=$within
# A switch for a cloud has ten seconds to undo its changes.
exec timeout -k 15 "$WITHIN" "$SWITCH" "$verb" ${side:+"$side"} ${percent:+"$percent"} </dev/null
