# The rules for sudo, which are an admin's: what --sudo says, checked, and kept in the ledger. The config has no
# say in them.

check_rules() {
    local rule
    printf '%s' "$RULES" | while IFS= read -r rule; do
        STEP="preflight: --sudo \`$rule\`"
        check_rule "$rule"
    done
    printf '%s' "$DROPPED_RULES" | while IFS= read -r rule; do
        noted "$LEDGER" "sudo $rule" || fail "there is no rule \`$rule\`" "$SELF --repo $REPO --dry-run lists what there is"
    done
}

check_rule() { # COMMAND
    local program="${1%% *}" rest real path
    rest=${1#"$program"}
    case $1 in
        *[!A-Za-z0-9_./@%+,:=\ -]*) fail 'plain words only' "--sudo '/usr/bin/systemctl restart NAME'" ;;
        *' ' | *'  '*) fail 'a single space between words' ;;
        *..*) fail 'no `..`, which could lead anywhere' ;;
        /*) ;;
        *) fail "\`$program\` is not an absolute path" "--sudo '$(command -v -- "$program" || echo "/usr/bin/$program")$rest'" ;;
    esac
    { [ -f "$program" ] && [ -x "$program" ]; } || fail "$program is no program"
    real=$(realpath -e "$program")
    [ "$real" = "$program" ] || fail "$program leads to $real" "--sudo '$real$rest', and the same in the step"
    roots_alone "$program" || fail "others than root can change $program or a directory above it"
    # Each word of the rest, and each part of it that may be a path. The command runs in /.
    for path in $(printf '%s' "$rest" | tr '=:,' '   '); do
        case $path in */*) path=/${path#*/} ;; *) continue ;; esac
        case "$path/" in
            "$HOME_DIR"/* | "$REPO"/* | "$SITE"/*) fail "$USER_NAME can change $path, and so what root would do with it" ;;
        esac
        roots_alone "$path" || fail "$path, or what leads to it, is not root's alone"
    done
}

# The rules of the ledger, with the new and without the dropped ones.
wanted_rules() { { values "$LEDGER" sudo && printf '%s' "$RULES"; } | sort -u | grep -Fxv -e "$DROPPED_RULES" || :; }

sudoers() {
    local rule rules text
    STEP=sudo
    rules=$(wanted_rules)
    printf '%s' "$DROPPED_RULES" | while IFS= read -r rule; do unnote "$LEDGER" "sudo $rule"; done
    if [ -z "$rules" ]; then
        unlay "$LEDGER" root "$SUDOERS"
        return 0
    fi
    printf '%s\n' "$rules" | while IFS= read -r rule; do
        note "$LEDGER" "sudo $rule"
        printf '%-12s %s may run as root, without a password: %s\n' "$STEP" "$USER_NAME" "$rule"
    done
    # Without arguments sudo would allow any.
    text="# Laid by bluegreen's install.sh for $REPO, by the word of --sudo.
$(printf '%s\n' "$rules" | sed -e '/ /!s/$/ ""/' -e 's/[,:=]/\\&/g' -e "s|^|$USER_NAME ALL=(root) CWD=/ NOPASSWD: |")"
    if has visudo; then
        printf '%s\n' "$text" | visudo -cqf - || fail 'sudo would refuse these rules' 'it takes sudo 1.9.3 or newer'
    fi
    lay "$LEDGER" root "$SUDOERS" 440 "$text"
}
