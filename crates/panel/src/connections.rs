//! The open connections, whose number is bounded. A newcomer displaces the oldest connection that has not sent a request
//! yet, so that idle connections cannot keep the operator out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

/// The maximum number of connections that receive events.
const MAX_STREAMS: u8 = 64;

const WAITING: u8 = 0;
const BUSY: u8 = 1;
const STREAMING: u8 = 2;

/// The time limits for browsers.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The time in which a browser must send the header of its request, and then the body.
    pub sending: Duration,
    /// The time in which a request must be handled, and its response read.
    pub request: Duration,
    /// The time in which a browser must read an event.
    pub reading: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { sending: seconds(10), request: seconds(90), reading: seconds(20) }
    }
}

/// The part of its life that a connection is in: it waits for a request, has one, or receives events.
#[derive(Debug, Clone, Default)]
pub struct Phase(Arc<AtomicU8>);

impl Phase {
    /// Records that a request has arrived.
    pub fn begin_request(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// Records that the response is a stream of events.
    pub fn begin_stream(&self) {
        self.0.store(STREAMING, Ordering::Relaxed);
    }

    /// Returns whether the connection receives events.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STREAMING
    }

    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WAITING
    }
}

/// All open connections, by the order in which they came.
#[derive(Debug)]
pub struct Connections {
    table: Mutex<Table>,
    max: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, (Phase, Option<AbortHandle>)>,
}

impl Connections {
    /// Creates a table for up to `max` connections.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { table: Mutex::default(), max }
    }

    /// Adds a connection; `None` if all others are in use.
    pub fn add(&self) -> Option<(u64, Phase)> {
        let mut table = self.lock();
        if table.open.len() >= self.max {
            table.displace()?;
        }
        let (id, phase) = (table.next, Phase::default());
        table.next += 1;
        table.open.insert(id, (phase.clone(), None));
        Some((id, phase))
    }

    /// Closes the oldest connection that waits for a request.
    pub fn displace(&self) {
        self.lock().displace();
    }

    /// Stores the handle that closes a connection.
    pub fn set_handle(&self, id: u64, handle: AbortHandle) {
        if let Some((_, slot)) = self.lock().open.get_mut(&id) {
            *slot = Some(handle);
        }
    }

    /// Removes a connection that has ended.
    pub fn remove(&self, id: u64) {
        self.lock().open.remove(&id);
    }

    /// Returns whether another connection may receive events.
    #[must_use]
    pub fn has_room_for_a_stream(&self) -> bool {
        let streams = self.lock().open.values().filter(|(phase, _)| phase.is_streaming()).count();
        streams < usize::from(MAX_STREAMS)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn displace(&mut self) -> Option<()> {
        let oldest = self.open.iter().find(|(_, (phase, _))| phase.is_waiting()).map(|(id, _)| *id)?;
        if let Some((_, Some(handle))) = self.open.remove(&oldest) {
            handle.abort();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_displaces_the_oldest_connection_that_waits() {
        let connections = Connections::new(5);
        let all: Vec<_> = (0..5).map(|_| connections.add().unwrap()).collect();
        all[0].1.begin_request();
        all[2].1.begin_stream();
        connections.add().unwrap();
        let ids = |connections: &Connections| connections.lock().open.keys().copied().collect::<Vec<_>>();
        assert_eq!(ids(&connections)[..3], [0, 2, 3], "the second one waited longest");
        assert_eq!(ids(&connections).len(), 5);
        for (phase, _) in connections.lock().open.values() {
            phase.begin_request();
        }
        assert!(connections.add().is_none());
        connections.remove(0);
        assert!(connections.add().is_some());
    }

    #[test]
    fn streams_are_bounded() {
        let connections = Connections::new(100);
        for _ in 0..MAX_STREAMS {
            assert!(connections.has_room_for_a_stream());
            connections.add().unwrap().1.begin_stream();
        }
        assert!(!connections.has_room_for_a_stream());
    }
}
