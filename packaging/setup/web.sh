# The web server's site: installed, tested, and activated by a reload.

find_web_server() {
    local had enabled
    look_up "$LEDGER" web-server
    had=$VALUE
    [ "${WEB:-auto}" != auto ] || WEB=${had:-auto}
    case $WEB in
        apache | nginx | caddy | none) ;;
        auto)
            WEB=apache
            if ! alive /run/apache2/apache2.pid; then
                if alive /run/nginx.pid || { has nginx && ! has apache2ctl; }; then WEB=nginx; fi
            fi
            ;;
        *) misused "invalid web server \`$WEB\`: auto, apache, nginx, caddy, or none" ;;
    esac
    [ -z "$had" ] || [ "$had" = "$WEB" ] ||
        fail "$REPO was set up with $had" "$SELF --repo $REPO --uninstall first, then set it up with $WEB"
    [ "$WEB" != none ] || return 0
    web_places
    # Without a host name, a site must be the server's first, which responds to all names, unless it is a side
    # of a pair.
    SITE_CONF=$FIRST_CONF
    [ -z "$DOMAIN$LISTEN" ] || SITE_CONF=$NAMED_CONF
    [ -e "$(site_file)" ] || fail "--web-server $WEB needs a stack" 'add --stack static, or choose another web server'
    check_domain
    if [ -n "$LISTEN" ]; then
        check_port "${LISTEN#*:}" 'stop that program'
    else
        check_port 80 'stop that program, or give its name to --web-server'
        [ -z "$TLS" ] || check_port 443 'stop that program'
    fi
    # Another site that serves this directory would not find its files after the adoption.
    for enabled in "$WEB_DIR"/sites-enabled/*; do
        case ${enabled##*/} in "$DEFAULT_SITE" | "$FIRST_CONF" | "$NAMED_CONF") continue ;; esac
        ! grep -Eqs "^[[:space:]]*${ROOT_KEY}[[:space:]]+\"?$SITE/?\"?;?[[:space:]]*\$" "$enabled" ||
            fail "$enabled serves $SITE already" "change its $ROOT_KEY to $SITE/current and give --web-server none, or disable it"
    done
}

# Sets the paths of a web server's files on Debian and Ubuntu.
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
    # Apache needs it to send X-Served-By.
    HEADERS=mods-enabled/headers.load
}

# Fails if a program other than the web server listens on a port. A running web server already has its ports,
# except for those of a pair that is being set up.
check_port() { # PORT ADVICE
    if web_alive && { [ "$1" = 80 ] || [ "$1" = 443 ] || [ -e "$LEDGER" ]; }; then return 0; fi
    ! listened_on "$1" ||
        fail "port $1 is in use, and not by $WEB" "\`ss -ltnp sport = :$1\` prints by which program; $2"
}

listened_on() { # PORT
    awk -v port="$(printf ':%04X' "$1")" 'substr($2, length($2) - 4) == port && $4 == "0A" { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# Fails if another site already has one of these host names.
check_domain() {
    local name
    for name in $DOMAIN $PREVIEWS; do check_name "$name"; done
}

check_name() { # DOMAIN
    local enabled name
    name=$(printf '%s' "$1" | sed 's/[.*]/\\&/g')
    for enabled in "$WEB_DIR"/sites-enabled/* "$WEB_DIR"/conf.d/* "$WEB_DIR"/Caddyfile; do
        case ${enabled##*/} in "$FIRST_CONF" | "$NAMED_CONF") continue ;; esac
        ! grep -Eqs "(^|[[:space:]{;])${NAME_KEY}([[:space:]][^;]*[[:space:]]|[[:space:]]*)$name([[:space:];,{]|\$)" "$enabled" ||
            fail "$enabled has the domain $1 already" 'another --domain, or disable that site'
    done
}

# Prints the site's config, rendered from its template. The template's first lines explain the marks.
site_text() {
    local php all='' plain='' acme='' direct='' no_php='yes' ipv6='' application='yes'
    php=$(php_socket)
    [ -n "$LISTEN" ] || direct=yes
    [ -n "$DOMAIN$LISTEN" ] || all=yes
    [ -z "$DOMAIN" ] || [ -n "$CERTIFIED" ] || plain=yes
    [ -z "$TLS" ] || [ -n "$CERTIFIED" ] || acme=yes
    [ -z "$php" ] || no_php=''
    [ "$SERVE" != all ] || application=''
    [ ! -e /proc/net/if_inet6 ] || ipv6=yes
    site_template | sed -e '/^@:/d' -e "$(mark assets "$STACK_ASSETS_URL")" -e "$(mark side "$LISTEN")" -e "$(mark direct "$direct")" \
        -e "$(mark all "$all")" -e "$(mark plain "$plain")" -e "$(mark domain "$DOMAIN")" -e "$(mark tls "$CERTIFIED")" \
        -e "$(mark acme "$acme")" -e "$(mark preview "$PREVIEWS")" -e "$(mark ipv6 "$ipv6")" -e "$(mark php "$php")" \
        -e "$(mark no-php "$no_php")" -e "$(mark application "$application")" -e "s|@SITE@|$SITE|g" -e "s|@REPO@|$REPO|g" \
        -e "s|@NAME@|$NAME|g" -e "s|@DOMAIN@|$DOMAIN|g" -e "s|@PHP@|$php|g" -e "s|@APP@|$APP|g" -e "s|@LISTEN@|$LISTEN|g" \
        -e "s|@PORT@|${LISTEN#*:}|g" -e "s|@OTHER@|$OTHER_SITE|g" -e "s|@ADDRESS@|$(address)|g" -e "s|@ACME@|$ACME|g" \
        -e "s|@PREVIEWS@|$PREVIEWS|g" -e "s|@NAMES@|$DOMAIN${PREVIEWS:+ $PREVIEWS}|g" -e "s|@PUBLIC_DIRECTORY@|$PUBLIC_DIRECTORY|g" -e "s|@FLAG@|$FLAG|g" \
        -e "s|@BLUE@|$BLUE|g" -e "s|@GREEN@|$GREEN|g" -e "s|@SWITCH@|$PAIR_SWITCH|g" -e "s|@USER@|$USER_NAME|g" \
        -e "s|@VARIABLE@|bluegreen_$(printf '%s' "$SLUG" | tr - _)|g" -e "s|@PUBLIC@|$STACK_PUBLIC|g" -e "s|@ASSETS_URL@|$STACK_ASSETS_URL|g"
}

# Prints the template with the lines that all sites share, and with a second site that redirects to HTTPS.
site_template() {
    sed -e "/^@listen:\$/{r $ASSETS/web/listen/$WEB.conf" -e 'd}' "$(site_file)"
    [ -z "$CERTIFIED" ] || cat "$ASSETS/web/redirect/$WEB.conf"
}

# Prints the address of an Apache virtual host.
address() { if [ -n "$LISTEN" ]; then printf '%s\n' "$LISTEN"; elif [ -n "$CERTIFIED" ]; then echo '*:443'; else echo '*:80'; fi; }

# Prints the path of the site's template: that of the front end, the stack, or a plain site.
site_file() {
    if [ -n "$PREVIEWS" ]; then
        printf '%s\n' "$ASSETS/pair/$WEB.conf"
    elif [ -n "$STACK" ] && [ -e "$(stack_file "$WEB.conf")" ]; then
        stack_file "$WEB.conf"
    else
        printf '%s\n' "$ASSETS/web/$WEB.conf"
    fi
}

# Prints PHP-FPM's socket if the web server can use it. An administrator enables it in Apache with `a2enconf`.
php_socket() {
    local conf
    if [ "$WEB" = nginx ]; then
        find /run/php -maxdepth 1 -name 'php*-fpm.sock' 2>/dev/null | sort -V | tail -n 1
        return
    fi
    for conf in "$WEB_DIR"/conf-enabled/php*-fpm.conf; do
        [ ! -e "$conf" ] || sed -nE 's/.*"proxy:unix:([^|"]+)\|fcgi:.*/\1/p' "$conf" | head -n 1
    done | tail -n 1
}

# Apache passes PHP-FPM the path of the symlink `current`. PHP would cache where it points, and after a few deployments
# read a release that no longer exists. The two settings turn that cache off for the pool that Apache uses.
php_pool() {
    local socket pools pool file
    # A PHP stack has its own pool.
    if [ "$WEB" != apache ] || [ -n "$STACK" ]; then return 0; fi
    socket=$(php_socket)
    [ -n "$socket" ] || return 0
    pools=$(grep -lE "^[[:space:]]*listen[[:space:]]*=[[:space:]]*${socket}[[:space:]]*\$" /etc/php/*/fpm/pool.d/*.conf | head -n 1)
    [ -n "$pools" ] || {
        warn "no pool of PHP-FPM listens on $socket: set php_admin_value[realpath_cache_size] = 0 and php_admin_value[opcache.revalidate_path] = 1 in its pool"
        return 0
    }
    pool=$(sed -n 's/^\[\([A-Za-z0-9._-]*\)\].*/\1/p' "$pools" | head -n 1)
    file=$(dirname "$pools")/zz-bluegreen-$pool.conf
    needs_no_change "$SERVER" root "$file" "$(php_pool_text "$pool")" || {
        note "$SERVER" php-reload-due
        install_file "$SERVER" root "$file" 644 "$(php_pool_text "$pool")"
    }
    php_reload_due
}

php_pool_text() { # POOL
    cat <<EOT
; Installed by bluegreen's install.sh: Apache passes PHP the path of a symlink, which changes with every deployment.
[$1]
php_admin_value[realpath_cache_size] = 0
php_admin_value[opcache.revalidate_path] = 1
EOT
}

# Reloads every running PHP-FPM if its settings have changed.
php_reload_due() {
    local pid
    noted "$SERVER" php-reload-due || return 0
    for pid in /run/php/php*-fpm.pid; do
        ! alive "$pid" || run 'reload PHP-FPM' php_reload "$pid"
    done
    unnote "$SERVER" php-reload-due
}

php_reload() { # PID FILE
    local unit="${1##*/}"
    if systemd; then systemctl reload "${unit%.pid}"; else kill -USR2 "$(cat "$1")"; fi
}

# Prints the sed command that enables or removes the lines with a mark.
mark() { if [ -n "$2" ]; then printf 's/^@%s://' "$1"; else printf '/^@%s:/d' "$1"; fi; } # NAME VALUE

# Enables our site, disables the default site, and tests the result. On return, the running server still uses
# its old config. If the test fails, everything is restored.
web_config() {
    local available enabled default default_due='' stale text off
    STEP='web server'
    note "$LEDGER" "web-server $WEB"
    [ "$WEB" != none ] || return 0
    [ -z "$DOMAIN" ] || note "$LEDGER" "domain $DOMAIN"
    available=$WEB_DIR/sites-available/$SITE_CONF
    enabled=$WEB_DIR/sites-enabled/$SITE_CONF
    default=$WEB_DIR/sites-enabled/$DEFAULT_SITE
    # If an administrator has enabled the default site again, it stays enabled.
    look_up "$SERVER" "default-off-$WEB"
    off=$VALUE
    if [ -L "$default" ] && [ -z "$LISTEN" ] && { [ -z "$off" ] || noted "$LEDGER" reload-due; }; then default_due=yes; fi
    php_pool
    text=$(site_text)
    if needs_no_change "$LEDGER" root "$available" "$text" && [ -L "$enabled" ] && [ -z "$default_due" ] && ! noted "$LEDGER" reload-due; then
        return 0
    fi
    # In a dry run, the package may not be installed yet.
    ! has "$WEB_COMMAND" || accepts "$WEB rejects its config as it is, before any change" web_test
    [ -n "$DRY_RUN" ] || web_remember
    note "$LEDGER" reload-due
    for stale in "$FIRST_CONF" "$NAMED_CONF"; do
        [ "$stale" = "$SITE_CONF" ] || ! ours "$LEDGER" root "$WEB_DIR/sites-available/$stale" || take_off "$stale"
    done
    install_file "$LEDGER" root "$available" 644 "$text"
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
    [ -n "$DRY_RUN" ] || accepts "$WEB rejects the config for $SITE, so its previous config is restored" web_test
}

take_off() { # CONF
    [ ! -L "$WEB_DIR/sites-enabled/$1" ] || run "disable $1" rm -f "$WEB_DIR/sites-enabled/$1"
    remove_file "$LEDGER" root "$WEB_DIR/sites-available/$1"
}

# Until the new config has passed its test, this script restores the old one on every exit.
web_remember() {
    web_copy "$WEB_DIR" "$SCRATCH/saved"
    mkdir -p "$SCRATCH/saved/mods-enabled"
    [ "$WEB" != apache ] || cp -a "$WEB_DIR/mods-enabled/." "$SCRATCH/saved/mods-enabled"
    UNDO=web_restore
}

web_restore() {
    local link
    web_copy "$SCRATCH/saved" "$WEB_DIR"
    [ "$WEB" = apache ] || return 0
    # The modules that this run has enabled.
    for link in "$WEB_DIR"/mods-enabled/*; do
        [ -L "$SCRATCH/saved/mods-enabled/${link##*/}" ] || [ ! -L "$link" ] || rm -f "$link"
    done
}

web_copy() { # FROM TO
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
    elif noted "$LEDGER" restart-due; then
        run "restart $WEB, which may connect to the application then" systemctl restart "$WEB_UNIT"
    elif noted "$LEDGER" reload-due || { [ -n "$DRY_RUN" ] && [ ! -e "$WEB_DIR/sites-enabled/$SITE_CONF" ]; }; then
        run "reload $WEB" web_graceful
    fi
    unnote "$LEDGER" reload-due
    unnote "$LEDGER" restart-due
}

web_alive() { if [ "$WEB" = caddy ]; then pidof caddy >/dev/null; else alive "$WEB_PID"; fi; }

# Runs the web server's own config test.
web_test() {
    if [ "$WEB" = caddy ]; then caddy validate --config "$WEB_DIR/Caddyfile" --adapter caddyfile; else "$WEB_COMMAND" -t; fi
}

web_start() {
    if systemd; then systemctl enable --quiet --now "$WEB_UNIT"; else service "$WEB_UNIT" start; fi
}

# A reload is complete once a worker with the new config runs. Until then an old one responds.
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
