# Before anything is changed: settles the options, and fails wherever a later part would.

preflight() {
    STEP=preflight
    settle
    settle_stack
    check_keys
    check_rules
    find_web_server
    check_stack
    STEP=preflight
    find_binary
    check_repository
    check_hook post-receive
    [ -z "$GATE" ] || check_hook proc-receive
    check_others
    check_site
    # One that is there may be for the program that is about to be installed.
    agree || [ -z "$CONFIG" ] || cannot_agree
}

plain() { # OPTION VALUE: paths and names that need no quotes anywhere, be it shell, TOML, Apache or sudo
    case $2 in
        *[!A-Za-z0-9._/+@-]* | -*) misused "$1 may hold letters, digits and ._/+@- only, not \`$(printf '%s' "$2" | clean)\`" ;;
    esac
}

# Settles user, repository and ledgers, and after that whatever was not given: by the ledger, else by the
# default. The config is the user's, and is asked by agree() alone.
settle() {
    [ "$(id -u)" -eq 0 ] || fail 'this sets up a server, and wants root' "sudo $SELF ..., or $SELF --demo without"
    case $USER_NAME in
        root) misused '--user cannot be root: who pushes code would run it as root' ;;
        [!a-z_]* | *[!a-z0-9_-]*) misused "--user wants a user's name, not \`$USER_NAME\`" ;;
    esac
    HOME_DIR=$(home_of "$USER_NAME")
    case $REPO in
        "~$USER_NAME"/*) REPO=$HOME_DIR/${REPO#*/} ;;
        /*) ;;
        *) REPO=$HOME_DIR/$REPO ;;
    esac
    # Without asking where links of the user's lead.
    REPO=$(realpath -ms "$REPO")
    plain --repo "$REPO"
    plain --branch "$BRANCH"
    plain --name "$NAME"
    SLUG=$(printf '%s' "${REPO#/home/}" | tr -c 'A-Za-z0-9_-' _ | sed 's/^_//')
    LEDGER=$LEDGERS/repositories/$SLUG
    USERS=$LEDGERS/users/$USER_NAME
    SERVER=$LEDGERS/server
    SUDOERS=/etc/sudoers.d/bluegreen-$SLUG
    SSHD_CONF=/etc/ssh/sshd_config.d/bluegreen-$USER_NAME.conf
    CONFIG_NAME=$REPO/bluegreen.toml
    [ -z "$CONFIG" ] || CONFIG_NAME=--config
    [ ! -e "$LEDGER" ] || [ "$(value "$LEDGER" repository)" = "$REPO" ] ||
        fail "$REPO and $(value "$LEDGER" repository) have one name in $LEDGERS" 'give the repository another name'
    settle_site
    DOMAIN=${DOMAIN:-$(value "$LEDGER" domain)}
    case $DOMAIN in *[!A-Za-z0-9.*-]*) misused "--domain wants a host name, not \`$DOMAIN\`" ;; esac
    GATE=${GATE:-$(value "$LEDGER" gate)}
    LOGIN_SHELL=${LOGIN_SHELL:-$(value "$USERS" login-shell)}
}

settle_site() {
    SITE_GIVEN=$SITE
    SITE=${SITE:-$(value "$LEDGER" site)}
    SITE=$(realpath -ms "${SITE:-/var/www/html}")
    plain --site "$SITE"
    case "$HOME_DIR/ $REPO/" in
        "$SITE"/* | *" $SITE"/*) misused "--site $SITE would hold the repository or the home of $USER_NAME" ;;
    esac
    case "$SITE/" in
        "$REPO"/* | "$LEDGERS"/* | /etc/* | /usr/* | /proc/* | /sys/* | /dev/* | /bin/* | /sbin/* | /lib/* | /boot/* | /root/* | /run/* | /tmp/*)
            misused "--site $SITE is no place for a site"
            ;;
        /*/*/) ;;
        *) misused "--site $SITE is no place for a site; /srv/NAME would be" ;;
    esac
}

# Reads the config of --config, before standard input is closed.
wanted_config() {
    local file=/dev/stdin
    [ "$CONFIG" = - ] || file=$(absolute "$CONFIG")
    cat -- "$file" >"$SCRATCH/bluegreen.toml" 2>/dev/null || fail "cannot read the config $file"
    CONFIG_TEXT=$(cat "$SCRATCH/bluegreen.toml")
}

# Compares the config with what was asked for: its branch and its name of the server count; its site must be the
# one that root knows of. False where it cannot be read.
agree() {
    local key found wanted option
    : >"$SCRATCH/asides"
    settings >"$SCRATCH/settings" || return 1
    while read -r key found; do
        case $key in
            branch) wanted=$BRANCH BRANCH=$found option=--branch ;;
            server) wanted=$NAME NAME=$found option=--name ;;
            root) wanted=$SITE option=--site ;;
            host) # the config sets no name, so it would be the host's
                [ -z "$NAME" ] || [ "$NAME" = "$found" ] || fail "$CONFIG_NAME sets no \`server\`, so the name would be $found, not $NAME" \
                    "add \`server = \"$NAME\"\` to the config, or leave out --name"
                NAME=$found
                continue
                ;;
            *) continue ;; # of another version
        esac
        plain "$CONFIG_NAME: $key" "$found"
        [ "${wanted:-$found}" = "$found" ] || fail "$CONFIG_NAME says \`$key = \"$found\"\`, not $wanted" \
            "change the config; or if it is right, as root: $SELF --repo $REPO $option $found"
    done <"$SCRATCH/settings"
}

# Prints what the program reads in the config of --config, or else in the one that is there, as its owner; nothing
# where there is none, or no program yet.
settings() {
    if [ -n "$CONFIG" ]; then
        [ ! -x "${SOURCE:-$PROGRAM}" ] ||
            (cd "$SCRATCH" && "${SOURCE:-$PROGRAM}" generate settings --config bluegreen.toml 2>asides)
    elif [ -x "$PROGRAM" ] && exists "$USER_NAME" "$CONFIG_NAME"; then
        as "$USER_NAME" "$PROGRAM" -C "$REPO" generate settings
    fi
}

cannot_agree() {
    clean <"$SCRATCH/asides" | indent >&2
    fail "$CONFIG_NAME cannot be read" 'its own words are above'
}

check_repository() {
    if id "$USER_NAME" >/dev/null 2>&1; then
        ! exists "$USER_NAME" "$REPO" || as "$USER_NAME" test -O "$REPO"
    else
        [ ! -e "$REPO" ]
    fi || fail "$REPO belongs to $(owner_of "$REPO"), not to $USER_NAME" '--user NAME, or another --repo'
}

# A hook is ours if it is a link to the program, and chained if it calls it.
check_hook() { # NAME
    local hook="$REPO/hooks/$1"
    as "$USER_NAME" test -e "$hook" -o -L "$hook" || return 0
    ! hook_is_ours "$hook" && ! as "$USER_NAME" grep -Fqs "bluegreen hook $1" "$hook" || return 0
    fail "$hook is not this program's, so it stays as it is" \
        "move it away and run this again; or to run both, let it end with \`bluegreen hook $1\` on the same standard input"
}

hook_is_ours() { as "$USER_NAME" readlink "$1" | grep -Eqx '/usr(/local)?/bin/bluegreen'; } # HOOK

# Two repositories share neither a site nor a host name.
check_others() {
    local other
    for other in $(other_ledgers); do
        [ "$(value "$other" site)" != "$SITE" ] ||
            fail "$SITE is the site of $(value "$other" repository)" 'give this repository a site of its own: --site DIRECTORY'
        [ "$WEB" = none ] || [ -n "$DOMAIN" ] || [ -n "$(value "$other" domain)" ] || [ "$(value "$other" web-server)" = none ] ||
            fail "$(value "$other" repository) answers for every host name already" 'tell the two apart: --domain NAME'
    done
}

check_site() {
    local real owner
    GIVE_SITE=
    real=$(realpath -m "$SITE")
    [ "$real" = "$SITE" ] || fail "$SITE leads to $real" "name that directory itself, if it is meant: --site $real"
    [ -e "$SITE" ] || return 0
    [ -d "$SITE" ] || fail "$SITE is not a directory"
    [ ! -e "$SITE/current" ] || [ -L "$SITE/current" ] ||
        fail "$SITE/current is in the way: a deployment makes it a link" "mv $SITE/current $SITE/current.old"
    owner=$(owner_of "$SITE")
    case $owner in
        "$USER_NAME") ;;
        root) check_gift ;;
        *)
            fail "$SITE belongs to $owner, not to $USER_NAME" \
                "another directory: --site DIRECTORY; or give it away, if that is right: chown -R $USER_NAME $SITE"
            ;;
    esac
}

# A site of root's becomes the user's by the word of an admin: root gives away what root has, where nobody else
# can have put anything in between, and nothing else.
check_gift() {
    local foreign
    roots_alone "$SITE" || fail "others than root can change $SITE or a directory above it" "chmod go-w it, or chown $USER_NAME $SITE"
    GIVE_SITE=yes
    if [ "$WEB" = none ] || [ -L "$SITE/current" ] || [ -z "$(leftovers)" ]; then return 0; fi
    [ -n "$SITE_GIVEN" ] || ! is_somebodys ||
        fail "$SITE holds something already, and belongs to root" \
            "--site $SITE makes that the first release, owned by $USER_NAME; another directory leaves it alone"
    ! grep -Fq " $SITE/" /proc/self/mountinfo || fail "something is mounted in $SITE" 'unmount it, or name another directory: --site DIRECTORY'
    # A run that was interrupted may have given away some files, but then root has their directories.
    foreign=$(find "$SITE" \( -not -uid 0 -a \( -type d -o -not -user "$(id -u "$USER_NAME" 2>/dev/null || echo 0)" \) \
        -o -type d -perm /022 -o -type f -links +1 \) -print -quit)
    [ -z "$foreign" ] || fail "$foreign is not root's alone, so root does not give it away" "look at it, then chown -R $USER_NAME $SITE"
    GIVE_SITE=all
}

# What was in the site before, as far as a test of find holds for it.
leftovers() { # [TEST...]
    [ ! -d "$SITE" ] || find "$SITE" -mindepth 1 -maxdepth 1 ! -name current ! -name releases ! -name shared ! -name .bluegreen "$@"
}

# The page that a web server's package lays is nobody's site.
is_somebodys() { [ -n "$(leftovers ! -exec grep -Eqs 'Default Page: It works|<title>Welcome to nginx' {} \; -print)" ]; }

# Settles where the program will be, and where it comes from: nowhere yet, if it is to be built.
find_binary() {
    if [ -n "$PACKAGED" ] && [ -z "$BINARY" ]; then
        PROGRAM=/usr/bin/bluegreen SOURCE=/usr/bin/bluegreen
        [ -x "$PROGRAM" ] || fail "$PROGRAM is missing" 'apt-get install --reinstall bluegreen'
        return 0
    fi
    PROGRAM=/usr/local/bin/bluegreen SOURCE=${BINARY:+$(absolute "$BINARY")}
    [ ! -e "$PROGRAM" ] || is_bluegreen "$PROGRAM" || fail "$PROGRAM is another program, so it stays as it is"
    if [ -n "$SOURCE" ]; then
        is_bluegreen "$SOURCE" || fail "$SOURCE is not bluegreen, or does not run on this machine"
    elif [ -x "$PROGRAM" ] && [ -z "$(builders_cargo)" ]; then
        # Where nothing can be built, what is installed will do.
        SOURCE=$PROGRAM
    else
        [ -e "$HERE/Cargo.toml" ] || fail "there are no sources in $HERE to build the program from" '--binary FILE'
    fi
}

is_bluegreen() { case $("$1" --version 2>/dev/null) in "bluegreen "*) ;; *) return 1 ;; esac }
