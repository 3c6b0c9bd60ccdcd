//! Checks a commit out: writes exactly the files that `git checkout` would write.
//!
//! [`plan`] reads and validates the whole tree before the first write, [`recycle`] creates the directories and moves
//! those that are unchanged in a recycled release, [`write`] writes or moves the files, and [`manifest`] records what
//! was written, so that a later release can be created from this one.

pub mod attributes;
mod convert;
pub mod converted;
mod error;
mod flush;
mod index_vec;
mod install_converted;
pub mod lfs;
pub mod listing;
pub mod manifest;
pub mod monitor;
mod options;
mod packed;
pub mod plan;
mod project_files;
pub mod recycle;
mod rows;
mod scratch;
mod settings;
pub mod subdirectory;
mod submodule;
mod symlinks;
mod walk;
mod write;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bluegreen_object_store::{ObjectId, ObjectStore, Reader};
use bluegreen_sys::dir::Dir;
use bluegreen_sys::parallel;
use rustix::event::{Timespec, poll};

use self::convert::Conversion;
pub use self::error::{Error, Result};
use self::flush::Unflushed;
use self::index_vec::{DirectoryIndex, EntryIndex, IndexVec};
use self::install_converted::ConvertedFiles;
use self::listing::{Directory, FileSize, Listing};
use self::manifest::{Ctime, Manifest, Stamp, clock, stamp};
use self::monitor::Monitor;
pub use self::options::{Lfs, Options, Submodules, Symlinks};
use self::packed::PackedEntries;
use self::plan::Plan;
use self::recycle::{Kept, Source};
use self::subdirectory::Subdirectory;
use self::submodule::Projects;
use self::write::Writer;

use bluegreen_git::Repository;
use bluegreen_process::Limits;
use bluegreen_process::signals::Stop;

/// From this number of files on, a separate thread reads the headers of the packs.
const MIN_PARALLEL_MEASURE: usize = 256;

/// The longest tick of the clock of a file system, at 100 ticks a second.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// The number of entries below which a release is usually written within a few ticks.
const SMALL_RELEASE: usize = 1000;

/// A planned checkout: everything is validated, and nothing is written yet.
#[derive(Debug)]
pub struct Checkout {
    /// The paths.
    pub plan: Plan,
    conversion: Conversion,
    packed: PackedEntries,
}

/// The directory into which a checkout writes.
#[derive(Debug)]
pub struct Destination<'a> {
    /// An empty directory.
    pub root: &'a Dir,
    /// The path for messages.
    pub path: PathBuf,
    /// The recycled release.
    pub recycled: Option<Source<'a>>,
    /// A directory on the same file system, to read its clock.
    pub clock: &'a Dir,
}

/// A checkout that was written.
#[derive(Debug)]
pub struct Written {
    pub manifest: Manifest,
    /// The paths to flush, if they are few and nothing else was written.
    pub unflushed: Option<Unflushed>,
}

impl Checkout {
    /// Reads a commit's tree, or a folder of it, and rejects what must not be written. `recycled` is the manifest of the release to be
    /// recycled.
    pub fn plan(
        repository: &Repository,
        objects: &ObjectStore,
        tree: ObjectId,
        recycled: Option<&Manifest>,
        options: &Options,
        stop: Option<&Stop>,
    ) -> Result<Self> {
        let subdirectory = Subdirectory::find(&objects.reader(), tree, &options.subdirectory)?;
        let tree = subdirectory.tree;
        let limits = Limits { timeout: options.submodule_timeout, stop };
        let mut projects = Projects::new(repository, subdirectory, objects, limits);
        let mut plan = read_plan(objects, tree, recycled, options, &mut projects)?;
        let mut conversion = Conversion::new(options);
        let reader = objects.reader();
        let measure = |plan: &Plan| measure(plan, objects, options.threads());
        let (packed, sizes) = match recycled {
            // If git is needed at all, it takes about as long as reading the headers in the packs.
            None if plan.listing.files() >= MIN_PARALLEL_MEASURE as u64 => thread::scope(|scope| {
                let measuring = parallel::spawn(scope, || measure(&plan));
                conversion.find(&plan, None, &projects.all, &reader, stop)?;
                match measuring {
                    Ok(measuring) => measuring.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    // At a limit of processes.
                    Err(_) => measure(&plan),
                }
            })?,
            _ => {
                conversion.find(&plan, recycled, &projects.all, &reader, stop)?;
                if let Some(recycled) = recycled {
                    conversion.forget_changed(&mut plan, recycled);
                }
                measure(&plan)?
            }
        };
        for FileSize { entry, size } in sizes {
            plan.listing.set_size(entry, size);
        }
        conversion.set_content_sizes(&mut plan.listing);
        refuse_oversize(&plan, options.max_size)?;
        Ok(Self { plan, conversion, packed })
    }

    /// Writes the files into a directory that is not a release yet.
    pub fn write(
        self,
        objects: &ObjectStore,
        destination: &Destination,
        options: &Options,
        monitor: &Monitor,
    ) -> Result<Written> {
        let Self { mut plan, conversion, packed } = self;
        let Conversion { mut converted, projects, .. } = conversion;
        let Destination { root, recycled, .. } = *destination;
        let failed = |error| Error::io("fill", &destination.path)(error);
        let threads = options.threads();
        walk::allow_depth(&plan.listing, threads + 1);
        let kept = recycled.map(|source| Kept::find(&plan, source, root, threads)).transpose()?;
        let kept = kept.as_ref();
        recycle::prepare(&plan, root, kept, threads)?;
        let writer = Writer {
            plan: &plan,
            converted: &converted,
            kept,
            root,
            objects,
            packed: &packed,
            done: AtomicU64::new(0),
        };
        let stop = monitor.stop().part();
        let limits = Limits { timeout: options.filter_timeout, stop: Some(&stop) };
        let projects = Mutex::new(projects);
        let convert = |missing: &[EntryIndex]| {
            let mut projects = projects.lock().unwrap_or_else(PoisonError::into_inner);
            install_converted::convert(&plan.listing, &mut projects, missing, options, limits)
        };
        let (mut entries, ready) = write_files(&writer, convert, &stop, threads, monitor)?;
        let moved = install_converted::move_all(&mut plan, &ready, root, &mut entries, monitor)?;
        install_converted::find_pointers(&plan, root, &moved, objects, options.lfs, &mut converted, monitor)?;
        let directories = directory_stamps(&plan, root, kept, threads)?;
        let instant = clock_after(&entries, destination.clock, options.scratch_prefix).map_err(failed)?;
        let unflushed = Unflushed::find(&plan.listing, kept);
        let manifest = Manifest { listing: plan.listing, entries, directories, converted, instant };
        Ok(Written { manifest, unflushed })
    }
}

/// Reads the file system's clock. A file that was written since its last tick counts as changed, and so does the directory
/// around it. In a small release these may be all files, so this waits for the next tick: at most 10 ms on a common kernel.
fn clock_after(entries: &[Stamp], dir: &Dir, scratch_prefix: &str) -> io::Result<Ctime> {
    let mut now = clock(dir, scratch_prefix)?;
    let deadline = Instant::now() + LONGEST_TICK;
    let is_too_early =
        |now: Ctime| entries.len() < SMALL_RELEASE && entries.iter().any(|stamp| stamp.ctime >= now);
    while is_too_early(now) && Instant::now() < deadline {
        // thread::sleep panics if its system call fails.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        now = clock(dir, scratch_prefix)?;
    }
    Ok(now)
}

/// Writes all files and links, while `convert` lets git convert the files that need it. Returns the stamps of the written
/// files, and the converted files. If a write fails, `stop` ends the conversion.
fn write_files(
    writer: &Writer,
    convert: impl Fn(&[EntryIndex]) -> Result<Vec<ConvertedFiles>> + Sync,
    stop: &Stop,
    threads: usize,
    monitor: &Monitor,
) -> Result<(IndexVec<EntryIndex, Stamp>, Vec<ConvertedFiles>)> {
    let total = writer.plan.listing.files();
    let mut stamps = IndexVec::from(vec![Stamp::default(); writer.plan.listing.entries.len()]);
    let is_missing = |entry: &EntryIndex| writer.kept.and_then(|kept| kept.stamp(*entry)).is_none();
    let missing: Vec<EntryIndex> = writer.converted.entries.iter().copied().filter(is_missing).collect();
    // Git and its filters mostly wait for their start or for a server.
    let ready = thread::scope(|scope| {
        let convert = || convert(&missing);
        let converting = (!missing.is_empty()).then(|| parallel::spawn(scope, convert));
        let written = writer.write(&mut stamps, threads, |done| monitor.progress(done, total));
        if written.is_err() {
            stop.request();
        }
        let ready = match converting {
            None => Ok(Vec::new()),
            Some(Ok(thread)) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // At a limit of processes.
            Some(Err(_)) => written.as_ref().map_or(Ok(Vec::new()), |()| convert()),
        };
        written.and(ready)
    })?;
    monitor.progress(total, total)?;
    Ok((stamps, ready))
}

/// Counts the files and links of a listing that differ from those of a folder of the commit `old`. If that commit is unknown
/// or missing, all of them count.
#[must_use]
pub fn changed(objects: &ObjectStore, old: Option<(ObjectId, &Path)>, listing: &Listing) -> u64 {
    let changes = || {
        let (reader, (commit, path)) = (objects.reader(), old?);
        let old = Subdirectory::find(&reader, reader.commit(commit).ok()?.tree, path).ok()?;
        reader.count_changes(old.tree, ObjectId::from_bytes(listing.directory_id(DirectoryIndex::ROOT))?).ok()
    };
    changes().unwrap_or_else(|| listing.files())
}

/// Rejects a checkout that is larger than the options allow. A small push can cause one, because the same blob may be at any
/// number of paths.
fn refuse_oversize(plan: &Plan, max_size: u64) -> Result<()> {
    if plan.listing.size() <= max_size {
        return Ok(());
    }
    Err(Error::Limit { limit: bluegreen_text::bytes(max_size), what: "of files", key: "max-size" })
}

/// Reads the tree and its submodules, and rejects paths that must not be written.
fn read_plan<'a>(
    objects: &'a ObjectStore<'a>,
    tree: ObjectId,
    recycled: Option<&Manifest>,
    options: &Options,
    projects: &mut Projects<'a>,
) -> Result<Plan> {
    if recycled.is_none() {
        objects.prefetch_trees(tree, options.threads());
    }
    let older = recycled.map(|manifest| &manifest.listing);
    let fetched = (options.submodules == Submodules::Fetch).then_some(projects);
    let plan = Plan::read(objects, tree, older, options.max_files, fetched)?;
    if options.symlinks == Symlinks::Inside {
        symlinks::refuse_outside(&plan.listing, options)?;
    }
    if options.submodules == Submodules::Refuse {
        let submodules = plan.listing.submodules();
        if !submodules.is_empty() {
            return Err(Error::Submodules(submodules));
        }
    }
    Ok(plan)
}

/// Finds the blobs of all new files in the packs, and the sizes of these files.
fn measure(plan: &Plan, objects: &ObjectStore, threads: usize) -> Result<(PackedEntries, Vec<FileSize>)> {
    let listing = &plan.listing;
    let packed = PackedEntries::find(objects, listing, plan.new_entries().collect(), threads);
    let found = packed.sizes();
    let (mut sizes, mut others) = (Vec::with_capacity(found.len()), Vec::new());
    for (entry, size) in found {
        match size {
            Some(size) => sizes.push(FileSize { entry, size }),
            None => others.push(FileSize { entry, size: 0 }),
        }
    }
    let work = |reader: &mut Reader, _, chunk: &mut [FileSize]| {
        chunk.iter_mut().try_for_each(|FileSize { entry, size }| {
            *size = reader.blob_size(listing.id(*entry))?;
            Ok(())
        })
    };
    let start = || Ok::<_, Error>(objects.reader());
    parallel::for_each_chunk(threads, parallel::SMALL_ITEMS, &mut others, start, work)?;
    sizes.append(&mut others);
    Ok((packed, sizes))
}

fn directory_stamps(
    plan: &Plan,
    root: &Dir,
    kept: Option<&Kept>,
    threads: usize,
) -> Result<IndexVec<DirectoryIndex, Stamp>> {
    let listing = &plan.listing;
    let mut stamps = IndexVec::from(vec![Stamp::default(); listing.directories.len()]);
    let mut others = Vec::new();
    for (directory, to) in listing.directories.iter().zip(stamps.iter_mut()) {
        // A rename changes the ctime of the directory that is moved, but not of those in it.
        let inside = kept.filter(|kept| kept.is_whole(directory.parent)).zip(directory.entry);
        if let Some((kept, entry)) = inside {
            *to = kept.stamps[entry];
        } else if directory.is_created {
            others.push((directory, to));
        }
    }
    let work = |(): &mut (), _, chunk: &mut [(&Directory, &mut Stamp)]| {
        for (directory, to) in chunk {
            // If a component of the path is exchanged for a symlink, the stamp matches no directory, and the next
            // checkout reads the names again.
            let path = directory.entry.map(|entry| listing.path(directory.parent, entry));
            let stat = match &path {
                Some(path) => root.stat(path.as_os_str().as_bytes()),
                None => root.own_stat(),
            };
            **to = stamp(&stat.map_err(Error::io("read", path.unwrap_or_default()))?);
        }
        Ok::<_, Error>(())
    };
    parallel::for_each_chunk(threads, recycle::MIN_LSTATS_PER_THREAD, &mut others, || Ok(()), work)?;
    Ok(stamps)
}
