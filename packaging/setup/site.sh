# The site: its directories, and the files that it contained before.

# A public site stays online: the web server's new config is tested, the files become the first release, and
# the web server is reloaded.
site() {
    local first=''
    STEP=site
    note "$LEDGER" "site $SITE"
    [ -z "$LISTEN" ] || note "$LEDGER" "listen $LISTEN"
    [ -z "$SERVE" ] || note "$LEDGER" "serve $SERVE"
    is "$USER_NAME" -L "$SITE/current" || first=yes
    user_directory "$SITE"
    web_config
    STEP=site
    case $GIVE_SITE in
        all) run "make $USER_NAME the owner of $SITE and its files" chown -hR "$USER_NAME" "$SITE" ;;
        yes) run "make $USER_NAME the owner of $SITE" chown -h "$USER_NAME" "$SITE" ;;
    esac
    site_directory releases 755
    site_directory .bluegreen 700
    reopen
    if [ -n "$first" ] && [ -n "$(leftovers)" ]; then
        if [ "$WEB" = none ]; then
            say "site         $SITE stays as it is: your web server serves it until its document root is $SITE/current"
        else
            # Another deployment may have to finish first.
            TIMEOUT=900
            run "make the files in $SITE the first release" as "$USER_NAME" "$PROGRAM" -C "$REPO" adopt
        fi
    fi
    UNDO=
    web_reload
}

site_directory() { # NAME MODE
    exists "$USER_NAME" "$SITE/$1" || run "create $SITE/$1" as "$USER_NAME" install -d -m "$2" "$SITE/$1"
}

# Restores access to what an uninstall closed to visitors: lines "NAME MODE".
reopen() {
    local name mode closed="$SITE/.bluegreen/closed"
    exists "$USER_NAME" "$closed" || return 0
    read_text "$USER_NAME" "$closed"
    while read -r name mode; do
        case $name:$mode in
            releases:[0-7][0-7][0-7] | shared:[0-7][0-7][0-7] | releases:[0-7][0-7][0-7][0-7] | shared:[0-7][0-7][0-7][0-7])
                run "open $SITE/$name again" as "$USER_NAME" chmod "$mode" "$SITE/$name"
                ;;
        esac
    done <<EOT
$TEXT
EOT
    run '' as "$USER_NAME" rm -f "$closed"
}

# Makes the site's directories accessible only to their owner. Directories of another owner, or behind a
# symlink, stay as they are: see exposed(). reopen() ignores .bluegreen, which should never be open.
close() {
    local name kind mode
    for name in .bluegreen releases shared; do
        if ! is "$USER_NAME" -d "$SITE/$name" || is "$USER_NAME" -L "$SITE/$name" || ! is "$USER_NAME" -O "$SITE/$name"; then continue; fi
        kind=$(as "$USER_NAME" stat -c '%F:%a' -- "$SITE/$name") || fail "cannot read $SITE/$name"
        mode=${kind#directory:}
        case $mode in *00) continue ;; esac
        run "close $SITE/$name to visitors" as "$USER_NAME" sh -c \
            'echo "$2 $3" >>"$1/.bluegreen/closed" && chmod go-rwx "$1/$2"' sh "$SITE" "$name" "$mode"
    done
}

# Prints the first path of the site that the web server's user can still enter or read.
exposed() {
    local name
    for name in shared releases current .bluegreen; do
        if is www-data -r "$SITE/$name" || is www-data -x "$SITE/$name"; then
            printf '%s\n' "$SITE/$name"
            return 0
        fi
    done
}
