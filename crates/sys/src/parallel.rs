//! Divides work among threads in small chunks, so that no core is idle, whether the items are few or many, small or large.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

/// The number of items in a chunk if each takes little time.
pub const SMALL_ITEMS: usize = 32;

/// The time between two calls of `tick`.
const TICK: Duration = Duration::from_millis(250);

/// The address space, in bytes, that must be free before a thread is started: its stack of 2 MiB and its signal stack, with a
/// margin for later allocations of the program.
pub const THREAD_ROOM: u64 = 16 << 20;

/// Returns the number of threads that can run at the same time. Determining it takes sixteen system calls, so it is
/// determined once.
pub fn available() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| thread::available_parallelism().map_or(1, Into::into))
}

/// Starts a thread in a scope. It fails at a limit of processes, and where the address space is limited: a thread
/// without memory for its signal stack would end the program after the start.
#[expect(clippy::disallowed_methods, reason = "this is one of the two places")]
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    if address_space_limit().is_some() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    thread::Builder::new().spawn_scoped(scope, work)
}

/// Starts a thread that the program cannot do without. It fails at a limit of processes, and where less than
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
    let Some(limit) = address_space_limit() else { return Ok(()) };
    if limit.saturating_sub(address_space()?) < room {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(())
}

/// Returns the limit of the address space in bytes, if there is one. Systems other than Linux do not enforce it.
fn address_space_limit() -> Option<u64> {
    if cfg!(target_os = "linux") { getrlimit(Resource::As).current } else { None }
}

/// Returns the size of this program's address space in bytes, from `/proc/self/statm`.
fn address_space() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * page_size() as u64).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Runs `work` on all `items`, in `threads` threads, one of which is the calling one. `work` receives the state of its
/// thread, which `start` creates, the index of the first item, and up to `chunk_len` items. Returns the first error,
/// which stops all threads.
pub fn for_each_chunk<T: Send, S, E: Send>(
    threads: usize,
    chunk_len: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let chunks = Chunks::new(threads, chunk_len, items);
    let run = |own| {
        let result = chunks.process(own, &start, &work, || Ok(()));
        if result.is_err() {
            chunks.stop.store(true, Ordering::Relaxed);
        }
        result
    };
    thread::scope(|scope| {
        let run = &run;
        // At a limit of processes fewer threads do the work, or the calling one alone.
        let others = 1..threads.min(chunks.regions.len());
        let spawned: Vec<_> = others.map_while(|own| spawn(scope, move || run(own)).ok()).collect();
        let own = run(0);
        let join = |thread: ScopedJoinHandle<_>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        spawned.into_iter().map(join).fold(own, Result::and)
    })
}

/// Like [`for_each_chunk`], for work that takes long enough to report progress: the calling thread only calls `tick`
/// every 250 ms. If it does the work alone, it calls `tick` after each chunk.
pub fn for_each_chunk_with_progress<T: Send, S, E: Send>(
    threads: usize,
    chunk_len: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<(), E> + Sync,
    tick: impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    let chunks = Chunks::new(threads, chunk_len, items);
    let (finished, results) = channel();
    thread::scope(|scope| {
        let (chunks, start, work) = (&chunks, &start, &work);
        let begin = |own: usize| {
            let finished = finished.clone();
            spawn(scope, move || {
                // The receiver outlives the threads.
                let _ = finished.send(chunks.process(own, start, work, || Ok(())));
            })
        };
        // At a limit of processes fewer threads do the work, or the calling one alone.
        let threads = threads.min(chunks.regions.len());
        let spawned = if threads > 1 { (0..threads).map_while(|own| begin(own).ok()).count() } else { 0 };
        drop(finished);
        if spawned == 0 {
            return chunks.process(0, start, work, tick);
        }
        let mut outcome = Ok(());
        loop {
            let result = match results.recv_timeout(TICK) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => tick(),
                Err(RecvTimeoutError::Disconnected) => return outcome,
            };
            if result.is_err() {
                chunks.stop.store(true, Ordering::Relaxed);
                outcome = outcome.and(result);
            }
        }
    })
}

/// Items that several threads take a chunk at a time.
struct Chunks<'a, T> {
    /// The maximum length of a chunk.
    len: usize,
    /// Two threads that create files in one directory would contend for its lock. Each thread therefore starts in a
    /// region of its own, and continues in the others' when it has finished. Each is the rest of a region, and the
    /// index of its first item.
    regions: Vec<Mutex<(usize, &'a mut [T])>>,
    stop: AtomicBool,
}

impl<'a, T> Chunks<'a, T> {
    fn new(threads: usize, len: usize, items: &'a mut [T]) -> Self {
        // No region is smaller than a chunk.
        let size = items.len().div_ceil(threads.max(1)).max(len);
        let regions = items.chunks_mut(size).enumerate().map(|(at, items)| Mutex::new((at * size, items)));
        Self { len, regions: regions.collect(), stop: AtomicBool::new(false) }
    }

    /// Runs `work` on the remaining chunks, beginning in the region `own`, and `after` after each chunk.
    fn process<S, E>(
        &self,
        own: usize,
        start: impl Fn() -> Result<S, E>,
        work: impl Fn(&mut S, usize, &mut [T]) -> Result<(), E>,
        after: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = start()?;
        while let Some((first, chunk)) = self.take(own) {
            work(&mut state, first, chunk)?;
            after()?;
        }
        Ok(())
    }

    /// Returns the next chunk for the thread that starts in the region `own`, with the index of its first item.
    fn take(&self, own: usize) -> Option<(usize, &'a mut [T])> {
        let count = self.regions.len();
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        (own..count).chain(0..own.min(count)).find_map(|region| {
            let mut rest = self.regions[region].lock().ok()?;
            let (first, items) = (rest.0, std::mem::take(&mut rest.1));
            let (chunk, items) = items.split_at_mut(self.len.min(items.len()));
            *rest = (first + chunk.len(), items);
            (!chunk.is_empty()).then_some((first, chunk))
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
            let work = |(): &mut (), first: usize, chunk: &mut [usize]| {
                chunk.iter_mut().enumerate().for_each(|(at, item)| *item += first + at + 1);
                Ok::<_, usize>(())
            };
            for_each_chunk(threads, 3, &mut items, || Ok(()), work).unwrap();
            assert!(items.iter().copied().eq(1..=count), "{threads} threads, {count} items");
            let refuse = |(): &mut (), first, _: &mut [usize]| if first == 0 { Err(first) } else { Ok(()) };
            let result = for_each_chunk(threads, 3, &mut items, || Ok(()), refuse);
            assert_eq!(result, if count == 0 { Ok(()) } else { Err(0) });
        }
    }

    #[test]
    fn no_thread_waits_after_a_panic() {
        let panics = || for_each_found(4, vec![1], || (), |(), _: i32| panic!("as a test"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
