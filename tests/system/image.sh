#!/bin/sh
# Prints the path of a root file system: a server as a provider delivers it, with systemd, sshd, and curl, but without git, a web
# server, and a compiler. Its only apt source is a directory on it with what `apt-get install bluegreen` may need, so that
# a test installs without a network. It is built once and cached in /var/cache for later runs. Nothing may write to it.
#
#   tests/system/image.sh SUITE [ARCHITECTURE]     ARCHITECTURE: arm64 [default: this machine's]
set -eu

main() {
    suite=$1 arch=${2:-$(dpkg --print-architecture)}
    folder=/var/cache/bluegreen-tests
    # Another way to build it results in another path.
    image=$folder/$suite-$arch-$(grep -v '^ *#' "$0" | cksum | cut -d' ' -f1)
    mkdir -p "$folder"
    exec 9>"$image.lock"
    # Several tests may build it at the same time.
    flock 9
    [ -d "$image" ] || build
    echo "$image"
}

build() {
    rm -rf "$image.new"
    if [ "$arch" = "$(dpkg --print-architecture)" ]; then
        make systemd-sysv,dbus,
    else
        # It is not booted, so it has no systemd. mmdebstrap shares /dev/shm, which fails in a user namespace if another file
        # system is mounted below it.
        make '' "$(dirname "$0")/../../packaging/emulated.sh" sh -ec 'mount -t tmpfs tmpfs /dev/shm; exec "$@"' sh
    fi
    mv "$image.new" "$image"
}

make() { # PACKAGES [COMMAND]...
    packages=$1
    shift
    "$@" mmdebstrap --quiet --mode=root --arch="$arch" --variant=minbase \
        --dpkgopt=force-unsafe-io --include="${packages}iproute2,openssh-server,curl" --customize-hook="$mirror" \
        "$suite" "$image.new" >&2
}

# Run on this machine for the new root file system `$1`.
# shellcheck disable=SC2016 # mmdebstrap runs it
mirror='
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install --quiet=2 --download-only --yes -o APT::Install-Recommends=true \
        adduser apache2 git gpg passwd sudo
    mkdir "$1/srv/debian"
    mv "$1"/var/cache/apt/archives/*.deb "$1/srv/debian"
    cd "$1/srv/debian"
    dpkg-scanpackages . >Packages 2>/dev/null
    rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
    echo "deb [trusted=yes] file:/srv/debian ./" >"$1/etc/apt/sources.list"'

main "$@"
