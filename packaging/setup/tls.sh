# HTTPS with the distribution's certbot. It serves the certificate authority's challenges from a directory of
# our site, and renews with its own timer. It does not change the site's config.

ACME=$LEDGERS/acme

# Settles whether the site uses HTTPS, and whether its certificate exists.
settle_tls() {
    CERTIFIED=''
    look_up "$LEDGER" tls
    TLS=${TLS:-$VALUE}
    case $TLS in
        '') return 0 ;;
        certbot) ;;
        *) misused "invalid value of --tls: \`$TLS\`: use certbot" ;;
    esac
    case $DOMAIN in
        '') misused '--tls certbot needs --domain' ;;
        *'*'*) misused "--tls certbot needs a host name without a wildcard, not \`$DOMAIN\`" ;;
    esac
    ! certified || CERTIFIED=yes
}

certified() { noted "$LEDGER" "certificate $DOMAIN" && [ -e "/etc/letsencrypt/live/$DOMAIN/fullchain.pem" ]; }

# Fails if the certificate authority could not reach the site, or if a certificate was requested by another
# program.
check_tls() {
    local name
    [ -n "$TLS" ] || return 0
    STEP=tls
    case $WEB in
        caddy) fail 'Caddy obtains certificates itself' "leave out --tls certbot" ;;
        none) fail '--tls certbot needs a web server' '--web-server nginx, or apache' ;;
    esac
    [ -z "$CERTIFIED" ] || return 0
    for name in $DOMAIN $PREVIEWS; do
        getent ahosts "$name" >/dev/null ||
            fail "$name does not resolve, so no certificate can be requested for it" \
                'create its DNS record, and run this again; without --tls, the site has no HTTPS'
    done
    [ ! -e "/etc/letsencrypt/renewal/$DOMAIN.conf" ] || noted "$LEDGER" "certificate $DOMAIN" ||
        fail "certbot has a certificate of the name $DOMAIN already" "certbot delete --cert-name $DOMAIN, if no other site uses it"
}

# Requests the certificate through the site, which already serves HTTP, and then enables HTTPS.
tls() {
    local name
    [ -n "$TLS" ] && [ -z "$CERTIFIED" ] || return 0
    STEP=tls
    note "$LEDGER" "tls $TLS"
    [ -d "$ACME" ] || run "create $ACME" mkdir -p -m 755 "$ACME"
    note "$LEDGER" "certificate $DOMAIN"
    set --
    for name in $DOMAIN $PREVIEWS; do set -- "$@" -d "$name"; done
    run "request a certificate for $DOMAIN${PREVIEWS:+ $PREVIEWS}" true
    [ -z "$DRY_RUN" ] || return 0
    accepts "no certificate for $DOMAIN; the site is served without HTTPS" certbot certonly --non-interactive --agree-tos \
        --register-unsafely-without-email --webroot -w "$ACME" --cert-name "$DOMAIN" --keep-until-expiring --expand \
        --deploy-hook "$(renewed)" "$@"
    CERTIFIED=yes
    web_config
    UNDO=
    web_reload
}

# Prints the command that makes the web server read a new certificate. Its reload drops no request.
renewed() { if systemd; then printf 'systemctl reload %s\n' "$WEB_UNIT"; elif [ "$WEB" = nginx ]; then echo 'nginx -s reload'; else echo 'apache2ctl graceful'; fi; }

# Deletes the certificate that tls() requested, so that it is no longer renewed.
untls() {
    local name
    look_up "$LEDGER" certificate
    name=$VALUE
    [ -n "$name" ] && has certbot && [ -e "/etc/letsencrypt/renewal/$name.conf" ] || return 0
    run "delete the certificate for $name" certbot delete --non-interactive --cert-name "$name"
}
