//! Finds processes that use a directory that is no longer reachable by its path.
//!
//! A process inside a release could keep writing to the directories that the next release reuses. Other users cannot write
//! there, and their processes cannot be inspected, and neither can undumpable processes of this user (`prctl(2)`).
//! Mappings are not read: that would triple the duration, and would only find shared, writable mappings of files that are
//! no longer open.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat, readlinkat_raw, statat};
use rustix::io::Errno;
use rustix::process::{Uid, geteuid};

/// The size of the buffer for directory entries, in bytes. Larger directories take several calls.
const ENTRIES_BUFFER: usize = 8 * 1024;

/// The size of the buffer for the target of a link. The kernel never reports a path longer than a page.
const TARGET_BUFFER: usize = 4096;

/// The number of times that processes are listed. If there are new ones each time, the directory counts as used.
const MAX_ROUNDS: usize = 20;

/// Returns whether a process of this user has its working directory, its root, or a descriptor inside the directory with
/// this name, which must be unique.
pub(super) fn is_in_use(name: &str) -> io::Result<bool> {
    let proc = open_directory(CWD, b"/proc")?;
    Search { name, proc: &proc, user: geteuid() }.finds_user(|| processes(&proc))
}

struct Search<'a> {
    name: &'a str,
    proc: &'a OwnedFd,
    /// The user of this program.
    user: Uid,
}

impl Search<'_> {
    /// Checks all processes. Lists them again until there is no new one, because a process may have started another one and
    /// exited before it was checked.
    fn finds_user(&self, mut list: impl FnMut() -> io::Result<Vec<Vec<u8>>>) -> io::Result<bool> {
        let mut checked = HashSet::new();
        for _ in 0..MAX_ROUNDS {
            let mut has_new = false;
            let last_started = self.last_started();
            for id in list()? {
                if checked.contains(&id) {
                    continue;
                }
                match self.is_user(&id) {
                    // A child that was starting may have executed its program by now.
                    Ok(true) if !self.is_starting_child(&id) && matches!(self.is_user(&id), Ok(true)) => {
                        return Ok(true);
                    }
                    // Another user's process is not a child of this user's.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    // Even one that has exited in the meantime may have started another one.
                    _ => has_new = true,
                }
                checked.insert(id);
            }
            if !has_new || last_started.is_some() && last_started == self.last_started() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the id of the process or thread that was started last. Some mounts of `/proc` hide it.
    fn last_started(&self) -> Option<Vec<u8>> {
        self.read(b"loadavg")?.rsplit(|&byte| byte == b' ').next().map(<[u8]>::to_vec)
    }

    /// Returns whether a process is a child of this one that has not executed its program yet, such as git. Until then it
    /// shares this program's descriptors.
    fn is_starting_child(&self, id: &[u8]) -> bool {
        let program = |id: &[u8]| readlinkat(self.proc, [id, b"/exe"].concat(), Vec::new()).ok();
        let parent = || {
            // The name of the program is in parentheses, and may contain others.
            let stat = self.read(&[id, b"/stat"].concat())?;
            let (_, fields) = std::str::from_utf8(&stat).ok()?.rsplit_once(") ")?;
            fields.split(' ').nth(1)?.parse().ok()
        };
        parent() == Some(std::process::id()) && program(id).is_some() && program(id) == program(b"self")
    }

    fn read(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let file = openat(self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        File::from(file).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Returns whether a process uses the directory. The first call rejects another user's process or a kernel thread, and
    /// fails for a process that has exited.
    fn is_user(&self, id: &[u8]) -> io::Result<bool> {
        let path = |link: &[u8]| [id, link].concat();
        if self.user.is_root() {
            readlinkat_raw(self.proc, path(b"/exe"), &mut [MaybeUninit::uninit(); 1])?;
        } else if statat(self.proc, id, AtFlags::SYMLINK_NOFOLLOW)?.st_uid != self.user.as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if self.points_inside(self.proc, &path(b"/cwd"))? || self.points_inside(self.proc, &path(b"/root"))? {
            return Ok(true);
        }
        let descriptors = open_directory(self.proc, &path(b"/fd"))?;
        any(&descriptors, |descriptor| self.points_inside(&descriptors, descriptor).unwrap_or(false))
    }

    /// Returns whether a link's target is inside the directory.
    fn points_inside(&self, at: &OwnedFd, link: &[u8]) -> io::Result<bool> {
        let mut target = [MaybeUninit::uninit(); TARGET_BUFFER];
        let (target, _) = readlinkat_raw(at, link, &mut target)?;
        Ok(target.split(|&byte| byte == b'/').any(|part| part == self.name.as_bytes()))
    }
}

/// Lists the ids of all processes but this one.
fn processes(proc: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let (own, mut found) = (std::process::id().to_string(), Vec::new());
    // A separate descriptor, because each has its own position in the directory.
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
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_BUFFER];
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

    #[test]
    fn a_process_that_started_after_the_first_list_is_found() {
        let temp = tempfile::Builder::new().prefix("in-use-").tempdir().unwrap();
        let name = temp.path().file_name().unwrap().to_str().unwrap();
        let proc = open_directory(CWD, b"/proc").unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test starts its own processes")]
        let mut sleep = std::process::Command::new("sleep");
        let mut started = None;
        let found = Search { name, proc: &proc, user: geteuid() }.finds_user(|| {
            let list = processes(&proc);
            started.get_or_insert_with(|| sleep.arg("60").current_dir(temp.path()).spawn().unwrap());
            list
        });
        let mut child = started.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.unwrap());
    }

    #[test]
    fn a_mount_of_proc_that_hides_the_last_process_id_is_searched() {
        let proc = tempfile::tempdir().unwrap();
        let start = |id: &str, directory: &str| {
            std::fs::create_dir_all(proc.path().join(id).join("fd")).unwrap();
            for (link, target) in [("exe", "/bin/sh"), ("root", "/"), ("cwd", directory)] {
                std::os::unix::fs::symlink(target, proc.path().join(id).join(link)).unwrap();
            }
        };
        let opened = open_directory(CWD, proc.path().to_str().unwrap().as_bytes()).unwrap();
        let search = Search { name: "released", proc: &opened, user: geteuid() };
        start("1", "/");
        assert!(!search.finds_user(|| processes(&opened)).unwrap());
        // Started by the first process after it was listed.
        let mut lists = vec![vec![b"1".to_vec(), b"2".to_vec()], vec![b"1".to_vec()]];
        start("2", "/site/released/inside");
        assert!(search.finds_user(|| Ok(lists.pop().unwrap())).unwrap());
    }

    #[test]
    fn a_child_that_has_not_executed_its_program_is_no_user() {
        let proc = tempfile::tempdir().unwrap();
        let own = std::process::id();
        for (id, program, parent) in
            [("self", "hook", 1), ("7", "hook", own), ("8", "hook", 1), ("9", "git", own)]
        {
            let directory = proc.path().join(id);
            std::fs::create_dir_all(directory.join("fd")).unwrap();
            for (link, target) in
                [("exe", program), ("root", "/"), ("cwd", "/"), ("fd/14", "/site/released/inside")]
            {
                std::os::unix::fs::symlink(target, directory.join(link)).unwrap();
            }
            std::fs::write(directory.join("stat"), format!("{id} (a) (hook) S {parent} 1 1 0")).unwrap();
        }
        let opened = open_directory(CWD, proc.path().to_str().unwrap().as_bytes()).unwrap();
        let search = Search { name: "released", proc: &opened, user: geteuid() };
        for (id, is_user) in [("7", false), ("8", true), ("9", true)] {
            assert_eq!(search.finds_user(|| Ok(vec![id.into()])).unwrap(), is_user, "{id}");
        }
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
