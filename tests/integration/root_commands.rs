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
