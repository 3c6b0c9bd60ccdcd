# The site of Apache or nginx: laid, tested, and taken up by a reload.

find_web_server() {
    local had enabled
    had=$(value "$LEDGER" web-server)
    [ "${WEB:-auto}" != auto ] || WEB=${had:-auto}
    case $WEB in
        apache | nginx | caddy | none) ;;
        auto)
            WEB=apache
            if ! alive /run/apache2/apache2.pid; then
                if alive /run/nginx.pid || { has nginx && ! has apache2ctl; }; then WEB=nginx; fi
            fi
            ;;
        *) misused "--web-server wants auto, apache, nginx, caddy, or none, not \`$WEB\`" ;;
    esac
    [ -z "$had" ] || [ "$had" = "$WEB" ] ||
        fail "$REPO was set up with $had" "$SELF --repo $REPO --uninstall first, then set it up with $WEB"
    [ "$WEB" != none ] || return 0
    web_places
    # Without a name of its own a site must be the server's first, which answers for all names.
    SITE_CONF=$FIRST_CONF
    [ -z "$DOMAIN" ] || SITE_CONF=$NAMED_CONF
    [ -e "$(site_file)" ] || fail "there is no site for $WEB without a stack" '--stack static, or another web server'
    check_domain
    check_port
    # A site of somebody else's that serves this directory would serve nothing once it is adopted.
    for enabled in "$WEB_DIR"/sites-enabled/*; do
        case ${enabled##*/} in "$DEFAULT_SITE" | "$FIRST_CONF" | "$NAMED_CONF") continue ;; esac
        ! grep -Eqs "^[[:space:]]*${ROOT_KEY}[[:space:]]+\"?$SITE/?\"?;?[[:space:]]*\$" "$enabled" ||
            fail "$enabled serves $SITE already" "change its $ROOT_KEY to $SITE/current and give --web-server none, or disable it"
    done
}

# Where Debian and Ubuntu keep a web server's files.
web_places() {
    case $WEB in
        apache)
            WEB_UNIT=apache2 WEB_COMMAND=apache2ctl WEB_PID=/run/apache2/apache2.pid ROOT_KEY=DocumentRoot NAME_KEY='Server(Name|Alias)'
            DEFAULT_SITE=000-default.conf NAMED_CONF=bluegreen-$SLUG.conf
            ;;
        nginx)
            WEB_UNIT=nginx WEB_COMMAND=nginx WEB_PID=/run/nginx.pid ROOT_KEY=root NAME_KEY=server_name
            DEFAULT_SITE=default NAMED_CONF=bluegreen-$SLUG
            ;;
        caddy)
            WEB_UNIT=caddy WEB_COMMAND=caddy WEB_PID='' ROOT_KEY='root \*' NAME_KEY='(https?://)?'
            DEFAULT_SITE=default NAMED_CONF=bluegreen-$SLUG
            ;;
    esac
    WEB_DIR=/etc/$WEB_UNIT FIRST_CONF=000-$NAMED_CONF
    # What Apache sends X-Served-By with.
    HEADERS=mods-enabled/headers.load
}

# Fails if another program listens where the web server is going to.
check_port() {
    web_alive || ! awk '$2 ~ /:0050$/ && $4 == "0A" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null ||
        fail "port 80 is in use, and not by $WEB" '`ss -ltnp sport = :80` prints by which program; stop it, or give its name to --web-server'
}

# Fails if the site of somebody else has this host name already.
check_domain() {
    local enabled name
    [ -n "$DOMAIN" ] || return 0
    name=$(printf '%s' "$DOMAIN" | sed 's/[.*]/\\&/g')
    for enabled in "$WEB_DIR"/sites-enabled/* "$WEB_DIR"/conf.d/* "$WEB_DIR"/Caddyfile; do
        case ${enabled##*/} in "$FIRST_CONF" | "$NAMED_CONF") continue ;; esac
        ! grep -Eqs "(^|[[:space:]{;])${NAME_KEY}([[:space:]][^;]*[[:space:]]|[[:space:]]*)$name([[:space:];,{]|\$)" "$enabled" ||
            fail "$enabled has the domain $DOMAIN already" 'another --domain, or disable that site'
    done
}

# The site of share/web, with what holds here: its first lines explain the marks.
site_text() {
    local php all='yes' no_php='yes' ipv6=''
    php=$(find /run/php -maxdepth 1 -name 'php*-fpm.sock' 2>/dev/null | sort -V | tail -n 1)
    [ -z "$DOMAIN" ] || all=''
    [ -z "$php" ] || no_php=''
    [ ! -e /proc/net/if_inet6 ] || ipv6=yes
    sed -e '/^@:/d' -e "$(mark domain "$DOMAIN")" -e "$(mark all "$all")" -e "$(mark ipv6 "$ipv6")" -e "$(mark php "$php")" \
        -e "$(mark no-php "$no_php")" -e "s|@SITE@|$SITE|g" -e "s|@REPO@|$REPO|g" -e "s|@NAME@|$NAME|g" \
        -e "s|@DOMAIN@|$DOMAIN|g" -e "s|@PHP@|$php|g" -e "s|@APP@|$APP|g" -e "$(mark assets "$STACK_ASSETS_URL")" \
        -e "s|@VARIABLE@|bluegreen_$(printf '%s' "$SLUG" | tr - _)|g" -e "s|@PUBLIC@|$STACK_PUBLIC|g" -e "s|@ASSETS_URL@|$STACK_ASSETS_URL|g" "$(site_file)"
}

# Prints the template of the site: the stack's, or that of a plain site.
site_file() {
    if [ -n "$STACK" ] && [ -e "$(stack_file "$WEB.conf")" ]; then stack_file "$WEB.conf"; else printf '%s\n' "$ASSETS/web/$WEB.conf"; fi
}

# What sed does to the lines of a mark.
mark() { if [ -n "$2" ]; then printf 's/^@%s://' "$1"; else printf '/^@%s:/d' "$1"; fi; } # NAME VALUE

# Puts our site on and the default site off, and tests it; the running server still has its old
# config when this returns. A test that fails puts all back.
web_config() {
    local available enabled default default_due stale text
    STEP='web server'
    note "$LEDGER" "web-server $WEB"
    [ "$WEB" != none ] || return 0
    [ -z "$DOMAIN" ] || note "$LEDGER" "domain $DOMAIN"
    available=$WEB_DIR/sites-available/$SITE_CONF
    enabled=$WEB_DIR/sites-enabled/$SITE_CONF
    default=$WEB_DIR/sites-enabled/$DEFAULT_SITE default_due=
    # Who puts the default site on again, means it.
    if [ -L "$default" ] && { [ -z "$(value "$SERVER" "default-off-$WEB")" ] || noted "$LEDGER" reload-due; }; then default_due=yes; fi
    text=$(site_text)
    if kept "$LEDGER" root "$available" "$text" && [ -L "$enabled" ] && [ -z "$default_due" ] && ! noted "$LEDGER" reload-due; then
        return 0
    fi
    # A dry run may be the only one to get here before the packages are.
    ! has "$WEB_COMMAND" || accepts "$WEB refuses its config as it is, before any change" web_test
    [ -n "$DRY_RUN" ] || web_remember
    note "$LEDGER" reload-due
    for stale in "$FIRST_CONF" "$NAMED_CONF"; do
        [ "$stale" = "$SITE_CONF" ] || ! ours "$LEDGER" root "$WEB_DIR/sites-available/$stale" || take_off "$stale"
    done
    lay "$LEDGER" root "$available" 644 "$text"
    parents "$SERVER" "${enabled%/*}"
    [ -L "$enabled" ] || run "enable $SITE_CONF" put_link root "../sites-available/$SITE_CONF" "$enabled"
    if [ "$WEB" = apache ] && [ ! -e "$WEB_DIR/$HEADERS" ]; then
        note "$SERVER" 'apache-headers'
        run "enable Apache's module headers" put_link root ../mods-available/headers.load "$WEB_DIR/$HEADERS"
    fi
    [ "$WEB" != apache ] || apache_modules
    [ "$WEB" != caddy ] || caddy_import
    [ -z "$default_due" ] || {
        note "$SERVER" "default-off-$WEB $(readlink "$default")"
        run "disable the default site" rm -f "$default"
    }
    [ -n "$DRY_RUN" ] || accepts "$WEB refuses the config for $SITE, so what it had is back" web_test
}

take_off() { # CONF
    [ ! -L "$WEB_DIR/sites-enabled/$1" ] || run "disable $1" rm -f "$WEB_DIR/sites-enabled/$1"
    unlay "$LEDGER" root "$WEB_DIR/sites-available/$1"
}

# Until the new config has passed its test, whatever ends this script puts back what was there.
web_remember() {
    web_copy "$WEB_DIR" "$SCRATCH/saved"
    UNDO=web_restore
}

web_restore() { web_copy "$SCRATCH/saved" "$WEB_DIR"; }

web_copy() { # FROM TO: all that a set-up changes
    local name
    for name in "sites-available/$FIRST_CONF" "sites-available/$NAMED_CONF" "sites-enabled/$FIRST_CONF" "sites-enabled/$NAMED_CONF" \
        "sites-enabled/$DEFAULT_SITE" "$HEADERS" Caddyfile; do
        rm -f "$2/$name"
        if [ -e "$1/$name" ] || [ -L "$1/$name" ]; then
            mkdir -p "$(dirname "$2/$name")"
            cp -a "$1/$name" "$2/$name"
        fi
    done
}

web_reload() {
    STEP='web server'
    [ "$WEB" != none ] || return 0
    if ! web_alive; then
        run "start $WEB" web_start
    elif noted "$LEDGER" reload-due || { [ -n "$DRY_RUN" ] && [ ! -e "$WEB_DIR/sites-enabled/$SITE_CONF" ]; }; then
        run "reload $WEB" web_graceful
    fi
    unnote "$LEDGER" reload-due
}

web_alive() { if [ "$WEB" = caddy ]; then pidof caddy >/dev/null; else alive "$WEB_PID"; fi; }

# Has the web server judge its config.
web_test() {
    if [ "$WEB" = caddy ]; then caddy validate --config "$WEB_DIR/Caddyfile" --adapter caddyfile; else "$WEB_COMMAND" -t; fi
}

web_start() {
    if systemd; then systemctl enable --quiet --now "$WEB_UNIT"; else service "$WEB_UNIT" start; fi
}

# A reload has come about once a worker of the new config runs; until then an old one answers.
web_graceful() {
    local before tries=50
    [ "$WEB" != caddy ] || {
        # It returns once the new config is in use.
        web_signal
        return
    }
    before=$(web_workers)
    web_signal || return 1
    until web_workers | grep -Fqxv -e "$before" || [ "$tries" -eq 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
}

web_workers() {
    local main
    main=$(cat "$WEB_PID")
    tr ' ' '\n' <"/proc/$main/task/$main/children" || :
}

web_signal() {
    if systemd; then
        systemctl reload "$WEB_UNIT"
    elif [ "$WEB" = apache ]; then
        apache2ctl graceful
    elif [ "$WEB" = caddy ]; then
        caddy reload --config "$WEB_DIR/Caddyfile" --adapter caddyfile
    else
        nginx -s reload
    fi
}
