#!/bin/sh
# Sets up a server for deployment by `git push`, or shows on this machine what that is like: --help.
#
# Run it as often as you like. It looks before it acts, replaces files by rename, and keeps a
# ledger of what it made in /var/lib/bluegreen, written before the making: so an interrupted run
# can be run again, and --uninstall takes back no more than that. Whatever changes anything goes
# through run(), which is why --dry-run can be trusted.
#
# Backquotes in messages are for the reader, not for the shell.
# shellcheck disable=SC2016
set -eu
umask 022

LEDGERS=/var/lib/bluegreen
SELF=${0##*/}
STEP=options
CHANGES=0
UNDO=

usage() {
    cat <<EOF
Usage: $SELF [OPTION]...     set up this server, or bring it up to date (root; Debian, Ubuntu)
       $SELF --demo          try it on this machine, in a temporary folder

  --user NAME         who owns the repository and the site [deploy]
  --repo DIRECTORY    the bare repository that is pushed to [~USER/sample_app]
  --site DIRECTORY    its document root is DIRECTORY/current [/var/www/html]
  --branch NAME       the branch that deploys [master]
  --name NAME         what messages call this server [its host name]
  --key FILE          a public ssh key that may push; can be given several times
  --web-server NAME   auto, apache, nginx or none [auto]
  --domain NAME       answer for this host name only, as one site among several
  --gate              a failed deployment makes the push fail
  --login-shell       give USER a shell; without it the account takes pushes and a few commands
  --binary FILE       install this bluegreen instead of building one
  --dry-run           say what would be done, and do nothing
  --uninstall         take back what was made for REPO; releases, repository and user stay
  --help
EOF
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

# ---------------------------------------------------------------- side effects

# The one door to side effects: says WHAT, and does it unless this is a dry run. The ledger passes
# with an empty WHAT, for it is not worth a line.
run() { # WHAT COMMAND...
    what=$1
    shift
    if [ -n "$what" ]; then
        CHANGES=$((CHANGES + 1))
        printf '%-12s %s%s\n' "$STEP" "${DRY_RUN:+would }" "$what"
    fi
    [ -z "$DRY_RUN" ] || return 0
    # 9 is the installer's own lock, which a server started here must not keep.
    "$@" 9>&- || fail "could not $what (status $?)" 'nothing after this was done; once it is put right, run the same command again'
}

# Runs a command as that user with nothing of root's environment, so that no file ends up root's
# and no setting of root's git counts.
as() { # USER COMMAND...
    who=$1
    shift
    if [ "$who" = root ]; then
        env GIT_CONFIG_GLOBAL=/dev/null "$@"
    else
        runuser -u "$who" -- env -i "HOME=$(home_of "$who")" "USER=$who" "LOGNAME=$who" "PATH=$PATH" \
            GIT_CONFIG_GLOBAL=/dev/null "$@"
    fi
}

# These replace by rename, so that a file is there whole, old or new. The temporary name is
# one that sudo and the web servers pass over, and always the same: a later run takes up what a
# killed one has left.
temporary() { printf '%s/.%s.bluegreen-new\n' "$(dirname "$1")" "$(basename "$1")"; }

write() { # USER FILE MODE CONTENT
    as "$1" sh -c 'printf "%s\n" "$4" >"$2" && chmod "$3" "$2" && mv -f "$2" "$1"' sh "$2" "$(temporary "$2")" "$3" "$4"
}

link() { # USER TARGET LINK
    as "$1" ln -sfn "$2" "$(temporary "$3")" && as "$1" mv -fT "$(temporary "$3")" "$3"
}

copy() { # FILE MODE TO
    cp "$1" "$(temporary "$3")" && chmod "$2" "$(temporary "$3")" && mv -f "$(temporary "$3")" "$3"
}

keep_line() { # FILE LINE
    mkdir -p "$(dirname "$1")"
    {
        [ ! -e "$1" ] || cat "$1"
        printf '%s\n' "$2"
    } >"$(temporary "$1")"
    mv -f "$(temporary "$1")" "$1"
}

drop_line() { # FILE LINE
    grep -Fxv -e "$2" "$1" >"$(temporary "$1")" || :
    mv -f "$(temporary "$1")" "$1"
}

# ---------------------------------------------------------------- the ledger

noted() { grep -Fqxs -e "$2" "$1"; } # LEDGER LINE

note() { # LEDGER LINE
    noted "$1" "$2" || run '' keep_line "$1" "$2"
}

unnote() { # LEDGER LINE
    ! noted "$1" "$2" || run '' drop_line "$1" "$2"
}

value() { # LEDGER KEY: the last value noted under it, or nothing
    [ ! -e "$1" ] || sed -n "s|^$2 ||p" "$1" | tail -n 1
}

sum() { cksum <"$1" | tr ' ' -; }

# True of a file that still is what an installer wrote, so that it may be replaced or removed.
ours() { # LEDGER FILE
    [ -f "$2" ] && noted "$1" "laid $2 $(sum "$2")"
}

same() { # FILE CONTENT
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

# True if FILE needs nothing: it has that CONTENT, or someone has changed it since it was laid.
kept() { # LEDGER FILE CONTENT
    ! same "$2" "$3" || return 0
    [ -e "$2" ] && ! ours "$1" "$2" || return 1
    warn "$2 was changed by hand, so it stays as it is"
}

# Lays a file of CONTENT. One that someone has changed since is left as it is.
lay() { # LEDGER USER FILE MODE CONTENT
    ! kept "$1" "$3" "$5" || return 0
    parents "$1" "$(dirname "$3")"
    note "$1" "laid $3 $(printf '%s\n' "$5" | cksum | tr ' ' -)"
    run "write $3" write "$2" "$3" "$4" "$5"
}

parents() { # LEDGER DIRECTORY
    [ ! -d "$2" ] || return 0
    parents "$1" "$(dirname "$2")"
    note "$1" "directory $2"
    run '' mkdir "$2"
}

unlay() { # LEDGER FILE
    if ours "$1" "$2"; then
        run "remove $2" rm -f "$2"
    elif [ -e "$2" ]; then
        warn "$2 was changed by hand, so it stays"
    fi
}

# ---------------------------------------------------------------- questions

has() { command -v "$1" >/dev/null 2>&1; }

home_of() {
    home=$(getent passwd "$1" | cut -d: -f6) || :
    printf '%s\n' "${home:-/home/$1}"
}

shell_of() { getent passwd "$1" | cut -d: -f7; }

owner_of() { stat -c %U "$1"; }

mode_of() { stat -c %a "$1"; }

alive() { # PID FILE
    [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

systemd() { [ -d /run/systemd/system ]; }

# A top-level key of the config, as the program itself would read it.
config() { # KEY
    [ ! -f "$REPO/bluegreen.toml" ] || sed -n "s/^$1 *= *\"\\([^\"]*\\)\".*/\\1/p" "$REPO/bluegreen.toml" | head -n 1
}

absolute() { # PATH
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$FROM/$1" ;;
    esac
}

# ---------------------------------------------------------------- options

options() {
    USER_NAME=deploy REPO='' SITE='' BRANCH='' NAME='' KEYS='' WEB='' DOMAIN='' GATE='' LOGIN_SHELL='' BINARY=''
    DRY_RUN='' ACTION=install
    while [ $# -gt 0 ]; do
        case $1 in
            --user | --repo | --site | --branch | --name | --key | --web-server | --domain | --binary)
                [ $# -ge 2 ] || misused "$1 wants a value"
                [ -n "$2" ] || misused "$1 wants a value that is not empty"
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
            --key) KEYS="$KEYS$(absolute "$2")
" && shift ;;
            --web-server) WEB=$2 && shift ;;
            --domain) DOMAIN=$2 && shift ;;
            --binary) BINARY=$(absolute "$2") && shift ;;
            --gate) GATE=yes ;;
            --login-shell) LOGIN_SHELL=yes ;;
            --dry-run) DRY_RUN=yes ;;
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
        *[!A-Za-z0-9._/+@-]* | -*) misused "$1 may hold letters, digits and ._/+@- only, not \`$2\`" ;;
    esac
}

# Fills in what was not given: from the config that is there, which is what really counts, else
# from the defaults. After this the options are sound and agree with each other.
settle() {
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
    REPO=$(realpath -m "$REPO")
    plain --repo "$REPO"
    SLUG=$(printf '%s' "${REPO#/home/}" | tr -c 'A-Za-z0-9_-' _ | sed 's/^_//')
    LEDGER=$LEDGERS/repositories/$SLUG
    USERS=$LEDGERS/users/$USER_NAME
    SERVER=$LEDGERS/server
    [ ! -e "$LEDGER" ] || [ "$(value "$LEDGER" repository)" = "$REPO" ] ||
        fail "$REPO and $(value "$LEDGER" repository) have one name in $LEDGERS" 'give the repository another name'
    [ ! -d "$REPO" ] || [ "$(owner_of "$REPO")" = "$USER_NAME" ] ||
        fail "$REPO belongs to $(owner_of "$REPO"), not to $USER_NAME" "--user $(owner_of "$REPO")"

    agree --site SITE root /var/www/html
    agree --branch BRANCH branch master
    agree --name NAME server "$(hostname)"
    plain --site "$SITE"
    plain --branch "$BRANCH"
    plain --name "$NAME"
    SITE=$(realpath -m "$SITE")
    case "$SITE/" in
        /*/*/) ;;
        *) misused "--site $SITE is no place for a site; /srv/NAME would be" ;;
    esac
    case "$HOME_DIR/ $REPO/" in
        "$SITE"/* | *" $SITE"/*) misused "--site $SITE would hold the repository or the home of $USER_NAME" ;;
    esac
    case "$SITE/" in
        "$REPO"/* | /etc/* | /usr/* | /proc/* | /sys/* | /dev/* | /bin/* | /lib/*) misused "--site $SITE is no place for a site" ;;
    esac
    DOMAIN=${DOMAIN:-$(value "$LEDGER" domain)}
    case $DOMAIN in *[!A-Za-z0-9.*-]*) misused "--domain wants a host name, not \`$DOMAIN\`" ;; esac
    GATE=${GATE:-$(value "$LEDGER" gate)}
    LOGIN_SHELL=${LOGIN_SHELL:-$(value "$USERS" login-shell)}
}

# Takes an option from the existing config; an option that contradicts it is an error, because the
# config is never overwritten.
agree() { # OPTION VARIABLE KEY DEFAULT
    eval "given=\$$2"
    set_to=$(config "$3")
    if [ -n "$given" ] && [ -e "$REPO/bluegreen.toml" ] && [ "$given" != "${set_to:-$4}" ]; then
        fail "$REPO/bluegreen.toml says \`$3 = \"${set_to:-$4}\"\`, not $given" "leave $1 out, or change the config first"
    fi
    given=${given:-${set_to:-$4}}
    eval "$2=\$given"
}

# ---------------------------------------------------------------- before anything is changed

# Everything that can be known to fail, does so here.
preflight() {
    STEP=preflight
    [ "$(id -u)" -eq 0 ] || fail 'this sets up a server, and wants root' "sudo $SELF ..., or $SELF --demo without"
    for tool in runuser getent realpath cksum; do
        has "$tool" || fail "\`$tool\` is missing; is this Debian or Ubuntu?"
    done
    settle
    [ -z "$KEYS" ] || printf '%s' "$KEYS" | while IFS= read -r file; do check_key "$file"; done
    find_assets
    find_web_server
    find_binary
    check_hook post-receive
    [ -z "$GATE" ] || check_hook proc-receive
    [ -d "$SITE" ] || [ ! -e "$SITE" ] || fail "$SITE is not a directory"
    [ ! -e "$SITE/current" ] || [ -L "$SITE/current" ] ||
        fail "$SITE/current is in the way: a deployment makes it a link" "mv $SITE/current $SITE/current.old"
    for other in "$LEDGERS"/repositories/*; do
        [ -e "$other" ] || continue
        [ "$other" != "$LEDGER" ] || continue
        [ "$(value "$other" site)" != "$SITE" ] ||
            fail "$SITE is the site of $(value "$other" repository)" 'give this repository a site of its own: --site DIRECTORY'
        [ "$WEB" = none ] || [ -n "$DOMAIN" ] || [ -n "$(value "$other" domain)" ] || [ "$(value "$other" web-server)" = none ] ||
            fail "$(value "$other" repository) answers for every host name already" 'tell the two apart: --domain NAME'
    done
    [ ! -d "$SITE/.bluegreen" ] || [ "$(owner_of "$SITE/.bluegreen")" = "$USER_NAME" ] ||
        fail "$SITE belongs to $(owner_of "$SITE/.bluegreen"), not to $USER_NAME"
}

check_key() { # FILE
    [ -r "$1" ] || fail "cannot read the key $1"
    ! grep -q 'PRIVATE KEY' "$1" || fail "$1 is a private key" "the public one is $1.pub"
    keys_of "$1" | grep -q . || fail "$1 holds no public ssh key"
    others=$(grep -Ev '^(#|[[:space:]]*$|(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( |$))' "$1" || :)
    [ -z "$others" ] || fail "$1 has a line that is no public key: $(printf '%s\n' "$others" | head -n 1)" 'TYPE KEY COMMENT, without options'
}

keys_of() { # FILE: its public keys, a line each
    grep -E '^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( |$)' "$1" || :
}

# A hook is ours if it is a link to the program, and chained if it calls it.
check_hook() { # NAME
    hook=$REPO/hooks/$1
    [ -e "$hook" ] || [ -L "$hook" ] || return 0
    ! hook_is_ours "$hook" && ! grep -Fqs "bluegreen hook $1" "$hook" || return 0
    fail "$hook is not this program's, so it stays as it is" \
        "move it away and run this again; or to run both, let it end with \`bluegreen hook $1\` on the same standard input"
}

hook_is_ours() { # HOOK
    case $(readlink "$1") in
        /usr/local/bin/bluegreen | /usr/bin/bluegreen) return 0 ;;
        *) return 1 ;;
    esac
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
}

find_web_server() {
    had=$(value "$LEDGER" web-server)
    [ "${WEB:-auto}" != auto ] || WEB=${had:-auto}
    case $WEB in
        apache | nginx | none) ;;
        auto)
            if alive /run/apache2/apache2.pid; then
                WEB=apache
            elif alive /run/nginx.pid; then
                WEB=nginx
            elif has nginx && ! has apache2ctl; then
                WEB=nginx
            else
                WEB=apache
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
    [ "$WEB" != apache ] || directive='DocumentRoot'
    [ "$WEB" != nginx ] || directive='root'
    for enabled in "$WEB_DIR"/sites-enabled/*; do
        case ${enabled##*/} in "$DEFAULT_SITE" | *"bluegreen-$SLUG$CONF") continue ;; esac
        ! grep -Eqs "^[[:space:]]*${directive}[[:space:]]+\"?$SITE/?\"?;?[[:space:]]*\$" "$enabled" ||
            fail "$enabled serves $SITE already" "change its $directive to $SITE/current and give --web-server none, or disable it"
    done
}

# Where Debian and Ubuntu keep a web server's files.
web_places() {
    if [ "$WEB" = apache ]; then
        WEB_DIR=/etc/apache2 CONF=.conf PID_FILE=/run/apache2/apache2.pid DEFAULT_SITE=000-default.conf WEB_COMMAND=apache2ctl
    else
        WEB_DIR=/etc/nginx CONF='' PID_FILE=/run/nginx.pid DEFAULT_SITE=default WEB_COMMAND=nginx
    fi
}

# Settles where the program will be, and what can be asked about it before it is there.
find_binary() {
    if [ -n "$PACKAGED" ] && [ -z "$BINARY" ]; then
        PROGRAM=/usr/bin/bluegreen
        [ -x "$PROGRAM" ] || fail "$PROGRAM is missing" 'apt-get install --reinstall bluegreen'
        SOURCE=$PROGRAM
    else
        PROGRAM=/usr/local/bin/bluegreen
        SOURCE=$BINARY
        [ ! -e "$PROGRAM" ] || is_bluegreen "$PROGRAM" || fail "$PROGRAM is another program, so it stays as it is"
        [ -z "$BINARY" ] || is_bluegreen "$BINARY" || fail "$BINARY is not bluegreen, or does not run on this machine"
        # Where nothing can be built, what is installed will do.
        if [ -z "$BINARY" ] && [ -x "$PROGRAM" ] && { [ -n "$PACKAGED" ] || [ -z "$(find_cargo "$(owner_of "$HERE")")" ]; }; then
            SOURCE=$PROGRAM
        fi
    fi
    [ -z "$SOURCE" ] || check_gate "$SOURCE"
}

is_bluegreen() {
    case $("$1" --version 2>/dev/null </dev/null) in "bluegreen "*) return 0 ;; *) return 1 ;; esac
}

check_gate() { # PROGRAM
    [ -z "$GATE" ] || "$1" hook proc-receive --help >/dev/null 2>&1 </dev/null ||
        fail 'this bluegreen has no gate yet' 'leave --gate out; a failed deployment then shows in the push, but does not make it fail'
}

# ---------------------------------------------------------------- the steps

packages() {
    STEP=packages
    missing=
    has git || missing="$missing git"
    has adduser || missing="$missing adduser"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    [ "$WEB" != apache ] || has apache2ctl || missing="$missing apache2"
    [ "$WEB" != nginx ] || has nginx || missing="$missing nginx"
    if [ -z "$SOURCE" ]; then
        has cc || missing="$missing build-essential"
        has cmake || missing="$missing cmake"
    fi
    [ -z "$missing" ] || install_packages "$missing"
}

install_packages() { # NAMES
    has apt-get || fail "this needs$1, and there is no apt-get" 'install them, then run this again'
    run 'apt-get update' apt-get -qq update
    # shellcheck disable=SC2086 # several names
    run "apt-get install$1" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $1
}

program() {
    STEP=program
    [ -n "$SOURCE" ] || build
    if [ "$SOURCE" != "$PROGRAM" ] && ! cmp -s "$SOURCE" "$PROGRAM"; then
        note "$SERVER" "program $PROGRAM"
        run "install $PROGRAM" copy "$SOURCE" 755 "$PROGRAM"
    fi
    [ -z "$PACKAGED" ] || return 0
    generated man /usr/local/share/man/man1/bluegreen.1
    generated bash /usr/local/share/bash-completion/completions/bluegreen
    generated zsh /usr/local/share/zsh/site-functions/_bluegreen
    generated fish /usr/local/share/fish/vendor_completions.d/bluegreen.fish
}

generated() { # WHAT FILE
    # A dry run builds nothing, and so has nothing to ask.
    if [ ! -x "$SOURCE" ]; then
        [ -e "$2" ] || run "write $2" false
        return 0
    fi
    text=$("$SOURCE" generate "$1" </dev/null) || fail "\`bluegreen generate $1\` failed"
    lay "$SERVER" root "$2" 644 "$text"
}

# Builds as whoever owns the clone: a folder of root's in it would stop the owner's next build.
build() {
    builder=$(owner_of "$HERE")
    SOURCE=$HERE/target/release/bluegreen
    cargo=$(find_cargo "$builder")
    [ -n "$cargo" ] || fail "building needs cargo of Rust $(rust_version) or newer" \
        'install Rust with rustup; or build elsewhere with `cargo build --release --locked`, and give --binary FILE'
    run "build bluegreen in $HERE" build_as "$builder" "$cargo"
    # Not a change of the server, which is what is counted.
    CHANGES=$((CHANGES - 1))
    [ -n "$DRY_RUN" ] || check_gate "$SOURCE"
}

build_as() { # USER CARGO
    (cd "$HERE" && as "$1" env "PATH=$(dirname "$2"):$PATH" "CARGO_TARGET_DIR=$HERE/target" cargo build --release --locked)
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$HERE/Cargo.toml"; }

find_cargo() { # USER
    for cargo in "$(home_of "$1")/.cargo/bin/cargo" "$(command -v cargo || :)" /usr/lib/rust-*/bin/cargo; do
        [ -x "$cargo" ] || continue
        have=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
        newest=$(printf '%s\n%s\n' "$have" "$(rust_version)" | sort -V | tail -n 1)
        [ "$newest" != "$have" ] || {
            printf '%s\n' "$cargo"
            return 0
        }
    done
}

user() {
    STEP=user
    restricted=yes
    shell=/bin/bash
    [ -n "$LOGIN_SHELL" ] || shell=$(command -v git-shell || echo /usr/bin/git-shell)
    if ! id "$USER_NAME" >/dev/null 2>&1; then
        note "$USERS" created
        run "add the user $USER_NAME with the shell $shell" add_user "$shell"
    elif noted "$USERS" created; then
        # Two gits mean two git-shells, and PATH is no reason to change from one to the other.
        case $(shell_of "$USER_NAME") in
            */git-shell) [ -n "$LOGIN_SHELL" ] || shell=$(shell_of "$USER_NAME") ;;
        esac
        [ "$(shell_of "$USER_NAME")" = "$shell" ] ||
            run "make $shell the shell of $USER_NAME" usermod -s "$shell" "$USER_NAME"
    else
        case $(shell_of "$USER_NAME") in
            */git-shell) ;;
            *)
                restricted=
                [ -n "$LOGIN_SHELL" ] || warn "$USER_NAME was here before and keeps the shell $(shell_of "$USER_NAME"); \`usermod -s $shell $USER_NAME\` restricts it"
                ;;
        esac
    fi
    [ -z "$LOGIN_SHELL" ] || note "$USERS" 'login-shell yes'
    [ -n "$LOGIN_SHELL" ] || [ -z "$restricted" ] || shell_commands
}

# Debian's and Ubuntu's adduser differ in how a comment is given; all take an empty answer to it.
add_user() { # SHELL
    adduser --quiet --disabled-password --gecos '' --shell "$1" "$USER_NAME" </dev/null >/dev/null
}

# What git-shell runs beside git's own commands. Their files belong to root: the account has no
# business in them.
shell_commands() {
    commands=$HOME_DIR/git-shell-commands
    [ ! -L "$commands" ] || fail "$commands is a link" 'remove it, and run this again'
    [ -d "$commands" ] || run "create $commands" install -d -m 755 "$commands"
    for file in command no-interactive-login; do
        lay "$USERS" root "$commands/$file" 755 "$(cat "$ASSETS/git-shell-commands/$file")"
    done
    for command in status releases history rollback deploy; do
        [ "$(readlink "$commands/$command")" = command ] || [ -e "$commands/$command" ] ||
            run "allow \`ssh $USER_NAME@$NAME $command\`" link root command "$commands/$command"
    done
    grep -Fqxs -e "$REPO" "$commands/.repositories" || run '' keep_line "$commands/.repositories" "$REPO"
}

ssh_keys() {
    STEP=ssh
    ssh_dir=$HOME_DIR/.ssh
    keys=$ssh_dir/authorized_keys
    [ -d "$ssh_dir" ] || run "create $ssh_dir" as "$USER_NAME" install -d -m 700 "$ssh_dir"
    [ ! -d "$ssh_dir" ] || [ "$(mode_of "$ssh_dir")" = 700 ] || run "chmod 700 $ssh_dir" as "$USER_NAME" chmod 700 "$ssh_dir"
    wanted=
    added=0
    while read -r type blob comment; do
        [ -n "$type" ] || continue
        ! grep -Fqs -e " $blob" "$keys" || continue
        case $wanted in *" $blob"*) continue ;; esac
        note "$USERS" "key $blob"
        added=$((added + 1))
        wanted="$wanted
restrict $type $blob${comment:+ $comment}"
    done <<EOF
$(printf '%s' "$KEYS" | while IFS= read -r file; do keys_of "$file"; done)
EOF
    if [ "$added" -gt 0 ]; then
        before=$([ ! -e "$keys" ] || cat "$keys")
        run "allow $added key(s) to push" write "$USER_NAME" "$keys" 600 "${before:+$before
}${wanted#?}"
    fi
    [ ! -e "$keys" ] || [ "$(mode_of "$keys")" = 600 ] || run "chmod 600 $keys" as "$USER_NAME" chmod 600 "$keys"
}

repository() {
    STEP=repository
    note "$LEDGER" "repository $REPO"
    note "$LEDGER" "user $USER_NAME"
    if [ ! -e "$REPO/HEAD" ]; then
        parent=$(dirname "$REPO")
        [ -d "$parent" ] || [ "$parent" = "$HOME_DIR" ] || run "create $parent" install -d -m 755 "$parent"
        case $REPO in
            "$HOME_DIR"/*) ;;
            *) [ -d "$REPO" ] || run "create $REPO" install -d -o "$USER_NAME" -g "$(id -gn "$USER_NAME" 2>/dev/null || echo "$USER_NAME")" "$REPO" ;;
        esac
        run "create the bare repository $REPO" as "$USER_NAME" git -c "init.defaultBranch=$BRANCH" init --quiet --bare "$REPO"
    fi
    # Objects are checked as they come in; deployments may read push options; a small push becomes a
    # pack too, and what was pushed is on the disk before it is called pushed.
    setting receive.fsckObjects true
    setting receive.advertisePushOptions true
    setting receive.unpackLimit 1
    setting core.fsync committed,reference
    hook post-receive
    lay_config
    if [ -n "$GATE" ]; then
        note "$LEDGER" 'gate yes'
        hook proc-receive
        setting receive.procReceiveRefs "refs/heads/$BRANCH"
    fi
}

setting() { # KEY VALUE
    [ "$(git_config --get "$1" 2>/dev/null)" = "$2" ] || run "git config $1 $2" git_config "$1" "$2"
}

git_config() { as "$USER_NAME" git --git-dir="$REPO" config --local "$@"; }

hook() { # NAME
    hook=$REPO/hooks/$1
    [ -e "$hook" ] && ! hook_is_ours "$hook" && return 0 # chained: check_hook has seen it
    [ "$(readlink "$hook")" = "$PROGRAM" ] || {
        note "$LEDGER" "hook $1"
        [ -d "$REPO/hooks" ] || run '' as "$USER_NAME" mkdir -p "$REPO/hooks"
        run "make bluegreen the hook $hook" link "$USER_NAME" "$PROGRAM" "$hook"
    }
}

# The config is its owner's from the moment that it is there.
lay_config() {
    [ ! -e "$REPO/bluegreen.toml" ] || return 0
    text=$(sed -e "s|^#branch = .*|branch = \"$BRANCH\"|" -e "s|^#server = .*|server = \"$NAME\"|" \
        -e "s|^#root = .*|root = \"$SITE\"|" "$ASSETS/bluegreen.toml")
    lay "$LEDGER" "$USER_NAME" "$REPO/bluegreen.toml" 644 "$text"
}

# sudo for the steps of the config: the very commands that it names, and no others.
sudoers() {
    STEP=sudo
    file=/etc/sudoers.d/bluegreen-$SLUG
    rules=
    if [ -x "$PROGRAM" ] && grep -Eqs '^[[:space:]]*[^#[:space:]].*sudo' "$REPO/bluegreen.toml"; then
        rules=$(as "$USER_NAME" "$PROGRAM" -C "$REPO" generate sudoers) ||
            fail "$REPO/bluegreen.toml cannot be read" "bluegreen -C $REPO check"
    fi
    if [ -z "$rules" ]; then
        [ ! -e "$file" ] || unlay "$LEDGER" "$file"
        return 0
    fi
    has visudo || install_packages ' sudo'
    [ -n "$DRY_RUN" ] && ! has visudo || printf '%s\n' "$rules" | visudo -cqf - ||
        fail "sudo would refuse the rules for the steps of $REPO/bluegreen.toml"
    lay "$LEDGER" root "$file" 440 "$rules"
}

# What is served already stays served: the web server's new config is tested, then the files become
# the first release, then the web server is told.
site() {
    STEP=site
    group=$(id -gn "$USER_NAME" 2>/dev/null || echo "$USER_NAME")
    note "$LEDGER" "site $SITE"
    first=
    [ -L "$SITE/current" ] || first=yes
    [ -d "$SITE" ] || run "create $SITE" install -d -m 755 "$SITE"
    web_config
    STEP=site
    if [ -n "$first" ] && [ "$WEB" != none ] && [ -n "$(leftovers)" ]; then
        run "give $SITE and what is in it to $USER_NAME" chown -hR "$USER_NAME" "$SITE"
    fi
    owned "$SITE" 755
    owned "$SITE/releases" 755
    owned "$SITE/.bluegreen" 700
    reopen
    if [ -n "$first" ] && [ -n "$(leftovers)" ]; then
        if [ "$WEB" = none ]; then
            say "site         $SITE stays as it is: your web server serves it until its document root is $SITE/current"
        else
            run "make what lies in $SITE the first release" as "$USER_NAME" "$PROGRAM" -C "$REPO" adopt
        fi
    fi
    UNDO=
    web_reload
}

owned() { # DIRECTORY MODE
    [ -d "$1" ] || run "create $1" install -d -m "$2" -o "$USER_NAME" -g "$group" "$1"
    [ ! -d "$1" ] || [ "$(owner_of "$1")" = "$USER_NAME" ] || run "give $1 to $USER_NAME" chown "$USER_NAME" "$1"
}

leftovers() { # what was in the site before
    [ ! -d "$SITE" ] || find "$SITE" -mindepth 1 -maxdepth 1 ! -name current ! -name releases ! -name shared ! -name .bluegreen
}

# ---------------------------------------------------------------- the web server

apache_site() {
    cat <<EOF
# Laid by bluegreen's install.sh for $REPO. Once changed by hand, it is left alone.
<VirtualHost *:80>
${DOMAIN:+    ServerName $DOMAIN
}    DocumentRoot $SITE/current
    <Directory $SITE>
        Options -Indexes +FollowSymLinks
        Require all granted
    </Directory>
    # What a name with a dot holds, such as .env, is not for visitors.
    <LocationMatch "/\.(?!well-known/)">
        Require all denied
    </LocationMatch>
    ErrorLog \${APACHE_LOG_DIR}/error.log
    CustomLog \${APACHE_LOG_DIR}/access.log combined
</VirtualHost>
EOF
}

nginx_site() {
    default=
    [ -n "$DOMAIN" ] || default=' default_server'
    cat <<EOF
# Laid by bluegreen's install.sh for $REPO. Once changed by hand, it is left alone.
server {
    listen 80$default;
EOF
    [ ! -e /proc/net/if_inet6 ] || echo "    listen [::]:80$default;"
    cat <<EOF
    server_name ${DOMAIN:-_};
    root $SITE/current;
    index index.html index.htm index.php;
    location / {
        try_files \$uri \$uri/ =404;
    }
EOF
    cat <<'EOF'
    # What a name with a dot holds, such as .env, is not for visitors.
    location ~ /\.(?!well-known/) {
        return 404;
    }
EOF
    fpm=$(find /run/php -maxdepth 1 -name 'php*-fpm.sock' 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$fpm" ]; then
        cat <<EOF
    # The release's own path, not that of the link: PHP caches by path, and would serve the old code.
    location ~ \.php\$ {
        try_files \$uri =404;
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME \$realpath_root\$fastcgi_script_name;
        fastcgi_param DOCUMENT_ROOT \$realpath_root;
        fastcgi_pass unix:$fpm;
    }
EOF
    else
        cat <<'EOF'
    # No PHP was found here, and its sources are nobody's to read.
    location ~ \.php$ {
        return 404;
    }
EOF
    fi
    echo '}'
}

web_test() {
    case $WEB in
        apache) apache2ctl configtest ;;
        nginx) nginx -tq ;;
    esac
}

# Puts our site on and the default site off, and tests it; the running server still has its old
# config when this returns. A test that fails puts all back.
web_config() {
    STEP='web server'
    note "$LEDGER" "web-server $WEB"
    [ "$WEB" != none ] || return 0
    [ -z "$DOMAIN" ] || note "$LEDGER" "domain $DOMAIN"
    available=$WEB_DIR/sites-available/$SITE_CONF
    enabled=$WEB_DIR/sites-enabled/$SITE_CONF
    default=$WEB_DIR/sites-enabled/$DEFAULT_SITE
    # Who puts the default site on again, means it.
    default_off=yes
    [ ! -L "$default" ] || [ -n "$(value "$SERVER" "default-off-$WEB")" ] && ! noted "$LEDGER" reload-due || default_off=
    case $WEB in apache) text=$(apache_site) ;; nginx) text=$(nginx_site) ;; esac
    if kept "$LEDGER" "$available" "$text" && [ -L "$enabled" ] && [ -n "$default_off" ] && ! noted "$LEDGER" reload-due; then
        return 0
    fi
    # A dry run may be the only one to get here before the packages are.
    ! has "$WEB_COMMAND" || test_before
    web_remember
    note "$LEDGER" reload-due
    for stale in "$WEB_DIR/sites-available/bluegreen-$SLUG$CONF" "$WEB_DIR/sites-available/000-bluegreen-$SLUG$CONF"; do
        [ "$stale" = "$available" ] || ! ours "$LEDGER" "$stale" || {
            run "disable ${stale##*/}" rm -f "$WEB_DIR/sites-enabled/${stale##*/}"
            unlay "$LEDGER" "$stale"
        }
    done
    lay "$LEDGER" root "$available" 644 "$text"
    [ -L "$enabled" ] || run "enable $SITE_CONF" link root "../sites-available/$SITE_CONF" "$enabled"
    if [ -L "$default" ] && [ -z "$default_off" ]; then
        note "$SERVER" "default-off-$WEB $(readlink "$default")"
        run "disable the default site" rm -f "$default"
    fi
    [ -n "$DRY_RUN" ] || message=$(web_test 2>&1) || {
        printf '%s\n' "$message" | sed 's/^/    /' >&2
        fail "$WEB refuses the config for $SITE, so what it had is back" "its own words are above; put it right, and run this again"
    }
}

test_before() {
    message=$(web_test 2>&1) || {
        printf '%s\n' "$message" | sed 's/^/    /' >&2
        fail "$WEB refuses its config as it is, before any change" "its own words are above; put it right, and run this again"
    }
}

# Until the new config has passed its test, whatever ends this script puts back what was there.
web_remember() {
    [ -z "$DRY_RUN" ] || return 0
    SAVED=$(mktemp -d)
    [ ! -d "$WEB_DIR" ] || cp -a "$WEB_DIR/sites-available" "$WEB_DIR/sites-enabled" "$SAVED"
    UNDO=web_restore
}

web_restore() {
    for name in "sites-available/bluegreen-$SLUG$CONF" "sites-available/000-bluegreen-$SLUG$CONF" \
        "sites-enabled/bluegreen-$SLUG$CONF" "sites-enabled/000-bluegreen-$SLUG$CONF" "sites-enabled/$DEFAULT_SITE"; do
        rm -f "$WEB_DIR/$name"
        if [ -e "$SAVED/$name" ] || [ -L "$SAVED/$name" ]; then cp -a "$SAVED/$name" "$WEB_DIR/$name"; fi
    done
}

web_reload() {
    STEP='web server'
    [ "$WEB" != none ] || return 0
    if ! alive "$PID_FILE"; then
        run "start $WEB" quietly web_start
    elif noted "$LEDGER" reload-due; then
        run "reload $WEB" quietly web_graceful
    elif [ -n "$DRY_RUN" ] && [ ! -e "$WEB_DIR/sites-enabled/$SITE_CONF" ]; then
        run "reload $WEB" quietly web_graceful
    fi
    unnote "$LEDGER" reload-due
}

# Servers like to talk when all is well.
quietly() { # COMMAND...
    message=$("$@" 2>&1) || {
        printf '%s\n' "$message" | sed 's/^/    /' >&2
        return 1
    }
}

web_start() {
    unit=$WEB
    [ "$WEB" != apache ] || unit=apache2
    if systemd; then systemctl enable --quiet --now "$unit"; else service "$unit" start >/dev/null; fi
}

# A reload has come about once a worker of the new config runs; until then an old one answers.
web_graceful() {
    before=$(web_workers)
    web_signal
    tries=50
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
    main=$(cat "$PID_FILE")
    cat "/proc/$main/task/$main/children" 2>/dev/null || :
}

web_signal() {
    if systemd; then
        if [ "$WEB" = apache ]; then systemctl reload apache2; else systemctl reload nginx; fi
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
        say "This was a dry run: nothing was changed."
        return 0
    fi
    reachable
    as "$USER_NAME" "$PROGRAM" -C "$REPO" check || fail 'the set-up has problems' 'each is named above with a hint; then run this again'
    [ "$CHANGES" -gt 0 ] || say 'Nothing had to be changed.'
    path=${REPO#"$HOME_DIR"/}
    say "
Now, in the repository on your own machine:
    git remote add $NAME $USER_NAME@$(hostname):$path
    git push $NAME $BRANCH"
    [ -s "$HOME_DIR/.ssh/authorized_keys" ] || warn "no key may push yet: run this again with --key FILE"
}

# A site inside a closed home is a site that no visitor sees.
reachable() {
    [ "$WEB" != none ] && id www-data >/dev/null 2>&1 || return 0
    directory=$SITE
    while [ "$directory" != / ]; do
        as www-data test -x "$directory" || warn "the web server cannot enter $directory: chmod o+x $directory"
        directory=$(dirname "$directory")
    done
}

# ---------------------------------------------------------------- taking it back

uninstall() {
    STEP=preflight
    [ "$(id -u)" -eq 0 ] || fail 'this takes root'
    settle
    if [ ! -e "$LEDGER" ]; then
        say "Nothing was installed for $REPO."
        return 0
    fi
    SITE=$(value "$LEDGER" site)
    PROGRAM=/usr/local/bin/bluegreen
    last_of_user=yes last_of_server=yes
    for other in "$LEDGERS"/repositories/*; do
        [ "$other" != "$LEDGER" ] || continue
        last_of_server=
        [ "$(value "$other" user)" != "$USER_NAME" ] || last_of_user=
    done

    STEP='web server'
    WEB=$(value "$LEDGER" web-server)
    [ "${WEB:-none}" = none ] || unserve
    STEP=repository
    sed -n 's/^hook //p' "$LEDGER" | while IFS= read -r name; do
        ! hook_is_ours "$REPO/hooks/$name" || run "remove the hook $name" rm -f "$REPO/hooks/$name"
    done
    # Left behind, it would have git look for a hook that is gone, and refuse every push.
    [ ! -d "$REPO" ] || ! noted "$LEDGER" 'gate yes' || ! git_config --get receive.procReceiveRefs >/dev/null ||
        run 'git config --unset-all receive.procReceiveRefs' git_config --unset-all receive.procReceiveRefs
    unlay "$LEDGER" "$REPO/bluegreen.toml"
    STEP=sudo
    unlay "$LEDGER" "/etc/sudoers.d/bluegreen-$SLUG"
    STEP=user
    commands=$HOME_DIR/git-shell-commands
    ! grep -Fqxs -e "$REPO" "$commands/.repositories" || run '' drop_line "$commands/.repositories" "$REPO"
    [ -z "$last_of_user" ] || forget_user
    STEP=program
    [ -z "$last_of_server" ] || forget_server
    run '' rm -f "$LEDGER"
    [ -z "$last_of_server" ] || run '' rm -rf "$LEDGERS"
    if [ -n "$DRY_RUN" ]; then
        say "This was a dry run: nothing was changed."
    else
        say "The releases in $SITE, the repository $REPO and the user $USER_NAME are still there."
        [ ! -e "$SITE/current" ] || [ "${WEB:-none}" = none ] ||
            say "The web server no longer serves what was live: cp -a $SITE/current/. $SITE/ would have its default site do so."
    fi
}

# Takes our site off. If the default site comes back and would show what lies beside `current`,
# uploads and secrets among it, those directories are closed to it.
unserve() {
    web_places
    for SITE_CONF in "bluegreen-$SLUG$CONF" "000-bluegreen-$SLUG$CONF"; do
        [ ! -L "$WEB_DIR/sites-enabled/$SITE_CONF" ] || run "disable $SITE_CONF" rm -f "$WEB_DIR/sites-enabled/$SITE_CONF"
        unlay "$LEDGER" "$WEB_DIR/sites-available/$SITE_CONF"
    done
    default=$(value "$SERVER" "default-off-$WEB")
    if [ -n "$last_of_server" ] && [ -n "$default" ] && [ -e "$WEB_DIR/sites-available/$DEFAULT_SITE" ]; then
        close
        [ -e "$WEB_DIR/sites-enabled/$DEFAULT_SITE" ] ||
            run 'enable the default site' link root "$default" "$WEB_DIR/sites-enabled/$DEFAULT_SITE"
    fi
    ! alive "$PID_FILE" || run "reload $WEB" quietly web_graceful
}

close() {
    for name in releases shared; do
        [ -d "$SITE/$name" ] || continue
        case $(mode_of "$SITE/$name") in
            *[1357]) run "close $SITE/$name to visitors" close_one "$name" ;;
        esac
    done
}

close_one() { # NAME
    as "$USER_NAME" sh -c 'echo "$2" >>"$1/.bluegreen/closed" && chmod o-rwx "$1/$2"' sh "$SITE" "$1"
}

reopen() {
    [ -e "$SITE/.bluegreen/closed" ] || return 0
    for name in releases shared; do
        ! noted "$SITE/.bluegreen/closed" "$name" || run "open $SITE/$name again" as "$USER_NAME" chmod o+rx "$SITE/$name"
    done
    run '' as "$USER_NAME" rm -f "$SITE/.bluegreen/closed"
}

forget_user() {
    [ -e "$USERS" ] || return 0
    keys=$HOME_DIR/.ssh/authorized_keys
    if [ -e "$keys" ] && grep -q '^key ' "$USERS"; then
        kept=$(sed -n 's/^key / /p' "$USERS" | grep -Fv -f - "$keys" || :)
        run "take back the keys that may push" write "$USER_NAME" "$keys" 600 "$kept"
    fi
    if [ -d "$commands" ]; then
        for command in status releases history rollback deploy; do
            [ "$(readlink "$commands/$command")" != command ] || run '' rm -f "$commands/$command"
        done
        for file in command no-interactive-login; do unlay "$USERS" "$commands/$file"; done
        run '' rm -f "$commands/.repositories"
        run '' rmdir --ignore-fail-on-non-empty "$commands"
    fi
    run '' rm -f "$USERS"
}

forget_server() {
    [ -e "$SERVER" ] || return 0
    sed -n 's/^laid \(.*\) [^ ]*$/\1/p' "$SERVER" | sort -u | while IFS= read -r file; do unlay "$SERVER" "$file"; done
    sed -n 's/^directory //p' "$SERVER" | sort -r | while IFS= read -r directory; do
        [ ! -d "$directory" ] || run '' rmdir --ignore-fail-on-non-empty "$directory"
    done
    ! noted "$SERVER" "program $PROGRAM" || ! is_bluegreen "$PROGRAM" || run "remove $PROGRAM" rm -f "$PROGRAM"
}

# ---------------------------------------------------------------- the demonstration

demo() {
    STEP=demo
    for tool in git cargo; do
        has "$tool" || fail "the demonstration needs $tool" 'Rust comes with rustup, git with your system'
    done
    [ -e "$HERE/Cargo.toml" ] || fail 'the demonstration builds the program, and wants a whole clone of its sources'
    say 'Building (the first time takes a minute or two)...'
    (cd "$HERE" && cargo build --release --locked --quiet) || fail 'the build failed' 'its messages are above; it needs a C compiler and cmake'
    program=${CARGO_TARGET_DIR:-$HERE/target}/release/bluegreen
    case $program in /*) ;; *) program=$HERE/$program ;; esac
    SAVED=$(mktemp -d)
    # A release is made safe on the disk, and should not have to wait for the build's own files.
    sync
    # Nothing of the user's own set-up counts, or is touched.
    for variable in $(git rev-parse --local-env-vars); do unset "$variable"; done
    export HOME="$SAVED" GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 LC_ALL=C.UTF-8
    export GIT_AUTHOR_NAME=Dev GIT_AUTHOR_EMAIL=dev@example.org GIT_COMMITTER_NAME=Dev GIT_COMMITTER_EMAIL=dev@example.org

    app=$SAVED/sample_app
    git -c init.defaultBranch=master init --quiet "$app"
    for server in blue green; do demo_server "$server"; done

    title 'Version 1, to both servers'
    demo_commit 'App v1' 'initializing repository with version 1'
    demo_push blue
    demo_push green
    title 'Version 2, to blue: green still serves version 1, so visitors can be sent over when all looks well'
    demo_commit 'App v2' 'Application version 2'
    demo_push blue
    title 'A version that must not go live: it has a link out of the release'
    ln -s /etc/passwd "$app/passwd"
    demo_commit 'App v3' 'Application version 3'
    demo_push blue
    title 'And back to version 1, by hand on blue'
    show bluegreen -C "$SAVED/blue/sample_app" rollback
    serves
    say "
That was all in $SAVED, which is gone now. On a real server: $SELF --help"
}

title() {
    if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

demo_server() { # NAME
    mkdir -p "$SAVED/$1/html"
    git -c init.defaultBranch=master init --quiet --bare "$SAVED/$1/sample_app"
    ln -s "$program" "$SAVED/$1/sample_app/hooks/post-receive"
    printf 'server = "%s"\n\n[site]\nroot = "%s"\n' "$1" "$SAVED/$1/html" >"$SAVED/$1/sample_app/bluegreen.toml"
    git -C "$app" remote add "$1" "$SAVED/$1/sample_app"
}

demo_commit() { # CONTENT MESSAGE
    printf '%s\n' "$1" >"$app/index.html"
    git -C "$app" add --all
    git -C "$app" commit --quiet -m "$2"
}

demo_push() { # SERVER
    show git -C "$app" push "$1" master
    serves
}

# Shows a command as one would type it, what it prints, and how long it took.
show() { # COMMAND...
    words=$*
    case $words in
        "git -C $app "*) words="git ${words#"git -C $app "}" ;;
        bluegreen*)
            shift
            set -- "$program" "$@"
            ;;
    esac
    printf '$ %s\n' "$words"
    started=$(date +%s%N)
    "$@" 2>&1 | sed -e '/^To \|^ .*->/d' -e 's/ *$//'
    took=$((($(date +%s%N) - started) / 1000000))
    printf '  took %d.%03d s' $((took / 1000)) $((took % 1000))
}

serves() {
    for server in blue green; do
        page=$SAVED/$server/html/current/index.html
        [ ! -e "$page" ] || printf '; %s serves %s' "$server" "$(cat "$page")"
    done
    printf '\n'
}

# ---------------------------------------------------------------- main

leave() {
    status=$?
    trap '' HUP INT TERM
    [ -z "$UNDO" ] || "$UNDO"
    [ -z "${SAVED-}" ] || rm -rf "$SAVED"
    exit "$status"
}

main() {
    FROM=$(pwd)
    HERE=$(cd "$(dirname "$(realpath "$0")")" && pwd)
    options "$@"
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    case $ACTION in
        demo) demo ;;
        uninstall)
            locked
            uninstall
            ;;
        install)
            preflight
            locked
            packages
            program
            user
            ssh_keys
            repository
            sudoers
            site
            finish
            ;;
    esac
}

# Two installers at once would each undo what the other did.
locked() {
    # A directory of the user's could be closed to the users that this becomes.
    cd /
    [ -z "$DRY_RUN" ] && [ "$(id -u)" -eq 0 ] || return 0
    exec 9>/run/bluegreen-install.lock
    flock -n 9 || fail 'another installer is at work'
}

main "$@"
