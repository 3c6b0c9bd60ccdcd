//! Submodules that are deployed with their content (`submodules = "fetch"`). `.gitmodules` lists them. They are fetched if they
//! are missing, and read as one tree with the project that contains them.
//!
//! As in git, a submodule's repository is `modules/<name>` in the git directory of its project. `.gitmodules` is not trusted:
//! the name must stay below `modules/`, git fetches the URL only with the protocols of [`bluegreen_git`], and the submodule's tree
//! is validated like any other.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use bluegreen_object_store::{ObjectId, ObjectStore};
use bluegreen_text::{MAX_MESSAGE_CHARS, truncated};

use super::error::{Error, Result};
use super::index_vec::DirectoryIndex;
use super::listing::Listing;
use super::subdirectory::Subdirectory;
use bluegreen_git::{self as git, Repository};
use bluegreen_process::Limits;

/// The project that is deployed, or a submodule.
#[derive(Debug)]
pub struct Project {
    /// Its directory in the listing.
    pub directory: DirectoryIndex,
    pub repository: Repository,
    /// The folder of its commit that is deployed.
    pub subdirectory: Subdirectory,
    /// The URL from which a submodule was fetched.
    url: Option<String>,
    /// The sections of its `.gitmodules`, once they are read.
    modules: Option<Vec<Module>>,
}

/// A section of `.gitmodules`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Module {
    name: Vec<u8>,
    path: Vec<u8>,
    url: Vec<u8>,
}

/// All projects of a release, the deployed one first.
#[derive(Debug)]
pub struct Projects<'a> {
    objects: &'a ObjectStore<'a>,
    limits: Limits<'a>,
    pub all: Vec<Project>,
}

impl Project {
    /// Returns the blob of its `.gitmodules`, which git reads only at the root.
    pub(super) fn gitmodules(&self, listing: &Listing) -> Option<ObjectId> {
        if !self.subdirectory.path.as_os_str().is_empty() {
            return self.subdirectory.gitmodules;
        }
        let mut files = listing.entries_of(self.directory);
        files.find(|&entry| listing.name(entry) == b".gitmodules").map(|entry| listing.id(entry))
    }

    /// Returns the path in the project for a path of the release.
    pub(super) fn path_in(&self, listing: &Listing, path: &Path) -> PathBuf {
        self.subdirectory.path.join(path_in(&listing.directory_path(self.directory), path))
    }
}

impl<'a> Projects<'a> {
    /// Starts with the project that is deployed. `limits` apply to each fetch.
    #[must_use]
    pub fn new(
        repository: &Repository,
        subdirectory: Subdirectory,
        objects: &'a ObjectStore<'a>,
        limits: Limits<'a>,
    ) -> Self {
        let repository = repository.clone();
        let project =
            Project { directory: DirectoryIndex::ROOT, repository, subdirectory, url: None, modules: None };
        Self { objects, limits, all: vec![project] }
    }

    /// Returns the objects of the project and of its submodules.
    #[must_use]
    pub fn objects(&self) -> &'a ObjectStore<'a> {
        self.objects
    }

    /// Opens a submodule of a project, and fetches it if necessary. Returns the tree of its commit. `path` is its path in the
    /// project, and `gitmodules` the blob of the project's `.gitmodules`.
    pub fn open(
        &mut self,
        project: usize,
        gitmodules: Option<ObjectId>,
        path: &Path,
        commit: ObjectId,
        directory: DirectoryIndex,
    ) -> Result<ObjectId> {
        let failed = |problem: &str| failed(path, problem);
        let module = self.module(project, gitmodules, path)?;
        let name = OsStr::from_bytes(&module.name);
        let is_safe = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_safe || module.name.is_empty() || module.name.starts_with(b"-") {
            return Err(failed("its name in `.gitmodules` is not allowed"));
        }
        let url = self.url(project, &module).map_err(|problem| failed(&problem))?;
        let modules = self.all[project].repository.path().join("modules");
        let git_dir = modules.join(directory_name(Path::new(name)));
        let fetched = self.fetch(&git_dir, &url, commit);
        let (repository, tree) = fetched.map_err(|error| match error {
            Error::Cancelled(_) | Error::Git(git::Error::Cancelled(_)) => error,
            error => failed(&error.to_string()),
        })?;
        self.objects.add(repository.path().join("objects"));
        let subdirectory = Subdirectory::whole(tree);
        self.all.push(Project { directory, repository, subdirectory, url: Some(url), modules: None });
        Ok(tree)
    }

    /// Returns the section of `.gitmodules` for a path.
    fn module(&mut self, project: usize, gitmodules: Option<ObjectId>, path: &Path) -> Result<Module> {
        let failed = |problem: &str| failed(path, problem);
        let project = &mut self.all[project];
        if project.modules.is_none() {
            let blob = gitmodules.ok_or_else(|| failed("the commit has no `.gitmodules`"))?;
            // Git would follow a cycle of deltas forever.
            self.objects.reader().blob_size(blob)?;
            project.modules = Some(parse(&project.repository.settings_of_blob(blob)?));
        }
        let mut modules = project.modules.iter().flatten();
        let found = modules.find(|module| module.path == path.as_os_str().as_bytes());
        found.cloned().ok_or_else(|| failed("`.gitmodules` has no section for it"))
    }

    /// Returns the URL to fetch from: the one in the repository's config, or else the one in `.gitmodules`.
    fn url(&self, project: usize, module: &Module) -> Result<String, String> {
        let project = &self.all[project];
        let setting = |key: &str| project.repository.setting(key).map_err(|error| error.to_string());
        if let Ok(name) = std::str::from_utf8(&module.name)
            && let Some(own) = setting(&format!("submodule.{name}.url"))?
        {
            return Ok(own);
        }
        let url = std::str::from_utf8(&module.url).map_err(|_| "its URL is not UTF-8")?;
        match url {
            "" => Err("`.gitmodules` gives no URL for it".into()),
            _ if url.starts_with('-') => Err(format!("`{url}` is not a URL")),
            _ if !url.starts_with("./") && !url.starts_with("../") => Ok(url.to_owned()),
            _ => {
                let base =
                    project.url.clone().map_or_else(|| setting("remote.origin.url"), |url| Ok(Some(url)))?;
                let base = base.ok_or_else(|| {
                    format!("its URL `{url}` is relative: set `remote.origin.url` in the repository to the URL that it is relative to")
                })?;
                relative_url(&base, url).ok_or_else(|| format!("its URL `{url}` points above `{base}`"))
            }
        }
    }

    /// Opens a submodule's repository, and fetches the commit if it is missing. Also returns the commit's tree.
    fn fetch(&self, git_dir: &Path, url: &str, commit: ObjectId) -> Result<(Repository, ObjectId)> {
        let format = self.objects.format();
        if !git_dir.join("objects").is_dir() {
            Repository::init(git_dir, format)?;
        }
        let repository = Repository::open(git_dir)?;
        // If the commit exists, so do its objects: git fetches all of them or none.
        let tree = || Ok(repository.objects(format).reader().commit(commit)?.tree);
        let found: Result<ObjectId> = tree();
        let tree = found.or_else(|_| {
            repository.fetch(url, commit, self.limits)?;
            tree()
        })?;
        Ok((repository, tree))
    }
}

/// The error of a submodule. The problem may name a URL from `.gitmodules`, which has any length.
fn failed(path: &Path, problem: &str) -> Error {
    Error::Submodule { path: path.into(), problem: truncated(problem, MAX_MESSAGE_CHARS).into_owned() }
}

/// Parses the output of `git config --list -z` for a `.gitmodules`.
fn parse(output: &[u8]) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for setting in output.split(|&byte| byte == 0) {
        let mut lines = setting.splitn(2, |&byte| byte == b'\n');
        let (key, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let Some(rest) = key.strip_prefix(b"submodule.") else { continue };
        let Some(dot) = rest.iter().rposition(|&byte| byte == b'.') else { continue };
        let (name, key) = (&rest[..dot], &rest[dot + 1..]);
        let at = modules.iter().position(|module| module.name == name).unwrap_or_else(|| {
            modules.push(Module { name: name.to_vec(), ..Module::default() });
            modules.len() - 1
        });
        match key {
            b"path" => modules[at].path = value.strip_suffix(b"/").unwrap_or(value).to_vec(),
            b"url" => modules[at].url = value.to_vec(),
            _ => {}
        }
    }
    modules
}

/// Returns the name of the directory in `modules/` for a submodule. A slash is escaped, so that no submodule's
/// repository is inside another one's.
fn directory_name(name: &Path) -> OsString {
    let mut escaped = Vec::new();
    for &byte in name.as_os_str().as_bytes() {
        match byte {
            b'/' => escaped.extend_from_slice(b"%2f"),
            b'%' => escaped.extend_from_slice(b"%25"),
            _ => escaped.push(byte),
        }
    }
    OsString::from_vec(escaped)
}

/// Resolves a relative URL as git does (`relative_url` in git's remote.c).
fn relative_url(base: &str, mut url: &str) -> Option<String> {
    let mut base = base.trim_end_matches('/');
    let mut separator = '/';
    loop {
        if let Some(rest) = url.strip_prefix("../") {
            let at = base.rfind('/').or_else(|| base.rfind(':'))?;
            separator = if base[at..].starts_with(':') { ':' } else { '/' };
            (base, url) = (&base[..at], rest);
        } else if let Some(rest) = url.strip_prefix("./") {
            url = rest;
        } else {
            return Some(format!("{base}{separator}{}", url.trim_end_matches('/')));
        }
    }
}

/// Returns a path of the release as a path in the project at `root`.
#[must_use]
pub fn path_in(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_urls_are_resolved_as_git_does() {
        for (base, url, resolved) in [
            ("https://example.com/group/app.git", "../lib.git", Some("https://example.com/group/lib.git")),
            ("https://example.com/group/app.git/", "./sub/", Some("https://example.com/group/app.git/sub")),
            ("git@example.com:group/app", "../../lib", Some("git@example.com:lib")),
            ("ssh://git@example.com/app", "../x/../y", Some("ssh://git@example.com/x/../y")),
            ("app", "../lib", None),
        ] {
            assert_eq!(relative_url(base, url).as_deref(), resolved, "{base} {url}");
        }
    }

    #[test]
    fn no_repository_is_inside_another_one() {
        for (name, escaped) in [("x", "x"), ("x/objects/y", "x%2fobjects%2fy"), ("x%2fy", "x%252fy")] {
            assert_eq!(directory_name(Path::new(name)), escaped);
        }
    }

    #[test]
    fn sections_are_parsed() {
        let output = b"submodule.a.b.path\nlib/x/\0submodule.a.b.url\n../x\0submodule.a.b.branch\nmain\0core.bare\ntrue\0";
        let module = Module { name: b"a.b".into(), path: b"lib/x".into(), url: b"../x".into() };
        assert_eq!(parse(output), [module]);
    }
}
