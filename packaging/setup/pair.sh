# A pair on one machine: two sides, each a repository with its own site on a loopback port, and a front end
# that sends visitors to one of them.

PUBLIC_DIRECTORY=$LEDGERS/public
FLAG=$PUBLIC_DIRECTORY/public-is-green
BLUE=127.0.0.1:8041 GREEN=127.0.0.1:8042 PAIR_SWITCH=127.0.0.1:8049
PAIR_LEDGER=$LEDGERS/pairs/front
PROMOTE=/etc/bluegreen/promote.toml

# Sets the options of one side.
side() { # blue|green
    SIDE=$1 REPO=$1 SITE=/var/www/$1 NAME=$1 DOMAIN='' TLS='' PREVIEWS=''
    case $1 in
        blue) LISTEN=$BLUE OTHER_SITE=/var/www/green ;;
        green)
            LISTEN=$GREEN OTHER_SITE=/var/www/blue
            [ -z "$PORT" ] || PORT=$((PORT + PORTS))
            ;;
    esac
}

# Fails if a repository was set up alone and is now a side of a pair, or the other way round.
settle_side() {
    [ -e "$LEDGER" ] && [ "$ACTION" != list_keys ] && [ "$ACTION" != remove_key ] || return 0
    look_up "$LEDGER" listen
    [ -z "$VALUE" ] || [ -n "$SIDE" ] || fail "$REPO is a side of a pair" "$SELF --pair"
    [ -n "$VALUE" ] || [ -z "$SIDE" ] || fail "$REPO was set up on its own" "$SELF --repo $REPO --uninstall first, then set up the pair"
}

# Settles the options of the pair as a whole.
settle_pair() {
    STEP=preflight
    [ "$(id -u)" -eq 0 ] || fail 'setting up a server needs root' "sudo $SELF ..."
    case $REPO:$SITE:$NAME:$CONFIG in sample_app:::) ;; *) misused '--repo, --site, --name, and --config do not go with --pair' ;; esac
    look_up "$PAIR_LEDGER" user
    [ -z "$VALUE" ] || [ "$VALUE" = "$USER_NAME" ] || fail "the pair is owned by $VALUE" "--user $VALUE"
    look_up "$PAIR_LEDGER" stack
    STACK=${STACK:-$VALUE}
    look_up "$PAIR_LEDGER" domain
    DOMAIN=${DOMAIN:-$VALUE} PAIR_TLS=$TLS
    PAIR_DOMAIN=$DOMAIN
    [ "$ACTION" = uninstall ] || [ -n "$STACK" ] || misused '--pair needs --stack'
    case $DOMAIN in
        '') [ "$ACTION" = uninstall ] || misused '--pair needs --domain' ;;
        *[!A-Za-z0-9.-]*) misused "invalid host name: \`$DOMAIN\`" ;;
    esac
    [ "$WEB" != none ] || misused '--pair needs a web server'
    case $PORT in *[!0-9]* | ??????*) misused "invalid port: \`$PORT\`" ;; esac
    # Both sides and the front end have the same one.
    look_up "$PAIR_LEDGER" web-server
    [ "${WEB:-auto}" != auto ] || WEB=${VALUE:-auto}
}

# Each function runs a command in a subshell with the options of a side or of the front end. A failure there
# also exits this script.
in_side() ( # SIDE COMMAND...
    own_scratch
    side "$1"
    shift
    "$@"
    tally
)

in_front() ( # COMMAND...
    own_scratch
    front_options
    "$@"
    tally
)

own_scratch() {
    TALLY=$SCRATCH/changes
    SCRATCH=$(mktemp -d)
    trap leave EXIT
    trap 'exit 130' HUP INT TERM
}

# Reports the number of changes to the parent shell.
tally() { printf '%s\n' "$CHANGES" >>"$TALLY"; }

# Sets the options of the front end, which is a site without a repository.
front_options() {
    SIDE=blue REPO=blue
    settle
    LEDGER=$PAIR_LEDGER SLUG=front SIDE='' LISTEN='' REPO='the pair' DOMAIN=$PAIR_DOMAIN TLS=$PAIR_TLS
    PREVIEWS="blue.$DOMAIN green.$DOMAIN" STACK_KIND=front STACK_PUBLIC='' STACK_ASSETS_URL='' APP='' SERVE=''
    settle_tls
}

pair() {
    settle_pair
    in_side blue preflight
    in_side green preflight
    in_front front_preflight
    in_side blue set_up
    in_side green set_up
    in_front front
    if [ -n "$DRY_RUN" ]; then
        grep -qxv 0 "$SCRATCH/changes" || say 'Nothing would have to be changed.'
        say 'This was a dry run: nothing was changed.'
        return 0
    fi
    grep -qxv 0 "$SCRATCH/changes" || say 'Nothing had to be changed.'
    say "
Now, in the repository on your own machine:
    git remote add blue $USER_NAME@$DOMAIN:blue
    git remote add green $USER_NAME@$DOMAIN:green
    git push blue ${BRANCH:-master}
    ssh $USER_NAME@$DOMAIN promote blue"
}

front_preflight() {
    STEP='front end'
    find_web_server
    check_port "${PAIR_SWITCH#*:}" 'stop that program'
    check_tls
}

front() {
    STEP='front end'
    find_web_server
    note "$LEDGER" "user $USER_NAME"
    value_is "$LEDGER" stack "$STACK"
    # The user decides which side is public. Root only checks whether the flag exists.
    [ -d "$PUBLIC_DIRECTORY" ] || run "create $PUBLIC_DIRECTORY" install -d -m 755 -o "$USER_NAME" -g "$(id -gn "$USER_NAME" 2>/dev/null)" "$PUBLIC_DIRECTORY"
    web_config
    UNDO=
    web_reload
    install_file "$LEDGER" root "$PROMOTE" 644 "$(promote_text)"
    [ -n "$TLS" ] && [ -z "$CERTIFIED" ] || return 0
    tls
    STEP='front end'
    [ -n "$DRY_RUN" ] || install_file "$LEDGER" root "$PROMOTE" 644 "$(promote_text)"
}

promote_text() {
    local url="http://$DOMAIN"
    [ "$WEB" != caddy ] && [ -z "$CERTIFIED" ] || url=https://$DOMAIN
    sed -e '/^@:/d' -e "s|@HOME@|$HOME_DIR|g" -e "s|@BLUE@|$BLUE|g" -e "s|@GREEN@|$GREEN|g" -e "s|@URL@|$url|g" \
        -e "s|@SWITCH_NAME@|$WEB|g" -e "s|@FLAG@|$FLAG|g" -e "s|@SWITCH@|$PAIR_SWITCH|g" "$ASSETS/pair/promote.toml"
}

unpair() {
    settle_pair
    [ -e "$PAIR_LEDGER" ] || {
        say 'No pair was set up.'
        return 0
    }
    in_front unfront
    in_side blue uninstall
    in_side green uninstall
}

unfront() {
    STEP=uninstall
    look_up "$LEDGER" web-server
    WEB=$VALUE
    remove_file "$LEDGER" root "$PROMOTE"
    [ -z "$WEB" ] || {
        web_places
        take_off "$NAMED_CONF"
        ! web_alive || run "reload $WEB" web_graceful
    }
    untls
    if [ -d "$PUBLIC_DIRECTORY" ]; then
        as "$USER_NAME" true || fail "cannot run a program as $USER_NAME"
        run '' as "$USER_NAME" rm -f "$FLAG" "$PUBLIC_DIRECTORY/.${FLAG##*/}.lock"
        run "remove $PUBLIC_DIRECTORY" rmdir --ignore-fail-on-non-empty "$PUBLIC_DIRECTORY"
    fi
    run '' rmdir --ignore-fail-on-non-empty "$(dirname "$PROMOTE")"
    run '' rm -f "$LEDGER"
    run '' rmdir --ignore-fail-on-non-empty "$LEDGERS/pairs"
}
