# Runs before any change: settles the options, and fails if a later part would fail.

preflight() {
    STEP=preflight
    settle
    settle_stack
    check_keys
    check_roles
    check_rules
    find_web_server
    check_tls
    check_stack
    STEP=preflight
    find_binary
    check_repository
    check_hook post-receive
    [ -z "$GATE" ] || check_hook proc-receive
    check_others
    check_site
    warn_of_hidden
    # An existing config may need the version that is about to be installed.
    agree || [ -z "$CONFIG" ] || cannot_agree
}

# Accepts paths and names that need no quotes in shell, TOML, Apache, nginx, or sudo.
plain() { # OPTION VALUE
    case $2 in
        *[!A-Za-z0-9._/+@-]* | -*) misused "$1 may contain letters, digits, and ._/+@- only, not \`$(printf '%s' "$2" | clean)\`" ;;
    esac
}

# Settles the user, the repository, the ledgers, and then every omitted option, from the ledger or by default.
# Only agree() reads the config, which belongs to the user.
settle() {
    [ "$(id -u)" -eq 0 ] || fail 'setting up a server needs root' "sudo $SELF ..."
    case $USER_NAME in
        root) misused '--user cannot be root: every key that may push could run code as root' ;;
        [!a-z_]* | *[!a-z0-9_-]*) misused "invalid name of a user: \`$USER_NAME\`" ;;
    esac
    HOME_DIR=$(home_of "$USER_NAME")
    case $REPO in
        "~$USER_NAME"/*) REPO=$HOME_DIR/${REPO#*/} ;;
        /*) ;;
        *) REPO=$HOME_DIR/$REPO ;;
    esac
    # Symlinks are not resolved, because the user may control them.
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
    if [ -e "$LEDGER" ]; then
        look_up "$LEDGER" repository
        [ "$VALUE" = "$REPO" ] || fail "$REPO and $VALUE have the same name in $LEDGERS" 'give the repository another name'
    fi
    settle_site
    look_up "$LEDGER" domain
    DOMAIN=${DOMAIN:-$VALUE}
    case $DOMAIN in *[!A-Za-z0-9.*-]*) misused "invalid host name: \`$DOMAIN\`" ;; esac
    settle_side
    settle_tls
    look_up "$LEDGER" gate
    GATE=${GATE:-$VALUE}
    look_up "$LEDGER" serve
    SERVE=${SERVE:-$VALUE}
    look_up "$USERS" login-shell
    LOGIN_SHELL=${LOGIN_SHELL:-$VALUE}
}

settle_site() {
    SITE_GIVEN=$SITE
    look_up "$LEDGER" site
    SITE=${SITE:-$VALUE}
    case $SITE in /*) ;; *?) misused "--site must be an absolute path: \`$SITE\`" ;; esac
    SITE=$(realpath -ms "${SITE:-/var/www/html}")
    plain --site "$SITE"
    case "$HOME_DIR/ $REPO/" in
        "$SITE"/* | *" $SITE"/*) misused "--site $SITE would contain the repository or the home of $USER_NAME" ;;
    esac
    case "$SITE/" in
        "$REPO"/* | "$LEDGERS"/* | /etc/* | /usr/* | /proc/* | /sys/* | /dev/* | /bin/* | /sbin/* | /lib/* | /boot/* | /root/* | /run/* | /tmp/*)
            misused "--site $SITE is not a directory for a site" 'use a directory of its own, such as /srv/NAME'
            ;;
        /*/*/) ;;
        *) misused "--site $SITE is not a directory for a site" 'use a directory of its own, such as /srv/NAME' ;;
    esac
}

# Reads the config from --config, before stdin is detached.
wanted_config() {
    local file=/dev/stdin
    [ "$CONFIG" = - ] || file=$(absolute "$CONFIG")
    cat -- "$file" >"$SCRATCH/bluegreen.toml" 2>/dev/null || fail "cannot read the config $file"
    CONFIG_TEXT=$(cat "$SCRATCH/bluegreen.toml")
}

# Compares the config with the options. Branch and server name come from the config. Its site must be the one
# that root has chosen. Returns false if the config cannot be read.
agree() {
    local key found wanted option
    : >"$SCRATCH/errors"
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
            *) continue ;; # from another version
        esac
        plain "$CONFIG_NAME: $key" "$found"
        [ "${wanted:-$found}" = "$found" ] || fail "$CONFIG_NAME says \`$key = \"$found\"\`, not $wanted" \
            "change the config; or if it is right, as root: $SELF --repo $REPO $option $found"
    done <"$SCRATCH/settings"
}

# Prints the settings in the config from --config, or in the existing one, which the program reads as the
# owner. Prints nothing if there is no config or no program yet.
settings() {
    if [ -n "$CONFIG" ]; then
        [ ! -x "${SOURCE:-$PROGRAM}" ] ||
            (cd "$SCRATCH" && "${SOURCE:-$PROGRAM}" generate settings --config bluegreen.toml 2>errors)
    elif [ -x "$PROGRAM" ] && exists "$USER_NAME" "$CONFIG_NAME"; then
        as "$USER_NAME" "$PROGRAM" -C "$REPO" generate settings
    fi
}

cannot_agree() {
    clean <"$SCRATCH/errors" | indent >&2
    fail "cannot read $CONFIG_NAME" 'the messages are above'
}

check_repository() {
    if has_user "$USER_NAME"; then
        ! exists "$USER_NAME" "$REPO" || is "$USER_NAME" -O "$REPO"
    else
        [ ! -e "$REPO" ]
    fi || fail "$REPO is owned by $(owner_of "$REPO"), not by $USER_NAME" '--user NAME, or another --repo'
}

# A hook is ours if it is a symlink to the program, and chained if it calls the program.
check_hook() { # NAME
    local hook="$REPO/hooks/$1"
    is "$USER_NAME" -e "$hook" || is "$USER_NAME" -L "$hook" || return 0
    ! hook_is_ours "$hook" && ! as "$USER_NAME" grep -Eqs "^[^#]*bluegreen hook $1" "$hook" || return 0
    fail "cannot install the hook $hook: another hook is installed there" \
        "move it away and run this again; or run both: hooks/README.md has a $1 that calls \`bluegreen hook $1\`"
}

hook_is_ours() { as "$USER_NAME" readlink "$1" | grep -Eqx '/usr(/local)?/bin/bluegreen'; } # HOOK

# Repositories must not share a site or a host name.
check_others() {
    local other repository
    find_others
    for other in $OTHERS; do
        look_up "$other" repository
        repository=$VALUE
        look_up "$other" site
        [ "$VALUE" != "$SITE" ] || fail "$SITE is the site of $repository" 'give this repository a site of its own: --site DIRECTORY'
        if [ "$WEB" = none ] || [ -n "$DOMAIN$LISTEN" ]; then continue; fi
        look_up "$other" web-server
        [ "$VALUE" != none ] || continue
        look_up "$other" listen
        [ -z "$VALUE" ] || continue
        look_up "$other" domain
        [ -n "$VALUE" ] || fail "the site of $repository already responds to every host name" 'give this one a host name: --domain NAME'
    done
}

check_site() {
    local real owner
    GIVE_SITE=
    real=$(realpath -m "$SITE")
    [ "$real" = "$SITE" ] || fail "$SITE resolves to $real" "name that directory itself: --site $real"
    [ -e "$SITE" ] || return 0
    [ -d "$SITE" ] || fail "$SITE is not a directory"
    [ ! -e "$SITE/current" ] || [ -L "$SITE/current" ] ||
        fail "cannot create the symlink $SITE/current: a file or directory of that name exists" "as $(owner_of "$SITE"): mv -nT $SITE/current $SITE/current.old"
    owner=$(owner_of "$SITE")
    case $owner in
        "$USER_NAME") ;;
        root) check_gift ;;
        *)
            fail "$SITE is owned by $owner, not by $USER_NAME" 'name another directory: --site DIRECTORY'
            ;;
    esac
}

# A site owned by root becomes the user's if an administrator names it. root gives away only its own files, in
# directories that no other user can have changed.
check_gift() {
    local foreign
    only_root_writes "$SITE" || fail "$SITE or a directory above it is writable by others" 'name another directory: --site DIRECTORY'
    GIVE_SITE=yes
    if [ "$WEB" = none ] || [ -L "$SITE/current" ] || [ -z "$(leftovers)" ]; then return 0; fi
    [ -n "$SITE_GIVEN" ] || ! has_own_files ||
        fail "$SITE contains files that root owns" \
            "--site $SITE makes them the first release, owned by $USER_NAME; another directory leaves them alone"
    ! grep -Fq " $SITE/" /proc/self/mountinfo || fail "something is mounted in $SITE" 'unmount it, or name another directory: --site DIRECTORY'
    # An interrupted run may have given away some files, but no directories yet.
    foreign=$(find "$SITE" \( -not -uid 0 -a \( -type d -o -not -user "$(id -u "$USER_NAME" 2>/dev/null || echo 0)" \) \
        -o -type d -perm /022 -o -type f -links +1 \) -print -quit)
    [ -z "$foreign" ] || fail "cannot change the owner of $SITE: another user owns, links, or can write $foreign" 'move it out of the site, or name another directory: --site DIRECTORY'
    GIVE_SITE=all
}

# Prints the files that existed in the site before, filtered by a test of find.
leftovers() { # [TEST...]
    [ ! -d "$SITE" ] || find "$SITE" -mindepth 1 -maxdepth 1 ! -name current ! -name releases ! -name shared ! -name .bluegreen "$@"
}

# Warns about paths that visitors lose: `releases` and `shared` in an existing site get another meaning.
warn_of_hidden() {
    local name
    [ "$WEB" != none ] && [ -d "$SITE" ] && [ ! -e "$SITE/.bluegreen" ] && [ ! -L "$SITE/current" ] || return 0
    for name in releases shared; do
        { [ -e "$SITE/$name" ] || [ -L "$SITE/$name" ]; } || continue
        warn "visitors will no longer get /$name/: $SITE/$name is a directory of bluegreen's; rename it first to keep it online"
    done
}

# The page that a web server's package installs is not a site.
has_own_files() { [ -n "$(leftovers ! -exec grep -Eqs 'Default Page: It works|<title>Welcome to nginx' {} \; -print)" ]; }

# Settles the program's path and source. SOURCE is empty if it has to be built.
find_binary() {
    if [ -n "$PACKAGED" ] && [ -z "$BINARY" ]; then
        PROGRAM=/usr/bin/bluegreen SOURCE=/usr/bin/bluegreen
        [ -x "$PROGRAM" ] || fail "$PROGRAM is missing" 'apt-get install --reinstall bluegreen'
        return 0
    fi
    PROGRAM=/usr/local/bin/bluegreen SOURCE=${BINARY:+$(absolute "$BINARY")}
    [ ! -e "$PROGRAM" ] || is_bluegreen "$PROGRAM" || fail "cannot install $PROGRAM: another program is installed there" 'move it away, and run this again'
    if [ -n "$SOURCE" ]; then
        is_bluegreen "$SOURCE" || fail "$SOURCE is not bluegreen, or does not run on this machine"
    elif [ -x "$PROGRAM" ] && [ -z "$(builders_cargo)" ]; then
        # If nothing can be built, the installed program stays in use.
        SOURCE=$PROGRAM
    else
        [ -e "$HERE/Cargo.toml" ] || fail "$HERE contains no sources to build the program from" '--binary FILE'
    fi
}

is_bluegreen() { case $("$1" --version 2>/dev/null) in "bluegreen "*) ;; *) return 1 ;; esac }
