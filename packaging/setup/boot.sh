# The systemd unit that recovers from a crash at every boot.

UNITS=/etc/systemd/system
WANTS=$UNITS/multi-user.target.wants

boot() {
    local before="$CHANGES" unit='' text
    STEP=boot
    want_rules
    if has systemctl; then
        unit=$(unit_name)
        text=$(unit_text)
        install_file "$LEDGER" root "$UNITS/$unit" 644 "$text"
        # A unit that an administrator has disabled stays disabled.
        noted "$LEDGER" 'boot enabled' || [ -L "$WANTS/$unit" ] || run "enable $unit" systemctl enable --quiet "$unit"
        note "$LEDGER" 'boot enabled'
    fi
    if systemd && [ -n "$unit" ]; then
        [ "$CHANGES" = "$before" ] || run '' systemctl daemon-reload
    elif ! crontab -u "$USER_NAME" -l 2>/dev/null | grep -Fq "$REPO resume"; then
        say "boot         systemd is not running; to recover from a crash at every boot, run \`crontab -u $USER_NAME -e\` and add:
             @reboot $PROGRAM -C $REPO resume --boot"
    fi
}

# Prints the unit's name, which contains the repository's path as systemd escapes it.
unit_name() { printf 'bluegreen@%s.service\n' "$(systemd-escape --path "$REPO")"; }

unit_text() {
    local no_sudo=yes
    [ -z "$WANTED_RULES$APP" ] || no_sudo=''
    sed -e '/^@:/d' -e "$(mark no-sudo "$no_sudo")" -e "s|@REPO@|$REPO|g" -e "s|@SITE@|$SITE|g" \
        -e "s|@HOME@|$HOME_DIR|g" -e "s|@USER@|$USER_NAME|g" -e "s|@PROGRAM@|$PROGRAM|g" "$ASSETS/systemd/bluegreen@.service"
}

unboot() {
    local unit
    has systemctl || return 0
    unit=$(unit_name)
    [ ! -L "$WANTS/$unit" ] || run "disable $unit" rm -f "$WANTS/$unit"
    remove_file "$LEDGER" root "$UNITS/$unit"
    ! systemd || run '' systemctl daemon-reload
}
