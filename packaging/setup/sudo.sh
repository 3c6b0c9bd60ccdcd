# The rules for sudo, which are an admin's: what --sudo says, checked, and kept in the ledger. The config has no
# say in them.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

check_rules() {
    local rule
    while IFS= read -r rule; do
        [ -z "$rule" ] || check_rule "$rule"
    done <<EOT
$RULES
EOT
    while IFS= read -r rule; do
        [ -z "$rule" ] || noted "$LEDGER" "sudo $rule" || fail "there is no rule \`$rule\`" "$SELF --repo $REPO --dry-run lists what there is"
    done <<EOT
$DROPPED_RULES
EOT
}

check_rule() { # COMMAND
    local program="${1%% *}" real path
    case $1 in
        *[!A-Za-z0-9_./@%+,:=\ -]*) fail "--sudo \`$1\`: plain words only" "--sudo '/usr/bin/systemctl restart NAME'" ;;
        *' ' | *'  '*) fail "--sudo \`$1\`: a single space between words" ;;
        *..*) fail "--sudo \`$1\`: no \`..\`, which could lead anywhere" ;;
    esac
    case $program in
        /*) ;;
        *) fail "--sudo \`$1\`: \`$program\` is not an absolute path" "--sudo '$(command -v -- "$program" || echo "/usr/bin/$program")${1#"$program"}'" ;;
    esac
    { [ -f "$program" ] && [ -x "$program" ]; } || fail "--sudo \`$1\`: $program is no program"
    real=$(realpath -e "$program")
    [ "$real" = "$program" ] || fail "--sudo \`$1\`: $program leads to $real" "--sudo '$real${1#"$program"}', and the same in the step"
    roots_alone "$program" || fail "--sudo \`$1\`: others than root can change $program or a directory above it"
    # Each word of the rest, and each part of it that may be a path. The command runs in /.
    for path in $(printf '%s' "${1#"$program"}" | tr '=:,' '   '); do
        case $path in */*) path=/${path#*/} ;; *) continue ;; esac
        case "$path/" in
            "$HOME_DIR"/* | "$REPO"/* | "$SITE"/*) fail "--sudo \`$1\`: $USER_NAME can change $path, and so what root would do with it" ;;
        esac
        roots_alone "$path" || fail "--sudo \`$1\`: $path, or what leads to it, is not root's alone"
    done
}

# The rules of the ledger, with the new and without the dropped ones.
wanted_rules() {
    local rule
    { values "$LEDGER" sudo && printf '%s' "$RULES"; } | sort -u |
        while IFS= read -r rule; do
            case "$LINE_END$DROPPED_RULES" in *"$LINE_END$rule$LINE_END"*) ;; *) printf '%s\n' "$rule" ;; esac
        done
}

sudoers() {
    local file="/etc/sudoers.d/bluegreen-$SLUG" rule rules text="# Laid by bluegreen's install.sh for $REPO, by the word of --sudo."
    STEP=sudo
    rules=$(wanted_rules)
    while IFS= read -r rule; do
        [ -z "$rule" ] || unnote "$LEDGER" "sudo $rule"
    done <<EOT
$DROPPED_RULES
EOT
    if [ -z "$rules" ]; then
        [ ! -e "$file" ] || unlay "$LEDGER" root "$file"
        return 0
    fi
    while IFS= read -r rule; do
        note "$LEDGER" "sudo $rule"
        printf '%-12s %s may run as root, without a password: %s\n' "$STEP" "$USER_NAME" "$rule"
        # Without arguments sudo would allow any.
        case $rule in *' '*) ;; *) rule="$rule \"\"" ;; esac
        text="$text$LINE_END$USER_NAME ALL=(root) CWD=/ NOPASSWD: $(printf '%s' "$rule" | sed 's/[,:=]/\\&/g')"
    done <<EOT
$rules
EOT
    if has visudo; then
        printf '%s\n' "$text" | visudo -cqf - || fail 'sudo would refuse these rules' 'it takes sudo 1.9.3 or newer'
    fi
    lay "$LEDGER" root "$file" 440 "$text"
}
