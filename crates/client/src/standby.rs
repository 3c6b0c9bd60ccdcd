//! A connection that has reported the state of its server, and takes the lock on request: a promotion connects to each server
//! once.

use std::sync::Arc;
use std::time::Instant;

use bluegreen_process::signals::Stop;
use bluegreen_protocol::hold::{PROTOCOL, Reply, Request};
use bluegreen_protocol::status::Status;

use crate::error::Result;
use crate::hold::{Connection, Heartbeat, Hold, LOCK_TIMEOUT, lock};
use crate::remote::{RESPONSE_TIMEOUT, Remote};
use crate::ssh::CANNOT_CONNECT;

/// A `bluegreen hold --standby` that runs on a server.
#[derive(Debug)]
pub struct Standby {
    connection: Connection,
}

impl Standby {
    /// Connects to a server, and requests its state. An older server reports it by `status`, and then has no connection in
    /// standby.
    pub fn connect(remote: &Remote, heartbeat: &Heartbeat, stop: &Stop) -> Result<(Status, Option<Self>)> {
        let version = PROTOCOL.to_string();
        let connection = Connection::open(remote, &["hold", "--standby", "--protocol", &version])?;
        let (dialog, deadline) = (Arc::clone(&connection.dialog), Instant::now() + RESPONSE_TIMEOUT);
        let mut dialog = lock(&dialog);
        let reply = connection.receive(&mut dialog, deadline, Some(stop), "does not respond");
        stop.check()?;
        match reply {
            Ok(Some(Reply::Status(status))) => {
                heartbeat.add(&connection);
                Ok((*status, Some(Self { connection })))
            }
            Ok(None) => Err(remote.timed_out("status", RESPONSE_TIMEOUT)),
            _ => {
                let status = dialog.end().and_then(|status| status.code());
                if let Some(error) = remote.unreachable(status, &dialog.errors()) {
                    return Err(error);
                }
                remote.status(Some(stop)).map(|status| (status, None))
            }
        }
    }

    /// Returns the server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.connection.remote.url
    }

    /// Takes the lock. `announce` receives the holder that it waits for. Returns `None` if the connection was lost in the
    /// meantime, for example while the machine of the operator was suspended.
    pub fn lock(self, stop: &Stop, announce: impl Fn(&str)) -> Result<Option<Hold>> {
        let Self { connection } = self;
        let dialog = Arc::clone(&connection.dialog);
        let mut dialog = lock(&dialog);
        // A request that cannot be sent is noticed at the reply.
        let _ = dialog.send(&Request::Lock.to_string(), Instant::now() + LOCK_TIMEOUT);
        match connection.wait_for_lock(&mut dialog, stop, LOCK_TIMEOUT, announce) {
            Ok(status) => Ok(Some(Hold { status, connection })),
            Err(error) => {
                let status = dialog.end().and_then(|status| status.code());
                if status == Some(CANNOT_CONNECT) { Ok(None) } else { Err(error) }
            }
        }
    }
}
