//! Checks whether the programs that steps run are installed.
//!
//! Only definite problems are reported. In a command with quotes, expansions, or comments, only the first word is checked.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// Reserved words and builtins of the shell.
const BUILTINS: &str = ". : [ [[ alias bg break builtin case cd chdir command continue declare do done echo elif \
    else esac eval exec exit export false fg fi for function getopts hash if in jobs kill let local popd printf \
    pushd pwd read readonly return select set shift shopt source test then time times trap true type typeset \
    ulimit umask unalias unset until wait while { } !";

/// Debian packages whose name differs from the program's.
const PACKAGES: [(&str, &str); 6] = [
    ("bundle", "ruby-bundler"),
    ("node", "nodejs"),
    ("php", "php-cli"),
    ("pip", "python3-pip"),
    ("pip3", "python3-pip"),
    ("python", "python3"),
];

/// Returns the missing programs of a shell command: names that no directory of `path` contains, and absolute paths that
/// are not executable.
pub fn missing<'l>(line: &'l str, path: &str) -> Vec<&'l str> {
    // sudo is checked separately.
    programs(line).filter(|program| *program != "sudo" && !is_installed(program, path)).collect()
}

/// Guesses the package that contains a program.
pub fn package(program: &str) -> &str {
    PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package)
}

fn programs(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim();
    let parts =
        if line.contains(['\'', '"', '`', '$', '\\', '(', ')', '{', '}', '<', '#']) { 1 } else { usize::MAX };
    line.split(['\n', ';', '|', '&']).filter(|part| !part.trim().is_empty()).take(parts).filter_map(program)
}

/// Returns the program of a simple command, after assignments; `None` if it is uncertain.
fn program(command: &str) -> Option<&str> {
    let is_assignment = |word: &&str| word.split_once('=').is_some_and(|(name, _)| is_plain(name));
    let word = command.split_ascii_whitespace().find(|word| !is_assignment(word) && *word != "!")?;
    let is_relative = word.contains('/') && !word.starts_with('/');
    (is_plain(word) && !is_relative).then_some(word)
}

fn is_plain(word: &str) -> bool {
    word.chars().all(|character| character.is_ascii_alphanumeric() || "_-./+@:[".contains(character))
}

fn is_installed(program: &str, path: &str) -> bool {
    let is_executable = |file: &Path| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    if program.starts_with('/') {
        return is_executable(Path::new(program));
    }
    BUILTINS.split_ascii_whitespace().any(|builtin| builtin == program)
        || path.split(':').any(|directory| is_executable(&Path::new(directory).join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_a_line_are_found() {
        for (line, expected) in [
            ("npm ci && npm run build; echo done | tee log", &["npm", "npm", "echo", "tee"][..]),
            ("NODE_ENV=production npm ci", &["npm"]),
            ("echo 'a; b' && c", &["echo"]),
            ("./build && node_modules/.bin/tsc", &[]),
            ("# comment\nmake", &[]),
            ("$TOOL x", &[]),
            ("! test -e x", &["test"]),
            ("", &[]),
        ] {
            assert_eq!(programs(line).collect::<Vec<_>>(), expected, "{line}");
        }
    }

    #[test]
    fn only_missing_programs_are_reported() {
        let path = "/usr/bin:/bin";
        assert!(missing("cd x && test -e y || exit 1; if true; then cat /etc/passwd; fi", path).is_empty());
        assert_eq!(missing("cat x | no-such-program", path), ["no-such-program"]);
        assert_eq!(missing("/usr/bin/no-such-program", path), ["/usr/bin/no-such-program"]);
        assert_eq!(missing("cat x", "/nowhere"), ["cat"]);
        assert_eq!(package("bundle"), "ruby-bundler");
    }
}
