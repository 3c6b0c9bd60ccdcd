#!/bin/sh
# Prints the path of a root file system: a minimal Debian of that suite, with these packages. It is built once
# and cached in /var/cache for later runs. Nothing may write to it.
#
#   tests/system/base.sh SUITE [PACKAGE]...
set -eu

main() {
    suite=$1
    shift
    packages=$(printf '%s\n' "$@" | sort -u | paste -sd, -)
    folder=/var/cache/bluegreen-tests
    # Other packages, or another way to build it, result in another path.
    base=$folder/$suite-$({ grep -v '^ *#' "$0" && echo "$packages"; } | cksum | cut -d' ' -f1)
    mkdir -p "$folder"
    exec 9>"$base.lock"
    # Several tests may build it at the same time.
    flock 9
    [ -d "$base" ] || build
    echo "$base"
}

build() {
    rm -rf "$base.new"
    # Ubuntu has caddy, certbot, and composer in `universe`.
    case $suite in jammy | noble) components=main,universe ;; *) components=main ;; esac
    # An incomplete one is removed, so nothing needs to be flushed to the disk. If there are two web servers, only
    # the first gets port 80. The other one fails to start, which must not fail the build.
    # shellcheck disable=SC2016 # mmdebstrap sets $1
    mmdebstrap --quiet --mode=root --variant=minbase --components=$components --dpkgopt=force-unsafe-io ${packages:+"--include=$packages"} \
        --customize-hook='if [ -e "$1/etc/nginx" ]; then chroot "$1" systemctl --quiet disable nginx; fi' "$suite" "$base.new" >&2
    mv "$base.new" "$base"
}

main "$@"
