//! The listener: accepts connections, bounds their number and their time, and hands requests to the guard.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use bluegreen_process::signals::Stop;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::actions;
use crate::client::Client;
use crate::connections::{Connections, Phase, Timeouts};
use crate::error::PanelError;
use crate::guard::{self, Guard};
use crate::live::Live;
use crate::pages::{self, Panel};
use crate::session::Secrets;
use crate::stream;

/// The maximum time for which a connection receives events. The page then connects again.
const STREAM_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The maximum number of open connections.
const MAX_CONNECTIONS: usize = 200;

/// The maximum length of a request's header, in bytes.
const MAX_HEADER: usize = 16 * 1024;

/// The interval between two checks for a signal.
const SIGNAL_PAUSE: Duration = Duration::from_millis(200);

/// The maximum number of threads that wait for servers.
const MAX_THREADS: usize = 64;

/// The options of `bluegreen panel`.
#[derive(Debug)]
pub struct Options {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The file with the token that browsers must present.
    pub token_file: Option<PathBuf>,
    /// Further names under which browsers reach the panel.
    pub hosts: Vec<String>,
    /// The time that browsers have.
    pub timeouts: Timeouts,
}

/// Serves the panel until a signal stops it. `ready` receives the address, whose port may have been chosen by the system.
pub fn serve(
    options: &Options,
    client: Arc<dyn Client>,
    stop: &Stop,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), PanelError> {
    if !options.listen.ip().is_loopback() && options.token_file.is_none() {
        return Err(PanelError::Unprotected(options.listen));
    }
    let secrets = Arc::new(Secrets::new(options.token_file.as_deref())?);
    let failed = |source| PanelError::Listen { address: options.listen, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_THREADS)
        .build()
        .map_err(PanelError::Start)?;
    let result = runtime.block_on(async {
        let listener = listen(options.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let live = Live::new(client, stop);
        let observer = tokio::spawn(Arc::clone(&live).observe());
        let connections = Arc::new(Connections::new(max_connections()));
        let guard = Guard::new(address, &options.hosts, options.timeouts.sending, Arc::clone(&secrets));
        let panel = Panel {
            live: Arc::clone(&live),
            secrets,
            connections: Arc::clone(&connections),
            timeouts: options.timeouts,
        };
        let accepting = tokio::spawn(accept(listener, router(panel, guard), connections, options.timeouts));
        ready(address);
        stopped(stop).await;
        accepting.abort();
        observer.abort();
        live.finish().await;
        Ok(())
    });
    // Threads that still wait for a server are left behind.
    runtime.shutdown_background();
    result
}

fn router(panel: Panel, guard: Guard) -> Router {
    Router::new()
        .route("/", get(pages::overview))
        .route("/login", get(pages::login).post(pages::log_in))
        .route("/logout", post(pages::log_out))
        .route("/confirm", get(actions::confirmation))
        .route("/do", post(actions::act))
        .route("/events", get(stream::events))
        .route("/panel.css", get(pages::style))
        .route("/panel.js", get(pages::script))
        .route("/icon.svg", get(pages::icon))
        .fallback(pages::not_found)
        .with_state(panel)
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of an earlier panel may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Returns how many connections may be open, so that enough descriptors are left for the programs that query the
/// servers.
fn max_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS)
}

/// Waits for a signal. Polling needs neither a thread nor a descriptor, of which there may be none left.
async fn stopped(stop: &Stop) {
    while stop.check().is_ok() {
        sleep(SIGNAL_PAUSE).await;
    }
}

/// Accepts connections until the task is aborted. A lack of descriptors is temporary: connections end.
async fn accept(listener: TcpListener, router: Router, connections: Arc<Connections>, timeouts: Timeouts) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A connection that is dropped here is closed.
                let Some((id, phase)) = connections.add() else { continue };
                let (router, all) = (router.clone(), Arc::clone(&connections));
                let connection = tokio::spawn(async move {
                    let _open = Open { id, all };
                    if let Err(error) = serve_connection(stream, router, phase, timeouts).await {
                        log::debug!("connection {id}: {error}");
                    }
                });
                connections.set_handle(id, connection.abort_handle());
            }
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                connections.displace();
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Removes a connection from the table, also if its task is aborted.
struct Open {
    id: u64,
    all: Arc<Connections>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.remove(self.id);
    }
}

/// Serves one request, after which the connection is closed.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    phase: Phase,
    timeouts: Timeouts,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let service = TowerToHyperService::new(router.layer(Extension(phase.clone())));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.sending)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut ended = timeout(timeouts.request, connection.as_mut()).await;
    if ended.is_err() && phase.is_streaming() {
        ended = timeout(STREAM_TIMEOUT, connection).await;
    }
    ended.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(io::Error::other)
}
