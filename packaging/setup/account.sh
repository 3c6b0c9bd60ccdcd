# The deploy user, the keys that may push, and what sshd says of them.
# shellcheck shell=sh disable=SC2016,SC2034,SC2153,SC2154,SC3043

user() {
    local shell="$LOGIN_PROGRAM" now
    STEP=user
    [ -z "$LOGIN_SHELL" ] || shell=/bin/bash
    now=$(shell_of "$USER_NAME")
    if [ -z "$now" ]; then
        note "$USERS" created
        run "add the user $USER_NAME with the shell $shell" add_user "$shell"
    elif noted "$USERS" created; then
        [ "$now" = "$shell" ] || run "make $shell the shell of $USER_NAME" usermod -s "$shell" "$USER_NAME"
    elif [ "$now" != "$shell" ] && [ -z "$LOGIN_SHELL" ]; then
        warn "$USER_NAME was here before and keeps the shell $now; \`usermod -s $shell $USER_NAME\` restricts it"
    fi
    [ -z "$LOGIN_SHELL" ] || note "$USERS" 'login-shell yes'
}

# Debian's and Ubuntu's adduser differ in how a comment is given; all take an empty answer to it.
add_user() { # SHELL
    adduser --quiet --disabled-password --gecos '' --shell "$1" "$USER_NAME" >/dev/null
}

# A line of authorized_keys or of a public key file, whatever its options: prints "TYPE BLOB COMMENT".
KEY_LINE='s/^(.*[[:space:]])?((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 \6/p'

public_keys() { sed -nE "$KEY_LINE"; }

# Reads the keys to add, "NAME=FILE", a file, or a key itself instead of one, to lines of "NAME TYPE BLOB COMMENT",
# with a dot for no name.
check_keys() {
    local entry name file text others
    NEW_KEYS=
    while IFS= read -r entry; do
        [ -n "$entry" ] || continue
        name=${entry%%=*} file=${entry#*=}
        case $entry in
            [A-Za-z0-9]*=*) case $name in *[!A-Za-z0-9._@+-]*) name='' file=$entry ;; esac ;;
            *) name='' file=$entry ;;
        esac
        case $file in
            ssh-*' '* | ecdsa-*' '* | sk-*' '*) text=$file file="--key $name" ;;
            *)
                file=$(absolute "$file")
                [ -r "$file" ] || fail "cannot read the key $file"
                text=$(cat -- "$file")
                ;;
        esac
        ! printf '%s\n' "$text" | grep -q 'PRIVATE KEY' || fail "$file is a private key" "the public one is $file.pub"
        others=$(printf '%s\n' "$text" | grep -Ev '^(#|[[:space:]]*$|(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*( |$))' || :)
        [ -z "$others" ] || fail "$file holds no public ssh key in the line: $(printf '%s\n' "$others" | clean | head -n 1)" 'TYPE KEY COMMENT, without options'
        [ -n "$(printf '%s\n' "$text" | public_keys)" ] || fail "$file holds no public ssh key"
        NEW_KEYS=$NEW_KEYS$(printf '%s\n' "$text" | public_keys | clean | sed "s/^/${name:-.} /")$LINE_END
    done <<EOT
$KEYS
EOT
}

read_keys() { text_of "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys"; }

write_keys() { # WHAT CONTENT
    run "$1" replace "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys" 600 "$2"
}

ssh_keys() {
    local dir="$HOME_DIR/.ssh" before after name type blob comment added=0
    STEP=ssh
    as "$USER_NAME" test -d "$dir" || run "create $dir" as "$USER_NAME" install -d -m 700 "$dir"
    before=$(read_keys)
    after=$before
    while read -r name type blob comment; do
        [ -n "$type" ] || continue
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
    done <<EOT
$NEW_KEYS
EOT
    if [ "$added" -gt 0 ]; then
        write_keys "allow $added key(s) to push" "$after"
    elif [ "$before" != "$after" ]; then
        write_keys 'name a key' "$after"
    fi
    private "$dir" 700
    private "$dir/authorized_keys" 600
    expose_keys
}

named() { # BLOB NAME: the lines of standard input, that key with that name
    awk -v blob="$1" -v name="$2" '(at = index($0, " " blob)) { $0 = substr($0, 1, at + length(blob)) " " name } { print }'
}

# ssh passes over keys that others could have written.
private() { # PATH MODE
    local mode
    mode=$(as "$USER_NAME" stat -c %a -- "$1") || return 0
    [ "$mode" = "$2" ] || run "chmod $2 $1" as "$USER_NAME" chmod "$2" "$1"
}

# Has sshd tell the account's programs which key came in, so that the history names who pushed.
expose_keys() {
    local file="/etc/ssh/sshd_config.d/bluegreen-$USER_NAME.conf" text
    grep -Eiqs '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config || {
        warn "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d, so the history will have addresses and no names"
        return 0
    }
    text="# Laid by bluegreen's install.sh: the history names whose key pushed.
Match User $USER_NAME
    ExposeAuthInfo yes"
    kept "$USERS" root "$file" "$text" || {
        note "$USERS" ssh-reload-due
        SSHD_CONF=$file
        UNDO=sshd_restore
        lay "$USERS" root "$file" 644 "$text"
        [ -n "$DRY_RUN" ] || sshd_accepts || fail "sshd refuses its config, so $file is gone again" 'its own words are above; put it right, and run this again'
        UNDO=
    }
    ! noted "$USERS" ssh-reload-due || run 'reload sshd' sshd_reload
    unnote "$USERS" ssh-reload-due
}

sshd_accepts() {
    install -d -m 755 /run/sshd
    passes /usr/sbin/sshd -t
}

sshd_restore() { rm -f "$SSHD_CONF"; }

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
    local line type blob comment after='' removed=0
    STEP=keys
    settle
    while IFS= read -r line; do
        read -r type blob comment <<EOT
$(printf '%s\n' "$line" | public_keys)
EOT
        if [ -n "$blob" ] && { [ "$comment" = "$REMOVED_KEY" ] || [ "$(fingerprint_of "$type $blob")" = "$REMOVED_KEY" ]; }; then
            removed=$((removed + 1))
            unnote "$USERS" "key $blob"
        else
            after=$after$line$LINE_END
        fi
    done <<EOT
$(read_keys)
EOT
    [ "$removed" -gt 0 ] || fail "no key of $REMOVED_KEY may push" "$SELF --keys lists them"
    write_keys "take away $removed key(s) of $REMOVED_KEY" "${after%"$LINE_END"}"
    [ -n "$(printf '%s' "$after" | public_keys)" ] || warn 'no key may push any more'
}

fingerprint_of() { # KEY
    printf '%s\n' "$1" | as "$USER_NAME" ssh-keygen -lf - | cut -d' ' -f2
}
