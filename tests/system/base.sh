#!/bin/sh
# Prints the path of a root file system: that Debian's smallest, and these packages. It is built once and kept
# in /var/cache, for whoever runs the tests of this machine next; nothing may write to it.
#
#   tests/system/base.sh SUITE [PACKAGE]...
set -eu

main() {
    suite=$1
    shift
    packages=$(printf '%s\n' "$@" | sort -u | paste -sd, -)
    folder=/var/cache/bluegreen-tests
    # Other packages, or another way to build it, make another one.
    base=$folder/$suite-$({ cat "$0" && echo "$packages"; } | cksum | cut -d' ' -f1)
    mkdir -p "$folder"
    exec 9>"$base.lock"
    # Several tests may want it at once.
    flock 9
    [ -d "$base" ] || build
    echo "$base"
}

build() {
    rm -rf "$base.new"
    # It is thrown away if it does not come to its end, so that nothing has to be safe on the disk. Of two web
    # servers only the first can have port 80: the other one's start fails, and must not fail the build.
    # shellcheck disable=SC2016 # mmdebstrap gives the folder
    mmdebstrap --quiet --mode=root --variant=minbase --dpkgopt=force-unsafe-io ${packages:+"--include=$packages"} \
        --customize-hook='if [ -e "$1/etc/nginx" ]; then chroot "$1" systemctl --quiet disable nginx; fi' "$suite" "$base.new" >&2
    mv "$base.new" "$base"
}

main "$@"
