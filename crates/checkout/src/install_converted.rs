//! Lets git convert files, and moves them from the scratch directory into the release.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bluegreen_object_store::ObjectStore;
use bluegreen_sys::dir::Dir;
use rustix::fs::OFlags;

use super::converted::Converted;
use super::error::{Error, Result};
use super::index_vec::{EntryIndex, IndexVec};
use super::listing::Listing;
use super::manifest::{Stamp, stamp};
use super::monitor::{Monitor, Notice};
use super::options::{Lfs, Options};
use super::plan::Plan;
use super::project_files::{ProjectFiles, pointer};
use super::scratch::Scratch;
use super::walk::Walk;
use bluegreen_process::Limits;

/// Converted files of one project, in a scratch directory.
pub struct ConvertedFiles {
    entries: Vec<EntryIndex>,
    scratch: Scratch,
    /// The folder of the project that is deployed.
    subdirectory: PathBuf,
    /// Warnings from git and its filters.
    complaints: Vec<String>,
}

/// The state of a converted file in the release.
struct MovedFile {
    size: u64,
    stamp: Stamp,
}

/// Lets git write the converted files `entries` into scratch directories.
pub fn convert(
    listing: &Listing,
    projects: &mut [ProjectFiles],
    entries: &[EntryIndex],
    options: &Options,
    limits: Limits,
) -> Result<Vec<ConvertedFiles>> {
    let mut ready = Vec::new();
    for project in projects {
        let entries: Vec<EntryIndex> = entries.iter().copied().filter(|&entry| project.has(entry)).collect();
        if !entries.is_empty() {
            let (scratch, complaints) = project.checkout(listing, &entries, options, limits)?;
            let subdirectory = project.subdirectory().to_owned();
            ready.push(ConvertedFiles { entries, scratch, subdirectory, complaints });
        }
    }
    Ok(ready)
}

/// Moves converted files into the release, and records their sizes and stamps. Returns their entries.
pub fn move_all(
    plan: &mut Plan,
    ready: &[ConvertedFiles],
    root: &Dir,
    stamps: &mut IndexVec<EntryIndex, Stamp>,
    monitor: &Monitor,
) -> Result<Vec<EntryIndex>> {
    for ConvertedFiles { entries, scratch, subdirectory, complaints } in ready {
        for complaint in complaints {
            monitor.notice(Notice::Complaint(complaint));
        }
        let moved = move_in(plan, root, &scratch.files(subdirectory)?, entries)?;
        for (&entry, MovedFile { size, stamp }) in entries.iter().zip(moved) {
            plan.listing.set_size(entry, size);
            stamps[entry] = stamp;
        }
    }
    Ok(ready.iter().flat_map(|ready| &ready.entries).copied().collect())
}

/// Moves files into the release; returns their sizes and stamps.
fn move_in(plan: &Plan, root: &Dir, files: &Dir, entries: &[EntryIndex]) -> Result<Vec<MovedFile>> {
    let listing = &plan.listing;
    let (mut from, mut to) = (Walk::new(listing, files), Walk::new(listing, root));
    let mut move_one = |entry: EntryIndex| -> io::Result<MovedFile> {
        let (directory, name) = (listing.directory_of(entry), listing.name(entry));
        let (from, to) = (from.enter(directory)?, to.enter(directory)?);
        if from.stat(name)?.st_mode != listing.entries[entry].kind.mode() {
            return Err(io::Error::other("git has written another type of file"));
        }
        from.rename_new(name, to, name)?;
        let stat = to.stat(name)?;
        Ok(MovedFile { size: stat.st_size.cast_unsigned(), stamp: stamp(&stat) })
    };
    let mut moved = Vec::with_capacity(entries.len());
    for &entry in entries {
        moved.push(move_one(entry).map_err(|error| Error::io("write", listing.path_of(entry))(error))?);
    }
    Ok(moved)
}

/// Finds the pointers that git-lfs did not replace. Its settings may allow that.
pub fn find_pointers(
    plan: &Plan,
    root: &Dir,
    written: &[EntryIndex],
    objects: &ObjectStore,
    lfs: Lfs,
    converted: &mut Converted,
    monitor: &Monitor,
) -> Result<()> {
    let (listing, reader) = (&plan.listing, objects.reader());
    let mut walk = Walk::new(listing, root);
    let mut found = Vec::new();
    for &entry in written {
        let id = listing.id(entry);
        if reader.blob_size(id)? != listing.size_of(entry) || pointer(listing, entry, &reader)?.is_none() {
            continue;
        }
        let mut content = Vec::new();
        let read = walk
            .enter(listing.directory_of(entry))
            .and_then(|dir| dir.open_file(listing.name(entry), OFlags::RDONLY))
            .and_then(|mut file: File| file.read_to_end(&mut content));
        read.map_err(|error| Error::io("read", listing.path_of(entry))(error))?;
        if content == reader.blob(id)? {
            found.push(entry);
        }
    }
    if lfs == Lfs::Refuse && !found.is_empty() {
        let problem = "git-lfs left these files as pointers";
        return Err(Error::Lfs {
            problem,
            paths: found.iter().map(|&entry| listing.path_of(entry)).collect(),
        });
    }
    converted.pointers.extend(found);
    converted.pointers.sort_unstable();
    if !converted.pointers.is_empty() {
        let paths: Vec<PathBuf> = converted.pointers.iter().map(|&entry| listing.path_of(entry)).collect();
        monitor.notice(Notice::Pointers(&paths));
    }
    Ok(())
}
