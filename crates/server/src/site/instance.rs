//! `.app.sock`: the symlink in a release to its instance's socket. The web server connects to `current/.app.sock`, so
//! an activation also switches instances.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{LockedSite, Site};
use crate::error::{Error, Result};
use crate::release::ReleaseName;

const LINK: &[u8] = b".app.sock";
/// The new symlink before the rename.
const NEXT: &[u8] = b".app.sock.next";

impl Site {
    /// Returns the path of the instance's socket; `None` if no instance was ever started.
    pub fn socket(&self, release: &ReleaseName) -> Result<Option<PathBuf>> {
        let Some(releases) = self.open_releases()? else { return Ok(None) };
        match releases.open_inside(release.to_string().as_bytes()).and_then(|dir| dir.read_link(LINK)) {
            Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(&target)))),
            Err(error) if has_no_link(&error) => Ok(None),
            Err(error) => Err(self.link_error("read", release)(error)),
        }
    }

    /// Returns whether a release's instance may be running. The socket's directory exists exactly as long as the instance
    /// runs. Any error of that directory other than "no such file" counts as running.
    pub fn may_run(&self, release: &ReleaseName) -> Result<bool> {
        let socket = self.socket(release)?;
        let directory = socket.as_deref().and_then(Path::parent);
        Ok(directory.is_some_and(|directory| match directory.symlink_metadata() {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }))
    }

    fn link_error(&self, verb: &'static str, release: &ReleaseName) -> impl FnOnce(io::Error) -> Error {
        Error::io(verb, self.release_path(release).join(OsStr::from_bytes(LINK)))
    }
}

impl LockedSite {
    /// Points `.app.sock` in a release to its instance's socket.
    pub fn link_socket(&self, release: &ReleaseName, socket: &Path) -> Result<()> {
        if self.socket(release)?.as_deref() == Some(socket) {
            return Ok(());
        }
        let link = || {
            let dir = self.releases.open_inside(release.to_string().as_bytes())?;
            dir.remove(NEXT)?;
            dir.create_symlink(socket.as_os_str().as_bytes(), NEXT)?;
            dir.rename(NEXT, &dir, LINK)
        };
        link().map_err(self.link_error("write", release))
    }
}

/// Returns whether an error means that there is no symlink of ours: the name is missing or not a symlink, or the release is not a
/// directory of the site.
fn has_no_link(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::INVAL | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
    )
}
