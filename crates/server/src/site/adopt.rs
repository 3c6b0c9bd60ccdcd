//! `LockedSite::adopt`: moves a site's previous files into its first release.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use bluegreen_object_store::ObjectId;
use bluegreen_sys::dir::Dir;

use super::paths::{CURRENT, INCOMING, NEXT, RELEASES, SHARED, STATE};
use super::{Live, LockedSite};
use crate::error::{Error, Result};
use crate::release::{Record, ReleaseName, State};

impl LockedSite {
    /// Returns the directories, `releases` or `shared`, in which the old site had files that visitors could request. They
    /// cannot be requested from a release.
    pub fn hidden_by_adoption(&self) -> Result<Vec<&'static str>> {
        let names = |name: &[u8], path| match self.dir.open_dir(name) {
            Ok(dir) => dir.names().map_err(Error::io("read", path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io("open", path)(error)),
        };
        let is_foreign = |(name, _): &(Vec<u8>, _)| {
            ReleaseName::from_bytes(name).is_none() && !name.starts_with(INCOMING.as_bytes())
        };
        let mut hidden = Vec::new();
        if names(RELEASES, self.releases_path())?.iter().any(is_foreign) {
            hidden.push("releases");
        }
        if !names(SHARED, self.shared_path())?.is_empty() {
            hidden.push("shared");
        }
        Ok(hidden)
    }

    /// Moves all files of the site except this program's own into a release, all or nothing, and activates it. Returns `None`
    /// if there is nothing to move, or if `current` exists.
    pub fn adopt(&self) -> Result<Option<ReleaseName>> {
        let is_ours = |name: &[u8]| [CURRENT, NEXT, RELEASES, STATE, SHARED].contains(&name);
        let names = self.dir.names().map_err(Error::io("read", &self.root))?;
        let names: Vec<&[u8]> =
            names.iter().map(|(name, _)| name.as_slice()).filter(|name| !is_ours(name)).collect();
        if names.is_empty() || self.live()? != Live::Nothing {
            return Ok(None);
        }
        if let Some(mount) =
            self.dir.find_mount(&names).map_err(Error::io("look for mounts in", &self.root))?
        {
            return Err(Error::Mounted { path: self.root.clone(), mount });
        }
        // The release has its final name from the beginning, so that no sweep removes the files that an interrupted run
        // has moved into it. The next run continues with that release.
        let begun = |release: &ReleaseName| release.commit() == ObjectId::NULL.short();
        let newest = self.releases()?.pop().filter(|newest| newest.record.is_none() && begun(&newest.name));
        let name = newest
            .map_or_else(|| ReleaseName::next(SystemTime::now(), ObjectId::NULL, &[]), |newest| newest.name);
        let text = name.to_string();
        let release = self
            .releases
            .open_or_create_dir(text.as_bytes(), 0o755)
            .map_err(Error::io("create", self.release_path(&name)))?;
        if let Err(error) = self.move_in(&names, &release) {
            // It is not empty if an interrupted run has moved files into it. They stay there.
            if release.names().is_ok_and(|names| names.is_empty()) {
                self.clear(text.as_bytes())?;
            }
            return Err(error);
        }
        let record = Record {
            state: State::Ready,
            ..Record::new(ObjectId::NULL, "The previous contents of the site".into(), 0)
        };
        self.write_record(&name, &record)?;
        self.activate(&name)?.flushed()?;
        Ok(Some(name))
    }

    /// Moves either all of these names from the site into a release, or none.
    fn move_in(&self, names: &[&[u8]], release: &Dir) -> Result<()> {
        for (at, name) in names.iter().enumerate() {
            let Err(error) = self.dir.rename_new(name, release, name) else { continue };
            let moved_back =
                names[..at].iter().rev().try_for_each(|name| release.rename_new(name, &self.dir, name));
            moved_back.map_err(Error::io("move back what was in", &self.root))?;
            return Err(Error::io("move", self.root.join(OsStr::from_bytes(name)))(error));
        }
        Ok(())
    }
}
