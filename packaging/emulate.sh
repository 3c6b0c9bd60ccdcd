#!/bin/sh
# Runs integration tests with a program for aarch64 under qemu, on any Linux machine with root.
#
#   packaging/emulate.sh PROGRAM [TEST]...      TEST: names as for `cargo test` [default: all but those of `left_out`]
#
# The tests are this machine's, and the program, which must be built from the same commit, replaces theirs in a mount namespace:
# see emulated.sh. Needs jq and the requirements of emulated.sh.
set -eu

# Parts of the names of tests that are left out, each with the reason.
left_out='
architecture::           does not run the program
book::                   does not run the program
cli_reference::          does not run the program
dependencies::           does not run the program
fuzz::                   does not run the program
speed::                  does not run the program
workflows::              does not run the program
every_call::             also injects errors into the calls with which qemu loads the program
a_process_limit_causes   qemu starts a thread of its own, which the limit prevents
survives_process_limits  qemu starts a thread of its own, which the limit prevents
survives_memory_limits   qemu reserves 128 MiB, more than the limit
larger_than_the_memory   qemu reserves 128 MiB, more than the limit
kill_gate::              expects openat2, which qemu 7.2 lacks
kill::killed_at_every    expects openat2, which qemu 7.2 lacks
a_release_is_durable     expects openat2, which qemu 7.2 lacks
a_disk_error_is_never    expects statx, which the static program does not call
promote_killed::         takes more than 15 minutes on two busy cores
'

main() {
    [ $# -ge 1 ] || fail 'usage: packaging/emulate.sh PROGRAM [TEST]...' 'name a program for aarch64'
    program=$(realpath "$1")
    shift
    cd "$(dirname "$(realpath "$0")")/.."
    [ "$(id -u)" -eq 0 ] || fail 'the namespaces need root' "sudo env \"PATH=\$PATH\" packaging/emulate.sh $program"
    if [ $# -eq 0 ]; then
        # shellcheck disable=SC2046 # two words for each test
        set -- $(printf '%s' "$left_out" | sed -n 's/^\([^ ]\{1,\}\) .*/--skip \1/p')
    fi
    # The JSON lines name the program of the tests and the one under test.
    built=$(cargo test --locked --no-run --test integration --message-format json-render-diagnostics)
    tests=$(executable integration)
    replaced=$(executable bluegreen)
    # Under qemu, the program takes many times as long to start.
    export "PROPTEST_CASES=${PROPTEST_CASES:-8}" "BLUEGREEN_TEST_KILLS=${BLUEGREEN_TEST_KILLS:-10}"
    # shellcheck disable=SC2016 # the shell in the namespaces expands it
    exec packaging/emulated.sh sh -ec 'mount --bind "$1" "$2"; "$2" --version; shift 2; exec "$@"' \
        sh "$program" "$replaced" "$tests" "$@"
}

# Prints the path of a program of the build.
executable() {
    printf '%s\n' "$built" |
        jq -r --arg name "$1" 'select(.reason == "compiler-artifact" and .target.name == $name and .executable) | .executable' |
        tail -n 1
}

fail() { # PROBLEM HINT
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

main "$@"
