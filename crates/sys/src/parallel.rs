//! Divides work among threads in small chunks, so that no core is idle, whether the items are few or many, small or large.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

/// A good number of small items for a thread to take at a time.
pub const PIECE: usize = 32;

/// The time between two calls of `tick`.
const TICK: Duration = Duration::from_millis(250);

/// The address space, in bytes, that must be free before a thread is started: its stack of 2 MiB and its signal stack, with a
/// margin for later allocations of the program.
pub const THREAD_ROOM: u64 = 16 << 20;

/// Starts a thread in a scope. It fails at a limit of processes, and where the address space is limited: a thread that
/// finds no memory for its signal stack ends the program, after it has been started.
#[expect(clippy::disallowed_methods, reason = "this is one of the two places")]
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    if getrlimit(Resource::As).current.is_some() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    thread::Builder::new().spawn_scoped(scope, work)
}

/// Starts the only thread of a program that cannot do without it. It fails at a limit of processes, and where less than
/// [`THREAD_ROOM`] is left of a limit of the address space.
#[expect(clippy::disallowed_methods, reason = "this is one of the two places")]
pub fn spawn_alone<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    require_room(THREAD_ROOM)?;
    thread::Builder::new().spawn(work)
}

/// Fails if less than `room` bytes are left of a limit of the address space. An allocation that fails later would abort the
/// program.
pub fn require_room(room: u64) -> io::Result<()> {
    let Some(limit) = getrlimit(Resource::As).current else { return Ok(()) };
    if limit.saturating_sub(address_space()?) < room {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(())
}

/// Returns the size of this program's address space in bytes, from `/proc/self/statm`.
fn address_space() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * page_size() as u64).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Runs `work` on all `items`, in `threads` threads. `work` receives the state of its thread, which `start` creates, the
/// index of the first item, and up to `piece` items. The calling thread only calls `tick` every 250 ms. Returns the first
/// error, which stops all threads.
pub fn for_each_piece<T: Send, S, E: Send>(
    threads: usize,
    piece: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<(), E> + Sync,
    tick: impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    if items.len() <= piece || threads == 1 {
        let mut state = start()?;
        for (index, items) in items.chunks_mut(piece).enumerate() {
            work(&mut state, index * piece, items)?;
            tick()?;
        }
        return Ok(());
    }
    let pieces = Pieces::new(threads, piece, items);
    let run = |own| {
        let mut state = start()?;
        while let Some((first, piece)) = pieces.take(own) {
            work(&mut state, first, piece)?;
        }
        Ok(())
    };
    let (finished, results) = channel();
    thread::scope(|scope| {
        let run = &run;
        // At a limit of processes fewer threads do the work, or the calling one alone.
        let begin = |own: usize| {
            let finished = finished.clone();
            spawn(scope, move || {
                // The receiver outlives the threads.
                let _ = finished.send(run(own));
            })
        };
        let threads = threads.min(pieces.regions.len());
        let spawned = (0..threads).map_while(|own| begin(own).ok()).count();
        drop(finished);
        if spawned == 0 {
            let mut state = start()?;
            while let Some((first, piece)) = pieces.take(0) {
                work(&mut state, first, piece)?;
                tick()?;
            }
            return Ok(());
        }
        let mut outcome = Ok(());
        loop {
            let result = match results.recv_timeout(TICK) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => tick(),
                Err(RecvTimeoutError::Disconnected) => return outcome,
            };
            if result.is_err() {
                pieces.stop.store(true, Ordering::Relaxed);
                outcome = outcome.and(result);
            }
        }
    })
}

/// Like [`for_each_piece`], for work that is done too soon to report progress: the calling thread is one of the threads.
pub fn for_each_piece_quickly<T: Send, S, E: Send>(
    threads: usize,
    piece: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let pieces = Pieces::new(threads, piece, items);
    let run = |own| {
        let result = start().and_then(|mut state| {
            while let Some((first, piece)) = pieces.take(own) {
                work(&mut state, first, piece)?;
            }
            Ok(())
        });
        if result.is_err() {
            pieces.stop.store(true, Ordering::Relaxed);
        }
        result
    };
    thread::scope(|scope| {
        let run = &run;
        // At a limit of processes fewer threads do the work, or the calling one alone.
        let others = 1..threads.min(pieces.regions.len());
        let spawned: Vec<_> = others.map_while(|own| spawn(scope, move || run(own)).ok()).collect();
        let own = run(0);
        let join = |thread: ScopedJoinHandle<_>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        spawned.into_iter().map(join).fold(own, Result::and)
    })
}

/// Items that several threads take a piece at a time.
struct Pieces<'a, T> {
    piece: usize,
    /// Two threads that create files in one directory would contend for its lock. So each thread starts in a region of its
    /// own, and continues in the others' when it has finished. Each is the rest of a region, and the index of its first
    /// item.
    regions: Vec<Mutex<(usize, &'a mut [T])>>,
    stop: AtomicBool,
}

impl<'a, T> Pieces<'a, T> {
    fn new(threads: usize, piece: usize, items: &'a mut [T]) -> Self {
        // No region is smaller than a piece.
        let size = items.len().div_ceil(threads.max(1)).max(piece);
        let regions = items.chunks_mut(size).enumerate().map(|(at, items)| Mutex::new((at * size, items)));
        Self { piece, regions: regions.collect(), stop: AtomicBool::new(false) }
    }

    /// Returns the next piece for the thread that starts in the region `own`, with the index of its first item.
    fn take(&self, own: usize) -> Option<(usize, &'a mut [T])> {
        let count = self.regions.len();
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        (own..count).chain(0..own.min(count)).find_map(|region| {
            let mut rest = self.regions[region].lock().ok()?;
            let (first, items) = (rest.0, std::mem::take(&mut rest.1));
            let (piece, items) = items.split_at_mut(self.piece.min(items.len()));
            *rest = (first + piece.len(), items);
            (!piece.is_empty()).then_some((first, piece))
        })
    }
}

/// Runs `work` on all `items` and on the items that it returns, in `threads` threads. The items that were added last come
/// next. `start` creates the state of each thread.
pub fn for_each_found<T: Send, S>(
    threads: usize,
    items: Vec<T>,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Vec<T> + Sync,
) {
    let shared =
        Shared { items: Mutex::new(Items { waiting: items, begun: 0, idle: 0 }), changed: Condvar::new() };
    let run = || {
        let mut state = start();
        while let Some(item) = shared.take() {
            let mut begun = Begun { shared: &shared, found: Vec::new() };
            begun.found = work(&mut state, item);
        }
    };
    thread::scope(|scope| {
        // At a limit of processes fewer threads do the work, or the calling one alone.
        let spawned: Vec<_> = (1..threads).map_while(|_| spawn(scope, run).ok()).collect();
        drop(spawned);
        run();
    });
}

/// The items that several threads share.
struct Shared<T> {
    items: Mutex<Items<T>>,
    changed: Condvar,
}

struct Items<T> {
    waiting: Vec<T>,
    /// The number of items in progress.
    begun: usize,
    /// The number of threads that are waiting for an item.
    idle: usize,
}

/// An item in progress, and the items that it has added. Dropping it completes the item, even during a panic, so that no
/// thread waits for it forever.
struct Begun<'a, T> {
    shared: &'a Shared<T>,
    found: Vec<T>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an item. Returns [`None`] once no item is left or in progress.
    fn take(&self) -> Option<T> {
        let mut items = self.lock();
        while items.waiting.is_empty() && items.begun > 0 {
            items.idle += 1;
            items = self.changed.wait(items).unwrap_or_else(PoisonError::into_inner);
            items.idle -= 1;
        }
        let item = items.waiting.pop()?;
        items.begun += 1;
        Some(item)
    }
}

impl<T> Drop for Begun<'_, T> {
    fn drop(&mut self) {
        let mut items = self.shared.lock();
        items.begun -= 1;
        items.waiting.append(&mut self.found);
        if items.idle > 0 && (items.begun == 0 || !items.waiting.is_empty()) {
            self.shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn items_that_are_added_are_processed() {
        let done = AtomicUsize::new(0);
        let halve = |(): &mut (), number: usize| {
            done.fetch_add(1, Ordering::Relaxed);
            if number < 2 { Vec::new() } else { vec![number / 2, number - number / 2] }
        };
        for threads in [1, 3] {
            done.store(0, Ordering::Relaxed);
            for_each_found(threads, vec![1000], || (), halve);
            assert_eq!(done.load(Ordering::Relaxed), 1999);
        }
        for_each_found(2, Vec::new(), || (), halve);
    }

    #[test]
    fn each_item_is_processed_once_with_its_index_and_the_first_error_is_returned() {
        for (threads, count) in [(1, 10), (2, 10), (3, 7), (4, 0), (8, 3), (2, 1000)] {
            let mut items = vec![0; count];
            let work = |(): &mut (), first: usize, piece: &mut [usize]| {
                piece.iter_mut().enumerate().for_each(|(at, item)| *item += first + at + 1);
                Ok::<_, usize>(())
            };
            for_each_piece_quickly(threads, 3, &mut items, || Ok(()), work).unwrap();
            assert!(items.iter().copied().eq(1..=count), "{threads} threads, {count} items");
            let refuse = |(): &mut (), first, _: &mut [usize]| if first == 0 { Err(first) } else { Ok(()) };
            let result = for_each_piece_quickly(threads, 3, &mut items, || Ok(()), refuse);
            assert_eq!(result, if count == 0 { Ok(()) } else { Err(0) });
        }
    }

    #[test]
    fn no_thread_waits_after_a_panic() {
        let panics = || for_each_found(4, vec![1], || (), |(), _: i32| panic!("as a test"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
