//! Finds processes that use a directory that is no longer reachable by its path.
//!
//! A process inside a release could keep writing to the directories that the next release reuses. Other users cannot write
//! there, and their processes cannot be inspected, and neither can undumpable processes of this user (`prctl(2)`).
//! Mappings are not read: that would triple the duration, and would only find shared, writable mappings of files that are
//! no longer open.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;

/// The size of the buffer for directory entries, in bytes. Larger directories take several calls.
const NAMES: usize = 8 * 1024;

/// The size of the buffer for the target of a link. The kernel never reports a path longer than a page.
const TARGET: usize = 4096;

/// The number of times that new processes are looked for. If there are new ones each time, the directory counts as used.
const ROUNDS: usize = 20;

/// A search for a process of this user that has its working directory, its root, or a descriptor inside a directory.
/// Several threads can search at the same time.
#[derive(Debug)]
pub struct Search {
    /// The directory's name, which must be unique.
    name: String,
    proc: OwnedFd,
    processes: Vec<Vec<u8>>,
    next: AtomicUsize,
}

impl Search {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let proc = open_directory(CWD, b"/proc")?;
        let processes = processes(&proc)?;
        Ok(Self { name: name.to_owned(), proc, processes, next: AtomicUsize::new(0) })
    }

    /// Returns whether one of the processes that have started since the first list uses the directory. A process of that list
    /// may have started it and exited before it was checked. Must run after all others have been checked.
    pub(super) fn finds_new_user(&self) -> io::Result<bool> {
        let mut checked: HashSet<Vec<u8>> = self.processes.iter().cloned().collect();
        for _ in 0..ROUNDS {
            let mut has_new = false;
            for id in processes(&self.proc)? {
                if checked.contains(&id) {
                    continue;
                }
                match self.is_user(&id) {
                    Ok(true) => return Ok(true),
                    // Another user's process is not a child of this user's.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    // Even one that has exited in the meantime may have started another one.
                    _ => has_new = true,
                }
                checked.insert(id);
            }
            if !has_new {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether one of the processes that no other thread has checked uses the directory.
    pub(super) fn finds_user(&self) -> bool {
        let next = || self.processes.get(self.next.fetch_add(1, Ordering::Relaxed));
        // A process that has exited in the meantime uses nothing.
        std::iter::from_fn(next).any(|id| self.is_user(id).unwrap_or(false))
    }

    /// Returns whether a process uses the directory. The first call fails for a process that has exited, for another user's
    /// process, and for a kernel thread.
    fn is_user(&self, id: &[u8]) -> io::Result<bool> {
        let path = |link: &[u8]| [id, link].concat();
        readlinkat_raw(&self.proc, path(b"/exe"), &mut [MaybeUninit::uninit(); 1])?;
        if self.leads_inside(&self.proc, &path(b"/cwd"))? || self.leads_inside(&self.proc, &path(b"/root"))? {
            return Ok(true);
        }
        let descriptors = open_directory(&self.proc, &path(b"/fd"))?;
        any(&descriptors, |descriptor| self.leads_inside(&descriptors, descriptor).unwrap_or(false))
    }

    /// Returns whether a link's target is inside the directory.
    fn leads_inside(&self, at: &OwnedFd, link: &[u8]) -> io::Result<bool> {
        let mut target = [MaybeUninit::uninit(); TARGET];
        let (target, _) = readlinkat_raw(at, link, &mut target)?;
        Ok(target.split(|&byte| byte == b'/').any(|part| part == self.name.as_bytes()))
    }
}

/// Lists the ids of all processes but this one.
fn processes(proc: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let (own, mut found) = (std::process::id().to_string(), Vec::new());
    // A descriptor of its own, because each one remembers how far it was read.
    any(&open_directory(proc, b".")?, |id| {
        if id.first().is_some_and(u8::is_ascii_digit) && id != own.as_bytes() {
            found.push(id.to_vec());
        }
        false
    })?;
    Ok(found)
}

fn open_directory(at: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Returns whether one of the names in a directory passes the test.
fn any(directory: &OwnedFd, mut test: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); NAMES];
    let mut names = RawDir::new(directory, &mut buffer);
    while let Some(entry) = names.next() {
        if test(entry?.file_name().to_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn is_in_use(name: &str) -> io::Result<bool> {
        Ok(Search::new(name)?.finds_user())
    }

    #[test]
    fn a_process_that_started_after_the_first_list_is_found() {
        let temp = tempfile::Builder::new().prefix("in-use-").tempdir().unwrap();
        let search = Search::new(temp.path().file_name().unwrap().to_str().unwrap()).unwrap();
        assert!(!search.finds_user() && !search.finds_new_user().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test starts its own processes")]
        let mut sleep = std::process::Command::new("sleep");
        let mut child = sleep.arg("60").current_dir(temp.path()).spawn().unwrap();
        let found = (search.finds_user(), search.finds_new_user().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, (false, true));
    }

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
