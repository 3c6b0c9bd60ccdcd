# The site: its directories, and what lay in it before.

# What is served already stays served: the web server's new config is tested, then the files become
# the first release, then the web server is told.
site() {
    local first=''
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
    site_directory releases 755
    site_directory .bluegreen 700
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

site_directory() { # NAME MODE
    exists "$USER_NAME" "$SITE/$1" || run "create $SITE/$1" as "$USER_NAME" install -d -m "$2" "$SITE/$1"
}

# Opens again what an uninstall closed to visitors.
reopen() {
    local name closed="$SITE/.bluegreen/closed"
    exists "$USER_NAME" "$closed" || return 0
    for name in $(text_of "$USER_NAME" "$closed"); do
        case $name in
            releases | shared) run "open $SITE/$name again" as "$USER_NAME" chmod o+rx "$SITE/$name" ;;
        esac
    done
    run '' as "$USER_NAME" rm -f "$closed"
}

close() {
    local name
    for name in releases shared; do
        case $(as "$USER_NAME" stat -c '%F:%a' -- "$SITE/$name") in
            directory:*[1357])
                run "close $SITE/$name to visitors" as "$USER_NAME" sh -c \
                    'echo "$2" >>"$1/.bluegreen/closed" && chmod o-rwx "$1/$2"' sh "$SITE" "$name"
                ;;
        esac
    done
}
