//! Finds processes that use a directory to which no path leads any more.
//!
//! A process inside a release could go on writing into the directories that the next release takes over. Other users
//! cannot write there, and their processes cannot be inspected. Nor can a process of this user that has made itself
//! undumpable (`prctl(2)`). Mappings are not read: that would take three times as long as all else, and only a shared,
//! writable mapping of a file that is not open any more would be found in addition.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Returns whether a process of this user has its working directory, its root, or a descriptor inside a directory.
/// `name` is the directory's name, which no other directory has.
pub(super) fn is_in_use(name: &str) -> io::Result<bool> {
    let own = std::process::id();
    for entry in fs::read_dir("/proc")? {
        let process = entry?;
        let id = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if id.is_some_and(|id| id != own) && is_used_by(&process.path(), name.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_used_by(process: &Path, name: &[u8]) -> bool {
    let is_inside = |link: PathBuf| {
        fs::read_link(link)
            .map(|target| target.as_os_str().as_bytes().split(|&byte| byte == b'/').any(|part| part == name))
    };
    // Most processes are owned by other users, and the first call shows it.
    match is_inside(process.join("cwd")) {
        Err(_) => return false,
        Ok(true) => return true,
        Ok(false) => {}
    }
    let is_inside = |link: PathBuf| is_inside(link).unwrap_or(false);
    let descriptors = || fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    is_inside(process.join("root")) || descriptors().any(|descriptor| is_inside(descriptor.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_working_directory_and_an_open_file_are_found() {
        let temp = tempfile::Builder::new().prefix("in-use-").tempdir().unwrap();
        let name = temp.path().file_name().unwrap().to_str().unwrap();
        std::fs::create_dir(temp.path().join("inside")).unwrap();
        std::fs::write(temp.path().join("file"), "").unwrap();
        assert!(!is_in_use(name).unwrap());
        // The process itself does not count.
        let file = File::open(temp.path().join("file")).unwrap();
        assert!(!is_in_use(name).unwrap());
        let found_with = |start: &dyn Fn(&mut std::process::Command)| {
            #[expect(clippy::disallowed_methods, reason = "a test starts its own processes")]
            let mut sleep = std::process::Command::new("sleep");
            start(sleep.arg("60"));
            let mut child = sleep.spawn().unwrap();
            drop(sleep);
            let found = is_in_use(name).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            found && !is_in_use(name).unwrap()
        };
        assert!(found_with(&|sleep| _ = sleep.current_dir(temp.path().join("inside"))));
        assert!(found_with(&|sleep| _ = sleep.stdin(file.try_clone().unwrap())));
    }
}
