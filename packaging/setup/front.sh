# The account on a front end's machine. Its keys may run the switch that the administrator installed, and
# nothing else. Everything is owned by root, including the account's home and its keys.

FRONT_USER=bluegreen-front
FRONT_HOME=/var/lib/bluegreen-front
FRONT_KEYS=$FRONT_HOME/.ssh/authorized_keys
FRONT_PROGRAM=/usr/local/lib/bluegreen/front-end
FRONT_SWITCHES=/usr/local/lib/bluegreen/switches
FRONT_CONF=/etc/bluegreen/front-end.conf
FRONT_SUDOERS=/etc/sudoers.d/bluegreen-front
FRONT_LEDGER=$LEDGERS/front-end/ledger

front_set_up() {
    STEP=preflight
    front_settle
    front_packages
    front_program
    front_account
    front_keys
    front_check
}

# Settles the switch and its settings, from the options or the ledger, and fails if a later part would fail.
front_settle() {
    front_known
    [ -n "$SWITCH" ] || misused '--front-end needs --switch NAME'
    case $SWITCH in
        /*)
            plain --switch "$SWITCH"
            { [ -f "$SWITCH" ] && [ -x "$SWITCH" ]; } || fail "$SWITCH is not a program"
            only_root_writes "$SWITCH" || fail "$SWITCH or a directory above it is writable by others, and root would run it"
            FRONT_SOURCE=$SWITCH
            ;;
        *[!a-z0-9-]*) misused "invalid name of a switch: \`$(printf '%s' "$SWITCH" | clean)\`" ;;
        *)
            FRONT_SOURCE=$ASSETS/switches/$SWITCH
            { [ -f "$FRONT_SOURCE" ] && [ -x "$FRONT_SOURCE" ]; } || fail "unknown switch $SWITCH" "use one of $(front_names), or the path of a program"
            ;;
    esac
    front_settings
    check_keys
    STEP=preflight
    if has_user "$FRONT_USER" && [ "$(shell_of "$FRONT_USER")" != "$FRONT_PROGRAM" ]; then
        fail "the user $FRONT_USER exists, and its shell is $(shell_of "$FRONT_USER")" "deluser $FRONT_USER"
    fi
}

front_known() {
    [ "$(id -u)" -eq 0 ] || fail 'setting up a front end needs root' "sudo $SELF --front-end ..."
    SERVER=$LEDGERS/server
    look_up "$FRONT_LEDGER" switch
    SWITCH=${SWITCH:-$VALUE}
}

front_names() { find "$ASSETS/switches" -type f -perm -100 -printf '%f\n' | sort | paste -sd, | sed 's/,/, /g'; }

# Sets SETTINGS to the lines KEY=VALUE in the ledger, updated with the new values. A switch declares its
# settings.
front_settings() {
    local declared entry key
    look_up "$FRONT_LEDGER" switch
    if [ -n "$VALUE" ] && [ "$VALUE" != "$SWITCH" ]; then VALUES=''; else look_up "$FRONT_LEDGER" setting; fi
    SETTINGS=$(printf '%s%s' "${VALUES:+$VALUES$LINE_END}" "$SETTINGS" | awk -F = '
        { key = $1 } !(key in value) { order[++n] = key } { value[key] = $0 }
        END { for (i = 1; i <= n; i++) if (value[order[i]] != order[i] "=") print value[order[i]] }') || fail 'cannot sort the settings'
    declared=$(sed -n '1,40s/^# settings: //p' "$FRONT_SOURCE") || fail "cannot read $FRONT_SOURCE"
    printf '%s\n' "$SETTINGS" | while IFS= read -r entry; do
        [ -n "$entry" ] || continue
        key=${entry%%=*}
        case $key in '' | *[!a-z0-9-]* | [!a-z]* | force) misused "invalid name of a setting: \`$(printf '%s' "$key" | clean)\`" ;; esac
        case $entry in *=*) ;; *) misused "--setting takes KEY=VALUE, not \`$(printf '%s' "$entry" | clean)\`" ;; esac
        case $entry in *"'"*) misused "the setting $key contains a quote" ;; esac
        case " ${declared:-SIDE} " in
            *" $key "* | *" $key! "* | *' SIDE '*) ;;
            *) fail "unknown setting $key of the switch $SWITCH" "it takes $(printf '%s' "$declared" | tr -d '!' | sed 's/ /, /g')" ;;
        esac
    done
}

front_packages() {
    local missing='' need
    STEP=packages
    [ -x /usr/sbin/sshd ] || missing=' openssh-server'
    has adduser || missing="$missing adduser"
    has visudo || missing="$missing sudo"
    case $SWITCH in
        haproxy) need=socat ;;
        nginx | apache | caddy) need=curl ;;
        digitalocean* | hetzner*) need='curl jq' ;;
        aws-alb) need=jq ;;
        *) need= ;;
    esac
    for need in $need; do has "$need" || missing="$missing $need"; done
    [ -n "$missing" ] || return 0
    has apt-get || fail "cannot install$missing: apt-get is missing" 'install these packages, and run this again'
    run 'apt-get update' apt_get 300 update
    # shellcheck disable=SC2086 # several names
    run "apt-get install$missing" apt_get 1800 install -y --no-install-recommends $missing
}

front_program() {
    local text old
    STEP=switch
    look_up "$FRONT_LEDGER" switch
    old=$VALUE
    case $SWITCH in /*) ;; *) install_file "$FRONT_LEDGER" root "$FRONT_SWITCHES/$SWITCH" 755 "$(cat "$FRONT_SOURCE")" ;; esac
    front_note switch "$SWITCH"
    front_note setting "$SETTINGS"
    text="# Installed by bluegreen's install.sh: the switch that the account $FRONT_USER may run, and its variables. The shell reads
# this file as root. For the token of a provider, add its variable, such as HCLOUD_TOKEN.
SWITCH=$SWITCH
$(printf '%s' "$SETTINGS" | front_variables)"
    install_file "$FRONT_LEDGER" root "$FRONT_CONF" 600 "$(printf '%s' "$text")"
    install_file "$FRONT_LEDGER" root "$FRONT_PROGRAM" 755 "$(cat "$ASSETS/front-end/login.sh")"
    case $old in '' | "$SWITCH" | /*) ;; *) remove_file "$FRONT_LEDGER" root "$FRONT_SWITCHES/$old" ;; esac
}

# Converts lines KEY=VALUE into assignments of the switch's variables.
front_variables() {
    local entry key
    while IFS= read -r entry || [ -n "$entry" ]; do
        key=$(printf '%s' "${entry%%=*}" | tr 'a-z-' 'A-Z_')
        printf "SWITCH_%s='%s'\n" "$key" "${entry#*=}"
    done
}

# Replaces all values of a key in the ledger.
front_note() { # KEY VALUES
    local line
    look_up "$FRONT_LEDGER" "$1"
    [ "$VALUES" != "$2" ] || return 0
    printf '%s\n' "$VALUES" | while IFS= read -r line; do [ -z "$line" ] || unnote "$FRONT_LEDGER" "$1 $line"; done
    printf '%s\n' "$2" | while IFS= read -r line; do [ -z "$line" ] || note "$FRONT_LEDGER" "$1 $line"; done
}

front_account() {
    local text
    STEP=user
    text="# Installed by bluegreen's install.sh: the account becomes root for this program alone, which accepts the verbs of a switch.
$FRONT_USER ALL=(root) CWD=/ NOPASSWD: $FRONT_PROGRAM"
    if has visudo; then
        printf '%s\n' "$text" | visudo -cqf - || fail 'sudo rejects its rule' 'it needs sudo 1.9.3 or newer'
    fi
    parents "$FRONT_LEDGER" "$FRONT_HOME/.ssh"
    if ! has_user "$FRONT_USER"; then
        note "$FRONT_LEDGER" created
        run "add the user $FRONT_USER with the shell $FRONT_PROGRAM" adduser --quiet --system --group --gecos '' \
            --home "$FRONT_HOME" --no-create-home --shell "$FRONT_PROGRAM" "$FRONT_USER"
    fi
    install_file "$FRONT_LEDGER" root "$FRONT_SUDOERS" 440 "$text"
}

# The account cannot write its own keys. Each key has a forced command in addition to the login shell, because
# an sftp server inside sshd would bypass the shell.
front_keys() {
    local name type blob comment lines='' added=0
    STEP=ssh
    read_text root "$FRONT_KEYS"
    while read -r name type blob comment; do
        case "$TEXT$LINE_END$lines" in *" $blob "* | *" $blob$LINE_END"*) continue ;; esac
        [ "$name" = . ] || comment=$name
        added=$((added + 1))
        lines="${lines}restrict,command=\"$FRONT_PROGRAM\" $type $blob${comment:+ $comment}$LINE_END"
    done <"$SCRATCH/keys"
    [ "$added" -gt 0 ] || return 0
    run "allow $(plural "$added" key) to run the switch" replace root "$FRONT_KEYS" 644 "${TEXT:+$TEXT$LINE_END}${lines%"$LINE_END"}"
}

front_check() {
    local shown
    STEP=check
    if [ -n "$DRY_RUN" ]; then
        [ "$CHANGES" -gt 0 ] || say 'Nothing would have to be changed.'
        say 'This was a dry run: nothing was changed.'
        return 0
    fi
    [ "$CHANGES" -gt 0 ] || say 'Nothing had to be changed.'
    if shown=$("$FRONT_PROGRAM" show 2>"$SCRATCH/output"); then
        shown=$(printf '%s\n' "$shown" | clean | head -n 1)
        say "The front end shows ${shown:-no side}."
    else
        clean <"$SCRATCH/output" | indent >&2
        warn "the switch $SWITCH cannot read the front end: set it up as docs/reference/switches.md shows, and run this again"
    fi
    read_text root "$FRONT_KEYS"
    [ -n "$(printf '%s\n' "$TEXT" | public_keys)" ] || warn 'no key may run the switch yet: run this again with --key FILE'
    say "
Now, in the .promote.toml of your clone, instead of \`switch\` and \`[public.settings]\`:
    [public]
    host = \"$FRONT_USER@$(hostname)\""
}

front_list_keys() {
    STEP=keys
    front_known
    read_text root "$FRONT_KEYS"
    [ -z "$TEXT" ] || printf '%s\n' "$TEXT" | ssh-keygen -lf - | clean
}

front_remove_key() {
    local line key name kept='' number=0
    STEP=keys
    front_known
    read_text root "$FRONT_KEYS"
    printf '%s\n' "$TEXT" >"$SCRATCH/there"
    while IFS= read -r line; do
        key=$(printf '%s\n' "$line" | public_keys)
        name=${key#* }
        if [ -n "$key" ] && { [ "${name#* }" = "$REMOVED_KEY" ] ||
            [ "$(printf '%s\n' "$key" | ssh-keygen -lf - | cut -d' ' -f2)" = "$REMOVED_KEY" ]; }; then
            number=$((number + 1))
        else
            kept="$kept$line$LINE_END"
        fi
    done <"$SCRATCH/there"
    [ "$number" -gt 0 ] || fail "no key matches $REMOVED_KEY" "$SELF --front-end --keys lists them"
    run "remove $(plural "$number" key) of $REMOVED_KEY" replace root "$FRONT_KEYS" 644 "${kept%"$LINE_END"}"
}

# Removes the account and everything installed for it. A file that was changed by hand stays.
front_uninstall() {
    local path paths
    STEP=uninstall
    front_known
    if [ ! -e "$FRONT_LEDGER" ]; then
        say 'No front end was set up here.'
        return 0
    fi
    remove_file "$FRONT_LEDGER" root "$FRONT_SUDOERS"
    if noted "$FRONT_LEDGER" created && has_user "$FRONT_USER"; then
        run "remove the user $FRONT_USER" deluser --quiet "$FRONT_USER"
    fi
    [ ! -d "$FRONT_HOME" ] || run "remove the keys in $FRONT_HOME" rm -rf "$FRONT_HOME"
    look_up "$FRONT_LEDGER" laid
    paths=$(printf '%s\n' "$VALUES" | sed 's/ [^ ]*$//' | sort -u) || fail "cannot sort the ledger $FRONT_LEDGER"
    for path in $paths; do remove_file "$FRONT_LEDGER" root "$path"; done
    look_up "$FRONT_LEDGER" directory
    paths=$(printf '%s\n' "$VALUES" | sort -r) || fail "cannot sort the ledger $FRONT_LEDGER"
    for path in $paths; do
        [ ! -d "$path" ] || run '' rmdir --ignore-fail-on-non-empty "$path"
    done
    run '' rm -rf "$LEDGERS/front-end"
    run '' rmdir --ignore-fail-on-non-empty "$LEDGERS"
    if [ -n "$DRY_RUN" ]; then say 'This was a dry run: nothing was changed.'; fi
}
