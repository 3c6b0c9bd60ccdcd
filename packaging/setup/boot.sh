# The unit of systemd that ends, at every boot, what a crash cut off.

UNITS=/etc/systemd/system
WANTS=$UNITS/multi-user.target.wants

boot() {
    local before="$CHANGES" unit=''
    STEP=boot
    ! has systemctl || {
        unit=$(unit_name)
        lay "$LEDGER" root "$UNITS/$unit" 644 "$(unit_text)"
        # Who disabled it meant that.
        noted "$LEDGER" 'boot enabled' || [ -L "$WANTS/$unit" ] || run "enable $unit" systemctl enable --quiet "$unit"
        note "$LEDGER" 'boot enabled'
    }
    if systemd && [ -n "$unit" ]; then
        [ "$CHANGES" = "$before" ] || run '' systemctl daemon-reload
    elif ! crontab -u "$USER_NAME" -l 2>/dev/null | grep -Fq "$REPO resume"; then
        say "boot         systemd does not run here; \`crontab -u $USER_NAME -e\` could end at every boot what a crash cut off, with the line:
             @reboot $PROGRAM -C $REPO resume --boot"
    fi
}

# The unit's name holds the repository's path, as systemd writes one.
unit_name() { printf 'bluegreen@%s.service\n' "$(systemd-escape --path "$REPO")"; }

unit_text() {
    local no_sudo=yes
    [ -z "$(wanted_rules)$APP" ] || no_sudo=''
    sed -e '/^@:/d' -e "$(mark no-sudo "$no_sudo")" -e "s|@REPO@|$REPO|g" -e "s|@SITE@|$SITE|g" \
        -e "s|@HOME@|$HOME_DIR|g" -e "s|@USER@|$USER_NAME|g" -e "s|@PROGRAM@|$PROGRAM|g" "$ASSETS/systemd/bluegreen@.service"
}

unboot() {
    local unit
    has systemctl || return 0
    unit=$(unit_name)
    [ ! -L "$WANTS/$unit" ] || run "disable $unit" rm -f "$WANTS/$unit"
    unlay "$LEDGER" root "$UNITS/$unit"
    ! systemd || run '' systemctl daemon-reload
}
