#!/bin/sh
# Downloads a release, verifies its signature and its checksums, and installs the program, its man page, and its completions.
#
#   get.sh [--url URL] [--fingerprint FINGERPRINT] [--prefix DIRECTORY] [--allow-downgrade]
#   get.sh --uninstall [--prefix DIRECTORY]
#
#   --url URL                  the directory that packaging/release created, on a web server [default: that of this release, if
#                              its publisher set one]
#   --fingerprint FINGERPRINT  the fingerprint of the publisher's key, 40 hexadecimal digits; spaces are ignored [default: the
#                              publisher's, if set]
#   --prefix DIRECTORY         install to DIRECTORY/bin and DIRECTORY/share [default: /usr/local]
#   --allow-downgrade          replace a newer version
#   --uninstall                remove the installed files
#
# Needs curl or wget, gpg, sha256sum, and timeout, or on macOS shasum and perl. The last line calls the only function that
# acts, so a truncated download of this script does nothing.
set -eu

# packaging/release writes these, from packaging/urls.
default_url=''
default_fingerprint=''

usage='usage: get.sh [--url URL] [--fingerprint FINGERPRINT] [--prefix DIRECTORY] [--allow-downgrade]
       get.sh --uninstall [--prefix DIRECTORY]'

# The maximum sizes of the program and of any other file, in units of 512 bytes, and of the time for one, in seconds.
max_program=200000
max_file=4000
max_time=900

# The installed files: each file of a release, and its path in the prefix. The program goes last.
files='bluegreen.1:share/man/man1/bluegreen.1
bluegreen.bash:share/bash-completion/completions/bluegreen
_bluegreen:share/zsh/site-functions/_bluegreen
bluegreen.fish:share/fish/vendor_completions.d/bluegreen.fish
program:bin/bluegreen'

main() {
    url=$default_url fingerprint=$default_fingerprint prefix=/usr/local downgrade='' uninstall='' scratch='' child='' staged=''
    while [ $# -gt 0 ]; do
        case $1 in
            --url | --fingerprint | --prefix)
                [ $# -ge 2 ] || misused
                case $1 in
                    --url) url=${2%/} ;;
                    --fingerprint) fingerprint=$(printf %s "$2" | tr -d '[:space:]' | tr '[:lower:]' '[:upper:]') ;;
                    --prefix) prefix=$2 ;;
                esac
                shift
                ;;
            --allow-downgrade) downgrade=yes ;;
            --uninstall) uninstall=yes ;;
            -h | --help)
                echo "$usage"
                return
                ;;
            *) misused ;;
        esac
        shift
    done
    case $prefix in /*) ;; *) fail "invalid prefix \`$prefix\`" 'use an absolute path' ;; esac
    prefix=${prefix%/}
    if [ -n "$uninstall" ]; then
        remove
        return
    fi
    [ -n "$url" ] || fail 'the URL of the release is missing' "pass it with \`--url\`"
    case $url in https://?* | http://?*) ;; *) fail "invalid URL \`$url\`" 'use one that begins with https://' ;; esac
    printf '%s\n' "$fingerprint" | grep -Eqx '[0-9A-F]{40}' ||
        fail 'the fingerprint of the key is missing or invalid' \
            "pass the 40 digits that the publisher announces with \`--fingerprint\`"
    # Each architecture has a program for Linux and one for macOS, which contains only the client.
    arch=$(architecture)
    platform=$(system)
    platform=$arch-$platform
    digest=sha256sum timeout=timeout packages='apt-get install gpg coreutils curl'
    case $platform in
        *-apple-darwin)
            # macOS has neither sha256sum nor timeout.
            digest='shasum -a 256' timeout='perl -e alarm(shift);exec(@ARGV)' packages='brew install gnupg'
            ;;
    esac
    for tool in gpg "${digest%% *}" "${timeout%% *}"; do
        command -v "$tool" >/dev/null || fail "\`$tool\` is not installed" "$packages"
    done
    client=wget
    if command -v curl >/dev/null; then
        client=curl
    elif ! wget --version 2>/dev/null | grep -q 'GNU Wget'; then
        # BusyBox's wget cannot limit redirects.
        fail "neither \`curl\` nor GNU \`wget\` is installed" "$packages"
    fi
    check_target
    # All users may run the program, even if the umask is stricter.
    umask 022
    scratch=$(mktemp -d) || fail 'cannot create a temporary directory' "free space in ${TMPDIR:-/tmp}, or set \`TMPDIR\`"
    trap clean EXIT
    trap 'fail interrupted "run it again"' HUP INT TERM
    get
}

# Stops the download, and removes the temporary files.
clean() {
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || :
        wait "$child" || :
    fi
    rm -rf "$scratch"
    [ -z "$staged" ] || for pair in $files; do
        rm -f "$prefix/${pair#*:}.new.$$"
    done
}

misused() {
    echo "$usage" >&2
    exit 2
}

fail() { # PROBLEM HINT
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

# Fails before the download if the caller cannot write to the prefix.
check_target() {
    directory=$prefix/bin
    while [ ! -e "$directory" ] && [ -n "$directory" ]; do directory=${directory%/*}; done
    directory=${directory:-/}
    { [ -d "$directory" ] && [ -w "$directory" ]; } ||
        fail "cannot write to \`$directory\`" "run it with \`sudo\`, or pass a directory of yours: \`--prefix ~/.local\`"
}

# Downloads, verifies, and installs. Nothing outside of the scratch directory changes before everything is verified.
get() {
    for file in SHA256SUMS SHA256SUMS.asc bluegreen.gpg; do
        download "$file" "$max_file"
    done
    verify_signature
    program=$(sed -n "s/^[0-9a-f]\{64\}  \(bluegreen-[0-9][0-9.]*-$platform\)\$/\1/p" "$scratch/SHA256SUMS")
    case $program in
        '') fail "the release has no program for $platform" "build it from a clone: \`cargo build --release\`" ;;
        *'
'*) fail 'the release has several programs for one architecture' 'report it to the publisher' ;;
    esac
    version=${program#bluegreen-}
    version=${version%"-$platform"}
    check_version
    for file in "$program" bluegreen.1 bluegreen.bash _bluegreen bluegreen.fish; do
        case $file in "$program") limit=$max_program ;; *) limit=$max_file ;; esac
        download "$file" "$limit"
        line=$(grep -E "^[0-9a-f]{64}  $(printf %s "$file" | sed 's/[.]/\\./g')\$" "$scratch/SHA256SUMS") ||
            fail "the release does not list \`$file\`" 'report it to the publisher'
        [ "$(cd "$scratch" && $digest "$file")" = "$line" ] ||
            fail "the checksum of \`$file\` is wrong" 'download it again; if that does not help, report it to the publisher'
    done
    mv "$scratch/$program" "$scratch/program"
    place
    echo "Installed bluegreen $version in $prefix/bin."
    case $platform in
        *-linux) echo "To set up a server: \`bluegreen generate files setup && sudo setup/install.sh --help\`" ;;
        *) echo "It contains the commands of a clone: \`bluegreen --help\`. Servers need Linux." ;;
    esac
    found=$(command -v bluegreen) || found=''
    case $found in
        "$prefix/bin/bluegreen") ;;
        '') echo "note: $prefix/bin is not in PATH" ;;
        *) echo "note: the command \`bluegreen\` runs $found, whose directory precedes $prefix/bin in PATH" ;;
    esac
}

system() {
    case $(uname -s) in
        Linux) echo linux ;;
        Darwin) echo apple-darwin ;;
        *) fail "there is no program for $(uname -s)" 'use Linux or macOS' ;;
    esac
}

architecture() {
    case $(uname -m) in
        x86_64 | amd64) echo x86_64 ;;
        aarch64 | arm64) echo aarch64 ;;
        *) fail "there is no program for $(uname -m)" "build it from a clone: \`cargo build --release\`" ;;
    esac
}

# Downloads a file. The limits stop a server that sends without end.
download() { # PATH LIMIT
    target=$scratch/${1##*/} status=0
    # The shell handles signals only while it waits for a background process.
    (
        # A program that exceeds the limit may leave a core dump.
        cd "$scratch"
        ulimit -f "$2"
        case $client in
            curl)
                exec $timeout "$max_time" curl -q --fail --silent --show-error --location --proto '=https,http' --max-redirs 5 \
                    --retry 2 --connect-timeout 20 --output "$target" "$url/$1"
                ;;
            wget)
                exec $timeout "$max_time" wget --no-config --quiet --tries=3 --timeout=20 --max-redirect=5 \
                    --output-document="$target" "$url/$1"
                ;;
        esac
    ) &
    child=$!
    wait "$child" || status=$?
    child=''
    case $client:$status in
        *:0) ;;
        # The program, or the alarm of perl, reached its limit.
        *:124 | *:142) fail "cannot download \`$url/$1\` within $max_time seconds" 'run it again, or on a faster connection' ;;
        *:153) fail "cannot download \`$url/$1\`: it is too large" 'check the URL' ;;
        curl:23 | wget:3) fail "cannot write \`$target\`" "free space in that directory, or set \`TMPDIR\` to another" ;;
        *) fail "cannot download \`$url/$1\`" 'check the URL: it must contain SHA256SUMS' ;;
    esac
}

verify_signature() {
    mkdir -m 700 "$scratch/gnupg"
    verify_with --import "$scratch/bluegreen.gpg" 2>/dev/null ||
        fail 'the key of the release cannot be read' "open $url/bluegreen.gpg: a proxy may have replaced it by a page"
    # VALIDSIG ends with the fingerprint of the primary key. GOODSIG is printed for the same signature, unless the key is revoked
    # or expired.
    status=$(verify_with --status-fd 1 --verify "$scratch/SHA256SUMS.asc" "$scratch/SHA256SUMS" 2>/dev/null) || status=''
    printf '%s\n' "$status" | sed -n '/^\[GNUPG:\] GOODSIG /,/^\[GNUPG:\] VALIDSIG /p' |
        grep -Eq "^\[GNUPG:\] VALIDSIG .*$fingerprint\$" ||
        fail 'the signature of the checksums is not from the key with that fingerprint' \
            'compare the fingerprint with the one that the publisher announces, and do not install anything'
}

verify_with() { gpg --batch --quiet --no-options --no-autostart --homedir "$scratch/gnupg" "$@"; }

check_version() {
    installed=$("$prefix/bin/bluegreen" --version 2>/dev/null) || return 0
    installed=${installed#bluegreen }
    newest=$(printf '%s\n%s\n' "$installed" "$version" | sort -V | tail -n 1)
    [ "$newest" = "$version" ] || [ -n "$downgrade" ] ||
        fail "bluegreen $installed is installed, and $version is older" "pass \`--allow-downgrade\` to replace it"
}

# Copies all files next to their targets, and then renames them, so that a full disk changes nothing.
place() {
    staged=yes
    for pair in $files; do
        target=$prefix/${pair#*:} mode=644
        [ ! -d "$target" ] || fail "\`$target\` is a directory" 'move it away, and run this again'
        case $pair in program:*) mode=755 ;; esac
        { mkdir -p "${target%/*}" && cp "$scratch/${pair%%:*}" "$target.new.$$" && chmod "$mode" "$target.new.$$"; } ||
            fail "cannot write \`$target\`" 'no installed file was changed; remove the cause, and run this again'
    done
    # The temporary directory may be on a file system that allows no programs.
    runs=$("$prefix/bin/bluegreen.new.$$" --version 2>&1) || fail "the program does not run here: $runs" 'report it to the publisher'
    for pair in $files; do
        target=$prefix/${pair#*:}
        mv -f "$target.new.$$" "$target" || fail "cannot replace \`$target\`" 'remove the cause, and run this again'
    done
}

remove() {
    [ "$(readlink "$prefix/bin/bluegreen-shell")" != "$prefix/bin/bluegreen" ] ||
        fail "a repository on this machine deploys with \`$prefix/bin/bluegreen\`" \
            "remove its setup first: \`bluegreen generate files setup && sudo setup/install.sh --uninstall\`"
    removed=no
    for pair in $files; do
        file=$prefix/${pair#*:}
        # An interrupted installation may have left temporary files.
        for each in "$file" "$file".new.*; do
            [ -e "$each" ] || [ -L "$each" ] || continue
            rm -f "$each" || fail "cannot remove \`$each\`" "run it with \`sudo\`, or remove that file yourself and run this again"
            removed=yes
        done
    done
    case $removed in
        yes) echo "Removed bluegreen from ${prefix:-/}." ;;
        no) echo "bluegreen is not installed in ${prefix:-/}." ;;
    esac
}

main "$@"
