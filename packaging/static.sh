#!/bin/sh
# Builds a static program for every Linux on an architecture, by default this machine's, and prints its path.
# The build is reproducible in any directory.
#
#   packaging/static.sh [x86_64|aarch64]
#
# Needs musl's C compiler (Debian and Ubuntu: musl-tools) and a Rust toolchain with either musl's standard
# library (`rustup target add x86_64-unknown-linux-musl`) or the library's sources, to build it (`rustup
# component add rust-src`; Debian: rustc-web cargo-web rust-web-src). For the other architecture it needs
# cargo-zigbuild and zig instead of musl's compiler (`pip install cargo-zigbuild ziglang`).
set -eu

main() {
    cd "$(dirname "$(realpath "$0")")/.."
    case $#:${1-} in
        0: | 1:x86_64 | 1:aarch64) target=${1:-$(uname -m)}-unknown-linux-musl ;;
        *)
            echo 'usage: packaging/static.sh [x86_64|aarch64]' >&2
            exit 2
            ;;
    esac
    folder=${CARGO_TARGET_DIR:-$PWD/target}/static
    if is_native; then
        command -v musl-gcc >/dev/null || fail 'musl-gcc is not installed' 'apt-get install musl-tools'
    else
        command -v cargo-zigbuild >/dev/null || fail 'cargo-zigbuild is not installed' 'pip install cargo-zigbuild ziglang'
    fi
    mkdir -p "$folder"
    # Keep this machine's paths out of the program.
    flags="-C target-feature=+crt-static --remap-path-prefix=$PWD=bluegreen"
    flags="$flags --remap-path-prefix=$folder=target --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    choose_toolchain
    # rustc names the sources of the standard library by this path or, where it is a symlink, by its target.
    sources=$sysroot/lib/rustlib/src/rust
    flags="$flags --remap-path-prefix=$sources=rust"
    [ ! -L "$sources" ] || flags="$flags --remap-path-prefix=$(realpath "$sources")=rust"
    export CFLAGS="-ffile-prefix-map=$folder=target -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=cargo"
    export RUSTFLAGS="$flags"
    if is_native; then build_native; else build_foreign; fi
    echo "$folder/$target/release/bluegreen"
}

is_native() { [ "$target" = "$(uname -m)-unknown-linux-musl" ]; }

build_native() {
    variable=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${variable}_LINKER=$linker" "CC_$(echo "$target" | tr - _)=musl-gcc"
    "$cargo" build --release --locked $build_std --target "$target" --target-dir "$folder" >&2
}

# zig includes a C compiler, a linker, and musl for every architecture.
build_foreign() {
    CARGO=$cargo cargo-zigbuild zigbuild --release --locked $build_std --target "$target" --target-dir "$folder" >&2
}

# Sets cargo, sysroot, build_std, and flags for the first toolchain that can build for musl.
choose_toolchain() {
    build_std='' linker=cc
    for rustc in rustc /usr/bin/rustc; do
        sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
        cargo=$(dirname "$(command -v "$rustc")")/cargo
        if [ -d "$sysroot/lib/rustlib/$target/lib" ]; then
            export RUSTC="$rustc"
            return
        fi
        if [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
            # Building the standard library is unstable. This variable allows it.
            export RUSTC="$rustc" RUSTC_BOOTSTRAP=1
            build_std=-Zbuild-std=std,panic_unwind
            flags="$flags -C link-self-contained=no"
            is_native || return 0
            make_unwinder
            flags="$flags -L native=$folder/unwind"
            link_by_hand
            return
        fi
    done
    fail 'no Rust toolchain on this machine can build for musl' "rustup target add $target"
}

# The standard library links an unwinder called libunwind. gcc's is compatible, except for one optional
# function that musl lacks.
make_unwinder() {
    mkdir -p "$folder/unwind"
    cp "$(gcc -print-file-name=libgcc_eh.a)" "$folder/unwind/libunwind.a"
    echo 'int _dl_find_object(void *address, void *result) { (void)address; (void)result; return -1; }' >"$folder/unwind/absent.c"
    (cd "$folder/unwind" && musl-gcc -O2 -c absent.c && ar rD libunwind.a absent.o)
}

# musl-gcc cannot link a static position-independent executable. gcc can, with musl's start files, and with
# musl's library before any other.
link_by_hand() {
    library=/usr/lib/$(uname -m)-linux-musl
    flags="$flags -L native=$library -Z pre-link-arg=-nostartfiles"
    flags="$flags -Z pre-link-arg=$library/rcrt1.o -Z pre-link-arg=$library/crti.o -C link-arg=$library/crtn.o"
}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

main "$@"
