//! [`Scratch`]: a temporary directory into which git writes the files that only git can convert.
//!
//! It contains an index with those files and all `.gitattributes`, an empty work tree, so that git reads the attributes from
//! the index, and the output of `git checkout-index`. It is on the file system of the release, so that its files can be renamed
//! into the release. After a crash, the caller finds it by the prefix of its name.

use std::ffi::OsString;
use std::fs::create_dir;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bluegreen_sys::dir::Dir;
use tempfile::TempDir;

use super::error::{Error, Result};
use super::index_vec::EntryIndex;
use super::options::Options;
use super::settings::Settings;
use bluegreen_git::convert::Work;
use bluegreen_git::{self as git, Repository};
use bluegreen_process::Limits;

/// The attributes that decide how a file is converted, as git looks them up.
const ATTRIBUTES: [&str; 6] = ["filter", "ident", "working-tree-encoding", "eol", "text", "crlf"];

/// A temporary directory for one deployment. Dropping removes it.
#[derive(Debug)]
pub struct Scratch {
    repository: Repository,
    /// The `-c` arguments for git.
    settings: Vec<OsString>,
    dir: TempDir,
    indexed: Vec<EntryIndex>,
}

/// The attributes of one file, in the order of [`ATTRIBUTES`].
pub struct Attributes(Vec<Vec<u8>>);

impl Scratch {
    /// Creates a scratch directory with an index of the entries `indexed`, in order. `lines` are the index, as
    /// `git update-index --index-info` reads it.
    pub fn new(
        options: &Options,
        repository: &Repository,
        settings: &Settings,
        indexed: Vec<EntryIndex>,
        lines: &[u8],
        limits: Limits,
    ) -> Result<Self> {
        let failed = |error| Error::io("make a directory in", &options.scratch)(error);
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix(options.scratch_prefix).tempdir_in(&options.scratch).map_err(failed)?;
        for name in ["empty", "files"] {
            create_dir(dir.path().join(name)).map_err(failed)?;
        }
        let repository = repository.clone();
        let scratch = Self { repository, settings: settings.arguments(), dir, indexed };
        scratch.git(&["update-index".into(), "-z".into(), "--index-info".into()], lines, limits)?;
        Ok(scratch)
    }

    /// Returns whether the index contains all these entries.
    #[must_use]
    pub fn has(&self, entries: &[EntryIndex]) -> bool {
        entries.iter().all(|entry| self.indexed.binary_search(entry).is_ok())
    }

    /// Queries git for the attributes of files, whether or not they are in the index.
    pub fn attributes(&self, paths: &[PathBuf], limits: Limits) -> Result<Vec<Attributes>> {
        let arguments = ["check-attr", "--cached", "-z", "--stdin"].into_iter().chain(ATTRIBUTES);
        let (output, _) =
            self.git(&arguments.map(OsString::from).collect::<Vec<_>>(), &joined(paths), limits)?;
        // git prints path, name, and value of each attribute.
        let values: Vec<Vec<u8>> =
            output.split(|&byte| byte == 0).skip(2).step_by(3).map(<[u8]>::to_vec).collect();
        let attributes: Vec<_> =
            values.chunks_exact(ATTRIBUTES.len()).map(|values| Attributes(values.to_vec())).collect();
        if attributes.len() == paths.len() {
            Ok(attributes)
        } else {
            Err(git::Error::Failed { command: "check-attr".into(), stderr: "its output is too short".into() }
                .into())
        }
    }

    /// Lets git write files of the index below `root` in [`Scratch::files`]. Returns git's warnings.
    pub fn checkout(&self, root: &Path, paths: &[PathBuf], limits: Limits) -> Result<Vec<String>> {
        let mut prefix = OsString::from("--prefix=");
        prefix.push(self.dir.path().join("files").join(root).join(""));
        let arguments = ["checkout-index".into(), prefix, "-z".into(), "--stdin".into()];
        Ok(self.git(&arguments, &joined(paths), limits)?.1)
    }

    /// Opens the folder `subdirectory` of the written files.
    pub fn files(&self, subdirectory: &Path) -> Result<Dir> {
        let files = self.dir.path().join("files");
        let open = |dir: Dir| {
            let mut names = subdirectory.iter();
            names.try_fold(dir, |dir, name| dir.open_inside(name.as_bytes()))
        };
        Dir::open(&files).and_then(open).map_err(Error::io("open", files))
    }

    fn git(&self, arguments: &[OsString], input: &[u8], limits: Limits) -> Result<(Vec<u8>, Vec<String>)> {
        let (index, work_tree) = (self.dir.path().join("index"), self.dir.path().join("empty"));
        let work = Work { settings: &self.settings, index: &index, tree: &work_tree, limits };
        Ok(self.repository.convert(&work, arguments, input)?)
    }
}

impl Attributes {
    /// Returns the name of the filter driver, if any.
    #[must_use]
    pub fn filter(&self) -> Option<&[u8]> {
        Some(self.0[0].as_slice()).filter(|value| !matches!(*value, b"unspecified" | b"unset"))
    }

    /// Returns whether git would write anything other than the blob (`convert_attrs` in git's convert.c). A wrong `true` is
    /// harmless.
    #[must_use]
    pub fn convert(&self, settings: &Settings) -> bool {
        let [_, ident, encoding, eol, text, crlf] = [0, 1, 2, 3, 4, 5].map(|at| self.0[at].as_slice());
        let is_text = text != b"unset" && (text != b"unspecified" || crlf != b"unset");
        let is_utf8 = [&b"utf-8"[..], b"utf8"].iter().any(|name| encoding.eq_ignore_ascii_case(name));
        self.filter().is_some_and(|driver| settings.has_filter(driver))
            || ident == b"set"
            || !matches!(encoding, b"unspecified" | b"unset") && !is_utf8
            || is_text && (eol == b"crlf" || settings.has_crlf() && eol != b"lf")
    }
}

fn joined(paths: &[PathBuf]) -> Vec<u8> {
    paths.iter().flat_map(|path| path.as_os_str().as_bytes().iter().chain(&[0])).copied().collect()
}
