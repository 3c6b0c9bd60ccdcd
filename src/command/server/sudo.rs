//! The commands that steps run with `sudo`, and whether they are allowed.
//!
//! Only unambiguous steps are parsed: `sudo`, an absolute path, and plain words, alone or joined by `&&`, `||`, `;`, `|`, or
//! newlines.

use std::io;
use std::time::Duration;

use bluegreen_git::search_path;
use bluegreen_process::{self as process, End};
use bluegreen_server::config::Step;

/// The timeout of `sudo`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the commands that a step runs with `sudo`, in the form that `install.sh --sudo` accepts. The error is the reason
/// why they cannot be parsed.
pub fn commands(step: &Step) -> Result<Vec<String>, String> {
    let parts = step.run.split(['\n', ';', '|', '&']);
    parts.filter(|part| mentions_sudo(part)).map(command).collect()
}

/// Returns whether `sudo` allows this user to run a command from [`commands`] without a password.
pub fn allows(command: &str) -> io::Result<bool> {
    let mut sudo = process::command("sudo");
    sudo.args(["-n", "-l", "--"]).args(command.split(' ')).current_dir("/");
    // Like a step, without the caller's environment.
    sudo.env_clear().env("PATH", search_path()).env("LC_ALL", "C");
    let end = process::run(&mut sudo, TIMEOUT, None, |_| ())?;
    Ok(matches!(end, End::Exited(status) if status.success()))
}

/// Returns whether the word `sudo` occurs anywhere, even in quotes or in a path.
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
    let Some(program) = words.first() else { return Err("`sudo` runs nothing".into()) };
    if !program.starts_with('/') {
        return Err(format!("`{program}` is not an absolute path"));
    }
    // No quotes, expansions, comments, or sudo patterns.
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_-./@%+,:=".contains(character);
    if let Some(word) = words.iter().find(|word| !word.chars().all(is_plain)) {
        return Err(format!("`{word}` is not a plain word"));
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bluegreen_server::config::Config;

    fn commands_of(steps: &str) -> Result<Vec<String>, String> {
        let steps = Config::parse(&format!("[steps]\n{steps}")).unwrap().steps;
        steps.iter().map(commands).collect::<Result<Vec<_>, _>>().map(|found| found.concat())
    }

    #[test]
    fn plain_commands_are_found() {
        let found = commands_of(
            "build = 'npm ci'\nrestart = ['sudo -n /usr/bin/systemctl restart app.service', \
             'test -e x && sudo /usr/sbin/nginx -s reload; sudo /bin/true']\nverify = 'sudo /bin/x --a=b:c,d'",
        );
        assert_eq!(
            found.unwrap(),
            [
                "/usr/bin/systemctl restart app.service",
                "/usr/sbin/nginx -s reload",
                "/bin/true",
                "/bin/x --a=b:c,d"
            ]
        );
        assert!(commands_of("build = 'echo pseudo sudoers my-sudo visudo'").unwrap().is_empty());
    }

    #[test]
    fn steps_that_cannot_be_read_with_certainty_are_refused() {
        for (step, problem) in [
            ("sudo systemctl restart app", "`systemctl` is not an absolute path"),
            ("sudo -u www-data /bin/x", "`-u` is not an absolute path"),
            ("sudo", "`sudo` runs nothing"),
            ("sh -c \"sudo /bin/x\"", "a command that uses `sudo` must begin with it"),
            ("/usr/bin/sudo /bin/x", "a command that uses `sudo` must begin with it"),
            ("A=1 sudo /bin/x", "a command that uses `sudo` must begin with it"),
            ("sudo /bin/x $HOME", "`$HOME` is not a plain word"),
            ("sudo /bin/x *", "`*` is not a plain word"),
            ("sudo /bin/x \"a b\"", "`\"a` is not a plain word"),
            ("sudo /bin/x >/dev/null", "`>/dev/null` is not a plain word"),
            ("sudo /bin/x a\\ b", "`a\\` is not a plain word"),
            ("echo $(sudo /bin/x)", "a command that uses `sudo` must begin with it"),
        ] {
            assert_eq!(commands_of(&format!("restart = '''{step}'''")).unwrap_err(), problem, "{step}");
        }
    }
}
