# shellcheck shell=bash
# The tools of the tests: tests/setup installs them where this file, which tests/run reads too, finds them.
# HERE is the clone.

# shellcheck source=packaging/building.sh
. packaging/building.sh

# Tools that take a while to install are kept in root's cache, for other clones too, or without root in this clone.
if [ "$(id -u)" -eq 0 ]; then CACHE=/var/cache/bluegreen-tests; else CACHE=$HERE/target; fi
TOOLS=$CACHE/tools

# Puts a cargo that is new enough, and the tools, into PATH. Fails where there is no such cargo.
use_tools() {
    local cargo
    cargo=$(find_cargo "${HOME:-/root}")
    [ -n "$cargo" ] || return 1
    PATH=$(dirname "$cargo"):$PATH:$TOOLS/bin
}
