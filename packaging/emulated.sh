#!/bin/sh
# Runs a command. The programs for aarch64 that it starts, also in a chroot, run under qemu.
#
#   packaging/emulated.sh COMMAND [ARGUMENT]...
#
# The command is root in a user namespace with all users, in which qemu is registered, and in a mount namespace of its own. The
# rest of the machine does not change. Needs root, Linux 6.7, and Debian's package qemu-user-static.
set -eu

main() {
    [ $# -ge 1 ] || fail 'usage: packaging/emulated.sh COMMAND [ARGUMENT]...' 'name a command'
    [ "$(id -u)" -eq 0 ] || fail 'the namespaces need root' "run it with sudo env \"PATH=\$PATH\""
    emulator=$(command -v qemu-aarch64-static) || fail 'qemu-aarch64-static is not installed' 'apt-get install qemu-user-static'
    # The first 20 bytes of an ELF file for aarch64, and the bits of them that must match. With `F`, a chroot needs no copy
    # of qemu.
    magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    rule=":bluegreen:M::$magic:$mask:$emulator:FP"
    export rule inside
    # A background command would otherwise read from /dev/null.
    exec 3<&0
    # The first shell waits until it is root in the namespace. The second one then has root's capabilities.
    # shellcheck disable=SC2016 # the shells in the namespaces expand it
    unshare --user --mount sh -ec 'until [ -n "$(cat /proc/self/gid_map)" ]; do sleep 0.1; done; exec sh -ec "$inside" sh "$@"' \
        sh "$@" <&3 3<&- &
    exec 3<&-
    until [ "$(readlink "/proc/$!/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
    # Without all users, the command could not create files for others.
    echo '0 0 65536' >"/proc/$!/uid_map"
    echo '0 0 65536' >"/proc/$!/gid_map"
    wait "$!"
}

# shellcheck disable=SC2016 # the shell in the namespaces expands it
inside='
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf "%s" "$rule" >/proc/sys/fs/binfmt_misc/register
    unset rule inside
    exec "$@"'

fail() { # PROBLEM HINT
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

main "$@"
