#!/bin/sh
# Sets up a server for deployment by `git push`: --help has the options, docs/howto/install.md the whole story.
#
# Whom it believes: root, and nobody else. What the deploy user can write (its home, the repository, the
# config, the site) is read and written as that user, by as(), and no word of it decides what root does.
# What root lays, lies where root alone can write.
#
# What it does can be seen and taken back: whatever changes anything goes through run(), which is why
# --dry-run can be trusted, and is written down in /var/lib/bluegreen before it is done. So an
# interrupted run can be run again, and --uninstall takes back no more than that.
#
# The parts stand in packaging/setup/: ledger.sh holds all side effects (run, as, lay), system.sh asks questions,
# preflight.sh is whatever can fail before anything is changed; the others are what set_up() below names, and
# uninstall.sh. Backquotes in messages are for the reader, and `local` is in every sh of Debian and Ubuntu.
# shellcheck disable=SC2016,SC2034,SC2153,SC3043
set -eu
umask 022

LEDGERS=/var/lib/bluegreen
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

  --user NAME           who owns the repository and the site [deploy]
  --repo DIRECTORY      the bare repository that is pushed to [~USER/sample_app]
  --site DIRECTORY      its document root is DIRECTORY/current [/var/www/html]
  --branch NAME         the branch that deploys [master]
  --name NAME           what messages call this server [its host name]
  --config FILE         make FILE the bluegreen.toml of the repository; \`-\` reads standard input
  --web-server NAME     auto, apache, nginx, caddy, or none [auto]
  --domain NAME         answer for this host name only, as one site among several
  --stack NAME          set up a whole application: static, php, node, python or rails
  --run 'COMMAND'       what serves the application, in the release; it listens on \$SOCKET
  --worker 'COMMAND'    what works in the background, for the live release only
  --gate                a failed deployment makes the push fail
  --login-shell         give USER a shell; without it the account takes pushes and a few commands
  --binary FILE         install this bluegreen instead of building one
  --dry-run             print what would be done, and do nothing

Each of these can be given several times:
  --key [NAME=]FILE     a public ssh key that may push, and whose it is; or the key itself
  --sudo 'COMMAND'      let the steps run COMMAND as root, by \`sudo COMMAND\`
  --remove-sudo 'COMMAND'

Instead of setting up:
  --keys                list the keys that may push
  --remove-key NAME     take NAME's keys away; a fingerprint names a single one
  --uninstall           take back what was made for REPO; releases, repository and user stay
  --help
EOT
}

# ---------------------------------------------------------------- words to the reader

say() { printf '%s\n' "$*"; }

warn() { printf 'warning: %s\n' "$*" >&2; }

fail() { # MESSAGE [HINT]
    printf 'error: %s: %s\n' "$STEP" "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

misused() { # MESSAGE
    printf 'error: %s\nhint: %s --help\n' "$1" "$SELF" >&2
    exit 2
}

# Drops what could steer a terminal: the words of others are read by root.
clean() { LC_ALL=C sed -e 's/\xc2[\x80-\x9f]//g' | LC_ALL=C tr -d '\000-\010\013-\037\177'; }

indent() { sed 's/^/    /'; }

# ---------------------------------------------------------------- options

options() {
    USER_NAME=deploy REPO=sample_app SITE='' BRANCH='' NAME='' CONFIG='' KEYS='' WEB='' DOMAIN='' GATE='' LOGIN_SHELL='' BINARY=''
    STACK='' RUN='' WORKER=''
    RULES='' DROPPED_RULES='' REMOVED_KEY='' DRY_RUN='' YES=${YES:-} ACTION=set_up
    while [ $# -gt 0 ]; do
        case $1 in
            --gate) GATE=yes ;;
            --login-shell) LOGIN_SHELL=yes ;;
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
        --web-server) WEB=$2 ;;
        --domain) DOMAIN=$2 ;;
        --binary) BINARY=$2 ;;
        --stack) STACK=$2 ;;
        --run) RUN=$2 ;;
        --worker) WORKER=$2 ;;
        --sudo) RULES=$RULES$2$LINE_END ;;
        --remove-sudo) DROPPED_RULES=$DROPPED_RULES$2$LINE_END ;;
        --remove-key) ACTION=remove_key REMOVED_KEY=$2 ;;
        *) misused "unknown option $1" ;;
    esac
    case $2 in
        '') misused "$1 wants a value" ;;
        *"$LINE_END"*) misused "$1 wants a single line" ;;
    esac
}

# ---------------------------------------------------------------- the end of an installation

finish() {
    STEP=check
    if [ -n "$DRY_RUN" ]; then
        [ "$CHANGES" -gt 0 ] || say 'Nothing would have to be changed.'
        say 'This was a dry run: nothing was changed.'
        return 0
    fi
    reachable
    as "$USER_NAME" "$PROGRAM" -C "$REPO" check || fail 'the set-up has problems' 'each is named above with a hint; then run this again'
    [ "$CHANGES" -gt 0 ] || say 'Nothing had to be changed.'
    say "
Now, in the repository on your own machine:
    git remote add $NAME $USER_NAME@$(hostname):${REPO#"$HOME_DIR"/}
    git push $NAME $BRANCH"
    [ -n "$(read_keys)" ] || warn 'no key may push yet: run this again with --key FILE'
}

# A site inside a closed home is a site that no visitor sees.
reachable() {
    local directory="$SITE"
    [ "$WEB" != none ] && id www-data >/dev/null 2>&1 || return 0
    while [ "$directory" != / ]; do
        as www-data test -x "$directory" || warn "the web server cannot enter $directory: chmod o+x $directory"
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

# Reads the parts of this installer, and sets ASSETS to where the files are that it lays: beside this script in
# a clone, in /usr/share from the package.
parts() {
    local part PARTS="$HERE/packaging/setup"
    PACKAGED='' ASSETS=$HERE/share
    [ -d "$PARTS" ] || PACKAGED=yes ASSETS=/usr/share/bluegreen PARTS=/usr/share/bluegreen/setup
    [ -e "$ASSETS/bluegreen.toml" ] || fail "bluegreen.toml lies neither in $HERE/share nor in $ASSETS" 'run install.sh from a whole clone'
    # shellcheck source=packaging/building.sh
    [ -n "$PACKAGED" ] || . "$HERE/packaging/building.sh"
    for part in ledger system preflight program account repository sudo site web stack boot uninstall; do
        # shellcheck source=/dev/null
        . "$PARTS/$part.sh"
    done
}

# Two installers at once would each undo what the other did.
locked() {
    [ -z "$DRY_RUN" ] && [ "$(id -u)" -eq 0 ] || return 0
    exec 9>/run/bluegreen-install.lock
    flock -n 9 || fail 'another installer is at work'
}

main() {
    FROM=$(pwd)
    HERE=$(cd "$(dirname "$(realpath "$0")")" && pwd)
    options "$@"
    if [ "$ACTION" = demo ]; then
        [ -x "$HERE/demo.sh" ] || fail 'the demonstration builds the program, and wants a whole clone of its sources'
        YES=$YES exec "$HERE/demo.sh"
    fi
    parts
    trap leave EXIT
    trap 'exit 130' HUP INT TERM
    SCRATCH=$(mktemp -d)
    [ -z "$CONFIG" ] || wanted_config
    # Nothing is asked, so that nobody whom this becomes can answer. A directory of the user's could be
    # closed to them.
    exec </dev/null
    cd /
    locked
    "$ACTION"
}

set_up() {
    preflight
    packages
    # A web server's package may have brought the directory.
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
    finish
}

main "$@"
