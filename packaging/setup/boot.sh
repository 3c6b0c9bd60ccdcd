# The unit of systemd that ends, at every boot, what a crash cut off.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

UNITS=/etc/systemd/system

boot() {
    local before="$CHANGES" unit wanted
    STEP=boot
    has systemctl && unit=$(unit_name) || unit=''
    [ -z "$unit" ] || {
        wanted=$UNITS/multi-user.target.wants/$unit
        lay "$LEDGER" root "$UNITS/$unit" 644 "$(unit_text)"
        # Who disabled it meant that.
        if ! noted "$LEDGER" 'boot enabled' && [ ! -L "$wanted" ]; then
            [ -d "${wanted%/*}" ] || run '' mkdir -p "${wanted%/*}"
            run "enable $unit" put_link root "$UNITS/$unit" "$wanted"
        fi
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
    [ -z "$(wanted_rules)" ] || no_sudo=''
    sed -e '/^@:/d' -e "$(mark no-sudo "$no_sudo")" -e "s|@REPO@|$REPO|g" -e "s|@SITE@|$SITE|g" \
        -e "s|@HOME@|$HOME_DIR|g" -e "s|@USER@|$USER_NAME|g" -e "s|@PROGRAM@|$PROGRAM|g" "$ASSETS/systemd/bluegreen@.service"
}

unboot() {
    local unit wanted
    has systemctl || return 0
    unit=$(unit_name) wanted=$UNITS/multi-user.target.wants/$unit
    [ -e "$UNITS/$unit" ] || [ -L "$wanted" ] || return 0
    [ ! -L "$wanted" ] || run "disable $unit" rm -f "$wanted"
    unlay "$LEDGER" root "$UNITS/$unit"
    ! systemd || run '' systemctl daemon-reload
}
