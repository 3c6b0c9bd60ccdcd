# Before anything is changed: settles the options, and fails wherever a later part would.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

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

# Reads the config of --config, before standard input is closed.
wanted_config() {
    local file=/dev/stdin
    [ "$CONFIG" = - ] || file=$(absolute "$CONFIG")
    cat -- "$file" >"$SCRATCH/bluegreen.toml" 2>/dev/null || fail "cannot read the config $file"
    CONFIG_TEXT=$(cat "$SCRATCH/bluegreen.toml")
}

# Compares the config of --config, or else the one that is there, with what was asked for, as the program reads
# it; the one that is there as its owner. Its branch and its name of the server count; its site must be the one
# that root knows of. False where it cannot be read.
agree() {
    local settings
    : >"$SCRATCH/asides"
    if [ -n "$CONFIG" ]; then
        CONFIG_NAME=--config
        # Without a program, it is read once that is built.
        [ -x "${SOURCE:-$PROGRAM}" ] || return 0
        settings=$("${SOURCE:-$PROGRAM}" generate settings --config "$SCRATCH/bluegreen.toml" 2>"$SCRATCH/words") || {
            sed "s|$SCRATCH/||" "$SCRATCH/words" >"$SCRATCH/asides"
            return 1
        }
    else
        CONFIG_NAME=$REPO/bluegreen.toml
        { [ -x "$PROGRAM" ] && exists "$USER_NAME" "$CONFIG_NAME"; } || return 0
        settings=$(as "$USER_NAME" "$PROGRAM" -C "$REPO" generate settings) || return 1
    fi
    BRANCH=$(agreed "$settings" branch branch "$BRANCH") || exit
    NAME=$(agreed "$settings" server name "$NAME") || exit
    agreed "$settings" site site "$SITE" >/dev/null || exit
}

cannot_agree() {
    clean <"$SCRATCH/asides" | indent >&2
    fail "$CONFIG_NAME cannot be read" 'its own words are above'
}

agreed() { # SETTINGS KEY OPTION WANTED: the value of KEY, which is WANTED where anything is
    local found key="$2" hint="leave --$3 out, or change the config first"
    found=$(printf '%s\n' "$1" | sed -n "s/^$2 //p" | head -n 1)
    plain "$CONFIG_NAME: $2" "$found"
    if [ -n "$4" ] && [ "$found" != "$4" ]; then
        [ "$2" != site ] || {
            key=root
            hint="put it back; or if the site is to be there, as root: $SELF --repo $REPO --site $found"
        }
        fail "$CONFIG_NAME says \`$key = \"$found\"\`, not $4" "$hint"
    fi
    printf '%s\n' "$found"
}

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
    find_web_server
    find_binary
    check_repository
    check_hook post-receive
    [ -z "$GATE" ] || check_hook proc-receive
    check_others
    check_site
    # One that is there may be for the program that is about to be installed.
    agree || [ -z "$CONFIG" ] || cannot_agree
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

# Settles where the program will be, and where it comes from: nowhere yet, if it is to be built.
find_binary() {
    if [ -n "$PACKAGED" ] && [ -z "$BINARY" ]; then
        PROGRAM=/usr/bin/bluegreen
        [ -x "$PROGRAM" ] || fail "$PROGRAM is missing" 'apt-get install --reinstall bluegreen'
        SOURCE=$PROGRAM
        return 0
    fi
    PROGRAM=/usr/local/bin/bluegreen
    BINARY=${BINARY:+$(absolute "$BINARY")}
    SOURCE=$BINARY
    [ ! -e "$PROGRAM" ] || is_bluegreen "$PROGRAM" || fail "$PROGRAM is another program, so it stays as it is"
    [ -z "$BINARY" ] || is_bluegreen "$BINARY" || fail "$BINARY is not bluegreen, or does not run on this machine"
    # Where nothing can be built, what is installed will do.
    if [ -z "$BINARY" ] && [ -x "$PROGRAM" ] && { [ -n "$PACKAGED" ] || [ ! -e "$HERE/Cargo.toml" ] || [ -z "$(find_cargo "$(home_of "$(owner_of "$HERE")")")" ]; }; then
        SOURCE=$PROGRAM
    fi
    [ -n "$SOURCE" ] || [ -e "$HERE/Cargo.toml" ] || fail "there are no sources in $HERE to build the program from" '--binary FILE'
}

is_bluegreen() {
    case $("$1" --version 2>/dev/null) in "bluegreen "*) return 0 ;; *) return 1 ;; esac
}
