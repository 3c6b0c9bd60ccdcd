# The sudo rules. They come from an administrator's --sudo, are checked, and are kept in the ledger. The
# config cannot add rules.

check_rules() {
    local rule
    printf '%s' "$RULES" | while IFS= read -r rule; do
        STEP="preflight: --sudo \`$rule\`"
        check_rule "$rule"
    done
    printf '%s' "$DROPPED_RULES" | while IFS= read -r rule; do
        noted "$LEDGER" "sudo $rule" || fail "unknown rule \`$rule\`" "$SELF --repo $REPO --dry-run lists the rules"
    done
}

check_rule() { # COMMAND
    local program="${1%% *}" rest real path
    rest=${1#"$program"}
    case $1 in
        *[!A-Za-z0-9_./@%+,:=\ -]*) fail 'plain words only' "--sudo '/usr/bin/systemctl restart NAME'" ;;
        *' ' | *'  '*) fail 'a single space between words' ;;
        *..*) fail '`..` is not allowed in a path' ;;
        /*) ;;
        *) fail "\`$program\` is not an absolute path" "--sudo '$(command -v -- "$program" || echo "/usr/bin/$program")$rest'" ;;
    esac
    { [ -f "$program" ] && [ -x "$program" ]; } || fail "$program is not a program"
    real=$(realpath -e "$program")
    [ "$real" = "$program" ] || fail "$program resolves to $real" "--sudo '$real$rest', and the same in the step"
    only_root_writes "$program" || fail "$program or a directory above it is writable by others"
    # Checks every remaining word, and every part of it that may be a path. The command runs in /.
    for path in $(printf '%s' "$rest" | tr '=:,' '   '); do
        case $path in */*) path=/${path#*/} ;; *) continue ;; esac
        case "$path/" in
            "$HOME_DIR"/* | "$REPO"/* | "$SITE"/*) fail "$USER_NAME can change $path, which root would use" ;;
        esac
        only_root_writes "$path" || fail "$path or a directory above it is writable by others"
    done
}

# Sets WANTED_RULES to the rules in the ledger, with the new and without the removed ones.
want_rules() {
    look_up "$LEDGER" sudo
    WANTED_RULES=$(printf '%s%s' "${VALUES:+$VALUES$LINE_END}" "$RULES" | sort -u) || fail 'cannot sort the rules'
    [ -z "$DROPPED_RULES" ] || WANTED_RULES=$(printf '%s\n' "$WANTED_RULES" | grep -Fxv -e "$DROPPED_RULES") || [ $? -eq 1 ] || fail 'cannot sort the rules'
}

sudoers() {
    local rule text
    STEP=sudo
    want_rules
    printf '%s' "$DROPPED_RULES" | while IFS= read -r rule; do unnote "$LEDGER" "sudo $rule"; done
    if [ -z "$WANTED_RULES" ]; then
        remove_file "$LEDGER" root "$SUDOERS"
        return 0
    fi
    printf '%s\n' "$WANTED_RULES" | while IFS= read -r rule; do
        note "$LEDGER" "sudo $rule"
        printf '%-12s %s may run as root, without a password: %s\n' "$STEP" "$USER_NAME" "$rule"
    done
    # A rule without arguments would allow any arguments.
    text="# Installed by bluegreen's install.sh for $REPO, as --sudo asked.
$(printf '%s\n' "$WANTED_RULES" | sed -e '/ /!s/$/ ""/' -e 's/[,:=]/\\&/g' -e "s|^|$USER_NAME ALL=(root) CWD=/ NOPASSWD: |")"
    if has visudo; then
        printf '%s\n' "$text" | visudo -cqf - || fail 'sudo rejects these rules' 'they need sudo 1.9.3 or newer'
    fi
    install_file "$LEDGER" root "$SUDOERS" 440 "$text"
}
