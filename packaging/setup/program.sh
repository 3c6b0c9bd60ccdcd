# Packages and the program.

packages() {
    local missing='' needs_rust='' rust=''
    STEP=packages
    want_rules
    if [ -z "$SOURCE" ]; then
        missing=$(missing_to_build)
        [ -n "$(builders_cargo)" ] || needs_rust=yes
    else
        has git || missing=' git'
    fi
    has adduser || missing="$missing adduser"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    [ "$WEB" = none ] || has "$WEB_COMMAND" || missing="$missing $WEB_UNIT"
    { [ -z "$WANTED_RULES" ] && [ "${STACK_KIND-}" != app ]; } || has visudo || missing="$missing sudo"
    [ -z "$SIDE" ] || has curl || missing="$missing curl"
    [ -z "$TLS" ] || has certbot || missing="$missing certbot"
    [ -n "$missing$needs_rust" ] || return 0
    has apt-get || fail "cannot install$missing${needs_rust:+ Rust $(rust_version)}: apt-get is missing" 'install these packages, and run this again'
    run 'apt-get update' apt_get 300 update
    if [ -n "$needs_rust" ]; then
        rust=$(rust_package)
        # rustup installs for root only.
        [ "$rust" != rustup ] || [ "$(owner_of "$HERE")" = root ] || rust=''
        # A dry run may have no package lists.
        [ -n "$rust$DRY_RUN" ] || no_rust
        missing="$missing ${rust:-cargo}"
    fi
    # shellcheck disable=SC2086 # several names
    run "apt-get install$missing" apt_get 1800 install -y --no-install-recommends $missing
    [ "$rust" != rustup ] || run 'install Rust' timeout 1800 rustup default stable
}

# Runs apt-get with a timeout in total and for each connection, so that a machine without a network gets an
# error.
apt_get() { # SECONDS COMMAND...
    local seconds="$1" status deadline=$(($(date +%s) + $1))
    shift
    while :; do
        status=0
        DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 "$seconds" apt-get -qq -o DPkg::Lock::Timeout="$seconds" \
            -o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 "$@" >"$SCRATCH/apt" 2>&1 || status=$?
        # A new server updates itself. `update` does not wait for the lock of the package lists.
        { grep -qs 'Could not get lock' "$SCRATCH/apt" && [ "$(date +%s)" -lt "$deadline" ]; } || break
        sleep 2
    done
    cat "$SCRATCH/apt"
    [ "$status" -eq 0 ] ||
        echo "check the network and the sources in /etc/apt, or install these packages by other means:$missing"
    return "$status"
}

program() {
    STEP=program
    [ -n "$SOURCE" ] || build
    [ "$SOURCE" = "$PROGRAM" ] || cmp -s "$SOURCE" "$PROGRAM" || {
        note "$SERVER" "program $PROGRAM"
        run "install $PROGRAM" put_copy "$SOURCE" 755 "$PROGRAM"
    }
    # The account cannot change its shell. When called by this name, the program acts as the shell.
    [ "$(readlink "$LOGIN_PROGRAM")" = "$PROGRAM" ] || {
        [ ! -e "$LOGIN_PROGRAM" ] || [ -L "$LOGIN_PROGRAM" ] || fail "cannot install $LOGIN_PROGRAM: it already exists" 'move it away, and run this again'
        note "$SERVER" "link $LOGIN_PROGRAM"
        run "install the login shell $LOGIN_PROGRAM" put_link root "$PROGRAM" "$LOGIN_PROGRAM"
    }
    [ -z "$PACKAGED" ] || return 0
    generated man /usr/local/share/man/man1/bluegreen.1
    generated bash /usr/local/share/bash-completion/completions/bluegreen
    generated zsh /usr/local/share/zsh/site-functions/_bluegreen
    generated fish /usr/local/share/fish/vendor_completions.d/bluegreen.fish
}

generated() { # WHAT FILE
    local text
    # A dry run builds nothing, so there is no program to print the file.
    if [ ! -x "$SOURCE" ]; then
        [ -e "$2" ] || run "write $2" false
        return 0
    fi
    text=$("$SOURCE" generate "$1") || fail "\`bluegreen generate $1\` failed"
    install_file "$SERVER" root "$2" 644 "$text"
}

# Prints the path of the clone owner's cargo, or nothing if it is too old or there is no clone.
builders_cargo() { [ ! -e "$HERE/Cargo.toml" ] || find_cargo "$(home_of "$(owner_of "$HERE")")"; }

no_rust() {
    fail "building needs cargo of Rust $(rust_version) or newer" \
        'install Rust with rustup; or build elsewhere with `cargo build --release --locked`, and give --binary FILE'
}

# Builds as the clone's owner, because files owned by root would break the owner's next build. The owner's
# code runs without root's terminal, so cargo shows no progress. A build does not change the server.
build() {
    local builder cargo
    builder=$(owner_of "$HERE") cargo=$(builders_cargo)
    SOURCE=$HERE/target/release/bluegreen
    [ -n "$cargo$DRY_RUN" ] || no_rust
    printf '%-12s %s\n' "$STEP" "${DRY_RUN:+would }build bluegreen in $HERE, which takes minutes"
    [ -z "$DRY_RUN" ] || return 0
    : >"$SCRATCH/errors"
    # Descriptor 9 is the installer's own lock.
    (TIMEOUT=3600 && as "$builder" env -i "HOME=$(home_of "$builder")" "USER=$builder" "PATH=$(dirname "$cargo"):$PATH" \
        "CARGO_TARGET_DIR=$HERE/target" sh -c 'cd "$1" && cargo build --release --locked 2>&1' sh "$HERE" \
        </dev/null 9>&- >"$SCRATCH/output") || {
        cat "$SCRATCH/output" "$SCRATCH/errors" | clean | indent >&2
        fail 'the build failed' 'the messages are above'
    }
}
