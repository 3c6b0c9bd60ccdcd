//! `bluegreen.toml`: parsing and validation. Every [`Config`] is valid.
//!
//! Every key is optional, and so is the file. An error names the file, the line, the key, and the expected value.

mod app;
mod environment;
mod notify;
mod public;
mod shared;
mod steps;
mod values;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

use bluegreen_checkout::{Lfs, Submodules, Symlinks};

pub use self::app::AppConfig;
pub use self::environment::Environment;
pub use self::notify::Notify;
pub use self::public::PublicConfig;
pub use self::shared::{RelativePath, Shared, SharedPath};
pub use self::steps::{Phase, Step, StepsConfig};
use self::values::{absolute, branch, duration, folder, server, size, threads};

/// The file's name in the repository.
pub const FILE: &str = "bluegreen.toml";

/// The settings of one repository on one server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The only branch that deploys, without `refs/heads/`.
    #[serde(deserialize_with = "branch")]
    pub branch: String,
    /// The server's name in messages. By default, the host name.
    #[serde(deserialize_with = "server")]
    pub server: Option<String>,
    /// The time for which a deployment waits for another one.
    #[serde(deserialize_with = "duration")]
    pub lock_timeout: Duration,
    /// The number of checkout threads; 0 means one per core.
    #[serde(deserialize_with = "threads")]
    pub checkout_threads: usize,
    /// The `[site]` section.
    pub site: SiteConfig,
    /// The application, if the site has one.
    pub app: Option<AppConfig>,
    /// The paths that outlive releases.
    pub shared: Shared,
    pub steps: StepsConfig,
    /// The steps of the public side.
    pub public: PublicConfig,
    /// The commands that run after each change.
    pub notify: Notify,
    /// The additional environment variables of steps.
    pub env: Environment,
}

/// The `[site]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteConfig {
    /// The directory that contains `current` and `releases/`, an absolute path.
    #[serde(deserialize_with = "absolute")]
    pub root: PathBuf,
    /// The folder of the commit to deploy; `None` for the whole commit.
    #[serde(deserialize_with = "folder")]
    pub subdirectory: Option<PathBuf>,
    /// The number of good releases kept besides the live one.
    pub keep: usize,
    /// Whether to flush a release to disk before activation.
    pub durable: bool,
    /// The directories of hashed assets that stay reachable after an activation.
    pub assets: Vec<RelativePath>,
    /// The time for which an asset is kept after the last release that contained it.
    #[serde(deserialize_with = "duration")]
    pub assets_age: Duration,
    /// The maximum number of assets in the pool.
    pub assets_max: u32,
    /// What to do with symlinks that point out of the release.
    pub symlinks: Symlinks,
    /// What to do with submodules.
    pub submodules: Submodules,
    /// The timeout for fetching one submodule.
    #[serde(deserialize_with = "duration")]
    pub submodule_timeout: Duration,
    /// The timeout for git and its filters while they convert files.
    #[serde(deserialize_with = "duration")]
    pub filter_timeout: Duration,
    /// What to do with Git LFS files whose content is missing.
    pub lfs: Lfs,
    /// The treatment of a push to the public side.
    pub when_public: WhenPublic,
    /// The maximum number of files, symlinks, and directories in a release.
    pub max_files: u32,
    /// The maximum total size of a release's files, in bytes.
    #[serde(deserialize_with = "size")]
    pub max_size: u64,
}

/// The treatment of a push to the public side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenPublic {
    /// Deploy with a warning.
    Warn,
    /// Refuse it, unless it has the option `-o public`.
    Refuse,
    /// Deploy.
    Deploy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            branch: "master".into(),
            server: None,
            lock_timeout: Duration::from_secs(10 * 60),
            checkout_threads: 0,
            site: SiteConfig::default(),
            app: None,
            shared: Shared::default(),
            steps: StepsConfig::default(),
            public: PublicConfig::default(),
            notify: Notify::default(),
            env: Environment::default(),
        }
    }
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            root: "/var/www/html".into(),
            subdirectory: None,
            keep: 5,
            durable: true,
            assets: Vec::new(),
            assets_age: Duration::from_secs(30 * 24 * 60 * 60),
            assets_max: 10_000,
            symlinks: Symlinks::Inside,
            submodules: Submodules::Warn,
            submodule_timeout: Duration::from_secs(5 * 60),
            filter_timeout: Duration::from_secs(10 * 60),
            lfs: Lfs::Refuse,
            when_public: WhenPublic::Warn,
            max_files: 1_000_000,
            max_size: u64::MAX,
        }
    }
}

impl Config {
    /// Reads the config of the repository at `git_dir`. Returns the defaults if there is no file.
    pub fn read(git_dir: &Path) -> Result<Self> {
        let file = git_dir.join(FILE);
        match Self::read_file(&file) {
            Err(Error::Io(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// Reads a config from any path.
    pub fn read_file(file: &Path) -> Result<Self> {
        let mut text = String::new();
        let mut open = File::open(file).map_err(Error::io("read", file))?;
        refuse_unsafe(file, &open)?;
        open.read_to_string(&mut text).map_err(Error::io("read", file))?;
        Self::parse(&text).map_err(|(line, message)| Error::Config { file: file.into(), line, message })
    }

    /// Parses and validates a config. An error is a line number, counted from 1, and a message.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let document = toml::Deserializer::parse(text).map_err(|error| locate(text, &error, ""))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let key = error.path().to_string();
            locate(text, error.inner(), &key)
        })
    }
}

/// Fails if users other than the repository's owner and root can write the config, because it contains commands.
fn refuse_unsafe(path: &Path, file: &File) -> Result<()> {
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    let owner = metadata.uid();
    let problem = if metadata.mode() & 0o022 != 0 {
        "is writable by other users"
    } else if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        "is owned by another user"
    } else {
        return Ok(());
    };
    Err(Error::ConfigUnsafe { file: path.into(), problem: problem.into() })
}

fn locate(text: &str, error: &toml::de::Error, key: &str) -> (usize, String) {
    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    let mut message = in_words(&error.message().replace('\n', ", "));
    if let ("duplicate key", Some(span)) = (&*message, error.span()) {
        message = format!("`{}` is set twice", text[span].trim());
    }
    if key.is_empty() || key == "." || message.starts_with("unknown field") {
        (line, message)
    } else {
        (line, format!("`{key}`: {message}"))
    }
}

/// Replaces Rust type names in an error from serde.
fn in_words(message: &str) -> String {
    let Some((problem, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "usize" | "u32" | "u64" => "a whole number, at least 0",
        "i64" => "a whole number",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    format!("{problem}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_is_the_default() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.branch, "master");
        assert_eq!(config.lock_timeout, Duration::from_secs(600));
        assert_eq!(config.site.root, Path::new("/var/www/html"));
        assert_eq!((config.site.keep, config.site.durable), (5, true));
    }

    #[test]
    fn keys_are_read() {
        let config = Config::parse(
            "branch = 'main'\nserver = 'blue'\nlock-timeout = '1h 30m'\n[site]\nroot = '/srv/app'\nkeep = 0\n\
             durable = false\nsymlinks = 'any'\nsubmodules = 'refuse'\n",
        )
        .unwrap();
        assert_eq!((config.branch.as_str(), config.server.as_deref()), ("main", Some("blue")));
        assert_eq!(config.lock_timeout, Duration::from_secs(5400));
        assert_eq!(config.site.symlinks, Symlinks::Any);
        assert_eq!(config.site.submodules, Submodules::Refuse);
    }

    #[test]
    fn the_number_of_threads_is_bounded() {
        let threads = |text: &str| Config::parse(text).map(|config| config.checkout_threads);
        assert_eq!(threads("checkout-threads = 1024"), Ok(1024));
        assert!(threads("checkout-threads = 9223372036854775807").is_err());
    }

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| Config::parse(&format!("[site]\nmax-size = '{text}'")).unwrap().site.max_size;
        assert_eq!(["500", "5kb", "10 MB", "2 GB"].map(size), [500, 5_000, 10_000_000, 2_000_000_000]);
        assert_eq!(Config::default().site.max_size, u64::MAX);
    }

    #[test]
    fn errors_name_line_key_and_expectation() {
        for (text, line, message) in [
            ("brnch = 'x'", 1, "unknown field `brnch`, expected one of `branch`"),
            ("\nbranch = 5", 2, "`branch`: invalid type: integer `5`, expected a string"),
            (
                "branch = 'refs/heads/x'",
                1,
                "`branch`: invalid branch name `refs/heads/x`, expected the short name",
            ),
            (
                "checkout-threads = 1025",
                1,
                "`checkout-threads`: invalid number `1025`, expected a whole number from 0 to 1024",
            ),
            ("checkout-threads = -1", 1, "`checkout-threads`: invalid number `-1`, expected a whole number"),
            ("lock-timeout = 30", 1, "`lock-timeout`: the duration `30` needs a unit, as in \"30s\""),
            (
                "lock-timeout = true",
                1,
                "`lock-timeout`: invalid type: boolean `true`, expected a duration like",
            ),
            ("lock-timeout = 'soon'", 1, "`lock-timeout`: invalid duration `soon`, expected one like"),
            (
                "[site]\nsubdirectory = '../web'",
                2,
                "`site.subdirectory`: invalid folder `../web`, expected one",
            ),
            ("[site]\n\nroot = 'html'", 3, "`site.root`: invalid path `html`, expected an absolute one like"),
            ("[site]\nmax-size = '10 GiB'", 2, "`site.max-size`: invalid size `10 GiB`, expected one like"),
            ("[site]\nmax-size = '-1'", 2, "`site.max-size`: invalid size `-1`"),
            ("[site]\nmax-size = '99999999 TB'", 2, "`site.max-size`: invalid size `99999999 TB`"),
            ("[site]\nkeep = -1", 2, "`site.keep`: invalid value: integer `-1`, expected a whole number"),
            (
                "[site]\nsymlinks = 'none'",
                2,
                "`site.symlinks`: unknown variant `none`, expected `inside` or `any`",
            ),
            ("branch = ", 1, ""),
            ("server = ' '", 1, "`server`: invalid name ` `, expected one like"),
            ("[site]\nkeep = 1\nkeep = 2", 3, "`keep` is set twice"),
        ] {
            let (at, error) = Config::parse(text).unwrap_err();
            assert_eq!(at, line, "{text}: {error}");
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
