# The way back: takes off what the ledger says, and nothing else.

uninstall() {
    local other name last_of_user=yes last_of_server=yes
    STEP=uninstall
    settle
    if [ ! -e "$LEDGER" ]; then
        say "Nothing was installed for $REPO."
        return 0
    fi
    SITE=$(value "$LEDGER" site)
    PROGRAM=/usr/local/bin/bluegreen
    for other in $(other_ledgers); do
        last_of_server=
        [ "$(value "$other" user)" != "$USER_NAME" ] || last_of_user=
    done

    unboot
    settle_stack
    unstack
    WEB=$(value "$LEDGER" web-server)
    [ "${WEB:-none}" = none ] || unserve "$last_of_server"
    for name in $(values "$LEDGER" hook); do
        ! hook_is_ours "$REPO/hooks/$name" || run "remove the hook $name" as "$USER_NAME" rm -f "$REPO/hooks/$name"
    done
    # Left behind, it would have git look for a hook that is gone, and refuse every push.
    ! noted "$LEDGER" 'gate yes' || [ -z "$(git_config --get receive.procReceiveRefs)" ] ||
        run 'git config --unset-all receive.procReceiveRefs' git_config --unset-all receive.procReceiveRefs
    unlay "$LEDGER" "$USER_NAME" "$REPO/bluegreen.toml"
    unlay "$LEDGER" root "$SUDOERS"
    [ -z "$last_of_user" ] || forget_user
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
    take_off "$NAMED_CONF"
    take_off "$FIRST_CONF"
    default=$(value "$SERVER" "default-off-$WEB")
    if [ -n "$1" ] && [ -n "$default" ] && [ -e "$WEB_DIR/sites-available/$DEFAULT_SITE" ]; then
        close
        [ -e "$WEB_DIR/sites-enabled/$DEFAULT_SITE" ] ||
            run 'enable the default site' put_link root "$default" "$WEB_DIR/sites-enabled/$DEFAULT_SITE"
    fi
    [ -z "$1" ] || apache_modules_off
    [ -z "$1" ] || ! noted "$SERVER" apache-headers || run "disable Apache's module headers" rm -f "/etc/apache2/$HEADERS"
    [ -z "$1" ] || uncaddy
    ! web_alive || run "reload $WEB" web_graceful
}

forget_user() {
    local blobs
    [ -e "$USERS" ] || return 0
    blobs=$(values "$USERS" key)
    [ -z "$blobs" ] || take_away 'take back the keys that may push' "$blobs"
    [ "$(shell_of "$USER_NAME")" != "$LOGIN_PROGRAM" ] ||
        run "make git-shell the shell of $USER_NAME" usermod -s "$(command -v git-shell || echo /usr/bin/git-shell)" "$USER_NAME"
    [ ! -e "$SSHD_CONF" ] || {
        unlay "$USERS" root "$SSHD_CONF"
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
