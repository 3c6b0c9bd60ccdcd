//! `.app.sock`: the symlink in a release to its instance's socket. The web server connects to `current/.app.sock`, so
//! an activation also switches instances.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{LockedSite, Site};
use crate::error::{Error, Result};
use crate::release::ReleaseName;

const LINK: &[u8] = b".app.sock";
/// The new symlink before the rename.
const NEXT: &[u8] = b".app.sock.next";

impl Site {
    /// Returns the path of the instance's socket; `None` if no instance was ever started.
    #[must_use]
    pub fn socket(&self, release: &ReleaseName) -> Option<PathBuf> {
        let releases = self.open_releases().ok()??;
        let target = releases.open_inside(release.to_string().as_bytes()).ok()?.read_link(LINK).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(&target)))
    }

    /// Returns whether a release's instance may be running. The socket's directory exists exactly as long as the instance
    /// runs. Any error other than "no such file" counts as running.
    #[must_use]
    pub fn may_run(&self, release: &ReleaseName) -> bool {
        let directory = self.socket(release).and_then(|socket| Some(socket.parent()?.to_owned()));
        directory.is_some_and(|directory| match directory.symlink_metadata() {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::NotFound,
        })
    }
}

impl LockedSite {
    /// Points `.app.sock` in a release to its instance's socket.
    pub fn link_socket(&self, release: &ReleaseName, socket: &Path) -> Result<()> {
        if self.socket(release).as_deref() == Some(socket) {
            return Ok(());
        }
        let link = || {
            let dir = self.releases.open_inside(release.to_string().as_bytes())?;
            dir.remove(NEXT)?;
            dir.create_symlink(socket.as_os_str().as_bytes(), NEXT)?;
            dir.rename(NEXT, &dir, LINK)
        };
        link().map_err(Error::io("write", self.release_path(release).join(OsStr::from_bytes(LINK))))
    }
}
