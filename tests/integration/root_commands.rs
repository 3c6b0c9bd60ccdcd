//! Commands that are printed for an administrator. Run as root in a directory that the deploy user controls,
//! a command can follow a symlink. So each runs as the deploy user, or is in the list of safe ones.

use crate::support::markdown::project;

/// Programs that change files by path.
const PROGRAMS: [&str; 16] = [
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "chmod",
    "chown",
    "ln",
    "install",
    "mount",
    "umount",
    "cp",
    "touch",
    "tee",
    "tar",
    "git -C",
    "git config",
];

/// Commands that are safe to run as root, with the reason.
const SAFE: [(&str, &str); 4] = [
    ("`chmod go-w {}`", "the path is the first one that others can write, so no other user can replace it"),
    (
        "`sudo chown {options} {owner} {shown}`",
        "`give_away` prints it if only the last component can be replaced: -h",
    ),
    ("`sudo install -d -o {} {}`", "`create` prints it if root alone can write every component"),
    ("`sudo chmod {mode} {shown}`", "`change_mode` prints it if root alone can write every component"),
];

fn sources() -> Vec<std::path::PathBuf> {
    let mut folders = vec![project("src"), project("crates"), project("packaging/setup")];
    let mut files = vec![project("install.sh")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// Documented commands that are safe to run as root, with the reason.
const SAFE_IN_DOCS: [(&str, &str); 4] = [
    ("install target/release/bluegreen /usr/local/bin/", "root alone can write every component"),
    ("install -d -o deploy -g deploy /var/www/html", "the same, and it creates the last one"),
    ("install -d -o deploy /var/www/html", "the same"),
    ("chown -h deploy /var/www/html", "only the last component can be replaced: -h"),
];

#[test]
fn no_documented_root_command_follows_a_symlink() {
    let mut used = std::collections::BTreeSet::new();
    let mut pages = vec![project("README.md"), project("share/README.md"), project("CONTRIBUTING.md")];
    for folder in ["tutorial", "howto", "reference", "explanation"] {
        let entries = project(format!("docs/{folder}")).read_dir().unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines() {
            // Whatever follows `sudo` or the address of root, but not `sudo -u`.
            let after_sudo = line.split("sudo ").skip(1);
            let after_root = line.split("ssh root@").skip(1).filter_map(|rest| rest.split_once(' '));
            for command in after_sudo.chain(after_root.map(|(_, command)| command)) {
                let command = command.trim_start_matches(['"', '\'']);
                if !PROGRAMS.iter().any(|program| command.starts_with(&format!("{program} "))) {
                    continue;
                }
                let safe = SAFE_IN_DOCS.iter().find(|(safe, _)| command.starts_with(safe));
                used.insert(safe.unwrap_or_else(|| panic!("{}: {line}", page.display())));
            }
        }
    }
    assert_eq!(used.len(), SAFE_IN_DOCS.len(), "a command in `SAFE_IN_DOCS` is no longer documented");
}

#[test]
fn no_printed_root_command_follows_a_symlink() {
    let mut used = 0;
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("//") || line.starts_with('#') {
                continue;
            }
            let starts =
                PROGRAMS.iter().flat_map(|program| [format!("`{program} "), format!("`sudo {program} ")]);
            for at in starts.filter_map(|start| line.find(&start)) {
                let is_safe = SAFE.iter().any(|(command, _)| line[at..].starts_with(command));
                used += usize::from(is_safe);
                assert!(
                    is_safe,
                    "{}:{}: {line}\nsee crates/server/src/error/admin.rs",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert_eq!(used, SAFE.len(), "a command in `SAFE` is no longer printed");
}
