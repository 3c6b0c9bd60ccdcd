# shellcheck shell=sh disable=SC3043
# The build requirements of the program, for install.sh, demo.sh, and the tests, which source this file. HERE
# is the clone.

# A required program, and the Debian packages that provide it.
BUILD_NEEDS='git git
cc gcc libc6-dev'

has() { command -v "$1" >/dev/null 2>&1; }

build_packages() { printf '%s\n' "$BUILD_NEEDS" | cut -d' ' -f2-; }

# Prints the packages of the missing programs, each preceded by a space.
missing_to_build() {
    local program packages
    while read -r program packages; do
        has "$program" || printf ' %s' "$packages"
    done <<EOT
$BUILD_NEEDS
EOT
    # cargo downloads over https.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf ' ca-certificates'
}

# Prints what will be installed. On a terminal, asks first, unless YES is set. Returns false if the user
# declines.
may_install() { # PACKAGE...
    local answer
    echo "Installing by apt-get what is missing: $*"
    { [ -z "${YES:-}" ] && [ -t 0 ] && [ -t 1 ]; } || return 0
    printf 'Go on? [Y/n] '
    read -r answer || answer=n
    case $answer in [Nn]*) return 1 ;; esac
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$HERE/Cargo.toml"; }

# True if the first version is at least the second.
is_new_enough() { # VERSION WANTED
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# Prints the path of a recent enough cargo in that home or in PATH, or nothing.
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

# Prints the package that provides a recent enough Rust: the distribution's own, the newer one that Debian
# maintains for web browsers, or rustup. Prints nothing if none is available.
rust_package() {
    local package
    has apt-cache || return 0
    for package in cargo cargo-web; do
        ! is_new_enough "$(candidate "$package")" "$(rust_version)" || {
            echo "$package"
            return 0
        }
    done
    [ -z "$(candidate rustup)" ] || echo rustup
}

# Prints the installable version of a package, or nothing.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9].*\)/\1/p'; }
