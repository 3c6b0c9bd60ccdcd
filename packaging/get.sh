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
# Needs curl or wget, gpg, and sha256sum. The last line calls the only function that acts, so a truncated download of this
# script does nothing.
set -eu

# packaging/release writes these, from packaging/urls.
default_url=''
default_fingerprint=''

usage='usage: get.sh [--url URL] [--fingerprint FINGERPRINT] [--prefix DIRECTORY] [--allow-downgrade]
       get.sh --uninstall [--prefix DIRECTORY]'

# The maximum size of a download, in bytes.
max_size=100000000

main() {
    url=$default_url fingerprint=$default_fingerprint prefix=/usr/local downgrade='' uninstall='' scratch=''
    while [ $# -gt 0 ]; do
        case $1 in
            --url | --fingerprint | --prefix)
                [ $# -ge 2 ] || misused
                case $1 in
                    --url) url=${2%/} ;;
                    --fingerprint) fingerprint=$(printf %s "$2" | tr -d '[:space:]' | tr '[:lower:]' '[:upper:]') ;;
                    --prefix) prefix=${2%/} ;;
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
    if [ -n "$uninstall" ]; then
        remove
        return
    fi
    [ -n "$url" ] || fail 'the URL of the release is missing' "pass it with \`--url\`"
    case $url in https://?* | http://?*) ;; *) fail "invalid URL \`$url\`" 'use one that begins with https://' ;; esac
    printf '%s\n' "$fingerprint" | grep -Eqx '[0-9A-F]{40}' ||
        fail 'the fingerprint of the key is missing or invalid' \
            "pass the 40 digits that the publisher announces with \`--fingerprint\`"
    for tool in gpg sha256sum; do
        command -v "$tool" >/dev/null || fail "\`$tool\` is not installed" 'apt-get install gpg coreutils'
    done
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    get
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

# Downloads, verifies, and installs. Nothing outside of the scratch directory changes before everything is verified.
get() {
    arch=$(architecture)
    for file in SHA256SUMS SHA256SUMS.asc; do
        download "$file"
    done
    download apt/bluegreen.gpg
    verify_signature
    program=$(sed -n "s/^[0-9a-f]\{64\}  \(bluegreen-[0-9][0-9.]*-$arch-linux\)\$/\1/p" "$scratch/SHA256SUMS")
    case $program in
        '') fail "the release has no program for $arch" "build it from a clone: \`cargo build --release\`" ;;
        *'
'*) fail 'the release has several programs for one architecture' 'report it to the publisher' ;;
    esac
    version=${program#bluegreen-}
    version=${version%"-$arch-linux"}
    check_version
    # One checksum file for exactly the files that are installed.
    for file in "$program" bluegreen.1 bluegreen.bash _bluegreen bluegreen.fish; do
        download "$file"
        line=$(grep -E "^[0-9a-f]{64}  $(printf %s "$file" | sed 's/[.]/\\./g')\$" "$scratch/SHA256SUMS") ||
            fail "the release does not list \`$file\`" 'report it to the publisher'
        (cd "$scratch" && printf '%s\n' "$line" | sha256sum --check --status --strict) ||
            fail "the checksum of \`$file\` is wrong" 'download it again; if that does not help, report it to the publisher'
    done
    chmod 755 "$scratch/$program"
    runs=$("$scratch/$program" --version 2>&1) || fail "the program does not run here: $runs" 'report it to the publisher'
    place "$scratch/bluegreen.1" share/man/man1/bluegreen.1 644
    place "$scratch/bluegreen.bash" share/bash-completion/completions/bluegreen 644
    place "$scratch/_bluegreen" share/zsh/site-functions/_bluegreen 644
    place "$scratch/bluegreen.fish" share/fish/vendor_completions.d/bluegreen.fish 644
    place "$scratch/$program" bin/bluegreen 755
    echo "Installed bluegreen $version in $prefix/bin."
    echo "To set up a server: \`bluegreen generate files setup && sudo setup/install.sh --help\`"
}

architecture() {
    [ "$(uname -s)" = Linux ] || fail "there is no program for $(uname -s)" 'use Linux'
    case $(uname -m) in
        x86_64 | amd64) echo x86_64 ;;
        aarch64 | arm64) echo aarch64 ;;
        *) fail "there is no program for $(uname -m)" "build it from a clone: \`cargo build --release\`" ;;
    esac
}

download() { # PATH
    target=$scratch/${1##*/}
    if command -v curl >/dev/null; then
        curl -q --fail --silent --show-error --location --proto '=https,http' --max-redirs 5 --retry 2 \
            --connect-timeout 20 --max-filesize "$max_size" --output "$target" "$url/$1"
    elif command -v wget >/dev/null; then
        # wget has no limit of its own.
        wget --no-config --quiet --tries=3 --timeout=20 --max-redirect=5 --output-document=- "$url/$1" |
            head -c "$max_size" >"$target" && [ -s "$target" ]
    else
        fail "neither \`curl\` nor \`wget\` is installed" 'apt-get install curl'
    fi || fail "cannot download \`$url/$1\`" 'check the URL: it must contain SHA256SUMS'
}

verify_signature() {
    mkdir -m 700 "$scratch/gnupg"
    gnupg="gpg --batch --quiet --no-options --no-autostart --homedir $scratch/gnupg"
    $gnupg --import "$scratch/bluegreen.gpg" 2>/dev/null ||
        fail 'the key of the release cannot be read' 'report it to the publisher'
    # VALIDSIG ends with the fingerprint of the primary key.
    status=$($gnupg --status-fd 1 --verify "$scratch/SHA256SUMS.asc" "$scratch/SHA256SUMS" 2>/dev/null) || status=''
    printf '%s\n' "$status" | grep -Eq "^\[GNUPG:\] VALIDSIG .*$fingerprint\$" ||
        fail 'the signature of the checksums is not from the key with that fingerprint' \
            'compare the fingerprint with the one that the publisher announces, and do not install anything'
}

check_version() {
    installed=$("$prefix/bin/bluegreen" --version 2>/dev/null) || return 0
    installed=${installed#bluegreen }
    newest=$(printf '%s\n%s\n' "$installed" "$version" | sort -V | tail -n 1)
    [ "$newest" = "$version" ] || [ -n "$downgrade" ] ||
        fail "bluegreen $installed is installed, and $version is older" "pass \`--allow-downgrade\` to replace it"
}

place() { # FILE TARGET MODE
    target=$prefix/$2
    mkdir -p "${target%/*}"
    # The new file has the final name only when it is complete.
    cp "$1" "$target.new.$$"
    chmod "$3" "$target.new.$$"
    mv "$target.new.$$" "$target"
}

remove() {
    removed=no
    for file in bin/bluegreen share/man/man1/bluegreen.1 share/bash-completion/completions/bluegreen \
        share/zsh/site-functions/_bluegreen share/fish/vendor_completions.d/bluegreen.fish; do
        [ ! -e "$prefix/$file" ] || removed=yes
        rm -f "$prefix/$file"
    done
    case $removed in
        yes) echo "Removed bluegreen from $prefix." ;;
        no) echo "bluegreen is not installed in $prefix." ;;
    esac
}

main "$@"
