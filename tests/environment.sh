# shellcheck shell=bash
# The environment of the tests, for tests/setup and tests/run. HERE is the clone.

# shellcheck source=packaging/building.sh
. packaging/building.sh

# Tools that take long to install are cached: by root for all clones, otherwise in this clone.
if [ "$(id -u)" -eq 0 ]; then CACHE=/var/cache/bluegreen-tests; else CACHE=$HERE/target; fi
TOOLS=$CACHE/tools

# Adds a recent cargo and the tools to PATH. Fails if no cargo is recent enough.
use_tools() {
    local cargo
    cargo=$(find_cargo "${HOME:-/root}")
    [ -n "$cargo" ] || return 1
    PATH=$(dirname "$cargo"):$PATH:$TOOLS/bin
}
