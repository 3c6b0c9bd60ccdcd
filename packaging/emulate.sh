#!/bin/sh
# Runs integration tests with a program for aarch64 under qemu, on any Linux machine with root.
#
#   packaging/emulate.sh PROGRAM [TEST]...      TEST: names as for `cargo test`; by default those of the main subjects
#
# The tests are this machine's, and the program replaces theirs in a mount namespace. qemu is registered for programs of
# aarch64 in a user namespace, so the rest of the machine does not change. Needs Linux 6.7, jq, and
# Debian's package qemu-user-static.
set -eu

main() {
    [ $# -ge 1 ] || fail 'usage: packaging/emulate.sh PROGRAM [TEST]...' 'name a program for aarch64'
    program=$(realpath "$1")
    shift
    cd "$(dirname "$(realpath "$0")")/.."
    [ "$(id -u)" -eq 0 ] || fail 'the namespaces need root' "sudo env \"PATH=\$PATH\" packaging/emulate.sh $program"
    emulator=$(command -v qemu-aarch64-static) || fail 'qemu-aarch64-static is not installed' 'apt-get install qemu-user-static'
    # Tests that trace system calls are left out, because they would trace those of qemu.
    [ $# -gt 0 ] || set -- push:: checkout:: attributes:: shared:: rollback:: submodules:: subdirectory:: step_cache:: \
        notify:: metrics:: fleet::
    # The JSON lines name the program of the tests and the one under test.
    built=$(cargo test --locked --no-run --test integration --message-format json-render-diagnostics)
    tests=$(executable integration)
    replaced=$(executable bluegreen)
    # The first 20 bytes of an ELF file for aarch64, and the bits of them that must match.
    magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    rule=":bluegreen-tests:M::$magic:$mask:$emulator:FP"
    export program replaced tests rule
    # shellcheck disable=SC2016 # the shells in the namespaces expand it
    unshare --user --mount sh -ec 'until [ -n "$(cat /proc/self/gid_map)" ]; do sleep 0.1; done; script=$1; shift; exec sh -ec "$script" sh "$@"' \
        sh "$inside" "$@" &
    until [ "$(readlink "/proc/$!/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
    # Without all users, the tests that create files for others would fail.
    echo '0 0 65536' >"/proc/$!/uid_map"
    echo '0 0 65536' >"/proc/$!/gid_map"
    wait "$!"
}

# Run as root of the namespaces.
# shellcheck disable=SC2016 # the shell in the namespaces expands it
inside='
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf "%s" "$rule" >/proc/sys/fs/binfmt_misc/register
    mount --bind "$program" "$replaced"
    "$replaced" --version
    exec "$tests" "$@"'

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
