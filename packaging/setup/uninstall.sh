# Removes what the ledger lists, and nothing else.

uninstall() {
    local other name last_of_user=yes last_of_server=yes
    STEP=uninstall
    settle
    if [ ! -e "$LEDGER" ]; then
        say "Nothing was installed for $REPO."
        return 0
    fi
    look_up "$LEDGER" site
    SITE=$VALUE
    PROGRAM=/usr/local/bin/bluegreen
    find_others
    for other in $OTHERS; do
        last_of_server=
        look_up "$other" user
        [ "$VALUE" != "$USER_NAME" ] || last_of_user=
    done

    look_up "$LEDGER" web-server
    WEB=$VALUE
    if [ "${WEB:-none}" != none ] && [ -n "$last_of_server" ]; then close_site; fi
    unboot
    settle_stack
    unstack
    [ "${WEB:-none}" = none ] || unserve "$last_of_server"
    look_up "$LEDGER" hook
    for name in $VALUES; do
        ! hook_is_ours "$REPO/hooks/$name" || run "remove the hook $name" as "$USER_NAME" rm -f "$REPO/hooks/$name"
    done
    # Otherwise git would run the removed hook and reject every push.
    ! noted "$LEDGER" 'gate yes' || [ -z "$(git_config --get receive.procReceiveRefs)" ] ||
        run 'git config --unset-all receive.procReceiveRefs' git_config --unset-all receive.procReceiveRefs
    remove_file "$LEDGER" "$USER_NAME" "$REPO/bluegreen.toml"
    remove_file "$LEDGER" root "$SUDOERS"
    [ -z "$last_of_user" ] || forget_user
    list_repositories "$REPO"
    [ -z "$last_of_server" ] || forget_server
    run '' rm -f "$LEDGER"
    if [ -n "$last_of_server" ]; then
        run '' rm -rf "$LEDGERS/repositories" "$LEDGERS/users" "$LEDGERS/accounts" "$SERVER"
        # The switch `address` keeps a file there.
        run '' rmdir --ignore-fail-on-non-empty "$LEDGERS"
    fi
    if [ -n "$DRY_RUN" ]; then
        say 'This was a dry run: nothing was changed.'
    else
        say "The releases in $SITE, the repository $REPO, and the user $USER_NAME remain."
        # Its files in the site would be owned by the next user with the same UID.
        [ -z "$APP" ] || ! has_user "$APP_USER" ||
            say "The user $APP_USER remains, because $SITE/shared contains its files. To remove it, run \`deluser --system $APP_USER\`."
        [ "${WEB:-none}" = none ] || ! exists "$USER_NAME" "$SITE/current" ||
            say "The web server no longer serves the live release. To serve it again, run $SELF --repo $REPO."
    fi
}

# Without our site, the web server must not serve what is next to `current`, such as uploads and secrets. So
# these directories are closed first. If the web server's user can still read one of them, nothing is
# uninstalled.
close_site() {
    local exposed
    web_places
    site_is_covered || return 0
    close
    [ -z "$DRY_RUN" ] || return 0
    exposed=$(exposed) || exit
    [ -n "$exposed" ] || return 0
    reopen
    fail "without the installer's site, visitors could read $exposed" "move it out of $SITE, or make it unreadable for www-data; then run this again"
}

# Disables our site, and enables the default site if an installation has disabled it.
unserve() { # LAST_OF_SERVER
    local default
    web_places
    take_off "$NAMED_CONF"
    take_off "$FIRST_CONF"
    look_up "$SERVER" "default-off-$WEB"
    default=$VALUE
    if [ -n "$1" ] && [ -n "$default" ] && [ -e "$WEB_DIR/sites-available/$DEFAULT_SITE" ]; then
        [ -e "$WEB_DIR/sites-enabled/$DEFAULT_SITE" ] ||
            run 'enable the default site' put_link root "$default" "$WEB_DIR/sites-enabled/$DEFAULT_SITE"
    fi
    [ -z "$1" ] || apache_modules_off
    [ -z "$1" ] || ! noted "$SERVER" apache-headers || run "disable Apache's module headers" rm -f "/etc/apache2/$HEADERS"
    [ -z "$1" ] || uncaddy
    ! web_alive || run "reload $WEB" web_graceful
    untls
}

# True if the site is in the document root of the default site, or if that root is unknown.
site_is_covered() {
    local root roots
    # Apache's built-in document root on Debian and Ubuntu, even without a site.
    case $WEB:$SITE/ in apache:/var/www/html/*) return 0 ;; esac
    [ -e "$WEB_DIR/sites-available/$DEFAULT_SITE" ] || return 1
    roots=$(sed -nE "s/^[[:space:]]*${ROOT_KEY}[[:space:]]+\"?([^\";[:space:]]+).*/\1/p" "$WEB_DIR/sites-available/$DEFAULT_SITE") ||
        fail "cannot read $WEB_DIR/sites-available/$DEFAULT_SITE"
    [ -n "$roots" ] || return 0
    for root in $roots; do
        root=$(realpath -m "$root")
        case $SITE/ in "${root%/}"/*) return 0 ;; esac
    done
    return 1
}

forget_user() {
    [ -e "$USERS" ] || return 0
    look_up "$USERS" key
    [ -z "$VALUES" ] || take_away 'remove the keys that may push' "$VALUES"
    [ "$(shell_of "$USER_NAME")" != "$LOGIN_PROGRAM" ] ||
        run "make git-shell the shell of $USER_NAME" usermod -s "$(command -v git-shell || echo /usr/bin/git-shell)" "$USER_NAME"
    [ ! -e "$SSHD_CONF" ] || {
        remove_file "$USERS" root "$SSHD_CONF"
        run 'reload sshd' sshd_reload
    }
    run '' rm -f "$USERS"
}

forget_server() {
    local path paths
    [ -e "$SERVER" ] || return 0
    look_up "$SERVER" laid
    paths=$(printf '%s\n' "$VALUES" | sed 's/ [^ ]*$//' | sort -u) || fail "cannot sort the ledger $SERVER"
    case $paths in */fpm/pool.d/*) note "$SERVER" php-reload-due ;; esac
    for path in $paths; do remove_file "$SERVER" root "$path"; done
    php_reload_due
    look_up "$SERVER" directory
    paths=$(printf '%s\n' "$VALUES" | sort -r) || fail "cannot sort the ledger $SERVER"
    for path in $paths; do
        [ ! -d "$path" ] || run '' rmdir --ignore-fail-on-non-empty "$path"
    done
    look_up "$SERVER" link
    for path in $VALUES; do
        [ ! -L "$path" ] || run "remove $path" rm -f "$path"
    done
    ! noted "$SERVER" "program $PROGRAM" || ! is_bluegreen "$PROGRAM" || run "remove $PROGRAM" rm -f "$PROGRAM"
}
