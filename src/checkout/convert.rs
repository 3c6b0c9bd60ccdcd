//! The files that attributes convert: filters such as Git LFS, encodings, `ident`, line ends.
//!
//! They are found here, with git's help where there is any doubt, written by git into a
//! [`super::scratch`], and moved into the release. A tree without converting attributes costs a look at
//! its `.gitattributes` and no process; otherwise the cost grows with the files that are converted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::area::Area;
use super::converted::Converted;
use super::lfs::Pointer;
use super::listing::{Listing, NONE};
use super::manifest::Manifest;
use super::objects::Reader;
use super::plan::Plan;
use super::submodule::Project;
use crate::config::{Lfs, SiteConfig};
use crate::error::{Error, Result};
use crate::git::search_path;
use crate::run::child::Limits;
use crate::run::signals::Stop;

/// The conversions that one release needs.
#[derive(Debug)]
pub struct Conversion {
    /// Everything that is converted.
    pub converted: Converted,
    /// The areas of the release in which they are, project by project.
    pub areas: Vec<Area>,
    /// A directory for scratches, on the file system of the release.
    pub scratch: PathBuf,
    /// The time that git may take.
    pub timeout: Duration,
    /// The fate of pointers without content.
    pub lfs: Lfs,
    /// Entry and size of the content that pointers will become.
    contents: Vec<(u32, u64)>,
}

impl Conversion {
    /// Nothing to convert, and where it would be done.
    #[must_use]
    pub fn new(scratch: &Path, site: &SiteConfig) -> Self {
        Self {
            converted: Converted::default(),
            areas: Vec::new(),
            scratch: scratch.into(),
            timeout: site.filter_timeout,
            lfs: site.lfs,
            contents: Vec::new(),
        }
    }

    /// Finds what is to be converted. A recycled file that would be converted
    /// in another way today counts as new.
    pub fn find(
        &mut self,
        plan: &mut Plan,
        recycled: Option<&Manifest>,
        projects: &[Project],
        reader: &Reader,
        stop: Option<&Stop>,
    ) -> Result<()> {
        let old = recycled.map(|manifest| &manifest.converted);
        let limits = Limits { timeout: self.timeout, stop };
        let mut candidates = Vec::new();
        for project in projects {
            let mut area = Area::new(&plan.listing, project, projects);
            if let Some(survey) = area.survey(&plan.listing, project.directory, reader)? {
                self.converted.circumstances.extend_from_slice(&survey.circumstances);
                candidates.push(survey.candidates);
                self.areas.push(area);
            }
        }
        let same = old.filter(|old| old.circumstances == self.converted.circumstances);
        for (at, candidates) in candidates.iter_mut().enumerate() {
            if let Some(old) = same {
                // Pointers are looked at anew each time: their content may have come since.
                candidates.retain(|&entry| match plan.same_in_old[entry as usize] {
                    NONE => true,
                    same => old.is_pointer(same),
                });
            }
            let answer = self.areas[at].ask_git(&plan.listing, candidates, reader, &self.scratch, limits)?;
            self.converted.entries.extend(answer.converted);
            self.leave_pointers(at, &plan.listing, &answer.pointers)?;
        }
        self.converted.entries.sort_unstable();
        self.converted.pointers.sort_unstable();
        match (same, old) {
            (Some(old), _) => {
                forget_same(plan, |same, _| old.is_pointer(same));
                self.converted.keep(&plan.same_in_old, old);
            }
            (None, Some(old)) if !old.entries.is_empty() || !self.converted.entries.is_empty() => {
                forget_same(plan, |same, entry| old.contains(same) || self.converted.contains(entry));
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes how big pointers will become, which limits and the disk have to bear.
    pub fn expect_sizes(&self, listing: &mut Listing) {
        for &(entry, size) in &self.contents {
            listing.set_size(entry, size);
        }
    }

    /// Looks for pointers that no content is there for, before anything is written.
    fn leave_pointers(&mut self, area: usize, listing: &Listing, pointers: &[(u32, Pointer)]) -> Result<()> {
        let area = &self.areas[area];
        let stores = area.settings.lfs_stores(area.repository.path());
        let problem = if !area.settings.has_filter(b"lfs") {
            Some(
                "git-lfs is not set up (`git lfs install --system --skip-repo`), these files would be pointers",
            )
        } else if !is_installed("git-lfs") {
            Some("git-lfs is not installed, these files would be pointers")
        } else {
            None
        };
        let is_missing =
            |pointer: &Pointer| problem.is_some() || !area.settings.has_lfs_remote && !pointer.is_in(&stores);
        let (missing, found): (Vec<_>, Vec<_>) =
            pointers.iter().partition(|(_, pointer)| is_missing(pointer));
        let missing: Vec<u32> = missing.iter().map(|(entry, _)| *entry).collect();
        if self.lfs == Lfs::Refuse && !missing.is_empty() {
            let problem = problem.unwrap_or("the content of these files of Git LFS is not on the server");
            return Err(Error::Lfs {
                problem,
                paths: missing.iter().map(|&entry| listing.path_of(entry)).collect(),
            });
        }
        self.contents.extend(found.iter().map(|(entry, pointer)| (*entry, pointer.size)));
        // git-lfs would fail without the object, and the config asks for the pointer then.
        self.converted.entries.retain(|entry| missing.binary_search(entry).is_err());
        self.converted.pointers.extend(missing);
        Ok(())
    }
}

/// Counts files as new that must not be kept: `is_other` gets the old entry and the new one.
fn forget_same(plan: &mut Plan, is_other: impl Fn(u32, u32) -> bool) {
    for (entry, same) in plan.same_in_old.iter_mut().enumerate() {
        if *same != NONE && is_other(*same, entry as u32) {
            *same = NONE;
        }
    }
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}
