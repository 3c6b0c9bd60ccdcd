#!/bin/sh
# Builds the Debian package of a static program, and prints where it lies. Man page and completions come
# from the program itself, which `cargo deb` alone cannot do. Equal sources give equal bytes.
#
#   packaging/deb.sh                  build the program and package it
#   packaging/deb.sh --binary FILE    package this build of it, packed less tightly
set -eu

main() {
    cd "$(dirname "$(realpath "$0")")/.."
    speed=
    case $#:${1-} in
        0:)
            program=$(packaging/static.sh)
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
    # The time of the commit stands in for the time of the build.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    export SOURCE_DATE_EPOCH
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
