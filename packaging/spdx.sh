#!/bin/sh
# Prints the SPDX list of the components of the program for a target.
#
#   packaging/spdx.sh TARGET
#
# Needs cargo, jq, and the time of the release in SOURCE_DATE_EPOCH.
set -eu

cd "$(dirname "$(realpath "$0")")/.."
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
system=''
# Both architectures consist of the same components.
case $1 in *-apple-darwin) system=-macos ;; esac
cargo tree --locked -p bluegreen --target "$1" -e normal,build --prefix none --format '{p}|{l}' |
    jq -nR -f packaging/spdx.jq --arg created "$created" --arg system "$system"
