//! The files that attributes convert: filters such as Git LFS, encodings, `ident`, line ends.
//!
//! They are found here, with git's help where there is any doubt, written by git into a [`Scratch`], and
//! moved into the release. A tree without converting attributes costs a look at its `.gitattributes`
//! and no process; otherwise the cost grows with the files that are converted.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::attributes::{Context, Match};
use super::lfs::{MAX_POINTER, Pointer};
use super::manifest::Manifest;
use super::objects::{Objects, Reader};
use super::plan::{Listing, NONE, Plan};
use super::scratch::Scratch;
use super::settings::Settings;
use super::tree::Kind;
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

impl Converted {
    /// Whether an entry is converted.
    #[must_use]
    pub fn contains(&self, entry: u32) -> bool {
        self.entries.binary_search(&entry).is_ok()
    }
}

/// What is to be converted for one release.
#[derive(Debug, Default)]
pub struct Conversion<'a> {
    /// Everything that is converted.
    pub converted: Converted,
    /// What decides how, where anything is.
    pub workplace: Option<Workplace<'a>>,
    settings: Settings,
    attribute_files: Vec<u32>,
    scratch: Option<Scratch<'a>>,
    /// Entry and size of the content that pointers will become.
    contents: Vec<(u32, u64)>,
}

/// Where to convert.
#[derive(Debug, Clone, Copy)]
pub struct Workplace<'a> {
    /// The repository's objects.
    pub objects: &'a Objects<'a>,
    /// A directory for scratches, on the file system of the release.
    pub scratch: &'a Path,
    /// What happens to pointers without content.
    pub lfs: Lfs,
}

impl<'a> Conversion<'a> {
    /// Notes how big pointers will become, which limits and the disk have to bear.
    pub fn expect_sizes(&self, listing: &mut Listing) {
        for &(entry, size) in &self.contents {
            listing.entries[entry as usize].size = size;
        }
    }

    /// A scratch that has all these entries.
    pub fn take_scratch(&mut self, listing: &Listing, entries: &[u32]) -> Result<Option<Scratch<'a>>> {
        let Some(at) = self.workplace else { return Ok(None) };
        if let Some(scratch) = self.scratch.take_if(|scratch| scratch.has(entries)) {
            return Ok(Some(scratch));
        }
        // A recycled file that was touched is converted again, though nobody expected it.
        let mut indexed = [&self.attribute_files, entries].concat();
        indexed.sort_unstable();
        indexed.dedup();
        let repository = at.objects.repository();
        Scratch::new(at.scratch, repository, &self.settings, listing, indexed).map(Some)
    }
}

/// A text of attributes, and the directory that it is for.
struct Source {
    directory: u32,
    text: Vec<u8>,
}

/// Finds what is to be converted. A recycled file that would be converted otherwise today is no like.
pub fn find<'a>(plan: &mut Plan, recycled: Option<&Manifest>, at: Workplace<'a>) -> Result<Conversion<'a>> {
    let old = recycled.map(|manifest| &manifest.converted);
    let reader = at.objects.open()?;
    let git_dir = at.objects.repository().path();
    let files = attribute_files(&plan.listing);
    let mut sources = sources(plan, &files, &reader, git_dir)?;
    let own = ["config", "config.worktree"].map(|name| std::fs::read(git_dir.join(name)).unwrap_or_default());
    let mut context = Context::default();
    for source in &sources {
        context.learn_macros(&source.text);
    }
    let is_plain = !own.iter().any(|text| Settings::may_be_in(text));
    if is_plain && sources.iter().all(|source| context.matches(&source.text).is_empty()) {
        unlike(plan, old, &Converted::default());
        return Ok(Conversion::default());
    }

    let settings = Settings::parse(&at.objects.repository().settings()?);
    if let Some(file) = settings.attributes_file() {
        let text = std::fs::read(file).unwrap_or_default();
        context.learn_macros(&text);
        sources.push(Source { directory: 0, text });
    }
    context.crlf = settings.has_crlf();
    context.ignore_case = settings.ignores_case();
    let circumstances = circumstances(plan, &files, &sources, &settings);
    let is_known = old.is_some_and(|old| old.circumstances == circumstances);
    let mut candidates = candidates(&plan.listing, &sources, &context, settings.converts_all());
    if let Some(old) = old.filter(|_| is_known) {
        candidates.retain(|&entry| match plan.like[entry as usize] {
            NONE => true,
            like => old.pointers.binary_search(&like).is_ok(),
        });
    }
    let mut conversion = Conversion {
        attribute_files: files.iter().map(|(_, entry)| *entry).collect(),
        settings,
        workplace: Some(at),
        ..Conversion::default()
    };
    let pointers = conversion.ask_git(&plan.listing, &candidates, &reader)?;
    conversion.leave_pointers(&plan.listing, &pointers, at)?;
    conversion.converted.circumstances = circumstances;
    match old {
        Some(old) if is_known => {
            conversion.converted.keep(plan, old);
            // What was a pointer is looked at anew each time.
            unlike_all(plan, |like, _| old.pointers.binary_search(&like).is_ok());
        }
        _ => unlike(plan, old, &conversion.converted),
    }
    Ok(conversion)
}

/// The `.gitattributes` files, with their directory.
fn attribute_files(listing: &Listing) -> Vec<(u32, u32)> {
    let all = (0..listing.entries.len() as u32).filter(|&entry| {
        !listing.entries[entry as usize].kind.is_directory() && listing.name(entry) == b".gitattributes"
    });
    all.map(|entry| (listing.directory_of(entry), entry)).collect()
}

fn sources(plan: &Plan, files: &[(u32, u32)], reader: &Reader, git_dir: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(files.len() + 1);
    for &(directory, entry) in files {
        sources.push(Source { directory, text: reader.blob(plan.listing.id(entry))?.data().to_vec() });
    }
    if let Ok(text) = std::fs::read(git_dir.join("info/attributes")) {
        sources.push(Source { directory: 0, text });
    }
    Ok(sources)
}

/// Which files any converting line could mean, in order.
fn candidates(listing: &Listing, sources: &[Source], context: &Context, all: bool) -> Vec<u32> {
    let mut rules: Vec<(u32, Match)> = if all { vec![(0, Match::Any)] } else { Vec::new() };
    for source in sources {
        rules.extend(context.matches(&source.text).into_iter().map(|rule| (source.directory, rule)));
    }
    let mut found = Vec::new();
    for (directory, rule) in rules {
        found.extend(listing.below(directory).filter(|&entry| {
            matches!(listing.entries[entry as usize].kind, Kind::File | Kind::Executable)
                && rule.fits(listing.name(entry))
        }));
    }
    found.sort_unstable();
    found.dedup();
    found
}

impl Converted {
    /// Adds what an earlier conversion under the same circumstances has done.
    fn keep(&mut self, plan: &Plan, old: &Self) {
        let is_kept = |entry: &u32| match plan.like[*entry as usize] {
            NONE => false,
            like => old.contains(like),
        };
        self.entries.extend((0..plan.like.len() as u32).filter(is_kept));
        self.entries.sort_unstable();
    }
}

impl Conversion<'_> {
    /// Lets git say which of the candidates it converts; gives those that are pointers of Git LFS.
    fn ask_git(
        &mut self,
        listing: &Listing,
        candidates: &[u32],
        reader: &Reader,
    ) -> Result<Vec<(u32, Pointer)>> {
        let mut pointers = Vec::new();
        if candidates.is_empty() {
            return Ok(pointers);
        }
        let Some(scratch) = self.take_scratch(listing, candidates)? else { return Ok(pointers) };
        let paths: Vec<PathBuf> = candidates.iter().map(|&entry| listing.path_of(entry)).collect();
        for (attributes, &entry) in scratch.attributes(&paths)?.iter().zip(candidates) {
            if attributes.convert(&self.settings) {
                self.converted.entries.push(entry);
            }
            if attributes.filter() == Some(b"lfs")
                && let Some(pointer) = pointer(listing, entry, reader)?
            {
                pointers.push((entry, pointer));
            }
        }
        self.scratch = Some(scratch);
        Ok(pointers)
    }

    /// Looks for pointers that no content is there for, before anything is written.
    fn leave_pointers(
        &mut self,
        listing: &Listing,
        pointers: &[(u32, Pointer)],
        at: Workplace,
    ) -> Result<()> {
        let stores = self.settings.lfs_stores(at.objects.repository().path());
        let problem = if !self.settings.has_filter(b"lfs") {
            Some(
                "git-lfs is not set up (`git lfs install --system --skip-repo`), these files would be pointers",
            )
        } else if !is_installed("git-lfs") {
            Some("git-lfs is not installed, these files would be pointers")
        } else {
            None
        };
        let is_missing =
            |pointer: &Pointer| problem.is_some() || !self.settings.has_lfs_remote && !pointer.is_in(&stores);
        let missing = pointers.iter().filter(|(_, pointer)| is_missing(pointer));
        self.converted.pointers = missing.map(|(entry, _)| *entry).collect();
        let missing = &self.converted.pointers;
        if at.lfs == Lfs::Refuse && !missing.is_empty() {
            let problem = problem.unwrap_or("the content of these files of Git LFS is not on the server");
            return Err(Error::Lfs {
                problem,
                paths: missing.iter().map(|&entry| listing.path_of(entry)).collect(),
            });
        }
        let found = pointers.iter().filter(|(entry, _)| missing.binary_search(entry).is_err());
        self.contents = found.map(|(entry, pointer)| (*entry, pointer.size)).collect();
        // git-lfs would fail for want of the object, and the pointer is what was asked for.
        self.converted.entries.retain(|entry| missing.binary_search(entry).is_err());
        Ok(())
    }
}

/// The pointer that a blob is, if it is one.
pub fn pointer(listing: &Listing, entry: u32, reader: &Reader) -> Result<Option<Pointer>> {
    let id = listing.id(entry);
    if reader.blob_size(id)? > MAX_POINTER {
        return Ok(None);
    }
    Ok(Pointer::parse(reader.blob(id)?.data()))
}

/// Takes the likes from files that were converted or are to be.
fn unlike(plan: &mut Plan, old: Option<&Converted>, new: &Converted) {
    let Some(old) = old else { return };
    if !old.entries.is_empty() || !new.entries.is_empty() {
        unlike_all(plan, |like, entry| old.contains(like) || new.contains(entry));
    }
}

fn unlike_all(plan: &mut Plan, is_other: impl Fn(u32, u32) -> bool) {
    for (entry, like) in plan.like.iter_mut().enumerate() {
        if *like != NONE && is_other(*like, entry as u32) {
            *like = NONE;
        }
    }
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

/// All that decides what a conversion writes, besides the file itself.
fn circumstances(plan: &Plan, files: &[(u32, u32)], sources: &[Source], settings: &Settings) -> ByteBuf {
    let mut all = settings.fingerprint();
    for &(directory, entry) in files {
        all.extend_from_slice(plan.listing.path(directory, entry).as_os_str().as_bytes());
        all.push(0);
        all.extend_from_slice(plan.listing.raw_id(entry));
    }
    for source in &sources[files.len()..] {
        all.push(0);
        all.extend_from_slice(&source.text);
    }
    ByteBuf::from(all)
}
