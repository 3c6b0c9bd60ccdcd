//! The files that attributes convert: filters such as Git LFS, encodings, `ident`, line ends.
//!
//! They are found here, with git's help where there is any doubt, written by git into a
//! [`super::scratch`], and moved into the release. A tree without converting attributes costs a look at
//! its `.gitattributes` and no process; otherwise the cost grows with the files that are converted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::area::Area;
use super::lfs::Pointer;
use super::listing::{Listing, NONE};
use super::manifest::Manifest;
use super::objects::Reader;
use super::plan::Plan;
use super::submodule::Project;
use crate::config::Lfs;
use crate::error::{Error, Result};
use crate::git::search_path;

/// The files of a release that were converted, as its manifest tells it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Converted {
    /// All that decided how. Where it is the same, a file of the same id is converted the same way.
    circumstances: ByteBuf,
    /// The entries, in order.
    pub entries: Vec<u32>,
    /// Files of Git LFS that are pointers for want of their content, in order.
    pub pointers: Vec<u32>,
}

/// What is to be converted for one release.
#[derive(Debug)]
pub struct Conversion {
    /// Everything that is converted.
    pub converted: Converted,
    /// Where, project by project.
    pub areas: Vec<Area>,
    /// A directory for scratches, on the file system of the release.
    pub scratch: PathBuf,
    /// What happens to pointers without content.
    pub lfs: Lfs,
    /// Entry and size of the content that pointers will become.
    contents: Vec<(u32, u64)>,
}

impl Converted {
    /// Whether an entry is converted.
    #[must_use]
    pub fn contains(&self, entry: u32) -> bool {
        self.entries.binary_search(&entry).is_ok()
    }

    fn is_pointer(&self, entry: u32) -> bool {
        self.pointers.binary_search(&entry).is_ok()
    }

    /// Adds what an earlier conversion under the same circumstances has done.
    fn keep(&mut self, plan: &Plan, old: &Self) {
        let is_kept = |entry: &u32| match plan.like[*entry as usize] {
            NONE => false,
            like => old.contains(like),
        };
        self.entries.extend((0..plan.like.len() as u32).filter(is_kept));
        self.entries.sort_unstable();
        self.entries.dedup();
    }
}

impl Conversion {
    /// Nothing to convert, and where it would be done.
    #[must_use]
    pub fn new(scratch: &Path, lfs: Lfs) -> Self {
        Self {
            converted: Converted::default(),
            areas: Vec::new(),
            scratch: scratch.into(),
            lfs,
            contents: Vec::new(),
        }
    }

    /// Finds what is to be converted. A recycled file that would be converted otherwise today is no like.
    pub fn find(
        &mut self,
        plan: &mut Plan,
        recycled: Option<&Manifest>,
        projects: &[Project],
        reader: &Reader,
    ) -> Result<()> {
        let old = recycled.map(|manifest| &manifest.converted);
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
                // What was a pointer is looked at anew each time.
                candidates.retain(|&entry| match plan.like[entry as usize] {
                    NONE => true,
                    like => old.is_pointer(like),
                });
            }
            let answer = self.areas[at].ask_git(&plan.listing, candidates, reader, &self.scratch)?;
            self.converted.entries.extend(answer.converted);
            self.leave_pointers(at, &plan.listing, &answer.pointers)?;
        }
        self.converted.entries.sort_unstable();
        self.converted.pointers.sort_unstable();
        match (same, old) {
            (Some(old), _) => {
                unlike(plan, |like, _| old.is_pointer(like));
                self.converted.keep(plan, old);
            }
            (None, Some(old)) if !old.entries.is_empty() || !self.converted.entries.is_empty() => {
                unlike(plan, |like, entry| old.contains(like) || self.converted.contains(entry));
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes how big pointers will become, which limits and the disk have to bear.
    pub fn expect_sizes(&self, listing: &mut Listing) {
        for &(entry, size) in &self.contents {
            listing.entries[entry as usize].size = size;
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
        // git-lfs would fail for want of the object, and the pointer is what was asked for.
        self.converted.entries.retain(|entry| missing.binary_search(entry).is_err());
        self.converted.pointers.extend(missing);
        Ok(())
    }
}

/// Takes the likes from files that are not to be kept.
fn unlike(plan: &mut Plan, is_other: impl Fn(u32, u32) -> bool) {
    for (entry, like) in plan.like.iter_mut().enumerate() {
        if *like != NONE && is_other(*like, entry as u32) {
            *like = NONE;
        }
    }
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}
