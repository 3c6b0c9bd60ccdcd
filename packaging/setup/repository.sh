# The bare repository: its settings, hooks, and config.

repository() {
    local key value settings
    STEP=repository
    note "$LEDGER" "repository $REPO"
    note "$LEDGER" "user $USER_NAME"
    [ -n "$DRY_RUN" ] || list_repositories
    # At this point the program is installed.
    agree || cannot_agree
    BRANCH=${BRANCH:-master}
    NAME=${NAME:-$(hostname)}
    exists "$USER_NAME" "$REPO/HEAD" || {
        user_directory "$REPO"
        run "create the bare repository $REPO" as "$USER_NAME" git -c "init.defaultBranch=$BRANCH" init --quiet --bare "$REPO"
    }
    # `check` recommends the same settings. A setting with another value is kept.
    settings=
    [ ! -x "${SOURCE:-$PROGRAM}" ] || settings=$("${SOURCE:-$PROGRAM}" generate git-settings) || fail '`bluegreen generate git-settings` failed'
    while read -r key value; do
        [ -z "$key" ] || [ -n "$(git_config --get "$key")" ] || set_git "$key" "$value"
    done <<EOT
$settings
EOT
    hook post-receive
    install_config
    if [ -n "$GATE" ]; then
        note "$LEDGER" 'gate yes'
        hook proc-receive
        [ "$(git_config --get receive.procReceiveRefs)" = "refs/heads/$BRANCH" ] || set_git receive.procReceiveRefs "refs/heads/$BRANCH"
    fi
}

# Creates a directory for the user: as root if only root can write to its parent, otherwise as the user.
user_directory() { # DIRECTORY
    local parent
    [ ! -e "$1" ] || return 0
    parent=$(dirname "$1")
    if ! only_root_writes "$parent" || [ "$parent" = "$HOME_DIR" ]; then
        run "create $1" as "$USER_NAME" mkdir -p "$1"
    else
        [ -d "$parent" ] || run "create $parent" mkdir -p "$parent"
        run "create $1" install -d -o "$USER_NAME" -g "$(id -gn "$USER_NAME" 2>/dev/null)" "$1"
    fi
}

git_config() { as "$USER_NAME" git --git-dir="$REPO" config --local "$@"; }

set_git() { run "git config $1 $2" git_config "$1" "$2"; } # KEY VALUE

hook() { # NAME
    local hook="$REPO/hooks/$1"
    ! exists "$USER_NAME" "$hook" || hook_is_ours "$hook" || return 0 # chained, as check_hook found
    [ "$(as "$USER_NAME" readlink "$hook")" = "$PROGRAM" ] || {
        note "$LEDGER" "hook $1"
        run '' as "$USER_NAME" mkdir -p "$REPO/hooks"
        run "install the hook $hook" put_link "$USER_NAME" "$PROGRAM" "$hook"
    }
}

# Once the config exists, only its owner changes it, unless an administrator passes another one.
install_config() {
    local file="$REPO/bluegreen.toml" text
    if [ -n "$CONFIG" ]; then
        read_text "$USER_NAME" "$file"
        [ "$TEXT" = "$CONFIG_TEXT" ] || overwrite_file "$LEDGER" "$USER_NAME" "$file" 644 "$CONFIG_TEXT"
    elif ! exists "$USER_NAME" "$file"; then
        text=$(sed -e "s|^#branch = .*|branch = \"$BRANCH\"|" -e "s|^branch = .*|branch = \"$BRANCH\"|" \
            -e "s|^#server = .*|server = \"$NAME\"|" -e "s|^#\{0,1\}root = .*|root = \"$SITE\"|" "$(config_file)") ||
            fail "cannot read $(config_file)"
        install_file "$LEDGER" "$USER_NAME" "$file" 644 "$text"
    fi
}

# Prints the path of the config template: the stack's, or the one with every key.
config_file() {
    if [ -n "$STACK" ]; then printf '%s\n' "$ASSETS/stacks/$STACK/bluegreen.toml"; else printf '%s\n' "$ASSETS/bluegreen.toml"; fi
}
