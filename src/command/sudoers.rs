//! The lines of sudoers(5) for the steps that use `sudo`: exactly their commands, and no more.
//!
//! A step is taken only as far as it can be read with certainty: `sudo`, an absolute path, and plain
//! words, alone or joined by `&&`, `||`, `;`, `|` and line ends. Everything else is refused by name.

use crate::config::{Step, StepsConfig};
use crate::error::{Error, Result};

/// The lines that let `user` run all steps, sorted, each once.
pub fn lines(steps: &StepsConfig, user: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for step in steps.iter() {
        let refused = |problem| Error::Sudo { step: step.name.clone(), problem };
        for command in commands(step).map_err(refused)? {
            lines.push(format!("{user} ALL=(root) NOPASSWD: {command}"));
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// The commands that a step runs with sudo, as sudoers writes them.
fn commands(step: &Step) -> Result<Vec<String>, String> {
    let parts = step.run.split(['\n', ';', '|', '&']);
    parts.filter(|part| mentions_sudo(part)).map(command).collect()
}

/// Returns whether the word `sudo` stands anywhere, in quotes or in a path too.
fn mentions_sudo(text: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    text.split(|character| !is_word(character)).any(|word| word == "sudo")
}

fn command(text: &str) -> Result<String, String> {
    let mut words = text.split_ascii_whitespace().peekable();
    if words.next() != Some("sudo") {
        return Err("a command that uses `sudo` must begin with it".into());
    }
    words.next_if_eq(&"-n");
    let words: Vec<&str> = words.collect();
    let Some((program, arguments)) = words.split_first() else { return Err("`sudo` runs nothing".into()) };
    if !program.starts_with('/') {
        return Err(format!("`{program}` is no absolute path"));
    }
    // No quotes, no expansions, and nothing that is a pattern to sudo or a comment.
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_-./@%+,:=".contains(character);
    if let Some(word) = words.iter().find(|word| !word.chars().all(is_plain)) {
        return Err(format!("`{word}` is no plain word"));
    }
    if arguments.is_empty() {
        // Without this, sudo would allow any arguments.
        return Ok(format!("{} \"\"", escape(program)));
    }
    Ok(words.iter().map(|word| escape(word)).collect::<Vec<_>>().join(" "))
}

fn escape(word: &str) -> String {
    word.replace(',', "\\,").replace(':', "\\:").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn lines_of(steps: &str) -> Result<Vec<String>> {
        lines(&Config::parse(&format!("[steps]\n{steps}")).unwrap().steps, "deploy")
    }

    #[test]
    fn a_line_allows_one_command_exactly() {
        let found = lines_of(
            "build = 'npm ci'\nrestart = ['sudo -n /usr/bin/systemctl restart app.service', \
             'test -e x && sudo /usr/sbin/nginx -s reload; sudo /bin/true']\n\
             verify = ['sudo /usr/bin/systemctl restart app.service', 'sudo /bin/x --a=b:c,d']",
        );
        assert_eq!(
            found.unwrap(),
            [
                "deploy ALL=(root) NOPASSWD: /bin/true \"\"",
                "deploy ALL=(root) NOPASSWD: /bin/x --a\\=b\\:c\\,d",
                "deploy ALL=(root) NOPASSWD: /usr/bin/systemctl restart app.service",
                "deploy ALL=(root) NOPASSWD: /usr/sbin/nginx -s reload",
            ]
        );
        assert!(lines_of("build = 'echo pseudo sudoers my-sudo visudo'").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_said_exactly_is_refused() {
        for (step, problem) in [
            ("sudo systemctl restart app", "`systemctl` is no absolute path"),
            ("sudo -u www-data /bin/x", "`-u` is no absolute path"),
            ("sudo", "`sudo` runs nothing"),
            ("sh -c \"sudo /bin/x\"", "a command that uses `sudo` must begin with it"),
            ("/usr/bin/sudo /bin/x", "a command that uses `sudo` must begin with it"),
            ("A=1 sudo /bin/x", "a command that uses `sudo` must begin with it"),
            ("sudo /bin/x $HOME", "`$HOME` is no plain word"),
            ("sudo /bin/x *", "`*` is no plain word"),
            ("sudo /bin/x \"a b\"", "`\"a` is no plain word"),
            ("sudo /bin/x >/dev/null", "`>/dev/null` is no plain word"),
            ("sudo /bin/x a\\ b", "`a\\` is no plain word"),
            ("echo $(sudo /bin/x)", "a command that uses `sudo` must begin with it"),
        ] {
            let error = lines_of(&format!("restart = '''{step}'''")).unwrap_err().to_string();
            assert_eq!(error, format!("step `{step}` cannot be allowed by sudoers: {problem}"));
        }
    }
}
