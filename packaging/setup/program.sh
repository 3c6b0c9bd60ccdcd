# Packages and the program: the part of the installer that brings them.

packages() {
    local missing=
    STEP=packages
    if [ -z "$SOURCE" ]; then
        missing=$(missing_to_build)
    else
        has git || missing=' git'
    fi
    has adduser || missing="$missing adduser"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    [ "$WEB" = none ] || has "$WEB_COMMAND" || missing="$missing $WEB_UNIT"
    [ -z "$(wanted_rules)" ] || has visudo || missing="$missing sudo"
    [ -n "$missing" ] || return 0
    has apt-get || fail "this needs$missing, and there is no apt-get" 'install them, then run this again'
    run 'apt-get update' apt-get -qq update
    # shellcheck disable=SC2086 # several names
    run "apt-get install$missing" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing
}

program() {
    STEP=program
    [ -n "$SOURCE" ] || build
    [ "$SOURCE" = "$PROGRAM" ] || cmp -s "$SOURCE" "$PROGRAM" || {
        note "$SERVER" "program $PROGRAM"
        run "install $PROGRAM" put_copy "$SOURCE" 755 "$PROGRAM"
    }
    # The account's shell lies where the account cannot write; called by this name, the program is it.
    [ "$(readlink "$LOGIN_PROGRAM")" = "$PROGRAM" ] || {
        [ ! -e "$LOGIN_PROGRAM" ] || [ -L "$LOGIN_PROGRAM" ] || fail "$LOGIN_PROGRAM is in the way" "move it away"
        note "$SERVER" "link $LOGIN_PROGRAM"
        run "make bluegreen the shell $LOGIN_PROGRAM" put_link root "$PROGRAM" "$LOGIN_PROGRAM"
    }
    [ -z "$PACKAGED" ] || return 0
    generated man /usr/local/share/man/man1/bluegreen.1
    generated bash /usr/local/share/bash-completion/completions/bluegreen
    generated zsh /usr/local/share/zsh/site-functions/_bluegreen
    generated fish /usr/local/share/fish/vendor_completions.d/bluegreen.fish
}

generated() { # WHAT FILE
    local text
    # A dry run builds nothing, and so has nothing to ask.
    if [ ! -x "$SOURCE" ]; then
        [ -e "$2" ] || run "write $2" false
        return 0
    fi
    text=$("$SOURCE" generate "$1") || fail "\`bluegreen generate $1\` failed"
    lay "$SERVER" root "$2" 644 "$text"
}

# Prints the cargo of whoever owns the clone; nothing where none is new enough, or there is no clone.
builders_cargo() { [ ! -e "$HERE/Cargo.toml" ] || find_cargo "$(home_of "$(owner_of "$HERE")")"; }

# Builds as whoever owns the clone: a folder of root's in it would stop the owner's next build. It is not a
# change of the server, and cargo shows by itself how far it is.
build() {
    local builder cargo
    builder=$(owner_of "$HERE") cargo=$(builders_cargo)
    SOURCE=$HERE/target/release/bluegreen
    [ -n "$cargo" ] || fail "building needs cargo of Rust $(rust_version) or newer" \
        'install Rust with rustup; or build elsewhere with `cargo build --release --locked`, and give --binary FILE'
    printf '%-12s %s\n' "$STEP" "${DRY_RUN:+would }build bluegreen in $HERE"
    [ -z "$DRY_RUN" ] || return 0
    (cd "$HERE" && runuser -u "$builder" -- env -i "HOME=$(home_of "$builder")" "USER=$builder" \
        "PATH=$(dirname "$cargo"):$PATH" "CARGO_TARGET_DIR=$HERE/target" cargo build --release --locked 9>&-) ||
        fail 'the build failed' 'its messages are above'
}
