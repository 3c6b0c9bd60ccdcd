# shellcheck shell=sh disable=SC3043
# What it takes to build the program, in one place for install.sh, demo.sh and tests/run, which
# read this file. HERE is the clone.

# A program that is looked for, and the packages of Debian that bring it.
BUILD_NEEDS='git git
cc gcc libc6-dev'

has() { command -v "$1" >/dev/null 2>&1; }

build_packages() { printf '%s\n' "$BUILD_NEEDS" | cut -d' ' -f2-; }

# Prints the packages of the programs that are missing, a space before each.
missing_to_build() {
    local program packages
    while read -r program packages; do
        has "$program" || printf ' %s' "$packages"
    done <<EOT
$BUILD_NEEDS
EOT
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$HERE/Cargo.toml"; }

# True of two versions, the first of which is the second or newer.
is_new_enough() { # VERSION WANTED
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# Prints the path of a cargo that is new enough, in that home or in PATH; nothing where there is none.
find_cargo() { # HOME
    local cargo version
    for cargo in "$1/.cargo/bin/cargo" "$(command -v cargo || :)" /usr/lib/rust-*/bin/cargo; do
        [ -x "$cargo" ] || continue
        version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
        if is_new_enough "$version" "$(rust_version)"; then
            printf '%s\n' "$cargo"
            return 0
        fi
    done
}

# Prints the package that brings a Rust that is new enough: the distribution's own, or rustup; nothing
# where it has neither.
rust_package() {
    local version
    has apt-cache || return 0
    version=$(apt-cache policy cargo 2>/dev/null | sed -n 's/^ *Candidate: *//p')
    if is_new_enough "${version:-0}" "$(rust_version)"; then
        echo cargo
    elif apt-cache show rustup >/dev/null 2>&1; then
        echo rustup
    fi
}
