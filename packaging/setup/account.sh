# The deploy user, the keys that may push, and the sshd setting that exposes which key was used.

user() {
    local shell="$LOGIN_PROGRAM" now
    STEP=user
    [ -z "$LOGIN_SHELL" ] || shell=/bin/bash
    if ! has_user "$USER_NAME"; then
        note "$USERS" created
        # Every version of adduser accepts this option; newer ones have another name for it.
        run "add the user $USER_NAME with the shell $shell" \
            adduser --quiet --disabled-password --gecos '' --shell "$shell" "$USER_NAME"
    else
        now=$(shell_of "$USER_NAME")
        if [ "$now" = "$shell" ]; then
            :
        # An uninstall leaves git-shell, which allows less than the program's shell.
        elif noted "$USERS" created || [ "${now##*/}" = git-shell ] || [ "$now" = "$LOGIN_PROGRAM" ]; then
            run "make $shell the shell of $USER_NAME" usermod -s "$shell" "$USER_NAME"
        elif [ -z "$LOGIN_SHELL" ]; then
            warn "$USER_NAME keeps its shell $now, so \`promote\` and \`ssh $USER_NAME@$(hostname) status\` fail until root runs: usermod -s $shell $USER_NAME"
        fi
    fi
    [ -z "$LOGIN_SHELL" ] || note "$USERS" 'login-shell yes'
}

# Prints "TYPE BLOB COMMENT" for each key in authorized_keys or a public key file, without its options. Skips
# keys that are commented out.
public_keys() {
    sed -nE -e '/^[[:space:]]*#/d' \
        -e 's/^(.*[[:space:]])?((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 \6/p'
}

# Writes the keys to add to a file, as lines "NAME TYPE BLOB COMMENT" with a dot for no name. --key takes a file, a key,
# or either of them as "NAME=...".
check_keys() {
    local entry name file text other
    printf '%s' "$KEYS" | while IFS= read -r entry; do
        name=$(printf '%s\n' "$entry" | sed -nE 's/^([A-Za-z0-9][A-Za-z0-9._@+-]*)=.*/\1/p')
        file=${entry#"${name:+$name=}"}
        case $file in
            ssh-*' '* | ecdsa-*' '* | sk-*' '*) text=$file file="--key $name" ;;
            *)
                file=$(absolute "$file")
                text=$(cat -- "$file" 2>/dev/null) || fail "cannot read the key $file" "name a file with a public key, as ssh-keygen writes it: id_ed25519.pub"
                ;;
        esac
        case $text in *'PRIVATE KEY'*) fail "$file is a private key" "the public one is $file.pub" ;; esac
        other=$(printf '%s\n' "$text" | grep -Evm 1 '^(#|[[:space:]]*$|(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*( |$))' | clean)
        [ -z "$other" ] || fail "$file: not a public ssh key: $other" 'TYPE KEY COMMENT, without options'
        text=$(printf '%s\n' "$text" | public_keys | clean)
        [ -n "$text" ] || fail "$file contains no public ssh key"
        printf '%s\n' "$text" | sed "s/^/${name:-.} /"
    done >"$SCRATCH/keys"
}

# Writes the roles to set to a file, as lines "NAME ROLE".
check_roles() {
    local entry name role
    printf '%s' "$ROLES" | while IFS= read -r entry; do
        name=${entry%=*} role=${entry##*=}
        [ "$entry" != "$name" ] || misused "--role needs NAME=ROLE"
        case $name in '' | *[!A-Za-z0-9._@+-]*) misused "invalid role: $(printf '%s' "$entry" | clean)" ;; esac
        case $role in
            read | push | promote | all) ;;
            *) misused "unknown role $(printf '%s' "$role" | clean): use read, push, promote, or all" ;;
        esac
        printf '%s %s\n' "$name" "$role"
    done >"$SCRATCH/roles"
    [ ! -s "$SCRATCH/roles" ] || [ -z "$LOGIN_SHELL" ] || fail '--role has no effect on an account with a shell' 'omit --login-shell'
}

# Prints the options for a new key of NAME.
options_of() { # NAME
    awk -v name="$1" '$1 == name { role = $2 }
        END { print (role == "" || role == "all" ? "" : "command=\"role " role "\",") "restrict" }' "$SCRATCH/roles"
}

# Sets TEXT to authorized_keys.
read_keys() { read_text "$USER_NAME" "$HOME_DIR/.ssh/authorized_keys"; }

# Rewrites authorized_keys with a filter. Everything happens as the user, in one process that stops at the
# first error, so that no key passes through this installer and none is lost. The new file must have LINES
# more lines than the old one.
edit_keys() { # WHAT LINES FILTER [ARGUMENT]...
    local what="$1" lines="$2" filter="$3" file="$HOME_DIR/.ssh/authorized_keys"
    shift 3
    run "$what" as "$USER_NAME" sh -euc 'umask 077
        file=$1 new=$2 lines=$3 filter=$4
        shift 4
        [ -e "$file" ] || : >>"$file"
        before=$(grep -c "" <"$file") || [ $? -eq 1 ]
        sh -euc "$filter" sh "$@" <"$file" >"$new"
        after=$(grep -c "" <"$new") || [ $? -eq 1 ]
        [ "$((before + lines))" -eq "$after" ] || { echo "expected $((before + lines)) lines, not $after" >&2 && exit 1; }
        sync "$new"
        mv -fT "$new" "$file"' sh "$file" "$(temporary "$file")" "$lines" "$filter" "$@"
}

# An awk function that returns where a line contains a key, as a word of its own: a truncated key is a prefix of others.
FIND='
    function find(blob,   from, at, before, after) {
        for (from = 1; (at = index(substr($0, from), blob)) > 0; from = at + 1) {
            at += from - 1
            before = substr(" " $0, at, 1)
            after = substr($0 " ", at + length(blob), 1)
            if (before ~ /[ \t]/ && after ~ /[ \t\r]/) return at
        }
        return 0
    }'

# Appends lines, and changes the comment of the keys "BLOB NAME".
# shellcheck disable=SC2016 # awk expands it
ADD_KEYS='NAMES=$1 ADDED=$2 awk '\'"$FIND"'
    BEGIN {
        for (i = split(ENVIRON["NAMES"], pairs, "\n"); i > 0; i--)
            if (split(pairs[i], pair, " ") == 2) name[pair[1]] = pair[2]
    }
    !/^[[:space:]]*#/ {
        for (blob in name)
            if ((at = find(blob)) > 0) $0 = substr($0, 1, at + length(blob) - 1) " " name[blob]
    }
    { print }
    END { printf "%s", ENVIRON["ADDED"] }'\'

# Changes the role of the keys "BLOB ROLE". Fails if a key already has a forced command.
# shellcheck disable=SC2016 # awk expands it
SET_ROLES='ROLES=$1 awk '\'"$FIND"'
    BEGIN {
        for (i = split(ENVIRON["ROLES"], pairs, "\n"); i > 0; i--)
            if (split(pairs[i], pair, " ") == 2) role[pair[1]] = pair[2]
    }
    !/^[[:space:]]*#/ {
        for (blob in role)
            if ((at = find(blob)) > 0) {
                sub(/^[[:space:]]*command="role [^"]*"(,|[[:space:]]+)/, "")
                at = find(blob)
                if (tolower(substr($0, 1, at)) ~ /command=/) {
                    print "a key has a forced command of its own: change its role in authorized_keys" >"/dev/stderr"
                    failed = 1
                    exit 1
                }
                if (role[blob] != "all") {
                    own = $0 ~ /^(ssh|ecdsa|sk)-/
                    $0 = "command=\"role " role[blob] "\"," (own ? "restrict " : "") $0
                }
            }
    }
    { print }
    END { exit failed }'\'

# Prints the lines that contain none of the keys, or with a second argument those that do.
# shellcheck disable=SC2016 # awk expands it
REMOVE_KEYS='BLOBS=$1 awk -v wanted="${2:-0}" '\'"$FIND"'
    BEGIN { split(ENVIRON["BLOBS"], blobs, "\n") }
    {
        found = 0
        for (i in blobs)
            if (blobs[i] != "" && find(blobs[i]) > 0) found = 1
    }
    found == wanted { print }'\'

ssh_keys() {
    local dir="$HOME_DIR/.ssh" name type blob comment added=0 lines='' names='' there open options
    STEP=ssh
    is "$USER_NAME" -d "$dir" || run "create $dir" as "$USER_NAME" install -d -m 700 "$dir"
    read_keys
    printf '%s\n' "$TEXT" | public_keys >"$SCRATCH/there" || fail 'cannot list the keys'
    while read -r name type blob comment; do
        [ "$name" = . ] || comment=$name
        there=$(awk -v blob="$blob" '$2 == blob { $1 = $2 = ""; print "yes" $0; exit }' "$SCRATCH/there") || fail 'cannot list the keys'
        if [ -n "$there" ]; then
            [ "$name" = . ] || [ "$there" = "yes  $name" ] || names="$names$blob $name$LINE_END"
            continue
        fi
        note "$USERS" "key $blob"
        added=$((added + 1))
        options=$(options_of "$comment") || fail 'cannot read the roles'
        lines="${lines}$options $type $blob${comment:+ $comment}$LINE_END"
        printf '%s %s %s\n' "$type" "$blob" "$comment" >>"$SCRATCH/there"
    done <"$SCRATCH/keys"
    if [ "$added" -gt 0 ]; then
        edit_keys "allow $(plural "$added" key) to push" "$added" "$ADD_KEYS" "$names" "$lines"
    elif [ -n "$names" ]; then
        edit_keys 'name a key' 0 "$ADD_KEYS" "$names" ''
    fi
    roles
    # sshd ignores keys that other users can write.
    if is "$USER_NAME" -d "$dir"; then
        open=$(as "$USER_NAME" find "$dir" -maxdepth 1 ! -type l -perm /022) || fail "cannot read $dir"
        [ -z "$open" ] || run "make $dir writable by $USER_NAME alone" as "$USER_NAME" chmod -R go-w "$dir"
    fi
    expose_keys
}

# Gives each key the role from --role. Other keys keep their role.
roles() {
    local name role type blob now changed='' found
    [ -s "$SCRATCH/roles" ] || return 0
    [ -n "$DRY_RUN" ] || read_keys
    while read -r name role; do
        found=''
        printf '%s\n' "$TEXT" | role_list | awk -v name="$name" '{ comment = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ ?/, "", comment) } comment == name { print $1, $2, $3 }' >"$SCRATCH/named" || fail 'cannot list the keys'
        while read -r type blob now; do
            found=yes
            [ "$now" = "$role" ] || changed="$changed$blob $role$LINE_END"
        done <"$SCRATCH/named"
        [ -n "$found" ] || [ -n "$DRY_RUN" ] || fail "no key matches $name" "add it with --key $name=FILE; $SELF --keys lists them"
    done <"$SCRATCH/roles"
    [ -z "$changed" ] || edit_keys 'change the role of a key' 0 "$SET_ROLES" "$changed"
}

# Prints "TYPE BLOB ROLE COMMENT" for each key of authorized_keys.
role_list() {
    sed -nE -e '/^[[:space:]]*#/d' \
        -e 's/^[[:space:]]*command="role ([^" ]*)".*[[:space:]]((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 \1 \6/p; t' \
        -e 's/^(.*[[:space:]])?((ssh|ecdsa|sk)-[a-z0-9@.-]+)[[:space:]]+(AAAA[A-Za-z0-9+/]+=*)([[:space:]]+(.*))?$/\2 \4 all \6/p'
}

# Makes sshd expose the key of a connection to the account's programs, so that the history can name who
# pushed.
expose_keys() {
    local text
    grep -Eiqs '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/\*\.conf' /etc/ssh/sshd_config || {
        warn "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d, so the history shows addresses instead of names"
        return 0
    }
    text="# Installed by bluegreen's install.sh: the history names whose key pushed.
Match User $USER_NAME
    ExposeAuthInfo yes"
    needs_no_change "$USERS" root "$SSHD_CONF" "$text" || {
        [ -n "$DRY_RUN" ] || sshd_accepts "$text"
        note "$USERS" ssh-reload-due
        overwrite_file "$USERS" root "$SSHD_CONF" 644 "$text"
    }
    ! noted "$USERS" ssh-reload-due || run 'reload sshd' sshd_reload
    unnote "$USERS" ssh-reload-due
}

# Tests sshd's config with TEXT appended. sshd requires its directory even for a test.
sshd_accepts() { # TEXT
    mkdir -p /run/sshd
    { cat /etc/ssh/sshd_config && printf '\n%s\n' "$1"; } >"$SCRATCH/sshd_config"
    accepts "sshd rejects its config, so $SSHD_CONF is not written" /usr/sbin/sshd -t -f "$SCRATCH/sshd_config"
}

# If systemd starts an sshd for each connection, no process needs a reload.
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
    read_keys
    # ssh-keygen prints "256 SHA256:... ROLE COMMENT (ED25519)" for each key.
    printf '%s\n' "$TEXT" | role_list | as "$USER_NAME" ssh-keygen -lf - |
        sed -nE 's/^[0-9]+ (SHA256:[^ ]+) ([^ ]+) ?(.*) \(([A-Z0-9-]+)\)$/\3\t\1\t\4\t\2/p' |
        awk -F '\t' 'BEGIN { printf "%-24s %-50s %-8s %s\n", "NAME", "FINGERPRINT", "TYPE", "ROLE" } { printf "%-24s %-50s %-8s %s\n", $1, $2, $3, $4 }'
}

remove_key() {
    local type blob comment blobs='' number=0
    STEP=keys
    settle
    read_keys
    printf '%s\n' "$TEXT" | public_keys >"$SCRATCH/keys" || fail 'cannot list the keys'
    while read -r type blob comment; do
        [ "$comment" = "$REMOVED_KEY" ] || [ "$(fingerprint_of "$type $blob")" = "$REMOVED_KEY" ] || continue
        blobs="$blobs$blob$LINE_END" number=$((number + 1))
    done <"$SCRATCH/keys"
    [ "$number" -gt 0 ] || fail "no key matches $REMOVED_KEY" "$SELF --keys lists them"
    take_away "remove $(plural "$number" key) of $REMOVED_KEY" "$blobs"
    for blob in $blobs; do unnote "$USERS" "key $blob"; done
    [ "$number" -lt "$(wc -l <"$SCRATCH/keys")" ] || warn 'no key may push now'
}

# Removes the lines that contain these keys.
take_away() { # WHAT BLOBS
    local found lines
    read_keys
    found=$(printf '%s\n' "$TEXT" | sh -euc "$REMOVE_KEYS" sh "$2" 1) || fail 'cannot list the keys'
    lines=$(printf '%s' "${found:+$found$LINE_END}" | wc -l) || fail 'cannot count the keys'
    [ "$lines" -eq 0 ] || edit_keys "$1" "-$lines" "$REMOVE_KEYS" "$2"
}

fingerprint_of() { printf '%s\n' "$1" | as "$USER_NAME" ssh-keygen -lf - | cut -d' ' -f2; } # KEY
