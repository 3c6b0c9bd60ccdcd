# Stacks: complete applications behind the web server. Their files are in the folders of share/stacks/.

APPS=/usr/local/lib/bluegreen/apps

# Settles what runs, from the options, the ledger, or the stack's own settings.
settle_stack() {
    local had folder
    look_up "$LEDGER" stack
    had=$VALUE
    STACK=${STACK:-$had}
    APP='' STACK_PUBLIC='' STACK_ASSETS_URL=''
    if [ -z "$STACK" ]; then
        [ -z "$RUN$WORKER" ] || misused '--run and --worker need --stack'
        [ -z "$PORT" ] || misused '--port needs --stack'
        return 0
    fi
    case $STACK in
        static | php | node | python | rails) ;;
        *) misused "invalid stack \`$STACK\`: static, php, node, python, or rails" ;;
    esac
    [ -z "$had" ] || [ "$had" = "$STACK" ] ||
        fail "$REPO was set up with the stack $had" "$SELF --repo $REPO --uninstall first, then set it up with the stack $STACK"
    STACK_KIND=app STACK_RUN='' STACK_NEEDS='' STACK_PACKAGES='' STACK_SHARED='' STACK_ENVIRONMENT='' STACK_PUBLIC='' STACK_ASSETS_URL=''
    # shellcheck source=/dev/null
    . "$ASSETS/stacks/$STACK/settings"
    [ "$STACK_KIND" = app ] || [ -z "$RUN$WORKER" ] || misused "--run and --worker do not go with --stack $STACK"
    [ "$STACK_KIND" = app ] || [ -z "$PORT" ] || misused "--port does not go with --stack $STACK"
    settle_port
    look_up "$LEDGER" run
    RUN=${RUN:-$VALUE}
    RUN=${RUN:-$STACK_RUN}
    look_up "$LEDGER" worker
    WORKER=${WORKER:-$VALUE}
    command_line --run "$RUN"
    command_line --worker "$WORKER"
    [ "$STACK_KIND" != files ] || return 0
    APP=$(basename "$REPO" .git)
    APP_USER=app-$APP
    # The newest version. A removed package leaves its directory behind.
    FPM=''
    for folder in $(find /etc/php -mindepth 2 -maxdepth 2 -name fpm 2>/dev/null | sort -V); do
        [ ! -x "/usr/sbin/php-fpm$(basename "$(dirname "$folder")")" ] || FPM=$folder
    done
    POOL=$FPM/pool.d/bluegreen-$APP.conf
    CONTROL=$APPS/$APP
    APP_SUDOERS=/etc/sudoers.d/bluegreen-app-$SLUG
    INSTANCE_UNIT=bluegreen-app-$APP@.service WORKER_UNIT=bluegreen-worker-$APP@.service BOOT_UNIT=bluegreen-app-$APP.service
}

# The ports of an application: one for each instance that runs, because the old one drains while the new one serves.
PORTS=20

settle_port() {
    look_up "$LEDGER" port
    PORT_GIVEN=$PORT PORT=${PORT:-$VALUE}
    case $PORT in
        '') return 0 ;;
        *[!0-9]* | ??????*) misused "invalid port: \`$PORT\`" ;;
    esac
    if [ "$PORT" -lt 1024 ] || [ "$((PORT + PORTS))" -gt 65536 ]; then
        misused "invalid port: \`$PORT\` is not between 1024 and $((65536 - PORTS))"
    fi
    [ "$PORT" != "$VALUE" ] || PORT_GIVEN=''
}

# Fails if a program listens on the first port, or another application has one of them.
check_app_port() {
    local other
    [ -n "$PORT_GIVEN" ] || return 0
    ! listened_on "$PORT" || fail "port $PORT is in use" "\`ss -ltnp sport = :$PORT\` prints by which program; name another --port"
    for other in $OTHERS; do
        look_up "$other" port
        if [ -z "$VALUE" ] || [ "$VALUE" -ge "$((PORT + PORTS))" ] || [ "$PORT" -ge "$((VALUE + PORTS))" ]; then continue; fi
        PORT=$VALUE
        look_up "$other" app
        fail "the application $VALUE has the ports from $PORT to $((PORT + PORTS - 1))" 'name another --port'
    done
}

# The command of an application is a command line for sh, inside double quotes of systemd.
command_line() { # OPTION VALUE
    case $2 in
        *[!A-Za-z0-9._/+@:=,$\{\}\ -]*) misused "$1 may contain letters, digits, spaces, and ._/+@:=,\${}- only; put anything else into a script" ;;
    esac
}

# Fails if stack() would fail.
check_stack() {
    local program other longest
    STEP=stack
    [ -n "$STACK" ] || return 0
    for program in $STACK_NEEDS; do
        has "$program" || fail "the stack $STACK needs \`$program\`, which is not installed" "apt-get install $STACK_PACKAGES"
    done
    [ -n "$APP" ] || return 0
    has systemctl || fail 'an application needs systemd'
    [ "$STACK_KIND" != fpm ] || [ -n "$FPM" ] || fail "the stack $STACK needs php-fpm, which is not installed" "apt-get install $STACK_PACKAGES"
    case $APP in *[!a-z0-9_-]* | [!a-z_]*) fail "the repository's name $APP is not a user's name" 'use lowercase letters, digits, and _- only' ;; esac
    [ "${#APP_USER}" -le 32 ] || fail "the user $APP_USER would have a name of more than 32 letters" 'give the repository a shorter name'
    # connect(2) accepts a path of at most 107 bytes.
    longest=$SITE/current/.app.sock
    [ "${#longest}" -le 107 ] || fail "the path of the socket $longest is too long: ${#longest} of at most 107 bytes" 'a shorter --site'
    find_others
    for other in $OTHERS; do
        look_up "$other" app
        [ "$VALUE" = "$APP" ] || continue
        look_up "$other" repository
        fail "$APP is the application of $VALUE already" 'give the repository another name'
    done
    check_app_port
    [ ! -e "$CONTROL" ] || noted "$LEDGER" "app $APP" || fail "cannot install $CONTROL: it already exists" 'move it away, and run this again'
}

# Prints the path of a stack's file, or of the one that all applications share.
stack_file() { # NAME
    if [ -e "$ASSETS/stacks/$STACK/$1" ]; then printf '%s\n' "$ASSETS/stacks/$STACK/$1"; else printf '%s\n' "$ASSETS/stacks/app/$1"; fi
}

stack_text() { # NAME
    local hidden=yes apache='' socket=yes
    [ -z "$PORT" ] || socket=''
    [ "$WEB" != apache ] || apache=yes
    case $SITE/ in /home/* | /root/*) hidden='' ;; esac
    sed -e '/^@:/d' -e "$(mark hidden "$hidden")" -e "$(mark apache "$apache")" -e "$(mark port "$PORT")" -e "$(mark socket "$socket")" \
        -e "s|@PORT@|$PORT|g" -e "s|@LAST_PORT@|$((${PORT:-0} + PORTS - 1))|g" -e "s|@REPO@|$REPO|g" -e "s|@SITE@|$SITE|g" -e "s|@USER@|$USER_NAME|g" \
        -e "s|@APP@|$APP|g" -e "s|@APP_USER@|${APP_USER-}|g" -e "s|@CONTROL@|${CONTROL-}|g" -e "s|@ENVIRONMENT@|$STACK_ENVIRONMENT|g" \
        -e "s|@RUN@|$(for_systemd "$RUN")|g" -e "s|@WORKER@|$(for_systemd "$WORKER")|g" "$(stack_file "$1")"
}

# Escapes a text for systemd, so that the shell, not systemd, expands variables.
for_systemd() { printf '%s\n' "$1" | sed -e 's/\$/$$/g' -e 's/[\\&|]/\\&/g'; }

# The user that runs the application. Its group may access the sockets and the directories that the
# application shares.
app_user() {
    local member
    STEP=app
    [ -n "$APP" ] || return 0
    id "$APP_USER" >/dev/null 2>&1 || {
        note "$LEDGER" "app-user $APP_USER"
        run "add the user $APP_USER" adduser --quiet --system --group --no-create-home --home /nonexistent --gecos '' "$APP_USER"
    }
    for member in "$USER_NAME" $(web_user); do
        id -nG "$member" 2>/dev/null | tr ' ' '\n' | grep -Fqx "$APP_USER" || {
            note "$LEDGER" "member $member"
            run "add $member to the group $APP_USER" usermod -aG "$APP_USER" "$member"
            # A server that does not switch users itself keeps the groups that it had when it started.
            [ "$member" != caddy ] || note "$LEDGER" restart-due
        }
    done
}

# Prints the user that runs the web server.
web_user() {
    case $WEB in
        none) ;;
        caddy) echo caddy ;;
        *) echo www-data ;;
    esac
}

stack() {
    local before="$CHANGES" name
    [ -n "$STACK" ] || return 0
    STEP=stack
    note "$LEDGER" "stack $STACK"
    is "$USER_NAME" -d "$SITE/shared" || run "create $SITE/shared" as "$USER_NAME" mkdir -p "$SITE/shared"
    for name in $STACK_SHARED; do shared_directory "$name"; done
    case $STACK_KIND in
        app) app ;;
        fpm) pool ;;
    esac
    environment_file
}

# A directory that the application may write to.
shared_directory() { # NAME
    exists "$USER_NAME" "$SITE/shared/$1" || run "create $SITE/shared/$1" as "$USER_NAME" sh -c \
        'mkdir -p "$3" && { [ -z "$2" ] || { chgrp "$2" "$3" && chmod 2770 "$3"; }; } && mv -nT "$3" "$1"' sh \
        "$SITE/shared/$1" "${APP:+$APP_USER}" "$(temporary "$SITE/shared/$1")"
}

environment_file() {
    local file="$SITE/shared/.env" secret template
    [ -e "$ASSETS/stacks/$STACK/env" ] && ! exists "$USER_NAME" "$file" || return 0
    # The key with which the application signs its cookies.
    secret=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
    template=$(cat "$ASSETS/stacks/$STACK/env")
    # Not with sed: every user can read the arguments of a process.
    case $template in *@SECRET@*) template=${template%%@SECRET@*}$secret${template#*@SECRET@} ;; esac
    printf '%s\n' "$template" >"$SCRATCH/env"
    run "write $file" as "$USER_NAME" sh -c \
        'umask 077 && cat >"$3" && { [ -z "$2" ] || chgrp "$2" "$3"; } && chmod 640 "$3" && mv -nT "$3" "$1"' sh \
        "$file" "${APP:+$APP_USER}" "$(temporary "$file")" <"$SCRATCH/env"
}

# The php-fpm pool, which runs as the application's user.
pool() {
    local unit
    note "$LEDGER" "app $APP"
    if needs_no_change "$LEDGER" root "$POOL" "$(stack_text pool.conf)" && ! noted "$LEDGER" pool-reload-due; then return 0; fi
    note "$LEDGER" pool-reload-due
    [ ! -e "$POOL" ] || cp -a "$POOL" "$SCRATCH/pool"
    [ -n "$DRY_RUN" ] || UNDO=pool_restore
    overwrite_file "$LEDGER" root "$POOL" 644 "$(stack_text pool.conf)"
    unit=$(fpm_unit)
    accepts_pool
    UNDO=''
    ! systemd || run "reload $unit" systemctl reload-or-restart "$unit"
    unnote "$LEDGER" pool-reload-due
}

# A rejected pool would prevent the next start of php-fpm for all sites.
pool_restore() { if [ -e "$SCRATCH/pool" ]; then cp -a "$SCRATCH/pool" "$POOL"; else rm -f "$POOL"; fi; }

fpm_unit() { printf 'php%s-fpm.service\n' "$(basename "$(dirname "$FPM")")"; }

accepts_pool() {
    [ -n "$DRY_RUN" ] || accepts "php-fpm refuses $POOL" "/usr/sbin/php-fpm$(basename "$(dirname "$FPM")")" -t
}

app() {
    local before="$CHANGES"
    note "$LEDGER" "app $APP"
    value_is "$LEDGER" run "$RUN"
    value_is "$LEDGER" worker "$WORKER"
    value_is "$LEDGER" port "$PORT"
    install_file "$LEDGER" root "$CONTROL" 755 "$(stack_text control.sh)"
    install_file "$LEDGER" root "$CONTROL.run" 755 "$(stack_text run.sh)"
    if [ -n "$PORT" ]; then install_file "$LEDGER" root "$CONTROL.proxy" 755 "$(stack_text proxy.sh)"; fi
    install_file "$LEDGER" root "$UNITS/$INSTANCE_UNIT" 644 "$(stack_text instance.service)"
    if [ -n "$WORKER" ]; then
        install_file "$LEDGER" root "$UNITS/$WORKER_UNIT" 644 "$(stack_text worker.service)"
    else
        remove_file "$LEDGER" root "$UNITS/$WORKER_UNIT"
    fi
    install_file "$LEDGER" root "$UNITS/$BOOT_UNIT" 644 "$(stack_text boot.service)"
    [ -L "$WANTS/$BOOT_UNIT" ] || run "enable $BOOT_UNIT" systemctl enable --quiet "$BOOT_UNIT"
    install_file "$LEDGER" root "$APP_SUDOERS" 440 "$(stack_text sudoers)"
    ! systemd || [ "$CHANGES" = "$before" ] || {
        run '' systemctl daemon-reload
        # An earlier installation may have left a live release whose instance was stopped with it.
        ! is "$USER_NAME" -L "$SITE/current" || run 'start the live release' systemctl restart --no-block "$BOOT_UNIT"
    }
}

# Replaces the value of a key in a ledger.
value_is() { # LEDGER KEY VALUE
    local old
    look_up "$1" "$2"
    old=$VALUE
    [ "$old" != "$3" ] || return 0
    [ -z "$old" ] || unnote "$1" "$2 $old"
    [ -z "$3" ] || note "$1" "$2 $3"
}

unstack() {
    local name
    [ -n "$APP" ] || return 0
    if [ "$STACK_KIND" = fpm ]; then
        # An upgrade of PHP may have left one in the directory of an older version.
        for name in /etc/php/*/fpm/pool.d/bluegreen-"$APP".conf; do remove_file "$LEDGER" root "$name"; done
        ! systemd || run "reload $(fpm_unit)" systemctl reload-or-restart "$(fpm_unit)"
    else
        unstack_app
    fi
    look_up "$LEDGER" member
    for name in $VALUES; do
        run "remove $name from the group $APP_USER" gpasswd -d "$name" "$APP_USER"
    done
}

unstack_app() {
    ! systemd || run "stop the instances of $APP" stop_instances
    [ ! -L "$WANTS/$BOOT_UNIT" ] || run "disable $BOOT_UNIT" rm -f "$WANTS/$BOOT_UNIT"
    for name in "$UNITS/$INSTANCE_UNIT" "$UNITS/$WORKER_UNIT" "$UNITS/$BOOT_UNIT" "$APP_SUDOERS" "$CONTROL" "$CONTROL.run" "$CONTROL.proxy"; do
        remove_file "$LEDGER" root "$name"
    done
    ! systemd || run '' systemctl daemon-reload
}

stop_instances() {
    # A release's name begins with its date. The name of another application may begin with this one.
    systemctl stop "bluegreen-drain-$APP-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T*.timer" "bluegreen-worker-$APP@*.service" "bluegreen-app-$APP@*.service"
}

# The Apache modules that a stack's site needs in addition to headers.
apache_modules() {
    local name
    case ${STACK_KIND-} in
        app) set -- proxy proxy_http rewrite ;;
        fpm) set -- proxy proxy_fcgi rewrite ;;
        files) set -- rewrite ;;
        front) set -- proxy proxy_http rewrite ;;
        *) set -- ;;
    esac
    [ -z "$TLS" ] || set -- "$@" rewrite socache_shmcb ssl
    for name in "$@"; do
        [ ! -e "$WEB_DIR/mods-enabled/$name.load" ] || continue
        note "$SERVER" "apache-module $name"
        run "enable Apache's module $name" put_link root "../mods-available/$name.load" "$WEB_DIR/mods-enabled/$name.load"
        [ ! -e "$WEB_DIR/mods-available/$name.conf" ] ||
            run '' put_link root "../mods-available/$name.conf" "$WEB_DIR/mods-enabled/$name.conf"
    done
}

apache_modules_off() {
    local name
    look_up "$SERVER" apache-module
    for name in $VALUES; do
        [ ! -e "$WEB_DIR/mods-enabled/$name.load" ] ||
            run "disable Apache's module $name" rm -f "$WEB_DIR/mods-enabled/$name.load" "$WEB_DIR/mods-enabled/$name.conf"
    done
}

CADDY_IMPORT='import /etc/caddy/sites-enabled/*'

# Makes the Caddyfile include our sites. The package's own Caddyfile, which serves a welcome page, is
# replaced.
caddy_import() {
    local file="$WEB_DIR/Caddyfile"
    ! grep -Fqxs "$CADDY_IMPORT" "$file" || return 0
    if is_packaged "$file"; then
        note "$SERVER" "caddyfile packaged"
        [ -e "$file.packaged" ] || run '' cp -a "$file" "$file.packaged"
        run "replace $file" replace root "$file" 644 "$CADDY_IMPORT"
    else
        note "$SERVER" "caddyfile extended"
        run "import bluegreen's sites in $file" replace root "$file" 644 "$(cat "$file")$LINE_END$CADDY_IMPORT"
    fi
}

# True if a config file is unchanged since its package installed it.
is_packaged() { # FILE
    local sum
    sum=$(md5sum "$1" | cut -d' ' -f1)
    dpkg-query -W -f '${Conffiles}\n' caddy 2>/dev/null | grep -Fq " $1 $sum"
}

uncaddy() {
    local file="$WEB_DIR/Caddyfile"
    [ "$WEB" = caddy ] || return 0
    if [ -e "$file.packaged" ]; then
        run "restore the package's $file" mv -fT "$file.packaged" "$file"
    elif noted "$SERVER" 'caddyfile extended'; then
        run "remove bluegreen's sites from $file" replace root "$file" 644 "$(grep -Fxv "$CADDY_IMPORT" "$file")"
    fi
}
