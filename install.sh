#!/bin/sh
# Sets up a server for deployment by `git push`: --help has the options, docs/installing.md the whole story.
#
# Whom it believes: root, and nobody else. What the deploy user can write (its home, the repository, the
# config, the site) is read and written as that user, by as(), and no word of it decides what root does.
# What root lays, lies where root alone can write.
#
# What it does can be seen and taken back: whatever changes anything goes through run(), which is why
# --dry-run can be trusted, and is written down in /var/lib/bluegreen before it is done. So an
# interrupted run can be run again, and --uninstall takes back no more than that.
#
# Backquotes in messages are for the reader, and `local` is in every sh of Debian and Ubuntu.
# shellcheck disable=SC2016,SC3043
set -eu
umask 022

LEDGERS=/var/lib/bluegreen
LOGIN_PROGRAM=/usr/local/bin/bluegreen-shell
SELF=${0##*/}
STEP=options
CHANGES=0
UNDO=
SCRATCH=
# How many seconds a program of the deploy user's may take.
PATIENCE=60
LINE_END='
'

usage() {
    cat <<EOT
Usage: $SELF [OPTION]...     set up this server, or bring it up to date (root; Debian, Ubuntu)
       $SELF --demo          try it on this machine, in a temporary folder

  --user NAME           who owns the repository and the site [deploy]
  --repo DIRECTORY      the bare repository that is pushed to [~USER/sample_app]
  --site DIRECTORY      its document root is DIRECTORY/current [/var/www/html]
  --branch NAME         the branch that deploys [master]
  --name NAME           what messages call this server [its host name]
  --web-server NAME     auto, apache, nginx or none [auto]
  --domain NAME         answer for this host name only, as one site among several
  --gate                a failed deployment makes the push fail
  --login-shell         give USER a shell; without it the account takes pushes and a few commands
  --binary FILE         install this bluegreen instead of building one
  --dry-run             print what would be done, and do nothing

Each of these can be given several times:
  --key [NAME=]FILE     a public ssh key that may push, and whose it is
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

# ---------------------------------------------------------------- side effects

# The one door to side effects: prints WHAT, and does it unless this is a dry run. The ledger passes
# with an empty WHAT, for it is not worth a line. A function that is run must check every status by
# itself: `set -e` does not hold in it.
run() { # WHAT COMMAND...
    local what="$1" status=0
    shift
    if [ -n "$what" ]; then
        CHANGES=$((CHANGES + 1))
        printf '%-12s %s%s\n' "$STEP" "${DRY_RUN:+would }" "$what"
    fi
    [ -z "$DRY_RUN" ] || return 0
    : >"$SCRATCH/asides"
    # 9 is the installer's own lock, which a server started here must not keep.
    "$@" 9>&- >"$SCRATCH/words" 2>&1 || status=$?
    [ "$status" -eq 0 ] || {
        clean <"$SCRATCH/words" | indent >&2
        clean <"$SCRATCH/asides" | indent >&2
        fail "could not $what (status $status)" 'nothing after this was done; once it is put right, run the same command again'
    }
}

# Runs a command as USER, who may be hostile: in a session of its own and on files, so that no terminal
# can be read or typed into; with no descriptor of the caller's and nothing of root's environment; and
# not for ever. Prints what it printed.
as() { # USER COMMAND...
    local user="$1" status=0 printed
    shift
    if [ "$user" = root ]; then
        env GIT_CONFIG_GLOBAL=/dev/null "$@"
        return
    fi
    printed=$(mktemp -p "$SCRATCH")
    setsid --wait env -i "HOME=$(home_of "$user")" "USER=$user" "LOGNAME=$user" "PATH=$PATH" GIT_CONFIG_GLOBAL=/dev/null \
        bash -c 'for fd in /proc/$$/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || exec {fd}>&-
        done
        exec "$@"' as timeout --kill-after=5 "$PATIENCE" runuser -u "$user" -- "$@" >"$printed" 2>>"$SCRATCH/asides" || status=$?
    clean <"$printed"
    rm -f "$printed"
    return "$status"
}

# These replace by rename, so that a file is there whole, old or new. The temporary name is one that sudo
# and the web servers pass over, and always the same: a later run takes up what a killed one has left.
# That is safe where root alone writes, and for USER in directories of its own.
temporary() { printf '%s/.%s.bluegreen-new\n' "$(dirname "$1")" "$(basename "$1")"; }

replace() { # USER FILE MODE CONTENT
    printf '%s\n' "$4" | as "$1" sh -c 'cat >"$2" && chmod "$3" "$2" && mv -fT "$2" "$1"' sh "$2" "$(temporary "$2")" "$3"
}

put_link() { # USER TARGET LINK
    as "$1" ln -sfn "$2" "$(temporary "$3")" && as "$1" mv -fT "$(temporary "$3")" "$3"
}

put_copy() { # FILE MODE TO
    cp "$1" "$(temporary "$3")" && chmod "$2" "$(temporary "$3")" && mv -fT "$(temporary "$3")" "$3"
}

# ---------------------------------------------------------------- the ledger: one line, one fact; a later one counts

noted() { grep -Fqxs -e "$2" "$1"; } # LEDGER LINE

note() { # LEDGER LINE
    noted "$1" "$2" || run '' add_line "$1" "$2"
}

unnote() { # LEDGER LINE
    ! noted "$1" "$2" || run '' drop_line "$1" "$2"
}

add_line() { # FILE LINE
    mkdir -p "$(dirname "$1")" &&
        { [ ! -e "$1" ] || cat "$1"; } >"$(temporary "$1")" &&
        printf '%s\n' "$2" >>"$(temporary "$1")" &&
        [ "$(tail -n 1 "$(temporary "$1")")" = "$2" ] &&
        mv -f "$(temporary "$1")" "$1"
}

drop_line() { # FILE LINE
    local status=0
    grep -Fxv -e "$2" "$1" >"$(temporary "$1")" || status=$?
    # 1 is a file of no other line.
    [ "$status" -le 1 ] && mv -f "$(temporary "$1")" "$1"
}

values() { # LEDGER KEY: all values noted under it
    [ ! -e "$1" ] || sed -n "s|^$2 ||p" "$1"
}

value() { # LEDGER KEY: the last one, or nothing
    values "$1" "$2" | tail -n 1
}

# ---------------------------------------------------------------- files that the ledger knows

fingerprint() { cksum | tr ' ' -; }

# True of a file that still is what an installer wrote, so that it may be replaced or removed.
ours() { # LEDGER USER FILE
    exists "$2" "$3" && noted "$1" "laid $3 $(text_of "$2" "$3" | fingerprint)"
}

# Prints a file of a size that a text can have; nothing where it is none.
text_of() { # USER FILE
    as "$1" sh -c '[ ! -f "$1" ] || head -c 1000000 -- "$1"' sh "$2" || :
}

exists() { as "$1" test -e "$2"; } # USER FILE

# True if FILE needs nothing: it has that CONTENT, or someone has changed it since it was laid.
kept() { # LEDGER USER FILE CONTENT
    [ "$(text_of "$2" "$3")" != "$4" ] || return 0
    exists "$2" "$3" && ! ours "$1" "$2" "$3" || return 1
    warn "$3 was changed by hand, so it stays as it is"
}

# Lays a file of CONTENT. One that someone has changed since is left as it is.
lay() { # LEDGER USER FILE MODE CONTENT
    ! kept "$1" "$2" "$3" "$5" || return 0
    [ "$2" != root ] || parents "$1" "$(dirname "$3")"
    note "$1" "laid $3 $(printf '%s\n' "$5" | fingerprint)"
    run "write $3" replace "$2" "$3" "$4" "$5"
}

parents() { # LEDGER DIRECTORY
    [ ! -d "$2" ] || return 0
    parents "$1" "$(dirname "$2")"
    note "$1" "directory $2"
    run '' mkdir "$2"
}

unlay() { # LEDGER USER FILE
    if ours "$1" "$2" "$3"; then
        run "remove $3" as "$2" rm -f "$3"
    elif exists "$2" "$3"; then
        warn "$3 was changed by hand, so it stays"
    fi
}

# ---------------------------------------------------------------- questions

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

# ---------------------------------------------------------------- options

options() {
    local option
    USER_NAME=deploy REPO='' SITE='' BRANCH='' NAME='' KEYS='' WEB='' DOMAIN='' GATE='' LOGIN_SHELL='' BINARY=''
    RULES='' DROPPED_RULES='' REMOVED_KEY='' DRY_RUN='' ACTION=install
    while [ $# -gt 0 ]; do
        case $1 in
            --user | --repo | --site | --branch | --name | --key | --web-server | --domain | --binary | --sudo | --remove-sudo | --remove-key)
                [ $# -ge 2 ] || misused "$1 wants a value"
                [ -n "$2" ] || misused "$1 wants a value that is not empty"
                case $2 in *"$LINE_END"*) misused "$1 wants a single line" ;; esac
                ;;
            --*=*)
                option=$1
                shift
                set -- "${option%%=*}" "${option#*=}" "$@"
                continue
                ;;
        esac
        case $1 in
            --user) USER_NAME=$2 && shift ;;
            --repo) REPO=$2 && shift ;;
            --site) SITE=$2 && shift ;;
            --branch) BRANCH=$2 && shift ;;
            --name) NAME=$2 && shift ;;
            --key) KEYS=$KEYS$2$LINE_END && shift ;;
            --web-server) WEB=$2 && shift ;;
            --domain) DOMAIN=$2 && shift ;;
            --binary) BINARY=$(absolute "$2") && shift ;;
            --sudo) RULES=$RULES$2$LINE_END && shift ;;
            --remove-sudo) DROPPED_RULES=$DROPPED_RULES$2$LINE_END && shift ;;
            --remove-key) ACTION=remove_key REMOVED_KEY=$2 && shift ;;
            --gate) GATE=yes ;;
            --login-shell) LOGIN_SHELL=yes ;;
            --dry-run) DRY_RUN=yes ;;
            --keys) ACTION=list_keys ;;
            --uninstall) ACTION=uninstall ;;
            --demo) ACTION=demo ;;
            --help | -h) usage && exit 0 ;;
            *) misused "unknown option $1" ;;
        esac
        shift
    done
}

plain() { # OPTION VALUE: paths and names that need no quotes anywhere, be it shell, TOML, Apache or sudo
    case $2 in
        *[!A-Za-z0-9._/+@-]* | -*) misused "$1 may hold letters, digits and ._/+@- only, not \`$(printf '%s' "$2" | clean)\`" ;;
    esac
}

# Settles user, repository and ledgers, and after that whatever was not given: by the ledger, else by the
# default. The config is the user's, and is asked by agree() alone.
settle() {
    local user_dir
    [ "$(id -u)" -eq 0 ] || fail 'this sets up a server, and wants root' "sudo $SELF ..., or $SELF --demo without"
    case $USER_NAME in
        root) misused '--user cannot be root: who pushes code would run it as root' ;;
        [!a-z_]* | *[!a-z0-9_-]*) misused "--user wants a user's name, not \`$USER_NAME\`" ;;
    esac
    HOME_DIR=$(home_of "$USER_NAME")
    case ${REPO:-sample_app} in
        "~$USER_NAME"/*) REPO=$HOME_DIR/${REPO#*/} ;;
        /*) ;;
        *) REPO=$HOME_DIR/${REPO:-sample_app} ;;
    esac
    # Without asking where links of the user's lead.
    REPO=$(realpath -ms "$REPO")
    plain --repo "$REPO"
    SLUG=$(printf '%s' "${REPO#/home/}" | tr -c 'A-Za-z0-9_-' _ | sed 's/^_//')
    LEDGER=$LEDGERS/repositories/$SLUG
    USERS=$LEDGERS/users/$USER_NAME
    SERVER=$LEDGERS/server
    [ ! -e "$LEDGER" ] || [ "$(value "$LEDGER" repository)" = "$REPO" ] ||
        fail "$REPO and $(value "$LEDGER" repository) have one name in $LEDGERS" 'give the repository another name'

    SITE_GIVEN=$SITE
    SITE=${SITE:-$(value "$LEDGER" site)}
    SITE=$(realpath -ms "${SITE:-/var/www/html}")
    plain --site "$SITE"
    plain --branch "$BRANCH"
    plain --name "$NAME"
    case "$SITE/" in
        /*/*/) ;;
        *) misused "--site $SITE is no place for a site; /srv/NAME would be" ;;
    esac
    case "$HOME_DIR/ $REPO/" in
        "$SITE"/* | *" $SITE"/*) misused "--site $SITE would hold the repository or the home of $USER_NAME" ;;
    esac
    for user_dir in "$REPO" /etc /usr /proc /sys /dev /bin /sbin /lib /boot /root /run /tmp "$LEDGERS"; do
        case "$SITE/" in "$user_dir"/*) misused "--site $SITE is no place for a site" ;; esac
    done
    DOMAIN=${DOMAIN:-$(value "$LEDGER" domain)}
    case $DOMAIN in *[!A-Za-z0-9.*-]*) misused "--domain wants a host name, not \`$DOMAIN\`" ;; esac
    GATE=${GATE:-$(value "$LEDGER" gate)}
    LOGIN_SHELL=${LOGIN_SHELL:-$(value "$USERS" login-shell)}
}

# Compares the config that is there with what was asked for, as the program reads it, as its owner. Its
# branch and its name of the server count; its site must be the one that root knows of. False where it
# cannot be read.
agree() {
    local settings
    exists "$USER_NAME" "$REPO/bluegreen.toml" || return 0
    : >"$SCRATCH/asides"
    settings=$(as "$USER_NAME" "$PROGRAM" -C "$REPO" generate settings) || return 1
    BRANCH=$(agreed "$settings" branch branch "$BRANCH") || exit
    NAME=$(agreed "$settings" server name "$NAME") || exit
    agreed "$settings" site site "$SITE" >/dev/null || exit
}

agreed() { # SETTINGS KEY OPTION WANTED: the value of KEY, which is WANTED where anything is
    local found key="$2" hint="leave --$3 out, or change the config first"
    found=$(printf '%s\n' "$1" | sed -n "s/^$2 //p" | head -n 1)
    plain "$REPO/bluegreen.toml: $2" "$found"
    if [ -n "$4" ] && [ "$found" != "$4" ]; then
        [ "$2" != site ] || {
            key=root
            hint="put it back; or if the site is to be there, as root: $SELF --repo $REPO --site $found"
        }
        fail "$REPO/bluegreen.toml says \`$key = \"$found\"\`, not $4" "$hint"
    fi
    printf '%s\n' "$found"
}

# ---------------------------------------------------------------- before anything is changed

# Everything that can be known to fail, does so here.
preflight() {
    local tool
    STEP=preflight
    for tool in runuser getent realpath cksum setsid timeout bash; do
        has "$tool" || fail "\`$tool\` is missing; is this Debian or Ubuntu?"
    done
    settle
    check_keys
    check_rules
    find_assets
    find_web_server
    find_binary
    check_repository
    check_hook post-receive
    [ -z "$GATE" ] || check_hook proc-receive
    check_others
    check_site
    [ ! -x "$PROGRAM" ] || agree || :
}

check_repository() {
    if id "$USER_NAME" >/dev/null 2>&1; then
        ! exists "$USER_NAME" "$REPO" || as "$USER_NAME" test -O "$REPO" ||
            fail "$REPO belongs to $(owner_of "$REPO"), not to $USER_NAME" '--user NAME, or another --repo'
    else
        [ ! -e "$REPO" ] || fail "$REPO belongs to $(owner_of "$REPO"), not to $USER_NAME, who is no user yet" '--user NAME, or another --repo'
    fi
}

# A hook is ours if it is a link to the program, and chained if it calls it.
check_hook() { # NAME
    local hook="$REPO/hooks/$1"
    as "$USER_NAME" test -e "$hook" || as "$USER_NAME" test -L "$hook" || return 0
    ! hook_is_ours "$hook" && ! as "$USER_NAME" grep -Fqs "bluegreen hook $1" "$hook" || return 0
    fail "$hook is not this program's, so it stays as it is" \
        "move it away and run this again; or to run both, let it end with \`bluegreen hook $1\` on the same standard input"
}

hook_is_ours() { # HOOK
    case $(as "$USER_NAME" readlink "$1") in
        /usr/local/bin/bluegreen | /usr/bin/bluegreen) return 0 ;;
        *) return 1 ;;
    esac
}

# Two repositories share neither a site nor a host name.
check_others() {
    local other
    for other in "$LEDGERS"/repositories/*; do
        [ -e "$other" ] || continue
        [ "$other" != "$LEDGER" ] || continue
        [ "$(value "$other" site)" != "$SITE" ] ||
            fail "$SITE is the site of $(value "$other" repository)" 'give this repository a site of its own: --site DIRECTORY'
        [ "$WEB" = none ] || [ -n "$DOMAIN" ] || [ -n "$(value "$other" domain)" ] || [ "$(value "$other" web-server)" = none ] ||
            fail "$(value "$other" repository) answers for every host name already" 'tell the two apart: --domain NAME'
    done
}

# A site that is there already is the user's, or becomes it by the word of an admin: root gives away what
# root has, where nobody else can have put anything in between, and nothing else.
check_site() {
    local real foreign
    GIVE_SITE=
    real=$(realpath -m "$SITE")
    [ "$real" = "$SITE" ] || fail "$SITE leads to $real" "name that directory itself, if it is meant: --site $real"
    [ -e "$SITE" ] || return 0
    [ -d "$SITE" ] || fail "$SITE is not a directory"
    [ ! -e "$SITE/current" ] || [ -L "$SITE/current" ] ||
        fail "$SITE/current is in the way: a deployment makes it a link" "mv $SITE/current $SITE/current.old"
    [ "$(owner_of "$SITE")" != "$USER_NAME" ] || return 0
    [ "$(owner_of "$SITE")" = root ] ||
        fail "$SITE belongs to $(owner_of "$SITE"), not to $USER_NAME" \
            "another directory: --site DIRECTORY; or give it away, if that is right: chown -R $USER_NAME $SITE"
    roots_alone "$SITE" || fail "others than root can change $SITE or a directory above it" "chmod go-w it, or chown $USER_NAME $SITE"
    GIVE_SITE=yes
    if [ "$WEB" = none ] || [ -L "$SITE/current" ] || [ -z "$(leftovers)" ]; then return 0; fi
    [ -n "$SITE_GIVEN" ] || [ -z "$(leftovers | not_the_distributions)" ] ||
        fail "$SITE holds something already, and belongs to root" \
            "--site $SITE makes that the first release, owned by $USER_NAME; another directory leaves it alone"
    ! grep -Fq " $SITE/" /proc/self/mountinfo || fail "something is mounted in $SITE" 'unmount it, or name another directory: --site DIRECTORY'
    # A run that was interrupted may have given away some files, but then root has their directories.
    foreign=$(find "$SITE" \( -not -uid 0 -a \( -type d -o -not -user "$(id -u "$USER_NAME" 2>/dev/null || echo 0)" \) \
        -o -type d -perm /022 -o -type f -links +1 \) -print -quit)
    [ -z "$foreign" ] || fail "$foreign is not root's alone, so root does not give it away" "look at it, then chown -R $USER_NAME $SITE"
    GIVE_SITE=all
}

leftovers() { # what was in the site before
    [ ! -d "$SITE" ] || find "$SITE" -mindepth 1 -maxdepth 1 ! -name current ! -name releases ! -name shared ! -name .bluegreen
}

# The page that a web server's package lays is nobody's site.
not_the_distributions() {
    local path
    while IFS= read -r path; do
        grep -Eqs 'Default Page: It works|<title>Welcome to nginx' "$path" || printf '%s\n' "$path"
    done
}

# From a clone the files lie beside this script; the Debian package has them in /usr/share.
find_assets() {
    PACKAGED=
    ASSETS=$HERE/hooks
    [ -e "$ASSETS/bluegreen.toml" ] || {
        PACKAGED=yes
        ASSETS=/usr/share/bluegreen
    }
    [ -e "$ASSETS/bluegreen.toml" ] || fail "bluegreen.toml lies neither in $HERE/hooks nor in $ASSETS" 'run install.sh from a whole clone'
    # shellcheck source=packaging/building.sh
    [ -n "$PACKAGED" ] || . "$HERE/packaging/building.sh"
}

# Settles where the program will be, and where it comes from: nowhere yet, if it is to be built.
find_binary() {
    if [ -n "$PACKAGED" ] && [ -z "$BINARY" ]; then
        PROGRAM=/usr/bin/bluegreen
        [ -x "$PROGRAM" ] || fail "$PROGRAM is missing" 'apt-get install --reinstall bluegreen'
        SOURCE=$PROGRAM
        return 0
    fi
    PROGRAM=/usr/local/bin/bluegreen
    SOURCE=$BINARY
    [ ! -e "$PROGRAM" ] || is_bluegreen "$PROGRAM" || fail "$PROGRAM is another program, so it stays as it is"
    [ -z "$BINARY" ] || is_bluegreen "$BINARY" || fail "$BINARY is not bluegreen, or does not run on this machine"
    # Where nothing can be built, what is installed will do.
    if [ -z "$BINARY" ] && [ -x "$PROGRAM" ] && { [ -n "$PACKAGED" ] || [ -z "$(find_cargo "$(home_of "$(owner_of "$HERE")")")" ]; }; then
        SOURCE=$PROGRAM
    fi
}

is_bluegreen() {
    case $("$1" --version 2>/dev/null) in "bluegreen "*) return 0 ;; *) return 1 ;; esac
}

# ---------------------------------------------------------------- packages and program

packages() {
    local missing=
    STEP=packages
    has git || missing="$missing git"
    has adduser || missing="$missing adduser"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    [ "$WEB" != apache ] || has apache2ctl || missing="$missing apache2"
    [ "$WEB" != nginx ] || has nginx || missing="$missing nginx"
    [ -n "$SOURCE" ] || missing=$(printf '%s' "$missing$(missing_to_build)" | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/ $//')
    [ -z "$(wanted_rules)" ] || has visudo || missing="$missing sudo"
    [ -n "$missing" ] || return 0
    has apt-get || fail "this needs$missing, and there is no apt-get" 'install them, then run this again'
    run 'apt-get update' apt-get -qq update
    # shellcheck disable=SC2086 # several names
    run "apt-get install$missing" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing
}

program() {
    STEP=program
    [ -n "$SOURCE" ] || build
    if [ "$SOURCE" != "$PROGRAM" ] && ! cmp -s "$SOURCE" "$PROGRAM"; then
        note "$SERVER" "program $PROGRAM"
        run "install $PROGRAM" put_copy "$SOURCE" 755 "$PROGRAM"
    fi
    # The account's shell lies where the account cannot write; called by this name, the program is it.
    [ "$(readlink "$LOGIN_PROGRAM")" = "$PROGRAM" ] || {
        [ ! -e "$LOGIN_PROGRAM" ] || [ -L "$LOGIN_PROGRAM" ] || fail "$LOGIN_PROGRAM is in the way" "move it away"
        note "$SERVER" "link $LOGIN_PROGRAM"
        run "make bluegreen the shell $LOGIN_PROGRAM" put_link root "$PROGRAM" "$LOGIN_PROGRAM"
    }
    [ -z "$PACKAGED" ] || return 0
    generated man /usr/local/share/man/man1/bluegreen.1
    generated bash /usr/local/share/bash-completion/completions/bluegreen
    generated zsh /usr/local/share/zsh/site-functions/_bluegreen
    generated fish /usr/local/share/fish/vendor_completions.d/bluegreen.fish
}

generated() { # WHAT FILE
    local text
    # A dry run builds nothing, and so has nothing to ask.
    if [ ! -x "$SOURCE" ]; then
        [ -e "$2" ] || run "write $2" false
        return 0
    fi
    text=$("$SOURCE" generate "$1") || fail "\`bluegreen generate $1\` failed"
    lay "$SERVER" root "$2" 644 "$text"
}

# Builds as whoever owns the clone: a folder of root's in it would stop the owner's next build. It is not a
# change of the server, and cargo shows by itself how far it is.
build() {
    local builder cargo
    builder=$(owner_of "$HERE")
    SOURCE=$HERE/target/release/bluegreen
    cargo=$(find_cargo "$(home_of "$builder")")
    [ -n "$cargo" ] || fail "building needs cargo of Rust $(rust_version) or newer" \
        'install Rust with rustup; or build elsewhere with `cargo build --release --locked`, and give --binary FILE'
    printf '%-12s %s\n' "$STEP" "${DRY_RUN:+would }build bluegreen in $HERE"
    [ -z "$DRY_RUN" ] || return 0
    (cd "$HERE" && runuser -u "$builder" -- env -i "HOME=$(home_of "$builder")" "USER=$builder" \
        "PATH=$(dirname "$cargo"):$PATH" "CARGO_TARGET_DIR=$HERE/target" cargo build --release --locked 9>&-) ||
        fail 'the build failed' 'its messages are above'
}

# ---------------------------------------------------------------- the account

user() {
    local shell="$LOGIN_PROGRAM" now
    STEP=user
    [ -z "$LOGIN_SHELL" ] || shell=/bin/bash
    now=$(shell_of "$USER_NAME")
    if [ -z "$now" ]; then
        note "$USERS" created
        run "add the user $USER_NAME with the shell $shell" add_user "$shell"
    elif noted "$USERS" created; then
        [ "$now" = "$shell" ] || run "make $shell the shell of $USER_NAME" usermod -s "$shell" "$USER_NAME"
    elif [ "$now" != "$shell" ] && [ -z "$LOGIN_SHELL" ]; then
        warn "$USER_NAME was here before and keeps the shell $now; \`usermod -s $shell $USER_NAME\` restricts it"
    fi
    [ -z "$LOGIN_SHELL" ] || note "$USERS" 'login-shell yes'
}

# Debian's and Ubuntu's adduser differ in how a comment is given; all take an empty answer to it.
add_user() { # SHELL
    adduser --quiet --disabled-password --gecos '' --shell "$1" "$USER_NAME" >/dev/null
}

# ---------------------------------------------------------------- keys

# A line of authorized_keys or of a public key file, whatever its options: prints "TYPE BLOB COMMENT".
KEY_LINE='s/^(.*[[:space:]])?((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 \6/p'

public_keys() { sed -nE "$KEY_LINE"; }

# Reads the keys to add, "NAME=FILE" or a file, to lines of "NAME TYPE BLOB COMMENT", with a dot for no name.
check_keys() {
    local entry name file others
    NEW_KEYS=
    while IFS= read -r entry; do
        [ -n "$entry" ] || continue
        name=${entry%%=*} file=${entry#*=}
        case $entry in
            [A-Za-z0-9]*=*) case $name in *[!A-Za-z0-9._@+-]*) name='' file=$entry ;; esac ;;
            *) name='' file=$entry ;;
        esac
        file=$(absolute "$file")
        [ -r "$file" ] || fail "cannot read the key $file"
        ! grep -q 'PRIVATE KEY' "$file" || fail "$file is a private key" "the public one is $file.pub"
        others=$(grep -Ev '^(#|[[:space:]]*$|(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*( |$))' "$file" || :)
        [ -z "$others" ] || fail "$file holds no public ssh key in the line: $(printf '%s\n' "$others" | clean | head -n 1)" 'TYPE KEY COMMENT, without options'
        [ -n "$(public_keys <"$file")" ] || fail "$file holds no public ssh key"
        NEW_KEYS=$NEW_KEYS$(public_keys <"$file" | clean | sed "s/^/${name:-.} /")$LINE_END
    done <<EOT
$KEYS
EOT
}

read_keys() { text_of "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys"; }

write_keys() { # WHAT CONTENT
    run "$1" replace "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys" 600 "$2"
}

ssh_keys() {
    local dir="$HOME_DIR/.ssh" before after name type blob comment added=0
    STEP=ssh
    as "$USER_NAME" test -d "$dir" || run "create $dir" as "$USER_NAME" install -d -m 700 "$dir"
    before=$(read_keys)
    after=$before
    while read -r name type blob comment; do
        [ -n "$type" ] || continue
        [ "$name" = . ] || comment=$name
        case " $after" in
            *" $blob"*)
                [ "$name" = . ] || after=$(printf '%s\n' "$after" | named "$blob" "$name")
                ;;
            *)
                note "$USERS" "key $blob"
                added=$((added + 1))
                after="${after:+$after$LINE_END}restrict $type $blob${comment:+ $comment}"
                ;;
        esac
    done <<EOT
$NEW_KEYS
EOT
    if [ "$added" -gt 0 ]; then
        write_keys "allow $added key(s) to push" "$after"
    elif [ "$before" != "$after" ]; then
        write_keys 'name a key' "$after"
    fi
    private "$dir" 700
    private "$dir/authorized_keys" 600
    expose_keys
}

named() { # BLOB NAME: the lines of standard input, that key with that name
    awk -v blob="$1" -v name="$2" '(at = index($0, " " blob)) { $0 = substr($0, 1, at + length(blob)) " " name } { print }'
}

# ssh passes over keys that others could have written.
private() { # PATH MODE
    local mode
    mode=$(as "$USER_NAME" stat -c %a -- "$1") || return 0
    [ "$mode" = "$2" ] || run "chmod $2 $1" as "$USER_NAME" chmod "$2" "$1"
}

# Has sshd tell the account's programs which key came in, so that the history names who pushed.
expose_keys() {
    local file="/etc/ssh/sshd_config.d/bluegreen-$USER_NAME.conf" text
    grep -Eiqs '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config || {
        warn "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d, so the history will have addresses and no names"
        return 0
    }
    text="# Laid by bluegreen's install.sh: the history names whose key pushed.
Match User $USER_NAME
    ExposeAuthInfo yes"
    kept "$USERS" root "$file" "$text" || {
        note "$USERS" ssh-reload-due
        SSHD_CONF=$file
        UNDO=sshd_restore
        lay "$USERS" root "$file" 644 "$text"
        [ -n "$DRY_RUN" ] || sshd_accepts || fail "sshd refuses its config, so $file is gone again" 'its own words are above; put it right, and run this again'
        UNDO=
    }
    ! noted "$USERS" ssh-reload-due || run 'reload sshd' sshd_reload
    unnote "$USERS" ssh-reload-due
}

sshd_accepts() {
    install -d -m 755 /run/sshd
    passes /usr/sbin/sshd -t
}

sshd_restore() { rm -f "$SSHD_CONF"; }

# Where systemd starts an sshd for each connection, there is nothing to reload.
sshd_reload() {
    if systemd; then
        ! systemctl is-active --quiet ssh || systemctl reload ssh
    else
        ! alive /run/sshd.pid || kill -HUP "$(cat /run/sshd.pid)"
    fi
}

list_keys() {
    STEP=keys
    settle
    # ssh-keygen prints "256 SHA256:... COMMENT (ED25519)" for each.
    read_keys | as "$USER_NAME" ssh-keygen -lf - |
        sed -nE 's/^[0-9]+ (SHA256:[^ ]+) (.*) \(([A-Z0-9-]+)\)$/\2\t\1\t\3/p' |
        awk -F '\t' 'BEGIN { printf "%-24s %-50s %s\n", "NAME", "FINGERPRINT", "TYPE" } { printf "%-24s %-50s %s\n", $1, $2, $3 }'
}

remove_key() {
    local line type blob comment after='' removed=0
    STEP=keys
    settle
    while IFS= read -r line; do
        read -r type blob comment <<EOT
$(printf '%s\n' "$line" | public_keys)
EOT
        if [ -n "$blob" ] && { [ "$comment" = "$REMOVED_KEY" ] || [ "$(fingerprint_of "$type $blob")" = "$REMOVED_KEY" ]; }; then
            removed=$((removed + 1))
            unnote "$USERS" "key $blob"
        else
            after=$after$line$LINE_END
        fi
    done <<EOT
$(read_keys)
EOT
    [ "$removed" -gt 0 ] || fail "no key of $REMOVED_KEY may push" "$SELF --keys lists them"
    write_keys "take away $removed key(s) of $REMOVED_KEY" "${after%"$LINE_END"}"
    [ -n "$(printf '%s' "$after" | public_keys)" ] || warn 'no key may push any more'
}

fingerprint_of() { # KEY
    printf '%s\n' "$1" | as "$USER_NAME" ssh-keygen -lf - | cut -d' ' -f2
}

# ---------------------------------------------------------------- the repository

repository() {
    local key value
    STEP=repository
    note "$LEDGER" "repository $REPO"
    note "$LEDGER" "user $USER_NAME"
    # The program is there now, if it was not before.
    [ ! -x "$PROGRAM" ] || agree || {
        clean <"$SCRATCH/asides" | indent >&2
        fail "$REPO/bluegreen.toml cannot be read" "bluegreen -C $REPO check"
    }
    BRANCH=${BRANCH:-master}
    NAME=${NAME:-$(hostname)}
    exists "$USER_NAME" "$REPO/HEAD" || {
        user_directory "$REPO"
        run "create the bare repository $REPO" as "$USER_NAME" git -c "init.defaultBranch=$BRANCH" init --quiet --bare "$REPO"
    }
    # `check` looks for the same settings.
    [ ! -x "${SOURCE:-$PROGRAM}" ] || while read -r key value; do
        setting "$key" "$value"
    done <<EOT
$("${SOURCE:-$PROGRAM}" generate git-settings)
EOT
    hook post-receive
    lay_config
    if [ -n "$GATE" ]; then
        note "$LEDGER" 'gate yes'
        hook proc-receive
        setting receive.procReceiveRefs "refs/heads/$BRANCH"
    fi
}

# A directory of the user's: made by root where root alone decides what lies there, else by the user.
user_directory() { # DIRECTORY
    local parent
    [ ! -e "$1" ] || return 0
    parent=$(dirname "$1")
    if ! roots_alone "$parent" || [ "$parent" = "$HOME_DIR" ]; then
        run "create $1" as "$USER_NAME" mkdir -p "$1"
        return
    fi
    [ -d "$parent" ] || run "create $parent" install -d -m 755 "$parent"
    run "create $1" install -d -m 755 -o "$USER_NAME" -g "$(group_of "$USER_NAME")" "$1"
}

setting() { # KEY VALUE
    [ "$(git_config --get "$1")" = "$2" ] || run "git config $1 $2" git_config "$1" "$2"
}

git_config() { as "$USER_NAME" git --git-dir="$REPO" config --local "$@"; }

hook() { # NAME
    local hook="$REPO/hooks/$1"
    ! exists "$USER_NAME" "$hook" || hook_is_ours "$hook" || return 0 # chained: check_hook has seen it
    [ "$(as "$USER_NAME" readlink "$hook")" = "$PROGRAM" ] || {
        note "$LEDGER" "hook $1"
        as "$USER_NAME" test -d "$REPO/hooks" || run '' as "$USER_NAME" mkdir -p "$REPO/hooks"
        run "make bluegreen the hook $hook" put_link "$USER_NAME" "$PROGRAM" "$hook"
    }
}

# The config is its owner's from the moment that it is there.
lay_config() {
    ! exists "$USER_NAME" "$REPO/bluegreen.toml" || return 0
    lay "$LEDGER" "$USER_NAME" "$REPO/bluegreen.toml" 644 "$(sed -e "s|^#branch = .*|branch = \"$BRANCH\"|" \
        -e "s|^#server = .*|server = \"$NAME\"|" -e "s|^#root = .*|root = \"$SITE\"|" "$ASSETS/bluegreen.toml")"
}

# ---------------------------------------------------------------- sudo, for the steps

# The rules are an admin's: what --sudo says, checked, and kept in the ledger. The config has no say in them.
check_rules() {
    local rule
    while IFS= read -r rule; do
        [ -z "$rule" ] || check_rule "$rule"
    done <<EOT
$RULES
EOT
    while IFS= read -r rule; do
        [ -z "$rule" ] || noted "$LEDGER" "sudo $rule" || fail "there is no rule \`$rule\`" "$SELF --repo $REPO --dry-run lists what there is"
    done <<EOT
$DROPPED_RULES
EOT
}

check_rule() { # COMMAND
    local program="${1%% *}" real path
    case $1 in
        *[!A-Za-z0-9_./@%+,:=\ -]*) fail "--sudo \`$1\`: plain words only" "--sudo '/usr/bin/systemctl restart NAME'" ;;
        *' ' | *'  '*) fail "--sudo \`$1\`: a single space between words" ;;
        *..*) fail "--sudo \`$1\`: no \`..\`, which could lead anywhere" ;;
    esac
    case $program in
        /*) ;;
        *) fail "--sudo \`$1\`: \`$program\` is no absolute path" "--sudo '$(command -v -- "$program" || echo "/usr/bin/$program")${1#"$program"}'" ;;
    esac
    { [ -f "$program" ] && [ -x "$program" ]; } || fail "--sudo \`$1\`: $program is no program"
    real=$(realpath -e "$program")
    [ "$real" = "$program" ] || fail "--sudo \`$1\`: $program leads to $real" "--sudo '$real${1#"$program"}', and the same in the step"
    roots_alone "$program" || fail "--sudo \`$1\`: others than root can change $program or a directory above it"
    # Each word of the rest, and each part of it that may be a path. The command runs in /.
    for path in $(printf '%s' "${1#"$program"}" | tr '=:,' '   '); do
        case $path in */*) path=/${path#*/} ;; *) continue ;; esac
        case "$path/" in
            "$HOME_DIR"/* | "$REPO"/* | "$SITE"/*) fail "--sudo \`$1\`: $USER_NAME can change $path, and so what root would do with it" ;;
        esac
        roots_alone "$path" || fail "--sudo \`$1\`: $path, or what leads to it, is not root's alone"
    done
}

# The rules of the ledger, with the new and without the dropped ones.
wanted_rules() {
    local rule
    { values "$LEDGER" sudo && printf '%s' "$RULES"; } | sort -u |
        while IFS= read -r rule; do
            case "$LINE_END$DROPPED_RULES" in *"$LINE_END$rule$LINE_END"*) ;; *) printf '%s\n' "$rule" ;; esac
        done
}

sudoers() {
    local file="/etc/sudoers.d/bluegreen-$SLUG" rule rules text="# Laid by bluegreen's install.sh for $REPO, by the word of --sudo."
    STEP=sudo
    rules=$(wanted_rules)
    while IFS= read -r rule; do
        [ -z "$rule" ] || unnote "$LEDGER" "sudo $rule"
    done <<EOT
$DROPPED_RULES
EOT
    if [ -z "$rules" ]; then
        [ ! -e "$file" ] || unlay "$LEDGER" root "$file"
        return 0
    fi
    while IFS= read -r rule; do
        note "$LEDGER" "sudo $rule"
        printf '%-12s %s may run as root, without a password: %s\n' "$STEP" "$USER_NAME" "$rule"
        # Without arguments sudo would allow any.
        case $rule in *' '*) ;; *) rule="$rule \"\"" ;; esac
        text="$text$LINE_END$USER_NAME ALL=(root) CWD=/ NOPASSWD: $(printf '%s' "$rule" | sed 's/[,:=]/\\&/g')"
    done <<EOT
$rules
EOT
    if has visudo; then
        printf '%s\n' "$text" | visudo -cqf - || fail 'sudo would refuse these rules' 'it takes sudo 1.9.3 or newer'
    fi
    lay "$LEDGER" root "$file" 440 "$text"
}

# ---------------------------------------------------------------- the site

# What is served already stays served: the web server's new config is tested, then the files become
# the first release, then the web server is told.
site() {
    local first='' directory
    STEP=site
    note "$LEDGER" "site $SITE"
    as "$USER_NAME" test -L "$SITE/current" || first=yes
    user_directory "$SITE"
    web_config
    STEP=site
    case $GIVE_SITE in
        all) run "give $SITE and what is in it to $USER_NAME" chown -hR "$USER_NAME" "$SITE" ;;
        yes) run "give $SITE to $USER_NAME" chown -h "$USER_NAME" "$SITE" ;;
    esac
    for directory in releases .bluegreen; do
        exists "$USER_NAME" "$SITE/$directory" ||
            run "create $SITE/$directory" as "$USER_NAME" install -d -m "$([ "$directory" = releases ] && echo 755 || echo 700)" "$SITE/$directory"
    done
    reopen
    if [ -n "$first" ] && [ -n "$(leftovers)" ]; then
        if [ "$WEB" = none ]; then
            say "site         $SITE stays as it is: your web server serves it until its document root is $SITE/current"
        else
            # Another deployment may have to end first.
            PATIENCE=900
            run "make what lies in $SITE the first release" as "$USER_NAME" "$PROGRAM" -C "$REPO" adopt
        fi
    fi
    UNDO=
    web_reload
}

# What an uninstall closed to visitors is open again.
reopen() {
    local name
    for name in $(text_of "$USER_NAME" "$SITE/.bluegreen/closed"); do
        case $name in
            releases | shared) run "open $SITE/$name again" as "$USER_NAME" chmod o+rx "$SITE/$name" ;;
        esac
    done
    ! exists "$USER_NAME" "$SITE/.bluegreen/closed" || run '' as "$USER_NAME" rm -f "$SITE/.bluegreen/closed"
}

close() {
    local name
    for name in releases shared; do
        case $(as "$USER_NAME" stat -c '%F:%a' -- "$SITE/$name") in
            directory:*[1357]) run "close $SITE/$name to visitors" close_one "$name" ;;
        esac
    done
}

close_one() { # NAME
    as "$USER_NAME" sh -c 'echo "$2" >>"$1/.bluegreen/closed" && chmod o-rwx "$1/$2"' sh "$SITE" "$1"
}

# ---------------------------------------------------------------- the web server

find_web_server() {
    local had enabled directive=root
    had=$(value "$LEDGER" web-server)
    [ "${WEB:-auto}" != auto ] || WEB=${had:-auto}
    case $WEB in
        apache | nginx | none) ;;
        auto)
            WEB=apache
            if alive /run/apache2/apache2.pid; then
                :
            elif alive /run/nginx.pid || { has nginx && ! has apache2ctl; }; then
                WEB=nginx
            fi
            ;;
        *) misused "--web-server wants auto, apache, nginx or none, not \`$WEB\`" ;;
    esac
    [ -z "$had" ] || [ "$had" = "$WEB" ] ||
        fail "$REPO was set up with $had" "$SELF --repo $REPO --uninstall first, then set it up with $WEB"
    [ "$WEB" != none ] || return 0
    web_places
    # Without a name of its own a site must be the server's first, which answers for all names.
    SITE_CONF=${DOMAIN:+bluegreen-$SLUG$CONF}
    SITE_CONF=${SITE_CONF:-000-bluegreen-$SLUG$CONF}
    # A site of somebody else's that serves this directory would serve nothing once it is adopted.
    [ "$WEB" = nginx ] || directive=DocumentRoot
    for enabled in "$WEB_DIR"/sites-enabled/*; do
        case ${enabled##*/} in "$DEFAULT_SITE" | *"bluegreen-$SLUG$CONF") continue ;; esac
        ! grep -Eqs "^[[:space:]]*${directive}[[:space:]]+\"?$SITE/?\"?;?[[:space:]]*\$" "$enabled" ||
            fail "$enabled serves $SITE already" "change its $directive to $SITE/current and give --web-server none, or disable it"
    done
}

# Where Debian and Ubuntu keep a web server's files.
web_places() {
    if [ "$WEB" = apache ]; then
        WEB_DIR=/etc/apache2 CONF=.conf PID_FILE=/run/apache2/apache2.pid DEFAULT_SITE=000-default.conf WEB_COMMAND=apache2ctl WEB_UNIT=apache2
    else
        WEB_DIR=/etc/nginx CONF='' PID_FILE=/run/nginx.pid DEFAULT_SITE=default WEB_COMMAND=nginx WEB_UNIT=nginx
    fi
    # What Apache sends X-Served-By with.
    HEADERS=mods-enabled/headers.load
}

# The site of hooks/web, with what holds here: its first lines explain the marks.
site_text() {
    local php all='yes' no_php='yes' ipv6=''
    php=$(find /run/php -maxdepth 1 -name 'php*-fpm.sock' 2>/dev/null | sort -V | tail -n 1)
    [ -z "$DOMAIN" ] || all=''
    [ -z "$php" ] || no_php=''
    [ ! -e /proc/net/if_inet6 ] || ipv6=yes
    sed -e '/^@:/d' -e "$(mark domain "$DOMAIN")" -e "$(mark all "$all")" -e "$(mark ipv6 "$ipv6")" -e "$(mark php "$php")" \
        -e "$(mark no-php "$no_php")" -e "s|@SITE@|$SITE|g" -e "s|@REPO@|$REPO|g" -e "s|@NAME@|$NAME|g" \
        -e "s|@DOMAIN@|$DOMAIN|g" -e "s|@PHP@|$php|g" "$ASSETS/web/$WEB.conf"
}

mark() { # NAME VALUE: what sed does to the lines of that mark
    if [ -n "$2" ]; then printf 's/^@%s://' "$1"; else printf '/^@%s:/d' "$1"; fi
}

# Puts our site on and the default site off, and tests it; the running server still has its old
# config when this returns. A test that fails puts all back.
web_config() {
    local available enabled default stale text default_off=yes
    STEP='web server'
    note "$LEDGER" "web-server $WEB"
    [ "$WEB" != none ] || return 0
    [ -z "$DOMAIN" ] || note "$LEDGER" "domain $DOMAIN"
    available=$WEB_DIR/sites-available/$SITE_CONF
    enabled=$WEB_DIR/sites-enabled/$SITE_CONF
    default=$WEB_DIR/sites-enabled/$DEFAULT_SITE
    # Who puts the default site on again, means it.
    [ ! -L "$default" ] || [ -n "$(value "$SERVER" "default-off-$WEB")" ] && ! noted "$LEDGER" reload-due || default_off=
    text=$(site_text)
    if kept "$LEDGER" root "$available" "$text" && [ -L "$enabled" ] && [ -n "$default_off" ] && ! noted "$LEDGER" reload-due; then
        return 0
    fi
    # A dry run may be the only one to get here before the packages are.
    ! has "$WEB_COMMAND" || web_test || fail "$WEB refuses its config as it is, before any change" 'its own words are above; put it right, and run this again'
    web_remember
    note "$LEDGER" reload-due
    for stale in "$WEB_DIR/sites-available/bluegreen-$SLUG$CONF" "$WEB_DIR/sites-available/000-bluegreen-$SLUG$CONF"; do
        [ "$stale" = "$available" ] || ! ours "$LEDGER" root "$stale" || {
            run "disable ${stale##*/}" rm -f "$WEB_DIR/sites-enabled/${stale##*/}"
            unlay "$LEDGER" root "$stale"
        }
    done
    lay "$LEDGER" root "$available" 644 "$text"
    [ -L "$enabled" ] || run "enable $SITE_CONF" put_link root "../sites-available/$SITE_CONF" "$enabled"
    if [ "$WEB" = apache ] && [ ! -e "$WEB_DIR/$HEADERS" ]; then
        note "$SERVER" 'apache-headers'
        run "enable Apache's module headers" put_link root ../mods-available/headers.load "$WEB_DIR/$HEADERS"
    fi
    if [ -L "$default" ] && [ -z "$default_off" ]; then
        note "$SERVER" "default-off-$WEB $(readlink "$default")"
        run "disable the default site" rm -f "$default"
    fi
    [ -n "$DRY_RUN" ] || web_test || fail "$WEB refuses the config for $SITE, so what it had is back" 'its own words are above; put it right, and run this again'
}

web_test() {
    case $WEB in
        apache) passes apache2ctl configtest ;;
        nginx) passes nginx -tq ;;
    esac
}

# Until the new config has passed its test, whatever ends this script puts back what was there.
web_remember() {
    [ -z "$DRY_RUN" ] || return 0
    mkdir "$SCRATCH/saved"
    [ ! -d "$WEB_DIR" ] || cp -a "$WEB_DIR/sites-available" "$WEB_DIR/sites-enabled" "$SCRATCH/saved"
    [ ! -d "$WEB_DIR/mods-enabled" ] || cp -a "$WEB_DIR/mods-enabled" "$SCRATCH/saved"
    UNDO=web_restore
}

web_restore() {
    local name
    for name in "sites-available/bluegreen-$SLUG$CONF" "sites-available/000-bluegreen-$SLUG$CONF" \
        "sites-enabled/bluegreen-$SLUG$CONF" "sites-enabled/000-bluegreen-$SLUG$CONF" "sites-enabled/$DEFAULT_SITE" "$HEADERS"; do
        rm -f "$WEB_DIR/$name"
        if [ -e "$SCRATCH/saved/$name" ] || [ -L "$SCRATCH/saved/$name" ]; then cp -a "$SCRATCH/saved/$name" "$WEB_DIR/$name"; fi
    done
}

web_reload() {
    STEP='web server'
    [ "$WEB" != none ] || return 0
    if ! alive "$PID_FILE"; then
        run "start $WEB" web_start
    elif noted "$LEDGER" reload-due || { [ -n "$DRY_RUN" ] && [ ! -e "$WEB_DIR/sites-enabled/$SITE_CONF" ]; }; then
        run "reload $WEB" web_graceful
    fi
    unnote "$LEDGER" reload-due
}

web_start() {
    if systemd; then systemctl enable --quiet --now "$WEB_UNIT"; else service "$WEB_UNIT" start; fi
}

# A reload has come about once a worker of the new config runs; until then an old one answers.
web_graceful() {
    local before worker tries=50
    before=$(web_workers)
    web_signal || return 1
    while [ "$tries" -gt 0 ]; do
        sleep 0.1
        for worker in $(web_workers); do
            case " $before " in
                *" $worker "*) ;;
                *) return 0 ;;
            esac
        done
        tries=$((tries - 1))
    done
}

web_workers() {
    local main
    main=$(cat "$PID_FILE")
    cat "/proc/$main/task/$main/children" 2>/dev/null || :
}

web_signal() {
    if systemd; then
        systemctl reload "$WEB_UNIT"
    elif [ "$WEB" = apache ]; then
        apache2ctl graceful
    else
        nginx -s reload
    fi
}

# ---------------------------------------------------------------- the end of an installation

finish() {
    STEP=check
    if [ -n "$DRY_RUN" ]; then
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

# ---------------------------------------------------------------- taking it back

uninstall() {
    local other name last_of_user=yes last_of_server=yes
    STEP=preflight
    settle
    if [ ! -e "$LEDGER" ]; then
        say "Nothing was installed for $REPO."
        return 0
    fi
    SITE=$(value "$LEDGER" site)
    PROGRAM=/usr/local/bin/bluegreen
    for other in "$LEDGERS"/repositories/*; do
        [ "$other" != "$LEDGER" ] || continue
        last_of_server=
        [ "$(value "$other" user)" != "$USER_NAME" ] || last_of_user=
    done

    STEP='web server'
    WEB=$(value "$LEDGER" web-server)
    [ "${WEB:-none}" = none ] || unserve "$last_of_server"
    STEP=repository
    for name in $(values "$LEDGER" hook); do
        ! hook_is_ours "$REPO/hooks/$name" || run "remove the hook $name" as "$USER_NAME" rm -f "$REPO/hooks/$name"
    done
    # Left behind, it would have git look for a hook that is gone, and refuse every push.
    ! noted "$LEDGER" 'gate yes' || [ -z "$(git_config --get receive.procReceiveRefs)" ] ||
        run 'git config --unset-all receive.procReceiveRefs' git_config --unset-all receive.procReceiveRefs
    unlay "$LEDGER" "$USER_NAME" "$REPO/bluegreen.toml"
    STEP=sudo
    unlay "$LEDGER" root "/etc/sudoers.d/bluegreen-$SLUG"
    STEP=user
    [ -z "$last_of_user" ] || forget_user
    STEP=program
    [ -z "$last_of_server" ] || forget_server
    run '' rm -f "$LEDGER"
    [ -z "$last_of_server" ] || run '' rm -rf "$LEDGERS"
    if [ -n "$DRY_RUN" ]; then
        say 'This was a dry run: nothing was changed.'
    else
        say "The releases in $SITE, the repository $REPO and the user $USER_NAME are still there."
        [ "${WEB:-none}" = none ] || ! exists "$USER_NAME" "$SITE/current" ||
            say "The web server no longer serves what was live: cp -a $SITE/current/. $SITE/ would have its default site do so."
    fi
}

# Takes our site off. If the default site comes back and would show what lies beside `current`,
# uploads and secrets among it, those directories are closed to it.
unserve() { # LAST_OF_SERVER
    local default
    web_places
    for SITE_CONF in "bluegreen-$SLUG$CONF" "000-bluegreen-$SLUG$CONF"; do
        [ ! -L "$WEB_DIR/sites-enabled/$SITE_CONF" ] || run "disable $SITE_CONF" rm -f "$WEB_DIR/sites-enabled/$SITE_CONF"
        unlay "$LEDGER" root "$WEB_DIR/sites-available/$SITE_CONF"
    done
    default=$(value "$SERVER" "default-off-$WEB")
    if [ -n "$1" ] && [ -n "$default" ] && [ -e "$WEB_DIR/sites-available/$DEFAULT_SITE" ]; then
        close
        [ -e "$WEB_DIR/sites-enabled/$DEFAULT_SITE" ] ||
            run 'enable the default site' put_link root "$default" "$WEB_DIR/sites-enabled/$DEFAULT_SITE"
    fi
    if [ -n "$1" ] && noted "$SERVER" apache-headers; then
        run "disable Apache's module headers" rm -f "/etc/apache2/$HEADERS"
    fi
    ! alive "$PID_FILE" || run "reload $WEB" web_graceful
}

forget_user() {
    local blobs
    [ -e "$USERS" ] || return 0
    blobs=$(values "$USERS" key | sed 's/^/ /')
    [ -z "$blobs" ] || write_keys 'take back the keys that may push' "$(read_keys | grep -Fv -e "$blobs" || :)"
    [ "$(shell_of "$USER_NAME")" != "$LOGIN_PROGRAM" ] ||
        run "make git-shell the shell of $USER_NAME" usermod -s "$(command -v git-shell || echo /usr/bin/git-shell)" "$USER_NAME"
    [ ! -e "/etc/ssh/sshd_config.d/bluegreen-$USER_NAME.conf" ] || {
        unlay "$USERS" root "/etc/ssh/sshd_config.d/bluegreen-$USER_NAME.conf"
        run 'reload sshd' sshd_reload
    }
    run '' rm -f "$USERS"
}

forget_server() {
    local path
    [ -e "$SERVER" ] || return 0
    for path in $(values "$SERVER" laid | sed 's/ [^ ]*$//' | sort -u); do unlay "$SERVER" root "$path"; done
    for path in $(values "$SERVER" directory | sort -r); do
        [ ! -d "$path" ] || run '' rmdir --ignore-fail-on-non-empty "$path"
    done
    for path in $(values "$SERVER" link); do
        [ ! -L "$path" ] || run "remove $path" rm -f "$path"
    done
    ! noted "$SERVER" "program $PROGRAM" || ! is_bluegreen "$PROGRAM" || run "remove $PROGRAM" rm -f "$PROGRAM"
}

# ---------------------------------------------------------------- main

leave() {
    local status=$?
    trap '' HUP INT TERM
    [ -z "$UNDO" ] || "$UNDO"
    [ -z "$SCRATCH" ] || rm -rf "$SCRATCH"
    exit "$status"
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
        exec "$HERE/demo.sh"
    fi
    # Nothing is asked, so that nobody whom this becomes can answer. A directory of the user's could be
    # closed to them.
    exec </dev/null
    cd /
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    SCRATCH=$(mktemp -d)
    case $ACTION in
        install) preflight ;;
    esac
    locked
    case $ACTION in
        install)
            packages
            program
            user
            ssh_keys
            repository
            sudoers
            site
            finish
            ;;
        *) "$ACTION" ;;
    esac
}

main "$@"
