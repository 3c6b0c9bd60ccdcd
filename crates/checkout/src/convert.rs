//! Plans the conversion of files by attributes: filters such as Git LFS, encodings, `ident`, and line endings.
//!
//! This module finds the files; git writes them into a [`super::scratch`] directory, and [`super::install_converted`]
//! moves them into the release. For a tree without converting attributes only the `.gitattributes` are read
//! and no process is started; otherwise the cost grows with the number of converted files.

use bluegreen_object_store::Reader;

use super::converted::Converted;
use super::error::{Error, Result};
use super::index_vec::EntryIndex;
use super::lfs::Pointer;
use super::listing::{FileSize, Listing};
use super::manifest::Manifest;
use super::options::{Lfs, Options};
use super::plan::Plan;
use super::project_files::{PointerFile, ProjectFiles};
use super::submodule::Project;
use bluegreen_git::search_path;
use bluegreen_process::Limits;
use bluegreen_process::signals::Stop;

/// The conversions that one release needs.
#[derive(Debug)]
pub struct Conversion {
    /// All converted entries.
    pub converted: Converted,
    /// The projects with converted files.
    pub projects: Vec<ProjectFiles>,
    options: Options,
    /// The entries that are pointers, with the sizes of their contents.
    contents: Vec<FileSize>,
}

impl Conversion {
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            converted: Converted::default(),
            projects: Vec::new(),
            options: options.clone(),
            contents: Vec::new(),
        }
    }

    /// Finds the files to convert.
    pub fn find(
        &mut self,
        plan: &Plan,
        recycled: Option<&Manifest>,
        projects: &[Project],
        reader: &Reader,
        stop: Option<&Stop>,
    ) -> Result<()> {
        let old = recycled.map(|manifest| &manifest.converted);
        let limits = Limits { timeout: self.options.filter_timeout, stop };
        let mut candidates = Vec::new();
        for project in projects {
            let mut files = ProjectFiles::new(&plan.listing, project, projects);
            if let Some(survey) = files.survey(&plan.listing, project.directory, reader)? {
                self.converted.fingerprint.extend_from_slice(&survey.fingerprint);
                candidates.push(survey.candidates);
                self.projects.push(files);
            }
        }
        let same = old.filter(|old| self.is_like(old));
        for (at, candidates) in candidates.iter_mut().enumerate() {
            if let Some(old) = same {
                // A pointer is examined again each time: its content may be on the server by now.
                candidates.retain(|&entry| plan.same_in_old[entry].is_none_or(|same| old.is_pointer(same)));
            }
            let found =
                self.projects[at].find_converted(&plan.listing, candidates, reader, &self.options, limits)?;
            self.converted.entries.extend(found.converted);
            self.exclude_pointers(at, &plan.listing, &found.pointers)?;
        }
        self.converted.entries.sort_unstable();
        self.converted.pointers.sort_unstable();
        Ok(())
    }

    /// Treats files of a recycled release as new if they would be converted differently now. Keeps the conversions of the
    /// others.
    pub fn forget_changed(&mut self, plan: &mut Plan, recycled: &Manifest) {
        let old = &recycled.converted;
        if self.is_like(old) {
            forget_same(plan, |same, _| old.is_pointer(same));
            self.converted.keep(&plan.same_in_old, old);
        } else if !old.entries.is_empty() || !self.converted.entries.is_empty() {
            forget_same(plan, |same, entry| old.contains(same) || self.converted.contains(entry));
        }
    }

    /// Returns whether an old conversion followed the same rules.
    fn is_like(&self, old: &Converted) -> bool {
        old.fingerprint == self.converted.fingerprint
    }

    /// Sets the sizes of pointers to the sizes of their contents, to check limits and free space.
    pub fn set_content_sizes(&self, listing: &mut Listing) {
        for &FileSize { entry, size } in &self.contents {
            listing.set_size(entry, size);
        }
    }

    /// Rejects pointers whose content is missing, or with [`Lfs::Warn`] excludes them from the conversion.
    fn exclude_pointers(
        &mut self,
        project: usize,
        listing: &Listing,
        pointers: &[PointerFile],
    ) -> Result<()> {
        let project = &self.projects[project];
        let stores = project.settings.lfs_stores(project.repository.path());
        let problem = if !project.settings.has_filter(b"lfs") {
            Some(
                "git-lfs is not set up (`git lfs install --system --skip-repo`), these files would be pointers",
            )
        } else if !is_installed("git-lfs") {
            Some("git-lfs is not installed, these files would be pointers")
        } else {
            None
        };
        let is_missing = |pointer: &Pointer| {
            problem.is_some() || !project.settings.has_lfs_remote && !pointer.is_in(&stores)
        };
        let (missing, found): (Vec<_>, Vec<_>) = pointers.iter().partition(|file| is_missing(&file.pointer));
        let missing: Vec<EntryIndex> = missing.iter().map(|file| file.entry).collect();
        if self.options.lfs == Lfs::Refuse && !missing.is_empty() {
            let problem = problem.unwrap_or("the content of these files of Git LFS is not on the server");
            return Err(Error::Lfs {
                problem,
                paths: missing.iter().map(|&entry| listing.path_of(entry)).collect(),
            });
        }
        let size = |file: &PointerFile| FileSize { entry: file.entry, size: file.pointer.size };
        self.contents.extend(found.into_iter().map(size));
        // git-lfs would fail without the object, so the pointer is deployed without it.
        self.converted.entries.retain(|entry| missing.binary_search(entry).is_err());
        self.converted.pointers.extend(missing);
        Ok(())
    }
}

/// Treats files for which `is_other` returns true as new. It receives the old entry and the new one.
fn forget_same(plan: &mut Plan, is_other: impl Fn(EntryIndex, EntryIndex) -> bool) {
    for (entry, same) in plan.listing.entries.indices().zip(plan.same_in_old.iter_mut()) {
        same.take_if(|same| is_other(*same, entry));
    }
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}
