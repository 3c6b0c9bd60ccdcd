# Side effects of the installer, the ledger in which each is noted before it happens, and the files that it installs.

# The only function that changes anything: prints WHAT, and runs the command unless this is a dry run. Changes
# of the ledger pass an empty WHAT and print nothing. A function that is run must check every status itself,
# because `set -e` has no effect inside it.
run() { # WHAT COMMAND...
    local what="$1" status
    shift
    if [ -n "$what" ]; then
        CHANGES=$((CHANGES + 1))
        printf '%-12s %s%s\n' "$STEP" "${DRY_RUN:+would }" "$what"
    fi
    [ -z "$DRY_RUN" ] || return 0
    : >"$SCRATCH/errors"
    # Descriptor 9 is the installer's own lock, which a server started here must not inherit.
    "$@" 9>&- >"$SCRATCH/output" 2>&1 || {
        status=$?
        cat "$SCRATCH/output" "$SCRATCH/errors" | clean | indent >&2
        fail "could not ${what:-"change the ledger"} (status $status)" 'nothing after this was done; fix the cause, and run the same command again'
    }
}

# The timeout of a program that runs as the deploy user, in seconds.
TIMEOUT=60

# Replaces the session keyring, which PAM does not change, with an empty one. A kernel without keyrings, or a
# sandbox that rejects keyctl(2), also makes all keys inaccessible. The numbers are those of keyctl(2).
LEAVE_KEYRING='use Config;
my %keyctl = (x86_64 => 250, aarch64 => 219);
my ($machine) = $Config{archname} =~ /^([^-]+)/;
syscall($keyctl{$machine} // die("the number of keyctl on $machine is unknown\n"), 1, 0) >= 0
    or $!{EPERM} or $!{ENOSYS} or die("cannot leave the session keyring: $!\n");
exec(@ARGV) or die("cannot run $ARGV[0]: $!\n")'

# Runs a command as USER, who may be hostile. The command gets its own session and keyring, files as standard
# streams, and a timeout, so that it cannot read from a terminal or inject input into one. It gets neither the
# caller's descriptors nor root's environment. root drops all of them before it becomes USER, who can trace
# its own processes. Prints the command's output.
as() { # USER COMMAND...
    local user="$1" status=0 printed
    shift
    if [ "$user" = root ]; then
        env GIT_CONFIG_GLOBAL=/dev/null "$@"
        return
    fi
    printed=$(mktemp -p "$SCRATCH") || return 125
    setsid --wait env -i "HOME=$(home_of "$user")" "USER=$user" "LOGNAME=$user" "PATH=$PATH" GIT_CONFIG_GLOBAL=/dev/null \
        bash -c 'for fd in /proc/$$/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || exec {fd}>&-
        done
        exec perl -e "$0" -- "$@"' "$LEAVE_KEYRING" timeout --kill-after=5 "$TIMEOUT" runuser -u "$user" -- "$@" >"$printed" 2>>"$SCRATCH/errors" || status=$?
    clean <"$printed" || status=125
    rm -f "$printed"
    return "$status"
}

# The functions that replace a file rename the new one over it, so that readers see either the old or the new
# file, complete. sudo and the web servers ignore the temporary name. The name is constant, so that the next
# run replaces the leftover of a killed one. That is safe in directories that only root can write, and for
# USER in its own directories.
temporary() { printf '%s/.%s.bluegreen-new\n' "$(dirname "$1")" "$(basename "$1")"; }

# Replaces FILE. Truncated content, after a full disk or at a limit, is an error.
replace() { # USER FILE MODE CONTENT
    printf '%s\n' "$4" | as "$1" sh -c 'umask 077
        cat >"$2" && [ "$(wc -c <"$2")" -eq "$4" ] && chmod "$3" "$2" && sync "$2" && mv -fT "$2" "$1"' \
        sh "$2" "$(temporary "$2")" "$3" "$((${#4} + 1))"
}

put_link() { # USER TARGET LINK
    as "$1" ln -sfn "$2" "$(temporary "$3")" && as "$1" mv -fT "$(temporary "$3")" "$3"
}

put_copy() { # FILE MODE TO
    install -m "$2" "$1" "$(temporary "$3")" && mv -fT "$(temporary "$3")" "$3"
}

# The ledger. Each line is one fact. Of several lines with the same key, the last one counts. Only root can
# read it, except for accounts/, from which the login shell reads the repositories of its account.

noted() { # LEDGER LINE
    local status=0
    [ -e "$1" ] || return 1
    grep -Fqx -e "$2" <"$1" || status=$?
    [ "$status" -le 1 ] || fail "cannot read the ledger $1"
    return "$status"
}

note() { noted "$1" "$2" || run '' add_line "$1" "$2"; } # LEDGER LINE

unnote() { ! noted "$1" "$2" || run '' drop_line "$1" "$2"; } # LEDGER LINE

add_line() { # LEDGER LINE
    local text=''
    [ ! -e "$1" ] || text=$(cat "$1") || return 1
    install -d -m 755 "$LEDGERS" || return 1
    [ "$1" = "$SERVER" ] || install -d -m 700 "$(dirname "$1")" || return 1
    replace root "$1" 600 "${text:+$text$LINE_END}$2"
}

drop_line() { # LEDGER LINE
    local text
    # grep returns 1 if no other line is left.
    text=$(grep -Fxv -e "$2" "$1") || [ $? -eq 1 ] || return 1
    replace root "$1" 600 "$text"
}

# Sets VALUES to all values of KEY, one per line, and VALUE to the last one. Both are empty if the key is
# missing. An unreadable ledger is an error, so that no default takes its place.
look_up() { # LEDGER KEY
    VALUES=
    if [ -e "$1" ]; then VALUES=$(sed -n "s|^$2 ||p" <"$1") || fail "cannot read the ledger $1"; fi
    VALUE=${VALUES##*"$LINE_END"}
}

# Sets OTHERS to the ledgers of the other repositories, whose names contain no spaces.
find_others() {
    OTHERS=
    [ ! -d "$LEDGERS/repositories" ] ||
        OTHERS=$(find "$LEDGERS/repositories" -name '[!.]*' -type f ! -path "$LEDGER") ||
        fail "cannot read the ledgers in $LEDGERS"
}

# Removes temporary files of a killed run, and fixes permissions set by earlier versions.
tidy_ledgers() {
    [ -d "$LEDGERS" ] || return 0
    run '' find "$LEDGERS" -path "$PUBLIC_DIRECTORY" -prune -o -name '.*.bluegreen-new' -type f -exec rm -f {} +
    run '' find "$LEDGERS" -mindepth 1 \( -path "$LEDGERS/accounts" -o -path "$LEDGERS/address" -o -path "$PUBLIC_DIRECTORY" -o -path "$ACME" \) -prune \
        -o -perm /077 -exec chmod go= {} +
}

# Writes the list of USER_NAME's repositories, which the login shell reads.
list_repositories() { # [REPOSITORY THAT LEAVES]
    local other list='' file="$LEDGERS/accounts/$USER_NAME"
    find_others
    for other in $LEDGER $OTHERS; do
        look_up "$other" user
        [ "$VALUE" = "$USER_NAME" ] || continue
        look_up "$other" repository
        [ -z "$VALUE" ] || [ "$VALUE" = "${1-}" ] || list="$list$VALUE$LINE_END"
    done
    list=$(printf '%s' "$list" | sort) || fail "cannot sort the repositories of $USER_NAME"
    if [ -z "$list" ]; then
        [ ! -e "$file" ] || run '' rm -f "$file"
        return 0
    fi
    read_text root "$file"
    [ "$TEXT" = "$list" ] || run '' write_list "$file" "$list"
}

write_list() { install -d -m 755 "$LEDGERS" "$LEDGERS/accounts" && replace root "$1" 644 "$2"; } # FILE LIST

# Files recorded in the ledger.

fingerprint() { cksum | tr ' ' -; }

# Returns the result of test(1) for USER. A test that cannot run is an error, and never a result.
is() { # USER TEST...
    local user="$1" answer
    shift
    has_user "$user" || return 1
    answer=$(as "$user" sh -c 'if test "$@"; then echo yes; else echo no; fi' sh "$@") || answer=
    case $answer in
        yes) return 0 ;;
        no) return 1 ;;
        *) fail "cannot run \`test $*\` as $user: $(clean <"$SCRATCH/errors")" ;;
    esac
}

exists() { is "$1" -e "$2"; } # USER FILE

# The maximum size of a text that is read as root, in bytes.
MAX_TEXT=1000000

# Prints a text file, or nothing if it does not exist. Any other reason why it cannot be read is a failure.
text() { # USER FILE
    has_user "$1" || return 0
    as "$1" sh -c 'problem=$(stat -- "$1" 2>&1) || case $problem in
            *": No such file or directory") exit 0 ;;
            *) echo "$problem" >&2 && exit 1 ;;
        esac
        [ -f "$1" ] || { echo "not a regular file" >&2 && exit 1; }
        [ "$(stat -Lc %s -- "$1")" -le "$2" ] || { echo "larger than $2 bytes" >&2 && exit 1; }
        head -c "$2" -- "$1"' sh "$2" "$MAX_TEXT" 2>>"$SCRATCH/errors"
}

# Sets TEXT to a text file's content; empty if the file does not exist.
read_text() { # USER FILE
    : >"$SCRATCH/errors"
    TEXT=$(text "$1" "$2") || fail "cannot read $2: $(clean <"$SCRATCH/errors")"
}

# True if FILE is unchanged since an installer wrote it, so that it may be replaced or removed. An unreadable
# file counts as changed.
ours() { # LEDGER USER FILE
    local text
    exists "$2" "$3" || return 1
    text=$(text "$2" "$3") || return 1
    noted "$1" "laid $3 $(printf '%s\n' "$text" | fingerprint)"
}

# True if FILE needs no change: it has that CONTENT, or it was changed by hand since it was installed.
needs_no_change() { # LEDGER USER FILE CONTENT
    read_text "$2" "$3"
    [ "$TEXT" != "$4" ] || return 0
    exists "$2" "$3" && ! ours "$1" "$2" "$3" || return 1
    warn "$3 was changed by hand, so it stays as it is"
}

# Installs a file with CONTENT. A file that was changed by hand since stays as it is.
install_file() { needs_no_change "$1" "$2" "$3" "$5" || overwrite_file "$@"; } # LEDGER USER FILE MODE CONTENT

overwrite_file() { # LEDGER USER FILE MODE CONTENT
    [ -n "$5" ] || fail "the content of $3 is empty"
    [ "$2" != root ] || parents "$1" "$(dirname "$3")"
    note "$1" "laid $3 $(printf '%s\n' "$5" | fingerprint)"
    run "write $3" replace "$2" "$3" "$4" "$5"
}

parents() { # LEDGER DIRECTORY
    [ ! -d "$2" ] || return 0
    parents "$1" "$(dirname "$2")"
    note "$1" "directory $2"
    run '' mkdir "$2"
}

remove_file() { # LEDGER USER FILE
    if ours "$1" "$2" "$3"; then
        run "remove $3" as "$2" rm -f "$3"
    elif exists "$2" "$3"; then
        warn "$3 was changed by hand, so it stays"
    fi
}
