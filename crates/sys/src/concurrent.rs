//! Runs the same work for several items concurrently, on a bounded number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::parallel;

/// The maximum number of items that are worked on at the same time: a side of 50 servers takes one round.
pub const MAX_CONCURRENT: usize = 64;

/// The time between two calls of `waiting`.
const TICK: Duration = Duration::from_secs(1);

/// Runs `work` for every item, so that a slow one does not hold up the others; returns the results in order.
pub fn map<T: Send, R: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    map_with_progress(items, work, |_| ())
}

/// Like [`map`], and while it waits, calls `waiting` every second with the indices of the unfinished items. If the
/// system has no threads left, it runs the work on the calling thread, one item after the other.
pub fn map_with_progress<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
    mut waiting: impl FnMut(&[usize]),
) -> Vec<R> {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let next = AtomicUsize::new(0);
    let (sender, done) = channel();
    let run = |sender: Sender<(usize, R)>| {
        while let Some((at, item)) = take(&items, &next) {
            if sender.send((at, work(item))).is_err() {
                return;
            }
        }
    };
    let run = &run;
    thread::scope(|scope| {
        let spawn = |_| {
            let sender = sender.clone();
            parallel::spawn(scope, move || run(sender)).ok()
        };
        let threads = (0..items.len().min(MAX_CONCURRENT)).map_while(spawn).count();
        if threads == 0 {
            run(sender.clone());
        }
        drop(sender);
        loop {
            match done.recv_timeout(TICK) {
                Ok((at, result)) => results[at] = Some(result),
                Err(RecvTimeoutError::Timeout) => {
                    let unfinished: Vec<usize> =
                        (0..results.len()).filter(|&at| results[at].is_none()).collect();
                    waiting(&unfinished);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    results.into_iter().flatten().collect()
}

fn take<T>(items: &[Mutex<Option<T>>], next: &AtomicUsize) -> Option<(usize, T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    let item = items.get(at)?.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some((at, item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn results_are_in_order_and_concurrency_is_bounded() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = map(0..100, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            running.fetch_sub(1, Ordering::SeqCst);
            item * 2
        });
        assert_eq!(results, (0..100).map(|item| item * 2).collect::<Vec<_>>());
        assert!((2..=MAX_CONCURRENT).contains(&most.into_inner()));
    }

    #[test]
    fn one_slow_item_does_not_hold_up_the_others_and_is_reported() {
        let started = Instant::now();
        let mut reported = Vec::new();
        let times = map_with_progress(
            0..200,
            |item| {
                thread::sleep(Duration::from_millis(if item == 0 { 1500 } else { 1 }));
                started.elapsed()
            },
            |unfinished| reported.push(unfinished.to_vec()),
        );
        assert!(times[1..].iter().all(|time| *time < Duration::from_millis(1400)), "{times:?}");
        assert_eq!(reported, [[0]]);
    }
}
