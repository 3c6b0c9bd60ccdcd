# Side effects of the installer, the ledger that notes each before it is done, and the files that it lays.

# The one door to side effects: prints WHAT, and does it unless this is a dry run. The ledger passes
# with an empty WHAT, for it is not worth a line. A function that is run must check every status by
# itself: `set -e` does not hold in it.
run() { # WHAT COMMAND...
    local what="$1" status
    shift
    if [ -n "$what" ]; then
        CHANGES=$((CHANGES + 1))
        printf '%-12s %s%s\n' "$STEP" "${DRY_RUN:+would }" "$what"
    fi
    [ -z "$DRY_RUN" ] || return 0
    : >"$SCRATCH/asides"
    # 9 is the installer's own lock, which a server started here must not keep.
    "$@" 9>&- >"$SCRATCH/words" 2>&1 || {
        status=$?
        cat "$SCRATCH/words" "$SCRATCH/asides" | clean | indent >&2
        fail "could not $what (status $status)" 'nothing after this was done; once it is put right, run the same command again'
    }
}

# How many seconds a program of the deploy user's may take.
PATIENCE=60

# Replaces the session keyring, which PAM leaves as it is, by an empty one. A kernel without keys, or a sandbox that
# refuses keyctl(2), keeps the command from all keys, too. The numbers are those of keyctl(2).
LEAVE_KEYRING='use Config;
my %keyctl = (x86_64 => 250, aarch64 => 219);
my ($machine) = $Config{archname} =~ /^([^-]+)/;
syscall($keyctl{$machine} // die("the number of keyctl on $machine is unknown\n"), 1, 0) >= 0
    or $!{EPERM} or $!{ENOSYS} or die("cannot leave the session keyring: $!\n");
exec(@ARGV) or die("cannot run $ARGV[0]: $!\n")'

# Runs a command as USER, who may be hostile: in a session and with a keyring of its own and on files, so that no
# terminal can be read or typed into; with no descriptor of the caller's and nothing of root's environment; and
# with a time limit. All of it is left while still root, because USER can trace a process of its own. Prints what it
# printed.
as() { # USER COMMAND...
    local user="$1" status=0 printed
    shift
    if [ "$user" = root ]; then
        env GIT_CONFIG_GLOBAL=/dev/null "$@"
        return
    fi
    printed=$(mktemp -p "$SCRATCH")
    setsid --wait env -i "HOME=$(home_of "$user")" "USER=$user" "LOGNAME=$user" "PATH=$PATH" GIT_CONFIG_GLOBAL=/dev/null \
        bash -c 'for fd in /proc/$$/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || exec {fd}>&-
        done
        exec perl -e "$0" -- "$@"' "$LEAVE_KEYRING" timeout --kill-after=5 "$PATIENCE" runuser -u "$user" -- "$@" >"$printed" 2>>"$SCRATCH/asides" || status=$?
    clean <"$printed"
    rm -f "$printed"
    return "$status"
}

# These replace by rename, so that a file is there whole, old or new. The temporary name is one that sudo
# and the web servers pass over, and always the same: a later run takes up what a killed one has left.
# That is safe where root alone writes, and for USER in directories of its own.
temporary() { printf '%s/.%s.bluegreen-new\n' "$(dirname "$1")" "$(basename "$1")"; }

replace() { # USER FILE MODE CONTENT
    printf '%s\n' "$4" | as "$1" sh -c 'cat >"$2" && chmod "$3" "$2" && mv -fT "$2" "$1"' sh "$2" "$(temporary "$2")" "$3"
}

put_link() { # USER TARGET LINK
    as "$1" ln -sfn "$2" "$(temporary "$3")" && as "$1" mv -fT "$(temporary "$3")" "$3"
}

put_copy() { # FILE MODE TO
    install -m "$2" "$1" "$(temporary "$3")" && mv -fT "$(temporary "$3")" "$3"
}

# The ledger: one line, one fact; a later one counts.

noted() { grep -Fqxs -e "$2" "$1"; } # LEDGER LINE

note() { noted "$1" "$2" || run '' add_line "$1" "$2"; } # LEDGER LINE

unnote() { ! noted "$1" "$2" || run '' drop_line "$1" "$2"; } # LEDGER LINE

add_line() { # LEDGER LINE
    local text
    text=$({ [ ! -e "$1" ] || cat "$1"; } && printf '%s\n' "$2") &&
        mkdir -p "$(dirname "$1")" &&
        replace root "$1" 644 "$text"
}

drop_line() { # LEDGER LINE
    local text
    # 1 is a file of no other line.
    text=$(grep -Fxv -e "$2" "$1") || [ $? -eq 1 ] || return 1
    replace root "$1" 644 "$text"
}

# All values noted under KEY; and the last one, or nothing.
values() { [ ! -e "$1" ] || sed -n "s|^$2 ||p" "$1"; } # LEDGER KEY

value() { values "$1" "$2" | tail -n 1; } # LEDGER KEY

# The ledgers of the other repositories, whose names have no spaces.
other_ledgers() { find "$LEDGERS/repositories" -name '[!.]*' -type f ! -path "$LEDGER" 2>/dev/null || :; }

# Files that the ledger knows.

fingerprint() { cksum | tr ' ' -; }

exists() { as "$1" test -e "$2"; } # USER FILE

# Prints a file of a size that a text can have; nothing where it is none.
text_of() { as "$1" sh -c '[ ! -f "$1" ] || head -c 1000000 -- "$1"' sh "$2" || :; } # USER FILE

# True of a file that still is what an installer wrote, so that it may be replaced or removed.
ours() { exists "$2" "$3" && noted "$1" "laid $3 $(text_of "$2" "$3" | fingerprint)"; } # LEDGER USER FILE

# True if FILE needs nothing: it has that CONTENT, or someone has changed it since it was laid.
kept() { # LEDGER USER FILE CONTENT
    [ "$(text_of "$2" "$3")" != "$4" ] || return 0
    exists "$2" "$3" && ! ours "$1" "$2" "$3" || return 1
    warn "$3 was changed by hand, so it stays as it is"
}

# Lays a file of CONTENT. One that someone has changed since is left as it is.
lay() { kept "$1" "$2" "$3" "$5" || lay_anyway "$@"; } # LEDGER USER FILE MODE CONTENT

lay_anyway() { # LEDGER USER FILE MODE CONTENT
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

unlay() { # LEDGER USER FILE
    if ours "$1" "$2" "$3"; then
        run "remove $3" as "$2" rm -f "$3"
    elif exists "$2" "$3"; then
        warn "$3 was changed by hand, so it stays"
    fi
}
