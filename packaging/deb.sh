#!/bin/sh
# Builds the Debian package of a static program, and prints its path. The program and the installer generate
# the man pages and completions, which `cargo deb` alone cannot do. The build is reproducible.
#
# Needs cargo-deb and jq.
#
#   packaging/deb.sh                  build the program and package it
#   packaging/deb.sh --binary FILE    package this build, with weaker compression
#   packaging/deb.sh --binary FILE --arch ARCH --helper PROGRAM [--fast]
#                                     package this build for x86_64 or aarch64, with --fast with
#                                     weaker compression; PROGRAM is the same version for this machine
set -eu

main() {
    cd "$(dirname "$(realpath "$0")")/.."
    speed='' arch=$(uname -m)
    case $#:${1-}:${3-}:${5-}:${7-} in
        0::::)
            program=$(packaging/static.sh)
            helper=$program
            ;;
        2:--binary:::)
            program=$2 helper=$2
            speed=--fast
            ;;
        6:--binary:--arch:--helper: | 7:--binary:--arch:--helper:--fast)
            program=$2 arch=$4 helper=$6
            speed=${7-}
            ;;
        *)
            echo 'usage: packaging/deb.sh [--binary FILE [--arch ARCH --helper PROGRAM [--fast]]]' >&2
            exit 2
            ;;
    esac
    # Use the commit's time as the build time.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    export SOURCE_DATE_EPOCH
    # Cargo.toml lists these files. Other files in the directory are not packaged.
    staged=target/package
    rm -rf "$staged/switches"
    mkdir -p "$staged/switches" "$staged/share" "$staged/hooks"
    # A program for another architecture is already stripped, and this machine's strip cannot read it.
    if [ "$arch" = "$(uname -m)" ]; then strip -o "$staged/bluegreen" "$program"; else cp "$program" "$staged/bluegreen"; fi
    "$helper" generate man >"$staged/bluegreen.1"
    "$helper" generate bash >"$staged/bluegreen.bash"
    "$helper" generate zsh >"$staged/_bluegreen"
    "$helper" generate fish >"$staged/bluegreen.fish"
    setup_man >"$staged/bluegreen-setup.8"
    changelog >"$staged/changelog"
    gzip -9n <CHANGELOG.md >"$staged/CHANGELOG.gz"
    find share/switches -type f -perm -100 -exec cp {} "$staged/switches/" \;
    pages
    # The crates of the static program, whichever build is packaged.
    packaging/spdx.sh "$arch-unknown-linux-musl" >"$staged/bluegreen.spdx.json"
    [ "$arch" = "$(uname -m)" ] || speed="$speed --target $arch-unknown-linux-musl"
    # shellcheck disable=SC2086 # several options
    cargo deb --quiet --no-build $speed --output "$staged/bluegreen.deb" >/dev/null
    echo "$PWD/$staged/bluegreen.deb"
}

# Copies the pages. Links to files outside the package become plain text.
pages() {
    sed -E 's/\[([^]]*)\]\((CONTRIBUTING|ARCHITECTURE|LICENSE)[^)]*\)/\1/g' README.md >"$staged/README.md"
    sed 's|(../docs/|(/usr/share/doc/bluegreen/docs/|g' share/README.md >"$staged/share/README.md"
    sed -e 's|(../docs/|(/usr/share/doc/bluegreen/docs/|g' -e 's|(../share/|(../|g' hooks/README.md >"$staged/hooks/README.md"
}

# Prints the installer's man page, generated from its help.
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
