#!/bin/sh
# Builds the Debian package of a static program, and prints where it lies. Man pages and completions come
# from the programs themselves, which `cargo deb` alone cannot do. Equal sources give equal bytes.
#
# It takes cargo-deb and jq.
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
    strip -o "$staged/bluegreen" "$program"
    "$program" generate man >"$staged/bluegreen.1"
    "$program" generate bash >"$staged/bluegreen.bash"
    "$program" generate zsh >"$staged/_bluegreen"
    "$program" generate fish >"$staged/bluegreen.fish"
    setup_man >"$staged/bluegreen-setup.8"
    changelog >"$staged/changelog"
    gzip -9n <CHANGELOG.md >"$staged/CHANGELOG.gz"
    # The crates of the static program, whichever build of it is packaged.
    cargo tree --locked -p bluegreen --target "$(uname -m)-unknown-linux-musl" -e normal,build --prefix none --format '{p}|{l}' |
        jq -nR -f packaging/spdx.jq --arg created "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
            >"$staged/bluegreen.spdx.json"
    cargo deb --quiet --no-build $speed --output "$staged/bluegreen.deb"
    echo "$PWD/$staged/bluegreen.deb"
}

# The installer's help is its man page.
setup_man() {
    cat <<'EOT'
.TH BLUEGREEN\-SETUP 8
.SH NAME
bluegreen\-setup \- set up a server for deployment by git push
.SH SYNOPSIS
.nf
EOT
    ./install.sh --help | sed -e '/--demo/d' -e 's/install\.sh/bluegreen-setup/g' -e 's/[\\-]/\\&/g' -e "s/^[.']/\\\\\&&/"
    cat <<'EOT'
.fi
.SH SEE ALSO
.BR bluegreen (1),
/usr/share/doc/bluegreen/docs/howto/install.md
EOT
}

changelog() {
    cat <<EOT
bluegreen ($(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-1) unstable; urgency=medium

  * /usr/share/doc/bluegreen/changelog.gz lists the changes.

 -- $(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOT
}

main "$@"
