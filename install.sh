#!/bin/sh
# Sets up a server for deployment by `git push`. --help lists the options; docs/howto/install.md explains them.
#
# Trust: only root's options and root's files are trusted. What the deploy user can write (its home, the repository, the
# config, the site) is read and written as that user, by as(), and never decides what root does. root writes only to paths
# that only root can modify.
#
# Every change goes through run(), so --dry-run shows all of them. Each is noted in /var/lib/bluegreen before it happens,
# so an interrupted run can be repeated, and --uninstall removes nothing else. A file that cannot be read is an error,
# never a default.
#
# The parts are in packaging/setup/: ledger.sh contains the side effects (run, as, install_file), system.sh inspects the machine,
# and preflight.sh does what can fail before anything is changed. set_up() below calls the others. Backquotes in messages
# are for the reader, and every sh of Debian and Ubuntu has `local`.
# shellcheck disable=SC2016,SC2034,SC2153,SC3043
set -eu
umask 022
# For lengths in bytes and untranslated messages.
LC_ALL=C
export LC_ALL

LEDGERS=/var/lib/bluegreen
LOCK=/run/bluegreen-setup.lock
LOGIN_PROGRAM=/usr/local/bin/bluegreen-shell
SELF=${0##*/}
STEP=options
CHANGES=0
UNDO=
SCRATCH=
LINE_END='
'

usage() {
    cat <<EOT
Usage: $SELF [OPTION]...     set up this server, or bring it up to date (root; Debian, Ubuntu)
       $SELF --demo [--yes]  try it on this machine, in a temporary folder; --yes: ask nothing

  --user NAME           the owner of the repository and the site [deploy]
  --repo DIRECTORY      the bare repository that developers push to [~USER/sample_app]
  --site DIRECTORY      its document root is DIRECTORY/current [/var/www/html]
  --branch NAME         the branch that deploys [master]
  --name NAME           the server's name in messages [its host name]
  --config FILE         make FILE the bluegreen.toml of the repository; \`-\` reads standard input
  --web-server NAME     auto, apache, nginx, caddy, or none [auto]
  --domain NAME         respond to this host name only, as one site among several
  --tls certbot         HTTPS with a certificate that certbot requests and renews, for nginx and Apache; you agree to the
                        terms of service of its certificate authority
  --stack NAME          set up a whole application: static, php, node, python, or rails
  --run 'COMMAND'       the application's command, run in the release; it listens on \$SOCKET
  --port NUMBER         for a command that listens on 127.0.0.1:\$PORT instead: the first of 20 ports for its instances
  --worker 'COMMAND'    a background command, run for the live release only
  --pair                set up two sides, blue and green, and a front end that shows one of them at --domain; the other
                        options are those of both sides
  --static              serve all files, even if the release has an application's manifest
  --gate                a failed deployment makes the push fail
  --login-shell         give USER a shell; without it the account takes pushes and a few commands
  --binary FILE         install this bluegreen instead of building one
  --dry-run             print what would be done, and do nothing

Each of these can be given several times:
  --key [NAME=]FILE     a public ssh key that may push, and its owner's name; or the key itself
  --role NAME=ROLE      what the keys of NAME may do: read, push, promote, or all [all]
  --sudo 'COMMAND'      let the steps run COMMAND as root, by \`sudo COMMAND\`
  --remove-sudo 'COMMAND'

On the machine of a front end, instead of a server:
  --front-end           create the account bluegreen-front, whose keys may run the switch; with --key
  --switch NAME         the switch: haproxy, nginx, apache, caddy, address, ..., or a program of your own
  --setting KEY=VALUE   a setting of the switch; can be given several times

Instead of setting up:
  --keys                list the keys that may push
  --remove-key NAME     remove NAME's keys; a fingerprint removes a single one
  --uninstall           remove what was installed for REPO; releases, repository, and user remain
  --help
EOT
}

# ---------------------------------------------------------------- messages

say() { printf '%s\n' "$*"; }

warn() { printf 'warning: %s\n' "$*" >&2; }

fail() { # MESSAGE [HINT]
    printf 'error: %s: %s\n' "$STEP" "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

misused() { # MESSAGE [HINT]
    printf 'error: %s\nhint: %s\n' "$1" "${2:-$SELF --help}" >&2
    exit 2
}

# Removes terminal control characters from untrusted text, also those that a removal creates. A single process, so that its
# exit status counts.
clean() { sed -e 's/[\x00-\x08\x0b-\x1f\x7f]//g' -e ':again' -e 's/\xc2[\x80-\x9f]//g' -e t\ again; }

# Prints a number and a noun: plural NUMBER NOUN
plural() { printf '%s %s%s' "$1" "$2" "$([ "$1" = 1 ] || echo s)"; }

indent() { sed 's/^/    /'; }

# ---------------------------------------------------------------- options

options() {
    USER_NAME=deploy REPO=sample_app SITE='' BRANCH='' NAME='' CONFIG='' KEYS='' ROLES='' WEB='' DOMAIN='' GATE='' SERVE='' LOGIN_SHELL='' BINARY=''
    STACK='' RUN='' WORKER='' PORT='' FRONT='' SWITCH='' SETTINGS='' TLS='' PAIR='' SIDE='' LISTEN='' OTHER_SITE='' PREVIEWS='' CERTIFIED=''
    RULES='' DROPPED_RULES='' REMOVED_KEY='' DRY_RUN='' YES=${YES:-} ACTION=set_up
    while [ $# -gt 0 ]; do
        case $1 in
            --gate) GATE=yes ;;
            --static) SERVE=all ;;
            --pair) PAIR=yes ;;
            --login-shell) LOGIN_SHELL=yes ;;
            --front-end) FRONT=front_ ;;
            --dry-run) DRY_RUN=yes ;;
            --keys) ACTION=list_keys ;;
            --uninstall) ACTION=uninstall ;;
            --demo) ACTION=demo ;;
            --yes) YES=yes ;;
            --help | -h) usage && exit 0 ;;
            --*=*) option "${1%%=*}" "${1#*=}" ;;
            *) option "$1" "${2-}" && shift ;;
        esac
        shift
    done
}

option() { # OPTION VALUE
    case $1 in
        --user) USER_NAME=$2 ;;
        --repo) REPO=$2 ;;
        --site) SITE=$2 ;;
        --branch) BRANCH=$2 ;;
        --name) NAME=$2 ;;
        --config) CONFIG=$2 ;;
        --key) KEYS=$KEYS$2$LINE_END ;;
        --role) ROLES=$ROLES$2$LINE_END ;;
        --web-server) WEB=$2 ;;
        --domain) DOMAIN=$2 ;;
        --tls) TLS=$2 ;;
        --binary) BINARY=$2 ;;
        --stack) STACK=$2 ;;
        --run) RUN=$2 ;;
        --worker) WORKER=$2 ;;
        --port) PORT=$2 ;;
        --switch) SWITCH=$2 ;;
        --setting) SETTINGS=$SETTINGS$2$LINE_END ;;
        --sudo) RULES=$RULES$2$LINE_END ;;
        --remove-sudo) DROPPED_RULES=$DROPPED_RULES$2$LINE_END ;;
        --remove-key) ACTION=remove_key REMOVED_KEY=$2 ;;
        -*) misused "unknown option $1" ;;
        *) misused "unexpected argument \`$1\`" "quote a value with spaces, as in --run 'node app.js'; over ssh, twice: --run \"'node app.js'\"" ;;
    esac
    case $2 in
        '') misused "$1 needs a value" ;;
        *"$LINE_END"*) misused "the value of $1 must be a single line" ;;
    esac
}

# ---------------------------------------------------------------- the last step

finish() {
    STEP=check
    if [ -n "$DRY_RUN" ]; then
        [ -z "$SIDE" ] || return 0
        [ "$CHANGES" -gt 0 ] || say 'Nothing would have to be changed.'
        say 'This was a dry run: nothing was changed.'
        return 0
    fi
    reachable
    as "$USER_NAME" "$PROGRAM" -C "$REPO" check || fail 'the setup has problems' 'fix each problem above as its hint says, and run this again'
    [ -z "$SIDE" ] || return 0
    [ "$CHANGES" -gt 0 ] || say 'Nothing had to be changed.'
    say "
Now, in the repository on your own machine:
    git remote add $NAME $USER_NAME@${DOMAIN:-$(hostname)}:${REPO#"$HOME_DIR"/}
    git push $NAME $BRANCH"
    [ -n "$DOMAIN" ] || say "If the name $(hostname) does not resolve there, use this server's address instead."
    read_keys
    [ -n "$(printf '%s\n' "$TEXT" | public_keys)" ] || warn 'no key may push yet: run this again with --key FILE'
}

# Warns if the web server's user cannot enter a parent directory of the site.
reachable() {
    local directory="$SITE"
    [ "$WEB" != none ] && has_user www-data || return 0
    while [ "$directory" != / ]; do
        is www-data -x "$directory" || warn "the web server cannot enter $directory; as $(owner_of "$directory"): chmod o+x $directory"
        directory=$(dirname "$directory")
    done
}

# ---------------------------------------------------------------- main

leave() {
    local status=$?
    trap '' HUP INT TERM
    [ -z "$UNDO" ] || "$UNDO"
    [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"
    exit "$status"
}

# Reads the parts of this installer, and sets ASSETS to the directory of the files that it installs: next to
# this script in a clone, or /usr/share from the package.
parts() {
    local part PARTS="$HERE/packaging/setup"
    PACKAGED='' ASSETS=$HERE/share
    [ -d "$PARTS" ] || PACKAGED=yes ASSETS=/usr/share/bluegreen PARTS=/usr/share/bluegreen/setup
    [ -e "$ASSETS/bluegreen.toml" ] || fail "neither $HERE/share nor $ASSETS contains bluegreen.toml" 'run install.sh from a complete clone'
    # shellcheck source=packaging/building.sh
    [ -n "$PACKAGED" ] || . "$HERE/packaging/building.sh"
    for part in ledger system preflight program account repository sudo site web tls stack pair boot front uninstall; do
        # shellcheck source=/dev/null
        . "$PARTS/$part.sh"
    done
}

# Prevents two installers from running concurrently. Only root can open the lock, so no other user can hold
# it.
locked() {
    [ -z "$DRY_RUN" ] && [ "$(id -u)" -eq 0 ] || return 0
    umask 077
    exec 9>"$LOCK"
    umask 022
    flock -n 9 || fail 'another installer is running'
    tidy_ledgers
}

main() {
    FROM=$(pwd)
    HERE=$(cd "$(dirname "$(realpath "$0")")" && pwd)
    options "$@"
    if [ "$ACTION" = demo ]; then
        [ -x "$HERE/demo.sh" ] || fail 'the demonstration builds the program, and needs a complete clone of its sources' 'run ./install.sh --demo in a clone'
        YES=$YES exec "$HERE/demo.sh"
    fi
    [ -n "$FRONT" ] || [ -z "$SWITCH$SETTINGS" ] || misused '--switch and --setting need --front-end'
    parts
    trap leave EXIT
    trap 'exit 130' HUP INT TERM
    SCRATCH=$(mktemp -d)
    [ -z "$CONFIG" ] || wanted_config
    # Detach stdin, so that no child process can read from the terminal. Leave the current directory, which
    # the deploy user may not be able to read.
    exec </dev/null
    cd /
    locked
    case $PAIR:$FRONT:$ACTION in
        yes::set_up) pair ;;
        yes::uninstall) unpair ;;
        yes:?*) misused '--pair and --front-end do not go together' ;;
        *) "$FRONT$ACTION" ;;
    esac
}

set_up() {
    preflight
    packages
    # Installing a web server's package may have created the directory.
    check_site
    program
    user
    ssh_keys
    app_user
    repository
    sudoers
    site
    stack
    boot
    tls
    finish
}

main "$@"
