# The deploy user, the keys that may push, and what sshd says of them.

user() {
    local shell="$LOGIN_PROGRAM" now
    STEP=user
    [ -z "$LOGIN_SHELL" ] || shell=/bin/bash
    now=$(shell_of "$USER_NAME")
    if [ -z "$now" ]; then
        note "$USERS" created
        # Debian's and Ubuntu's adduser differ in how a comment is given; all take an empty answer to it.
        run "add the user $USER_NAME with the shell $shell" \
            adduser --quiet --disabled-password --gecos '' --shell "$shell" "$USER_NAME"
    elif noted "$USERS" created; then
        [ "$now" = "$shell" ] || run "make $shell the shell of $USER_NAME" usermod -s "$shell" "$USER_NAME"
    elif [ "$now" != "$shell" ] && [ -z "$LOGIN_SHELL" ]; then
        warn "$USER_NAME was here before and keeps the shell $now; \`usermod -s $shell $USER_NAME\` restricts it"
    fi
    [ -z "$LOGIN_SHELL" ] || note "$USERS" 'login-shell yes'
}

# Prints "TYPE BLOB COMMENT" of each line of authorized_keys or of a public key file, whatever its options.
public_keys() { sed -nE 's/^(.*[[:space:]])?((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 \6/p'; }

# Reads the keys to add, "NAME=FILE", a file, or a key itself instead of one, to lines of "NAME TYPE BLOB COMMENT",
# with a dot for no name.
check_keys() {
    local entry name file text other
    printf '%s' "$KEYS" | while IFS= read -r entry; do
        name=$(printf '%s\n' "$entry" | sed -nE 's/^([A-Za-z0-9][A-Za-z0-9._@+-]*)=.*/\1/p')
        file=${entry#"${name:+$name=}"}
        case $file in
            ssh-*' '* | ecdsa-*' '* | sk-*' '*) text=$file file="--key $name" ;;
            *)
                file=$(absolute "$file")
                [ -r "$file" ] || fail "cannot read the key $file"
                text=$(cat -- "$file")
                ;;
        esac
        case $text in *'PRIVATE KEY'*) fail "$file is a private key" "the public one is $file.pub" ;; esac
        other=$(printf '%s\n' "$text" | grep -Evm 1 '^(#|[[:space:]]*$|(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*( |$))' | clean)
        [ -z "$other" ] || fail "$file holds no public ssh key in the line: $other" 'TYPE KEY COMMENT, without options'
        text=$(printf '%s\n' "$text" | public_keys | clean)
        [ -n "$text" ] || fail "$file holds no public ssh key"
        printf '%s\n' "$text" | sed "s/^/${name:-.} /"
    done >"$SCRATCH/keys"
}

read_keys() { text_of "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys"; }

write_keys() { run "$1" replace "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys" 600 "$2"; } # WHAT CONTENT

ssh_keys() {
    local dir="$HOME_DIR/.ssh" before after name type blob comment added=0
    STEP=ssh
    as "$USER_NAME" test -d "$dir" || run "create $dir" as "$USER_NAME" install -d -m 700 "$dir"
    before=$(read_keys)
    after=$before
    while read -r name type blob comment; do
        [ "$name" = . ] || comment=$name
        case " $after" in
            *" $blob"*)
                [ "$name" = . ] || after=$(printf '%s\n' "$after" | named "$blob" "$name")
                ;;
            *)
                note "$USERS" "key $blob"
                added=$((added + 1))
                after="${after:+$after$LINE_END}restrict $type $blob${comment:+ $comment}"
                ;;
        esac
    done <"$SCRATCH/keys"
    if [ "$added" -gt 0 ]; then
        write_keys "allow $added key(s) to push" "$after"
    elif [ "$before" != "$after" ]; then
        write_keys 'name a key' "$after"
    fi
    # sshd passes over keys that others could have written.
    [ -z "$(as "$USER_NAME" find "$dir" -maxdepth 1 ! -type l -perm /022)" ] ||
        run "keep others from writing in $dir" as "$USER_NAME" chmod -R go-w "$dir"
    expose_keys
}

named() { # BLOB NAME: the lines of standard input, that key with that name
    awk -v blob="$1" -v name="$2" '(at = index($0, " " blob)) { $0 = substr($0, 1, at + length(blob)) " " name } { print }'
}

# Has sshd tell the account's programs which key came in, so that the history names who pushed.
expose_keys() {
    local text
    grep -Eiqs '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config || {
        warn "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d, so the history will have addresses and no names"
        return 0
    }
    text="# Laid by bluegreen's install.sh: the history names whose key pushed.
Match User $USER_NAME
    ExposeAuthInfo yes"
    kept "$USERS" root "$SSHD_CONF" "$text" || {
        [ -n "$DRY_RUN" ] || sshd_accepts "$text"
        note "$USERS" ssh-reload-due
        lay_anyway "$USERS" root "$SSHD_CONF" 644 "$text"
    }
    ! noted "$USERS" ssh-reload-due || run 'reload sshd' sshd_reload
    unnote "$USERS" ssh-reload-due
}

# Tries a config that ends with TEXT. sshd wants its directory even for that.
sshd_accepts() { # TEXT
    mkdir -p /run/sshd
    { cat /etc/ssh/sshd_config && printf '\n%s\n' "$1"; } >"$SCRATCH/sshd_config"
    accepts "sshd refuses its config, so $SSHD_CONF is not written" /usr/sbin/sshd -t -f "$SCRATCH/sshd_config"
}

# Where systemd starts an sshd for each connection, there is nothing to reload.
sshd_reload() {
    if systemd; then
        ! systemctl is-active --quiet ssh || systemctl reload ssh
    else
        ! alive /run/sshd.pid || kill -HUP "$(cat /run/sshd.pid)"
    fi
}

list_keys() {
    STEP=keys
    settle
    # ssh-keygen prints "256 SHA256:... COMMENT (ED25519)" for each.
    read_keys | as "$USER_NAME" ssh-keygen -lf - |
        sed -nE 's/^[0-9]+ (SHA256:[^ ]+) (.*) \(([A-Z0-9-]+)\)$/\2\t\1\t\3/p' |
        awk -F '\t' 'BEGIN { printf "%-24s %-50s %s\n", "NAME", "FINGERPRINT", "TYPE" } { printf "%-24s %-50s %s\n", $1, $2, $3 }'
}

remove_key() {
    local type blob comment blobs='' number=0
    STEP=keys
    settle
    read_keys | public_keys >"$SCRATCH/keys"
    while read -r type blob comment; do
        [ "$comment" = "$REMOVED_KEY" ] || [ "$(fingerprint_of "$type $blob")" = "$REMOVED_KEY" ] || continue
        blobs="$blobs$blob$LINE_END" number=$((number + 1))
    done <"$SCRATCH/keys"
    [ "$number" -gt 0 ] || fail "no key of $REMOVED_KEY may push" "$SELF --keys lists them"
    take_away "take away $number key(s) of $REMOVED_KEY" "$blobs"
    for blob in $blobs; do unnote "$USERS" "key $blob"; done
    [ "$number" -lt "$(wc -l <"$SCRATCH/keys")" ] || warn 'no key may push any more'
}

take_away() { # WHAT BLOBS
    write_keys "$1" "$(read_keys | grep -Fv -e "$(printf '%s' "$2" | sed 's/^/ /')" || :)"
}

fingerprint_of() { printf '%s\n' "$1" | as "$USER_NAME" ssh-keygen -lf - | cut -d' ' -f2; } # KEY
