//! Work shared out among threads in small pieces, so that neither one huge file nor a million small
//! ones leave a core idle.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::error::Result;

/// How many items a thread takes at a time.
const PIECE: usize = 32;

/// How often the calling thread may tell how far the work is.
const TICK: Duration = Duration::from_millis(250);

/// Runs `work` on pieces of `items`, each with the index of its first item, in `threads` threads
/// that `start` gives their own state. The calling thread only calls `tick` from time to time. The
/// first error ends the work.
pub fn for_each_piece<T: Send, S>(
    threads: usize,
    items: &mut [T],
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<()> + Sync,
    tick: impl Fn() -> Result<()>,
) -> Result<()> {
    if items.len() <= PIECE || threads == 1 {
        let mut state = start()?;
        for (index, piece) in items.chunks_mut(PIECE).enumerate() {
            work(&mut state, index * PIECE, piece)?;
            tick()?;
        }
        return Ok(());
    }
    let pieces = Mutex::new(items.chunks_mut(PIECE).enumerate());
    let stop = AtomicBool::new(false);
    let next = || if stop.load(Ordering::Relaxed) { None } else { pieces.lock().ok()?.next() };
    let run = || {
        let mut state = start()?;
        while let Some((index, piece)) = next() {
            work(&mut state, index * PIECE, piece)?;
        }
        Ok(())
    };
    let (finished, results) = channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let finished = finished.clone();
            scope.spawn(move || {
                // The receiver outlives the threads.
                let _ = finished.send(run());
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
