#!/bin/sh
# Demonstrates deployment by `git push` on this machine: builds the program, creates a temporary blue and green, pushes to
# them, promotes one and the other under load, and removes everything.
#
# It neither reads nor changes the user's own setup. As root it installs missing build tools; at a terminal it asks first,
# unless YES is set.
# shellcheck disable=SC3043 # `local` is in every sh of Debian and Ubuntu
set -eu

HERE=$(cd "$(dirname "$(realpath "$0")")" && pwd)
FOLDER=
WEB=
# Tests pass the profile that they have already built.
PROFILE=${DEMO_PROFILE:-demo}
# shellcheck source=packaging/building.sh
. "$HERE/packaging/building.sh"

main() {
    local server
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    [ -e "$HERE/Cargo.toml" ] || fail 'the demonstration builds the program, and needs a complete clone of its sources'
    tools
    build
    FOLDER=$(mktemp -d)
    # A release is flushed to disk, and should not wait for the build's files.
    sync
    isolate
    APP=$FOLDER/sample_app
    git -c init.defaultBranch=master init --quiet "$APP"
    for server in blue green; do make_server "$server"; done
    make_front_end
    play
    say "
The demonstration has removed $FOLDER. On a real server, run: ./install.sh --help"
}

say() { printf '%s\n' "$*"; }

fail() { # MESSAGE [HINT]
    printf 'error: demo: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

leave() {
    local status=$?
    trap '' HUP INT TERM
    # shellcheck disable=SC2086 # several processes
    [ -z "$WEB" ] || kill $WEB 2>/dev/null || :
    [ -z "$FOLDER" ] || rm -rf "$FOLDER"
    exit "$status"
}

# Finds the build tools. Prints one command that installs everything missing, and runs it as root.
tools() {
    local line
    look_for_tools
    if [ -n "$MISSING" ] && [ "$(id -u)" -eq 0 ] && has apt-get; then
        # A new machine has no package lists yet.
        apt-get -qq update || :
        look_for_tools
        # shellcheck disable=SC2086 # several names
        may_install $MISSING || fail 'nothing was installed' "apt-get install -y$MISSING"
        # shellcheck disable=SC2086 # several names
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $MISSING >/dev/null ||
            fail "could not install$MISSING"
        [ "$RUST" != rustup ] || rustup default stable
        look_for_tools
    fi
    line="sudo apt-get install -y$MISSING"
    case $RUST in
        rustup) line="$line && rustup default stable" ;;
        other) line="$line && curl https://sh.rustup.rs -sSf | sh" ;;
    esac
    [ -z "$MISSING" ] || fail "build tools are missing:$MISSING${RUST:+, for Rust $(rust_version) or newer}" "$line"
    [ -n "$CARGO" ] || fail "building needs Rust $(rust_version) or newer" "curl https://sh.rustup.rs -sSf | sh"
}

# Sets MISSING to the missing packages. If cargo is missing, sets RUST to its source: a package of Debian, rustup, or other.
look_for_tools() {
    MISSING=$(missing_to_build)
    # A promotion uses curl. Servers and visitors are perl scripts.
    has curl || MISSING="$MISSING curl"
    has perl || MISSING="$MISSING perl-base"
    CARGO=$(find_cargo "${HOME:-/root}")
    RUST=
    [ -z "$CARGO" ] || return 0
    RUST=$(rust_package)
    if [ -n "$RUST" ]; then
        MISSING="$MISSING $RUST"
    else
        RUST=other
    fi
}

build() {
    say 'Building (the first time takes a minute or two)...'
    # On a terminal, cargo shows its progress.
    [ -t 2 ] || set -- --quiet
    # The control panel is a quarter of the build, and not part of the demonstration.
    [ "$PROFILE" != demo ] || set -- --no-default-features "$@"
    (cd "$HERE" && PATH=$(dirname "$CARGO"):$PATH cargo build --profile "$PROFILE" --locked "$@") ||
        fail 'the build failed' 'the messages are above'
    case $PROFILE in
        dev) PROGRAM=${CARGO_TARGET_DIR:-$HERE/target}/debug/bluegreen ;;
        *) PROGRAM=${CARGO_TARGET_DIR:-$HERE/target}/$PROFILE/bluegreen ;;
    esac
    case $PROGRAM in /*) ;; *) PROGRAM=$HERE/$PROGRAM ;; esac
}

isolate() {
    local variable
    for variable in $(git rev-parse --local-env-vars); do unset "$variable"; done
    export HOME="$FOLDER" no_proxy='*' GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 LC_ALL=C.UTF-8
    export GIT_AUTHOR_NAME=Dev GIT_AUTHOR_EMAIL=dev@example.org GIT_COMMITTER_NAME=Dev GIT_COMMITTER_EMAIL=dev@example.org
}

play() {
    title 'Version 1, to both servers'
    new_version 'App v1' 'initializing repository with version 1'
    push blue
    push green
    title 'Version 2, to blue: green still serves version 1'
    new_version 'App v2' 'Application version 2'
    push blue
    title 'A version that must not go live: it contains a symlink out of the release'
    ln -s /etc/passwd "$APP/passwd"
    new_version 'App v3' 'Application version 3'
    push blue
    title 'A rollback to version 1, on blue'
    show bluegreen -C "$FOLDER/blue/sample_app" rollback
    serves
    title 'Visitors arrive and get green. Version 3 without the symlink, to blue'
    visitors_come
    rm "$APP/passwd"
    new_version 'App v3' 'Application version 3, without the symlink'
    push blue
    # The switch belongs to the demonstration, so it needs no confirmation.
    (cd "$APP" && "$PROGRAM" promote blue --trust --dry-run >"$FOLDER/trust" 2>&1) ||
        fail "\`bluegreen promote --trust\` failed: $(cat "$FOLDER/trust")"
    title 'A promotion of blue'
    promote blue
    title 'And back to green'
    promote green
    visitors_leave
}

promote() { # SIDE
    cd "$APP"
    show bluegreen promote "$1" --yes
    printf '; visitors get %s\n' "$(curl -qsS "http://127.0.0.1:$FRONT/")"
}

# Starts a client that sends requests to the front end, each on a new connection.
visitors_come() {
    perl "$HERE/packaging/demo.pl" visitors "$FRONT" "$FOLDER/closed" >"$FOLDER/visits" &
    VISITORS=$!
    WEB="$WEB $!"
}

visitors_leave() {
    touch "$FOLDER/closed"
    wait "$VISITORS" || fail "visitors noticed: $(cat "$FOLDER/visits")"
    say "
Visitors during the promotions: $(cat "$FOLDER/visits")"
}

title() {
    if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

make_server() { # NAME
    mkdir -p "$FOLDER/$1/html"
    git -c init.defaultBranch=master init --quiet --bare "$FOLDER/$1/sample_app"
    ln -s "$PROGRAM" "$FOLDER/$1/sample_app/hooks/post-receive"
    printf 'server = "%s"\n\n[site]\nroot = "%s"\n' "$1" "$FOLDER/$1/html" >"$FOLDER/$1/sample_app/bluegreen.toml"
    git -C "$APP" remote add "$1" "$FOLDER/$1/sample_app"
}

# Starts a web server for each side, and a front end whose switch is a file that names the public side.
make_front_end() {
    local server
    for server in blue green; do start_web "$server" server "$server" "$FOLDER/$server/html"; done
    echo green >"$FOLDER/public"
    start_web front front "$FOLDER/public" "blue=$(cat "$FOLDER/blue.port")" "green=$(cat "$FOLDER/green.port")"
    FRONT=$(cat "$FOLDER/front.port")
    cat >"$FOLDER/switch" <<'EOT'
#!/bin/sh
case $1 in
    show) cat "$SWITCH_FILE" ;;
    set) echo "$2" >"$SWITCH_FILE.new" && mv "$SWITCH_FILE.new" "$SWITCH_FILE" ;;
esac
EOT
    chmod +x "$FOLDER/switch"
    cat >"$APP/.promote.toml" <<EOT
[sides]
blue = { ssh = "$FOLDER/blue/sample_app", address = "127.0.0.1:$(cat "$FOLDER/blue.port")" }
green = { ssh = "$FOLDER/green/sample_app", address = "127.0.0.1:$(cat "$FOLDER/green.port")" }

[public]
url = "http://127.0.0.1:$FRONT/"
switch = "$FOLDER/switch"
settings = { file = "$FOLDER/public" }

[check]
watch = "2s"
EOT
}

start_web() { # NAME ROLE ARGUMENT...
    local port_file="$FOLDER/$1.port" role="$2" tries=100
    shift 2
    perl "$HERE/packaging/demo.pl" "$role" "$port_file" "$@" &
    WEB="$WEB $!"
    until [ -e "$port_file" ]; do
        [ "$tries" -gt 0 ] || fail "the demonstration's web server does not start"
        tries=$((tries - 1))
        sleep 0.1
    done
}

new_version() { # CONTENT MESSAGE
    printf '%s\n' "$1" >"$APP/index.html"
    git -C "$APP" add --all
    git -C "$APP" commit --quiet -m "$2"
}

push() { # SERVER
    show git -C "$APP" push "$1" master
    serves
}

# Prints a command as a user would type it, its output, and its duration.
show() { # COMMAND...
    local words="$*" started took
    case $words in
        "git -C $APP "*) words="git ${words#"git -C $APP "}" ;;
        bluegreen*)
            shift
            set -- "$PROGRAM" "$@"
            ;;
    esac
    printf '$ %s\n' "$words"
    started=$(date +%s%N)
    "$@" 2>&1 | sed -e '/^To \|^ .*->/d' -e 's/ *$//'
    took=$((($(date +%s%N) - started) / 1000000))
    printf '  took %d.%03d s' $((took / 1000)) $((took % 1000))
}

serves() {
    local server page
    for server in blue green; do
        page=$FOLDER/$server/html/current/index.html
        [ ! -e "$page" ] || printf '; %s serves %s' "$server" "$(cat "$page")"
    done
    printf '\n'
}

main "$@"
