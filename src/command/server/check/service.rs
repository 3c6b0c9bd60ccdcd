//! Checks that the systemd units that steps restart exist, and that their users do.

use std::fs;
use std::path::Path;

use nix::unistd::{Group, User};

/// The unit directories, in order of precedence.
const UNITS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A problem with a unit: the message and the hint.
pub type Problem = (String, String);

/// Checks the units that a command of systemctl, as [`super::sudo::commands`] returns it, starts or restarts.
pub fn problems(command: &str) -> Vec<Problem> {
    let directories = UNITS.map(Path::new);
    if !directories.iter().any(|directory| directory.is_dir()) {
        return Vec::new();
    }
    units(command).filter_map(|unit| problem(&unit, &directories)).collect()
}

fn units(command: &str) -> impl Iterator<Item = String> {
    let mut words = command.split_ascii_whitespace();
    let is_systemctl = words.next().is_some_and(|program| program.ends_with("/systemctl"));
    let mut words = words.filter(|word| !word.starts_with('-'));
    let verbs = ["start", "restart", "reload", "try-restart", "reload-or-restart"];
    let is_start = words.next().is_some_and(|verb| verbs.contains(&verb));
    let suffixes = [".service", ".socket", ".target", ".timer", ".path"];
    let full = move |unit: &str| {
        let has_suffix = suffixes.iter().any(|suffix| unit.ends_with(suffix));
        if has_suffix { unit.to_owned() } else { format!("{unit}.service") }
    };
    words.filter(move |_| is_systemctl && is_start).map(full)
}

fn problem(unit: &str, directories: &[&Path]) -> Option<Problem> {
    let Some(text) = text(unit, directories) else {
        let script = Path::new("/etc/init.d").join(unit.trim_end_matches(".service"));
        let problem = format!("the unit `{unit}` does not exist");
        let hint = "run `systemctl list-unit-files` to see which exist".to_owned();
        return (!script.exists()).then_some((problem, hint));
    };
    let value = |key: &str| {
        let lines =
            text.lines().filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
        // Specifiers such as `%i`, and numbers, are not user names.
        let name = lines.map(str::trim).next_back()?;
        (!name.is_empty() && !name.contains('%') && !name.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(name)
    };
    let is_dynamic = value("DynamicUser").is_some_and(|value| ["yes", "true", "1"].contains(&value));
    if let Some(user) = value("User").filter(|user| !is_dynamic && matches!(User::from_name(user), Ok(None)))
    {
        let hint = format!("`sudo useradd --system --no-create-home {user}`, or change `User=` in the unit");
        return Some((format!("`{unit}` runs as the user `{user}`, which does not exist"), hint));
    }
    let group = value("Group").filter(|group| matches!(Group::from_name(group), Ok(None)))?;
    let hint = format!("`sudo groupadd --system {group}`, or change `Group=` in the unit");
    Some((format!("`{unit}` runs with the group `{group}`, which does not exist"), hint))
}

/// Reads a unit and its drop-ins; an instance of a template is read from the template.
fn text(unit: &str, directories: &[&Path]) -> Option<String> {
    let template =
        unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
    let names = || std::iter::once(unit).chain(template.as_deref());
    let mut files = names().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    let mut text = files.find_map(|file| fs::read_to_string(file).ok())?;
    for directory in names().flat_map(|name| directories.iter().map(move |at| at.join(format!("{name}.d")))) {
        let mut files: Vec<_> =
            directory.read_dir().into_iter().flatten().flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "conf")) {
            text.push('\n');
            text.push_str(&fs::read_to_string(file).unwrap_or_default());
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_systemctl_are_found() {
        let of = |command| units(command).collect::<Vec<_>>();
        assert_eq!(of("/usr/bin/systemctl restart app web.socket"), ["app.service", "web.socket"]);
        assert_eq!(of("/usr/bin/systemctl --no-block try-restart app@1.service"), ["app@1.service"]);
        assert!(of("/usr/bin/systemctl stop app").is_empty() && of("/usr/sbin/nginx restart app").is_empty());
    }

    #[test]
    fn a_unit_without_its_user_is_a_problem() {
        let temp = tempfile::tempdir().unwrap();
        let directories = [temp.path()];
        let write = |name: &str, text: &str| fs::write(temp.path().join(name), text).unwrap();
        let message = |unit| problem(unit, &directories).map(|(message, _)| message);
        write("good.service", "[Service]\nUser=root\nGroup = root\n");
        write("dynamic.service", "[Service]\nUser=no-such-user\nDynamicUser=yes\n");
        write("bad.service", "[Service]\nUser=no-such-user\n");
        write("worker@.service", "[Service]\nUser=%i\nGroup=no-such-group\n");
        assert_eq!(message("good.service"), None);
        assert_eq!(message("dynamic.service"), None);
        let missing = "`bad.service` runs as the user `no-such-user`, which does not exist";
        assert_eq!(message("bad.service").as_deref(), Some(missing));
        let missing = "`worker@1.service` runs with the group `no-such-group`, which does not exist";
        assert_eq!(message("worker@1.service").as_deref(), Some(missing));
        assert_eq!(message("no-such.service").as_deref(), Some("the unit `no-such.service` does not exist"));
        fs::create_dir(temp.path().join("bad.service.d")).unwrap();
        write("bad.service.d/user.conf", "[Service]\nUser=root\n");
        assert_eq!(message("bad.service"), None);
    }
}
