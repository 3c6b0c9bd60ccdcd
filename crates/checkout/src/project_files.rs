//! The files of one project in a release: the deployed project or a submodule. Each project has its own attributes and its own
//! config.

use std::path::{Path, PathBuf};

use bluegreen_object_store::tree::EntryKind;
use bluegreen_object_store::{ObjectId, Reader};

use super::attributes::{Context, Match};
use super::error::Result;
use super::index_vec::{DirectoryIndex, EntryIndex, IndexRange};
use super::lfs::{MAX_POINTER, Pointer};
use super::listing::Listing;
use super::options::Options;
use super::scratch::Scratch;
use super::settings::Settings;
use super::subdirectory::Subdirectory;
use super::submodule::{Project, path_in};
use bluegreen_git::Repository;
use bluegreen_process::Limits;

/// Up to this number, git writes all candidates, because asking it which of them it converts would take longer. Filters are
/// an exception, because the content that they produce may be missing.
const MAX_UNASKED: usize = 64;

/// The files of one project in a release.
#[derive(Debug)]
pub struct ProjectFiles {
    pub repository: Repository,
    pub settings: Settings,
    root: PathBuf,
    /// The folder of the project that is deployed.
    subdirectory: Subdirectory,
    entries: IndexRange<EntryIndex>,
    /// The ranges within `entries` that are submodules.
    holes: Vec<IndexRange<EntryIndex>>,
    /// Its `.gitattributes`.
    attributes: Vec<EntryIndex>,
    /// Whether its attributes may choose a filter driver.
    may_filter: bool,
    scratch: Option<Scratch>,
}

/// The result of [`ProjectFiles::survey`].
pub struct Survey {
    /// The attributes and settings that decide how files are converted, for comparison with another release.
    pub fingerprint: Vec<u8>,
    /// The files that could be converted. Only git can decide.
    pub candidates: Vec<EntryIndex>,
}

/// The result of [`ProjectFiles::find_converted`].
#[derive(Default)]
pub struct Found {
    /// The entries that git converts.
    pub converted: Vec<EntryIndex>,
    /// The Git LFS pointers, whether or not a filter is defined for them.
    pub pointers: Vec<PointerFile>,
}

/// A file that is a Git LFS pointer.
pub struct PointerFile {
    pub entry: EntryIndex,
    pub pointer: Pointer,
}

/// The text of a `.gitattributes`, and the directory to which it applies.
struct Source {
    directory: DirectoryIndex,
    text: Vec<u8>,
}

impl ProjectFiles {
    /// Collects the files of `project`, which is one of `projects`.
    #[must_use]
    pub fn new(listing: &Listing, project: &Project, projects: &[Project]) -> Self {
        let entries = listing.below(project.directory);
        let is_within = |other: &&Project| {
            let below = listing.below(other.directory);
            other.directory > project.directory && entries.start <= below.start && below.end <= entries.end
        };
        let mut files = Self {
            repository: project.repository.clone(),
            settings: Settings::default(),
            root: listing.directory_path(project.directory),
            subdirectory: project.subdirectory.clone(),
            holes: projects.iter().filter(is_within).map(|other| listing.below(other.directory)).collect(),
            entries,
            attributes: Vec::new(),
            may_filter: true,
            scratch: None,
        };
        let is_attributes = |entry: &EntryIndex| {
            !listing.entries[*entry].kind.is_directory() && listing.name(*entry) == b".gitattributes"
        };
        files.attributes = files.own(files.entries.clone()).filter(is_attributes).collect();
        files
    }

    /// Returns whether an entry is part of this project.
    #[must_use]
    pub fn has(&self, entry: EntryIndex) -> bool {
        self.entries.contains(entry) && !self.holes.iter().any(|hole| hole.contains(entry))
    }

    fn own(&self, range: IndexRange<EntryIndex>) -> impl Iterator<Item = EntryIndex> {
        range.filter(|&entry| self.has(entry))
    }

    /// Reads the attributes, and finds the files that they could convert. Returns `None` if they convert nothing.
    pub fn survey(
        &mut self,
        listing: &Listing,
        directory: DirectoryIndex,
        reader: &Reader,
    ) -> Result<Option<Survey>> {
        let git_dir = self.repository.path();
        let mut sources = Vec::with_capacity(self.attributes.len() + 1);
        for &entry in &self.attributes {
            let text = reader.blob(listing.id(entry))?;
            sources.push(Source { directory: listing.directory_of(entry), text });
        }
        for file in &self.subdirectory.attributes {
            sources.push(Source { directory, text: reader.blob(file.id)? });
        }
        let own =
            ["config", "config.worktree"].map(|name| std::fs::read(git_dir.join(name)).unwrap_or_default());
        if let Ok(text) = std::fs::read(git_dir.join("info/attributes")) {
            sources.push(Source { directory, text });
        }
        let mut context = Context::default();
        for source in &sources {
            context.learn_macros(&source.text);
        }
        let is_plain = !own.iter().any(|text| Settings::may_be_in(text));
        if is_plain && sources.iter().all(|source| context.matches(&source.text).is_empty()) {
            return Ok(None);
        }
        self.settings = Settings::parse(&self.repository.settings()?);
        if let Some(file) = self.settings.attributes_file() {
            let text = std::fs::read(file).unwrap_or_default();
            context.learn_macros(&text);
            sources.push(Source { directory, text });
        }
        context.crlf = self.settings.has_crlf();
        context.ignore_case = self.settings.ignores_case();
        context.drivers = Some(self.settings.drivers().map(<[u8]>::to_vec).collect());
        self.may_filter = sources.iter().any(|source| context.may_filter(&source.text));
        let fingerprint = self.fingerprint(listing, &sources);
        Ok(Some(Survey { fingerprint, candidates: self.candidates(listing, &sources, &context) }))
    }

    /// Finds the files that a converting line could match, in order.
    fn candidates(&self, listing: &Listing, sources: &[Source], context: &Context) -> Vec<EntryIndex> {
        let is_file = |&entry: &EntryIndex| {
            matches!(listing.entries[entry].kind, EntryKind::File | EntryKind::Executable)
        };
        if self.settings.converts_all() {
            return self.own(self.entries.clone()).filter(is_file).collect();
        }
        let mut found = Vec::new();
        for source in sources {
            let rules: Vec<Match> = context.matches(&source.text);
            if !rules.is_empty() {
                let fits = |entry: &EntryIndex| rules.iter().any(|rule| rule.fits(listing.name(*entry)));
                found.extend(self.own(listing.below(source.directory)).filter(is_file).filter(fits));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Concatenates everything that decides how a file is converted, except the file itself.
    fn fingerprint(&self, listing: &Listing, sources: &[Source]) -> Vec<u8> {
        let mut all = self.settings.fingerprint();
        for &entry in &self.attributes {
            all.extend_from_slice(listing.path_of(entry).as_os_str().as_encoded_bytes());
            all.push(0);
            all.extend_from_slice(listing.raw_id(entry));
        }
        all.extend_from_slice(self.subdirectory.path.as_os_str().as_encoded_bytes());
        for file in &self.subdirectory.attributes {
            all.push(0);
            all.extend_from_slice(file.path.as_os_str().as_encoded_bytes());
        }
        // Those of the parent folders are among these.
        for source in &sources[self.attributes.len()..] {
            all.push(0);
            all.extend_from_slice(&source.text);
        }
        all
    }

    /// Finds the candidates that git converts, and the Git LFS pointers.
    pub fn find_converted(
        &mut self,
        listing: &Listing,
        candidates: &[EntryIndex],
        reader: &Reader,
        options: &Options,
        limits: Limits,
    ) -> Result<Found> {
        let mut found = Found::default();
        if candidates.len() <= MAX_UNASKED && !self.may_filter {
            found.converted = candidates.to_vec();
            return Ok(found);
        }
        let scratch = self.take_scratch(listing, candidates, options, limits)?;
        for (attributes, &entry) in
            scratch.attributes(&self.paths(listing, candidates), limits)?.iter().zip(candidates)
        {
            if attributes.convert(&self.settings) {
                found.converted.push(entry);
            }
            if attributes.filter() == Some(b"lfs")
                && let Some(pointer) = pointer(listing, entry, reader)?
            {
                found.pointers.push(PointerFile { entry, pointer });
            }
        }
        self.scratch = Some(scratch);
        Ok(found)
    }

    /// Lets git write files into a scratch directory. Returns the directory, which is removed when dropped, and git's warnings.
    pub fn checkout(
        &mut self,
        listing: &Listing,
        entries: &[EntryIndex],
        options: &Options,
        limits: Limits,
    ) -> Result<(Scratch, Vec<String>)> {
        let scratch = self.take_scratch(listing, entries, options, limits)?;
        let complaints = scratch.checkout(&self.root, &self.paths(listing, entries), limits)?;
        Ok((scratch, complaints))
    }

    /// Returns a scratch directory whose index contains all these entries: the one from `find_converted`, or a new one.
    fn take_scratch(
        &mut self,
        listing: &Listing,
        entries: &[EntryIndex],
        options: &Options,
        limits: Limits,
    ) -> Result<Scratch> {
        if let Some(scratch) = self.scratch.take_if(|scratch| scratch.has(entries)) {
            return Ok(scratch);
        }
        // The old one lacks a file that was modified in the recycled release. That it must be converted again is known
        // only now.
        let mut indexed = [&self.attributes, entries].concat();
        indexed.sort_unstable();
        indexed.dedup();
        let lines = self.index_lines(listing, &indexed);
        Scratch::new(options, &self.repository, &self.settings, indexed, &lines, limits)
    }

    /// Returns an index of these entries, and of the attributes of the parent folders, for `git update-index`.
    fn index_lines(&self, listing: &Listing, indexed: &[EntryIndex]) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut add = |kind: EntryKind, id: ObjectId, path: &Path| {
            lines.extend_from_slice(format!("{:o} {id}\t", kind.mode()).as_bytes());
            lines.extend_from_slice(path.as_os_str().as_encoded_bytes());
            lines.push(0);
        };
        for file in &self.subdirectory.attributes {
            add(file.kind, file.id, &file.path);
        }
        for (&entry, path) in indexed.iter().zip(self.paths(listing, indexed)) {
            add(listing.entries[entry].kind, listing.id(entry), &path);
        }
        lines
    }

    /// Returns the path of the folder that is deployed, in the project.
    #[must_use]
    pub fn subdirectory(&self) -> &Path {
        &self.subdirectory.path
    }

    /// Returns the paths of entries, relative to the root of the project.
    fn paths(&self, listing: &Listing, entries: &[EntryIndex]) -> Vec<PathBuf> {
        let path = |&entry: &EntryIndex| path_in(&self.root, &listing.path_of(entry));
        entries.iter().map(|entry| self.subdirectory.path.join(path(entry))).collect()
    }
}

/// Parses a blob as a Git LFS pointer.
pub fn pointer(listing: &Listing, entry: EntryIndex, reader: &Reader) -> Result<Option<Pointer>> {
    let id = listing.id(entry);
    if reader.blob_size(id)? > MAX_POINTER {
        return Ok(None);
    }
    Ok(Pointer::parse(&reader.blob(id)?))
}
