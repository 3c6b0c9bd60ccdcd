#!/bin/sh
# Builds the Debian package, and prints where it lies. Its man page and completions come from the
# program itself, which is why `cargo deb` alone does not do.
#
#   packaging/deb.sh                  build the program and package it
#   packaging/deb.sh --binary FILE    package this build of it, packed less tightly
set -eu

main() {
    cd "$(dirname "$(realpath "$0")")/.."
    speed=
    case $#:${1-} in
        0:)
            cargo build --release --locked
            program=${CARGO_TARGET_DIR:-target}/release/bluegreen
            ;;
        2:--binary)
            program=$2
            speed=--fast
            ;;
        *)
            echo 'usage: packaging/deb.sh [--binary FILE]' >&2
            exit 2
            ;;
    esac
    # Cargo.toml names these files; whatever else lies there is not packaged.
    staged=target/package
    mkdir -p "$staged"
    cp "$program" "$staged/bluegreen"
    "$program" generate man >"$staged/bluegreen.1"
    "$program" generate bash >"$staged/bluegreen.bash"
    "$program" generate zsh >"$staged/_bluegreen"
    "$program" generate fish >"$staged/bluegreen.fish"
    cargo deb --quiet --no-build $speed --output "$staged/bluegreen.deb"
    echo "$PWD/$staged/bluegreen.deb"
}

main "$@"
