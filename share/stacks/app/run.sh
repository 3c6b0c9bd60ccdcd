#!/bin/sh
# Installed by bluegreen's install.sh for @REPO@. Later runs do not overwrite manual changes.
# Runs a command of @APP@ with the variables in shared/.env, as the application's user. systemd would read that file as root,
# and the deploy user could replace it with a symlink to a file of root's, or with a FIFO.
set -eu
FILE=@SITE@/shared/.env

fail() {
    printf 'cannot read %s: %s\n' "$FILE" "$1" >&2
    exit 1
}

# Prints the variables as words for the shell, as systemd's EnvironmentFile= parses them. The unit's own variables take
# precedence.
variables() {
    LC_ALL=C awk -v quote="'" '
        function append(text) { value = value kept text; kept = "" }
        function assign() {
            sub(/[ \t\r]+$/, "", name)
            # The shell sets OPTIND and PPID itself.
            if (name ~ /^[A-Za-z_][A-Za-z0-9_]*$/ && name !~ /^(OPTIND|PPID)$/ && !(name ~ /^(SOCKET|PORT|BLUEGREEN_RELEASE)$/ && name in ENVIRON)) {
                gsub(quote, quote "\\" quote quote, value)
                printf " %s%s=%s%s", quote, name, value, quote
            }
            name = value = kept = ""
            state = "start"
        }
        { text = text $0 "\n" }
        END {
            state = "start"
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                is_space = c ~ /[ \t\r]/
                if (state == "start") {
                    if (c ~ /[#;]/) state = "comment"
                    else if (!is_space && c != "\n") { state = "name"; name = c }
                } else if (state == "comment") {
                    if (c == "\\") i++
                    else if (c == "\n") state = "start"
                } else if (state == "name") {
                    if (c == "=") state = "before value"
                    else if (c == "\n") { state = "start"; name = "" }
                    else name = name c
                } else if (state == "single") {
                    if (c == quote) state = "before value"
                    else append(c)
                } else if (state == "double") {
                    if (c == "\"") state = "before value"
                    else if (c != "\\") append(c)
                    else {
                        c = substr(text, ++i, 1)
                        if (c ~ /["\\`$]/) append(c)
                        else if (c != "\n") append("\\" c)
                    }
                } else if (c == "\n") assign()
                else if (state == "before value" && c == quote) state = "single"
                else if (state == "before value" && c == "\"") state = "double"
                else if (c == "\\") {
                    state = "value"
                    c = substr(text, ++i, 1)
                    if (c != "\n") append(c)
                } else if (!is_space) { state = "value"; append(c) }
                else if (state == "value") kept = kept c
            }
            if (state != "start" && state != "comment" && state != "name") assign()
        }' "$FILE"
}

if [ -e "$FILE" ] || [ -L "$FILE" ]; then
    [ -f "$FILE" ] || fail 'it is not a regular file'
    [ -r "$FILE" ] || fail "the user $(id -un) may not read it"
    words=$(variables) || fail 'awk failed'
    # Every user can read the arguments of a process, so the values are not passed to env(1). The command is still in $1.
    [ -z "$words" ] || eval "export $words"
fi
exec /bin/sh -c "$1"
