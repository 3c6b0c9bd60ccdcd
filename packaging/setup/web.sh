# The site of Apache or nginx: laid, tested, and taken up by a reload.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

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
