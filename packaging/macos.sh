#!/bin/sh
# Builds the client for macOS on an architecture, on any Linux machine, and prints its path. The build is
# reproducible in any directory.
#
#   packaging/macos.sh x86_64|aarch64
#
# Needs cargo-zigbuild and zig (`pip install cargo-zigbuild ziglang`), and a Rust toolchain with either the
# target's standard library (`rustup target add aarch64-apple-darwin`) or the library's sources, to build it
# (`rustup component add rust-src`; Debian: rustc-web cargo-web rust-web-src). Needs no SDK from Apple.
set -eu

main() {
    cd "$(dirname "$(realpath "$0")")/.."
    case $#:${1-} in
        1:x86_64 | 1:aarch64) target=$1-apple-darwin ;;
        *)
            echo 'usage: packaging/macos.sh x86_64|aarch64' >&2
            exit 2
            ;;
    esac
    command -v cargo-zigbuild >/dev/null || fail 'cargo-zigbuild is not installed' 'pip install cargo-zigbuild ziglang'
    folder=${CARGO_TARGET_DIR:-$PWD/target}/macos
    mkdir -p "$folder"
    # Keep this machine's paths out of the program.
    flags="--remap-path-prefix=$PWD=bluegreen --remap-path-prefix=$folder=target"
    flags="$flags --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    choose_toolchain
    # rustc names the sources of the standard library by this path or, where it is a symlink, by its target.
    sources=$sysroot/lib/rustlib/src/rust
    flags="$flags --remap-path-prefix=$sources=rust"
    [ ! -L "$sources" ] || flags="$flags --remap-path-prefix=$(realpath "$sources")=rust"
    # The linker signs the program, without which Apple's processors do not run it. rustc would remove the symbols
    # after that, which would invalidate the signature.
    export RUSTFLAGS="$flags" CARGO_PROFILE_RELEASE_STRIP=none
    # The oldest version that runs on both architectures.
    export MACOSX_DEPLOYMENT_TARGET=11.0
    CARGO=$cargo cargo-zigbuild zigbuild --release --locked --package bluegreen $build_std --target "$target" \
        --target-dir "$folder" >&2
    echo "$folder/$target/release/bluegreen"
}

# Sets cargo, sysroot, and build_std for the first toolchain that can build for the target.
choose_toolchain() {
    build_std=''
    for rustc in rustc /usr/bin/rustc; do
        sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
        cargo=$(dirname "$(command -v "$rustc")")/cargo
        export RUSTC="$rustc"
        [ ! -d "$sysroot/lib/rustlib/$target/lib" ] || return 0
        if [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
            # Building the standard library is unstable. This variable allows it.
            export RUSTC_BOOTSTRAP=1
            build_std=-Zbuild-std=std,panic_unwind
            return
        fi
    done
    fail 'no Rust toolchain on this machine can build for macOS' "rustup target add $target"
}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

main "$@"
