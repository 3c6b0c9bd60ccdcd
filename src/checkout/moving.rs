//! Lets git convert files, and moves them from the scratch directory into the release.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::convert::Conversion;
use super::converted::Converted;
use super::manifest::{Stamp, stamp};
use super::monitor::{Monitor, Notice};
use super::objects::Objects;
use super::plan::Plan;
use super::project_files::pointer;
use super::recycle::Before;
use super::walk::Walk;
use crate::config::Lfs;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::run::child::Limits;

/// Lets git write the converted files that the release does not have yet, and moves them into it. Records
/// their sizes and stamps.
pub fn write(
    plan: &mut Plan,
    mut conversion: Conversion,
    before: &[Before],
    root: &Dir,
    stamps: &mut [Stamp],
    objects: &Objects,
    monitor: &Monitor,
) -> Result<Converted> {
    let is_missing = |entry: &u32| stamps[*entry as usize] == Stamp::default();
    let missing: Vec<u32> = conversion.converted.entries.iter().copied().filter(is_missing).collect();
    let limits = Limits { timeout: conversion.timeout, stop: Some(monitor.stop()) };
    for project in &mut conversion.projects {
        let missing: Vec<u32> = missing.iter().copied().filter(|&entry| project.has(entry)).collect();
        if missing.is_empty() {
            continue;
        }
        let (scratch, complaints) = project.checkout(&plan.listing, &missing, &conversion.scratch, limits)?;
        for complaint in complaints {
            monitor.notice(Notice::Complaint(&complaint));
        }
        let moved = move_in(plan, before, root, &scratch.files()?, &missing)?;
        for (&entry, (size, changed)) in missing.iter().zip(moved) {
            plan.listing.set_size(entry, size);
            stamps[entry as usize] = changed;
        }
    }
    find_pointers(plan, root, &missing, objects, conversion.lfs, &mut conversion.converted)?;
    let pointers = &conversion.converted.pointers;
    if !pointers.is_empty() {
        let paths: Vec<PathBuf> = pointers.iter().map(|&entry| plan.listing.path_of(entry)).collect();
        monitor.notice(Notice::Pointers(&paths));
    }
    Ok(conversion.converted)
}

/// Moves files into the release; returns their sizes and stamps.
fn move_in(
    plan: &Plan,
    before: &[Before],
    root: &Dir,
    files: &Dir,
    entries: &[u32],
) -> Result<Vec<(u64, Stamp)>> {
    let listing = &plan.listing;
    let (mut from, mut to) = (Walk::new(listing, files), Walk::new(listing, root));
    let mut move_one = |entry: u32| -> io::Result<(u64, Stamp)> {
        let (directory, name) = (listing.directory_of(entry), listing.name(entry));
        let (from, to) = (from.enter(directory)?, to.enter(directory)?);
        if from.stat(name)?.st_mode != listing.entries[entry as usize].kind.mode() {
            return Err(io::Error::other("git made something else of it"));
        }
        if before[directory as usize] == Before::Used {
            to.remove(name)?;
        } else if to.contains(name)? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        from.rename(name, to, name)?;
        let stat = to.stat(name)?;
        Ok((stat.st_size.cast_unsigned(), stamp(&stat)))
    };
    let mut moved = Vec::with_capacity(entries.len());
    for &entry in entries {
        moved.push(move_one(entry).map_err(|error| Error::io("write", listing.path_of(entry))(error))?);
    }
    Ok(moved)
}

/// Finds the pointers that git-lfs did not replace, which its settings may allow.
fn find_pointers(
    plan: &Plan,
    root: &Dir,
    written: &[u32],
    objects: &Objects,
    lfs: Lfs,
    converted: &mut Converted,
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
        if content == reader.blob(id)?.data() {
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
    Ok(())
}
