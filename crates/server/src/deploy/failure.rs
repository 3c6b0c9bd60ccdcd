//! Explanations of failed steps: the meaning of the exit status, and a hint.

use crate::config::{Phase, Step, StepsConfig};

/// The exit status with which a shell reports that a program is missing.
const NOT_FOUND: i32 = 127;

/// Explains an exit status that the program or the shell gives a meaning.
pub fn meaning(line: &str, status: i32) -> Option<String> {
    match status {
        NOT_FOUND => return Some("a program is not installed".into()),
        126 => return Some("a program is not executable".into()),
        _ => {}
    }
    // Exit statuses from curl(1). They apply only if the command ends with curl, whose status is then the command's.
    let last = line.trim().rsplit(['\n', ';', '|', '&']).next()?.trim();
    let mut words = last.split_ascii_whitespace();
    if words.next() != Some("curl") {
        return None;
    }
    let mut words = words.map(|word| word.trim_matches(['"', '\'']));
    let url = words.rfind(|word| word.starts_with("http://") || word.starts_with("https://"))?;
    Some(match status {
        6 => format!("cannot resolve the host name in {url}"),
        7 => format!("no response from {url}"),
        22 => format!("{url} responded with an error"),
        28 => format!("{url} did not respond in time"),
        52 | 56 => format!("{url} closed the connection"),
        _ => return None,
    })
}

/// Returns a hint for a failed step. After a restart or a verification, the reason is in the service's journal.
pub fn hint(step: &Step, how: &str, steps: &StepsConfig, server: &str, is_gate: bool) -> String {
    if how.contains("is not installed") {
        return format!("run `bluegreen check` on {server} to see which");
    }
    let is_after_activation =
        [Phase::Restart, Phase::Verify].iter().any(|phase| steps.of(*phase).contains(step));
    let unit =
        steps.of(Phase::Restart).iter().find_map(|step| unit(&step.run)).filter(|_| is_after_activation);
    match unit {
        Some(unit) => format!("run `journalctl -u {unit} -n 50` on {server}, fix it, and push again"),
        // `deploy` would deploy the tip of the branch, which has not moved.
        None if is_gate => "fix it and push again".into(),
        None => format!("fix it and push again, or run `bluegreen deploy` on {server}"),
    }
}

/// Returns the unit that a command restarts with systemctl.
fn unit(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "systemctl" || word.ends_with("/systemctl"))?;
    let mut words = words.filter(|word| !word.starts_with('-'));
    words.next().filter(|verb| ["restart", "reload", "try-restart", "reload-or-restart"].contains(verb))?;
    let is_unit = |unit: &&str| {
        unit.chars().all(|character| character.is_ascii_alphanumeric() || "_-.@:".contains(character))
    };
    words.next().filter(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn statuses_of_curl_and_of_the_shell_are_explained() {
        let url = "http://localhost:3000/health";
        for (line, status, expected) in [
            ("curl -fsS http://localhost:3000/health", 7, Some(format!("no response from {url}"))),
            (
                "sleep 1; curl -f \"http://localhost:3000/health\"",
                22,
                Some(format!("{url} responded with an error")),
            ),
            ("curl -f http://localhost:3000/health | grep -q ok", 7, None),
            ("curl -fsS http://localhost:3000/health", 1, None),
            ("npm ci", 7, None),
            ("npm ci", 127, Some("a program is not installed".into())),
        ] {
            assert_eq!(meaning(line, status), expected, "{line}");
        }
    }

    #[test]
    fn a_failed_verification_names_the_journal_of_the_service() {
        let text = "[steps]\nbuild = 'make'\nrestart = 'sudo -n /usr/bin/systemctl restart app.service'\nverify = 'x'\n";
        let steps = Config::parse(text).unwrap().steps;
        let hint = |phase| hint(&steps.of(phase)[0], "exited with status 7", &steps, "blue", false);
        assert_eq!(
            hint(Phase::Verify),
            "run `journalctl -u app.service -n 50` on blue, fix it, and push again"
        );
        assert_eq!(hint(Phase::Build), "fix it and push again, or run `bluegreen deploy` on blue");
        for (line, expected) in [
            ("systemctl --user reload x@1", Some("x@1")),
            ("systemctl start x", None),
            ("systemctl restart $UNIT", None),
            ("service x restart", None),
        ] {
            assert_eq!(unit(line), expected, "{line}");
        }
    }
}
