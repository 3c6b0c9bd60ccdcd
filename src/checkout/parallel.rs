//! Divides work among threads in small pieces, so that no core is idle, be it one huge file or a million small ones.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::error::Result;

/// The number of small items that a thread takes at a time.
pub const PIECE: usize = 32;

/// The time between two calls of `tick`.
const TICK: Duration = Duration::from_millis(250);

/// Runs `work` on all `items`, in `threads` threads. `work` gets `piece` items at a time, with the index of the first, and the
/// state of its thread, which `start` makes. The calling thread only calls `tick` from time to time. The first error ends
/// the work.
pub fn for_each_piece<T: Send, S>(
    threads: usize,
    piece: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<()> + Sync,
    tick: impl Fn() -> Result<()>,
) -> Result<()> {
    if items.len() <= piece || threads == 1 {
        let mut state = start()?;
        for (index, items) in items.chunks_mut(piece).enumerate() {
            work(&mut state, index * piece, items)?;
            tick()?;
        }
        return Ok(());
    }
    // Two threads in one directory would wait for each other. So each begins with a region of its own, and helps in the
    // others when that is done.
    let region = items.len().div_ceil(threads);
    let regions: Vec<_> = items
        .chunks_mut(region)
        .enumerate()
        .map(|(index, items)| {
            Mutex::new(
                items
                    .chunks_mut(piece)
                    .enumerate()
                    .map(move |(at, items)| (index * region + at * piece, items)),
            )
        })
        .collect();
    let stop = AtomicBool::new(false);
    let next = |own: usize| {
        let mut order = (own..regions.len()).chain(0..own.min(regions.len()));
        if stop.load(Ordering::Relaxed) {
            None
        } else {
            order.find_map(|region| regions[region].lock().ok()?.next())
        }
    };
    let run = |own| {
        let mut state = start()?;
        while let Some((first, piece)) = next(own) {
            work(&mut state, first, piece)?;
        }
        Ok(())
    };
    let (finished, results) = channel();
    thread::scope(|scope| {
        let run = &run;
        for own in 0..threads {
            let finished = finished.clone();
            scope.spawn(move || {
                // The receiver outlives the threads.
                let _ = finished.send(run(own));
            });
        }
        drop(finished);
        let mut outcome = Ok(());
        loop {
            let result = match results.recv_timeout(TICK) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => tick(),
                Err(RecvTimeoutError::Disconnected) => return outcome,
            };
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
                outcome = outcome.and(result);
            }
        }
    })
}
