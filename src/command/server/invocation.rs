//! The repository that a command works on, and the user that the command runs as.
//!
//! If root starts the program, it becomes the repository's owner before it reads any file that the owner can write. It
//! walks to the repository by file descriptors, reads the owner from the last one, and makes that one its working directory.
//! It stays root only if every component of the path and the repository are owned by root, and writable only by root. The
//! section "Trust" of ARCHITECTURE.md has the complete rule.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bluegreen_text::{MAX_NAME_CHARS, truncated};
use nix::unistd::{Uid, User, close, initgroups, setresgid, setresuid, setuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::key;
use super::ledger::{self, Entry, LEDGERS};
use super::path_walk::{PathWalk, WRITABLE_BY_OTHERS};
use crate::command::session;
use crate::error::{Error, Result};
use bluegreen_git::{Repository, git_dir_of, login_name, search_path};
use bluegreen_protocol::role::Role;
use bluegreen_report::Report;
use bluegreen_server::config::{self, Config};
use bluegreen_server::deploy::context::{Caller, DeployContext};
use bluegreen_server::site::history::{Actor, Key};

/// How the program was called, which determines the repository and the actor.
pub struct Invocation<'a> {
    /// The option `-C`.
    pub repository: Option<&'a Path>,
    /// The path by which the program was called.
    pub called_as: &'a Path,
    /// True if the program runs as a git hook.
    pub is_hook: bool,
    /// True if the boot unit started the program.
    pub at_boot: bool,
    /// The role of the ssh key, if it is restricted.
    pub role: Option<Role>,
}

/// Closes the file descriptors that the caller left open, so that steps and filters do not inherit them.
pub fn close_inherited() {
    let listed = Path::new("/proc/self/fd").read_dir().map(|open| {
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
        open.flatten().filter_map(number).filter(|&number| number > 2).collect::<Vec<_>>()
    });
    // Without /proc, try every number below the limit, or as many as take a few milliseconds.
    let limit = || rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = listed.unwrap_or_else(|_| (3..limit().min(1 << 16) as i32).collect());
    for number in open {
        // The listing's own descriptor is already closed.
        let _ = close(number);
    }
}

/// Returns whether git runs the program as a hook: it sets `GIT_DIR` for hooks.
pub fn called_by_git() -> bool {
    std::env::var_os("GIT_DIR").is_some()
}

/// Returns the host name.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "this server".into(), |name| name.to_string_lossy().into_owned())
}

impl Invocation<'_> {
    /// Opens the repository and its config, as the repository's owner.
    pub fn open<'r>(&self, report: &'r Report) -> Result<DeployContext<'r>> {
        let invoker = Uid::current();
        // As root, read no file that an environment variable names.
        let key = if invoker.is_root() { None } else { key::of_connection() };
        let repository = self.repository()?;
        repository.refuse_foreign()?;
        let config = Config::read(repository.path())?;
        refuse_weak(&config.site.root)?;
        let name = config.server.clone().unwrap_or_else(host_name);
        let (at_boot, role) = (self.at_boot, self.role);
        let caller = Caller {
            actor: LazyCell::new(Box::new(move || actor(invoker, key, role, at_boot))),
            is_git: self.is_hook,
            is_gate: false,
            step_of: step_of(&config.site.root),
            is_notice: std::env::var_os("BLUEGREEN_NOTICE").is_some(),
        };
        Ok(DeployContext::new(repository, config, name, caller, report))
    }

    /// Opens the repository: the one from `-C`, from `GIT_DIR`, the one whose `hooks/` the program was called from, the working
    /// directory unless it is a developer's clone, or the only one that the installer has set up on this server, in this
    /// order. It becomes the working directory. Root becomes its owner.
    pub fn repository(&self) -> Result<Repository> {
        let named =
            self.repository.map(Path::to_path_buf).or_else(|| std::env::var_os("GIT_DIR").map(PathBuf::from));
        let is_named = named.is_some();
        let hooks =
            self.called_as.parent().filter(|hooks| hooks.file_name().is_some_and(|name| name == "hooks"));
        let around = || [hooks.and_then(Path::parent), Some(Path::new("."))].into_iter().flatten();
        let candidates = named.map_or_else(|| around().map(Path::to_path_buf).collect(), |path| vec![path]);
        for path in candidates {
            let path = std::path::absolute(&path).map_err(Error::io("open", &path))?;
            if !is_named && is_plain_clone(&path) {
                continue;
            }
            match open(&path)? {
                Some(repository) => return Ok(repository),
                None if is_named => return Err(Error::NotARepository(path)),
                None => {}
            }
        }
        match &ledger::read(Path::new(LEDGERS))[..] {
            [] => Err(Error::NoRepository),
            [Entry { repository, .. }] => {
                let missing = || Error::NotARepository(repository.clone());
                open(repository)?.ok_or_else(missing)
            }
            several => {
                Err(Error::NameRepository(several.iter().map(|entry| entry.repository.clone()).collect()))
            }
        }
    }
}

/// Returns whether a directory is a clone that was not set up for deployments. An administrator who has installed from a clone
/// is still in it, and a developer works in one: `check` would advise them to make it a bare repository.
fn is_plain_clone(path: &Path) -> bool {
    let lacks = |name: &str| {
        let found = path.join(name).symlink_metadata();
        found.is_err_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        })
    };
    lacks("HEAD") && !lacks(".git") && lacks(".git/bluegreen.toml")
}

/// Reads the config again, for a command that has waited for its client.
pub fn reread(server: &mut DeployContext) -> Result<()> {
    let config = Config::read(server.repository.path())?;
    refuse_weak(&config.site.root)?;
    server.name = config.server.clone().unwrap_or_else(host_name);
    server.config = config;
    Ok(())
}

/// Opens the repository at a path, if there is one. Root becomes its owner.
fn open(path: &Path) -> Result<Option<Repository>> {
    if Uid::effective().is_root() { from_root(path) } else { as_ourselves(path) }
}

/// Opens the repository at a path, if there is one, as the current user.
fn as_ourselves(path: &Path) -> Result<Option<Repository>> {
    // `exists` would report an unsearchable directory as missing.
    if let Err(error) = path.join("HEAD").symlink_metadata()
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return Err(Error::ClosedRepository(path.into()));
    }
    let open = || {
        let repository = Repository::open(&git_dir_of(path)?).ok()?;
        // The directory in which the program was started may no longer exist, and git needs a working directory.
        std::env::set_current_dir(repository.path()).ok()?;
        Some(repository)
    };
    Ok(open())
}

/// Opens the repository at a path as root: becomes its owner before reading anything in it.
fn from_root(path: &Path) -> Result<Option<Repository>> {
    let walk = match PathWalk::open(path) {
        Ok(walk) => walk,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    if !walk.holds("HEAD") && !walk.holds(".git") {
        return Ok(None);
    }
    let owner = walk.owner()?;
    if !owner.is_root() {
        let failed = |error: io::Error| Error::io("become the owner of", path)(error);
        let environment = become_user(owner, &walk).map_err(failed)?;
        // From here on, every path is resolved with the owner's permissions.
        let here = std::env::current_dir().map_err(failed)?;
        return Ok(as_ourselves(&here)?.map(|repository| repository.in_environment(environment)));
    }
    let Some(repository) = as_ourselves(path)? else { return Ok(None) };
    refuse_weak_repository(repository.path())?;
    Ok(Some(repository))
}

/// Irrevocably becomes a user, and enters the last directory of a walk with that user's permissions. Returns the environment
/// for the user's programs, which contains none of root's variables. The user cannot trace this process.
fn become_user(uid: Uid, walk: &PathWalk) -> io::Result<Vec<(OsString, OsString)>> {
    let no_such_user = || io::Error::other(format!("the user {uid} does not exist"));
    let user = User::from_uid(uid)?.ok_or_else(no_such_user)?;
    let name = CString::new(user.name.clone())?;
    refuse_tracing()?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(uid, uid, uid)?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("root's rights cannot be dropped"));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    session::stop_with_parent()?;
    rustix::process::fchdir(walk.end())?;
    Ok([
        ("PATH", search_path()),
        ("HOME", user.dir.into()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.into()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into())
}

/// Refuses to drop privileges if the kernel would let the new user trace this process: a change of the user id makes a
/// process undumpable, unless an administrator has set this value to 1.
fn refuse_tracing() -> io::Result<()> {
    let file = "/proc/sys/fs/suid_dumpable";
    if std::fs::read_to_string(file).is_ok_and(|value| value.trim_end() == "1") {
        return Err(io::Error::other(format!("{file} is 1, which lets the owner trace this program")));
    }
    Ok(())
}

/// Refuses a root-owned repository if other users can change a file in it, or in an object directory that it borrows from, that
/// root would read or run.
fn refuse_weak_repository(git_dir: &Path) -> Result<()> {
    let (mut seen, mut seen_objects) = (BTreeSet::new(), BTreeSet::new());
    refuse_weak(git_dir)?;
    // The config is checked when it is read.
    refuse_weak_entries(git_dir, &mut seen, Some(config::FILE))?;
    let mut borrowed = alternates(&git_dir.join("objects"))?;
    while let Some(objects) = borrowed.pop() {
        refuse_weak(&objects)?;
        if is_new(&objects, &mut seen_objects)? {
            refuse_weak_entries(&objects, &mut seen, None)?;
            borrowed.extend(alternates(&objects)?);
        }
    }
    Ok(())
}

/// Refuses a directory, which itself was checked, if other users can change anything in it, at any depth and through symlinks,
/// except for one entry.
fn refuse_weak_entries(dir: &Path, seen: &mut Seen, except: Option<&str>) -> Result<()> {
    if !is_new(dir, seen)? {
        return Ok(());
    }
    let failed = |error: io::Error| Error::io("read", dir)(error);
    let entries = match dir.read_dir() {
        // A push may have just removed its temporary directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    let is_closed = |found: &Metadata| found.mode() & WRITABLE_BY_OTHERS == 0;
    let is_dir_closed = dir.metadata().is_ok_and(|found| is_closed(&found));
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let found = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(failed)?,
        };
        let path = entry.path();
        let is_link = found.is_symlink();
        // Below a directory that only root can change, a walk to the entry would find the same.
        let is_roots = is_dir_closed && !is_link && found.uid() == 0 && is_closed(&found);
        // Everybody may write to /dev/null, which disables a hook, for example.
        let is_null = is_link && path.read_link().is_ok_and(|target| target == Path::new("/dev/null"));
        if is_null || except.is_some_and(|name| entry.file_name() == name) {
            continue;
        }
        if !is_roots {
            refuse_weak(&path)?;
        }
        if found.is_dir() || (is_link && path.is_dir()) {
            refuse_weak_entries(&path, seen, None)?;
        }
    }
    Ok(())
}

/// The devices and inodes of directories.
type Seen = BTreeSet<(u64, u64)>;

/// Returns whether a directory exists and is seen for the first time.
fn is_new(dir: &Path, seen: &mut Seen) -> Result<bool> {
    match dir.metadata() {
        Ok(found) => Ok(seen.insert((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", dir)(error)),
    }
}

/// Returns the object directories that an object directory borrows from. Git decodes a quoted path, which therefore cannot be
/// checked.
fn alternates(objects: &Path) -> Result<Vec<PathBuf>> {
    let file = objects.join("info/alternates");
    let failed = |error: io::Error| Error::io("check", &file)(error);
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed)?,
    };
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let path = |line: &[u8]| {
        if line.starts_with(b"\"") {
            return Err(failed(io::Error::other("write its paths without quotes")));
        }
        Ok(objects.join(OsStr::from_bytes(line)))
    };
    lines.map(path).collect()
}

/// As root, refuses a path that other users can change.
pub fn refuse_weak(path: &Path) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    match PathWalk::open(path) {
        Ok(walk) => walk.refuse_others(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// Reads the environment to find the release whose step started this program.
fn step_of(site: &Path) -> Option<String> {
    let is_ours = std::env::var_os("BLUEGREEN_SITE").is_some_and(|path| Path::new(&path) == site);
    std::env::var("BLUEGREEN_RELEASE").ok().filter(|_| is_ours)
}

fn actor(invoker: Uid, key: Option<Key>, role: Option<Role>, at_boot: bool) -> Actor {
    let short = |value: String| truncated(&value, MAX_NAME_CHARS).into_owned();
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(short);
    let (sudo, ssh) = (variable("SUDO_USER"), variable("SSH_CONNECTION"));
    Actor {
        user: login_name(invoker),
        // A caller that came through ssh or sudo is a person.
        boot: at_boot && sudo.is_none() && ssh.is_none(),
        sudo,
        ssh: ssh.and_then(|ends| ends.split(' ').next().map(str::to_owned)),
        key,
        role,
    }
}
