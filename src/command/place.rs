//! The repository that a command works on, and the user who it works as.
//!
//! Root becomes the repository's owner before anything is read that the owner can write: the owner is
//! asked of the descriptor that a walk to the repository ends at, and the working directory is that
//! descriptor from then on. Root goes on as root only where everything on the way, and the repository, is
//! root's and nobody else can write it. ARCHITECTURE.md, "Trust", has the whole rule.

use std::cell::{Cell, LazyCell, OnceCell, RefCell};
use std::ffi::{CString, OsString};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, close, initgroups, setresgid, setresuid, setuid};

use super::key;
use super::way::Way;
use crate::config::{self, Config};
use crate::deploy::server::Server;
use crate::error::{Error, Result};
use crate::git::{Repository, git_dir_of, login_name, search_path};
use crate::pusher::report::Report;
use crate::site::history::{Actor, Key};

/// The sources that name the repository.
pub struct Place<'a> {
    /// The option `-C`.
    pub repository: Option<&'a Path>,
    /// The path that the program was called by.
    pub called_as: &'a Path,
    /// Set where the program is a hook.
    pub for_client: bool,
}

/// Closes what the caller left open, so that no program of the site's can read it.
pub fn close_inherited() {
    let Ok(open) = Path::new("/proc/self/fd").read_dir() else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|&number| number > 2).collect::<Vec<_>>() {
        // The listing's own descriptor is gone already.
        let _ = close(number);
    }
}

/// Returns whether git runs the program as a hook: only then does it set `GIT_DIR` and call it by its name.
pub fn called_by_git() -> bool {
    std::env::var_os("GIT_DIR").is_some()
}

/// The name of this machine.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "this server".into(), |name| name.to_string_lossy().into_owned())
}

impl Place<'_> {
    /// Opens the repository and its config, as the repository's owner.
    pub fn open<'r>(&self, report: &'r Report) -> Result<Server<'r>> {
        let invoker = Uid::current();
        // Root reads no file that the environment names.
        let key = if invoker.is_root() { None } else { key::of_connection() };
        let repository = self.repository()?;
        repository.refuse_foreign()?;
        let config = Config::read(repository.path())?;
        refuse_weak(&config.site.root)?;
        let name = config.server.clone().unwrap_or_else(host_name);
        let in_step = step_of(&config.site.root);
        Ok(Server {
            repository,
            config,
            name,
            actor: LazyCell::new(Box::new(move || actor(invoker, key))),
            report,
            for_client: self.for_client,
            in_step,
            in_notice: std::env::var_os("BLUEGREEN_NOTICE").is_some(),
            untold: RefCell::default(),
            insists: Cell::new(false),
            stop: OnceCell::new(),
        })
    }

    /// The repository: the one that is named, else the one of `GIT_DIR`, else the one whose `hooks/` the
    /// program was called from, else the working directory. It is the working directory from now on, and
    /// the program is its owner's.
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
            let found = if Uid::effective().is_root() { from_root(&path)? } else { as_ourselves(&path) };
            match found {
                Some(repository) => return Ok(repository),
                None if is_named => return Err(Error::NotARepository(path)),
                None => {}
            }
        }
        Err(Error::NoRepository)
    }
}

/// Opens a repository with no more rights than its owner's, where there is one.
fn as_ourselves(path: &Path) -> Option<Repository> {
    let repository = Repository::open(&git_dir_of(path)?).ok()?;
    // The one that the program was started in may be gone, and git needs one.
    std::env::set_current_dir(repository.path()).ok()?;
    Some(repository)
}

/// Opens a repository for root, who becomes its owner before anything in it is read.
fn from_root(path: &Path) -> Result<Option<Repository>> {
    let way = match Way::walk(path) {
        Ok(way) => way,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    if !way.holds("HEAD") && !way.holds(".git") {
        return Ok(None);
    }
    let owner = way.owner()?;
    if !owner.is_root() {
        let failed = |error: io::Error| Error::io("become the owner of", path)(error);
        let environment = become_user(owner, &way).map_err(failed)?;
        // From here on all is looked up with the owner's rights alone.
        let here = std::env::current_dir().map_err(failed)?;
        return Ok(as_ourselves(&here).map(|repository| repository.in_environment(environment)));
    }
    let Some(repository) = as_ourselves(path) else { return Ok(None) };
    refuse_weak_repository(repository.path())?;
    Ok(Some(repository))
}

/// Becomes a user for good, enters the end of a way with that user's rights, and gives the environment
/// that the user's programs may see: nothing of root's is in it.
fn become_user(uid: Uid, way: &Way) -> io::Result<Vec<(OsString, OsString)>> {
    let no_such_user = || io::Error::other(format!("there is no user {uid}"));
    let user = User::from_uid(uid)?.ok_or_else(no_such_user)?;
    let name = CString::new(user.name.clone())?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(uid, uid, uid)?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("there is a way back to root"));
    }
    rustix::process::fchdir(way.end())?;
    Ok([
        ("PATH", search_path()),
        ("HOME", user.dir.into()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.into()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into())
}

/// Refuses a repository of root's where others can write what root would read in it.
fn refuse_weak_repository(git_dir: &Path) -> Result<()> {
    refuse_weak(git_dir)?;
    let entries = git_dir.read_dir().map_err(Error::io("read", git_dir))?;
    // The config has a check, and words, of its own.
    for entry in entries.flatten().filter(|entry| entry.file_name() != config::FILE) {
        refuse_weak(&entry.path())?;
    }
    let alternates = std::fs::read_to_string(git_dir.join("objects/info/alternates")).unwrap_or_default();
    alternates.lines().filter(|line| line.starts_with('/')).try_for_each(|line| refuse_weak(Path::new(line)))
}

/// Refuses a path that root would use and others can change. Whoever is not root may use what they can.
pub fn refuse_weak(path: &Path) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    match Way::walk(path) {
        Ok(way) => way.refuse_others(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// The release whose step started this program, as the step's environment has it.
fn step_of(site: &Path) -> Option<String> {
    let is_ours = std::env::var_os("BLUEGREEN_SITE").is_some_and(|path| Path::new(&path) == site);
    std::env::var("BLUEGREEN_RELEASE").ok().filter(|_| is_ours)
}

fn actor(invoker: Uid, key: Option<Key>) -> Actor {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Actor {
        user: login_name(invoker),
        sudo: variable("SUDO_USER"),
        ssh: variable("SSH_CONNECTION").and_then(|ends| ends.split(' ').next().map(str::to_owned)),
        key,
    }
}
