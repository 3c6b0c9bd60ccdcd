//! Server-sent events: a browser receives each part of the page again when it has changed, and the lines of running logs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::connections::Phase;
use crate::fields::Fields;
use crate::job::Job;
use crate::live::{Live, Viewer};
use crate::pages::Panel;
use crate::recent::Recent;
use crate::views;

/// The events that wait for a browser to read them.
const MAX_WAITING: usize = 4;

/// The time between two events: changes that come faster are sent together.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after which ages are formatted again, and a browser that no longer exists is noticed.
const TICK: Duration = Duration::from_secs(1);

/// Sends the parts of the page that change.
pub async fn events(
    State(panel): State<Panel>,
    Extension(phase): Extension<Phase>,
    Extension(filter): Extension<Fields>,
) -> Response {
    if !panel.connections.has_room_for_a_stream() {
        let words = "Too many pages receive events. Close some of them.";
        return (StatusCode::SERVICE_UNAVAILABLE, views::problem_page(words, None)).into_response();
    }
    phase.begin_stream();
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let (viewer, version) = panel.live.watch();
    tokio::spawn(send(panel, filter, (viewer, version), sender));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(Events(receiver))).into_response()
}

/// The body of the response.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The state of the page that a browser has received.
#[derive(Default)]
struct Received {
    parts: BTreeMap<String, String>,
    /// The next line of each log, by its element id, and what the log belongs to.
    logs: BTreeMap<String, (String, u64)>,
    /// The job, its next response, and the number of its marks.
    samples: Option<(u64, u64, usize)>,
}

async fn send(
    panel: Panel,
    filter: Fields,
    (_viewer, mut version): (Viewer, watch::Receiver<u64>),
    sender: mpsc::Sender<Bytes>,
) {
    let mut received = Received::default();
    let mut is_first = true;
    loop {
        let mut text = received.update(&panel.live, &filter);
        if std::mem::take(&mut is_first) {
            // The page takes this as the sign that it is up to date.
            text.insert_str(0, "retry: 1000\nevent: hello\ndata: {}\n\n");
        }
        if text.is_empty() {
            text.push_str(":\n\n");
        }
        // A browser that does not read, or has gone, ends the stream.
        if !matches!(timeout(panel.timeouts.reading, sender.send(Bytes::from(text))).await, Ok(Ok(()))) {
            return;
        }
        sleep(PAUSE).await;
        let _ = timeout(TICK, version.changed()).await;
    }
}

impl Received {
    /// Returns the events that bring a browser up to date.
    fn update(&mut self, live: &Live, filter: &Fields) -> String {
        let mut events = String::new();
        let state = live.state();
        for (id, html) in views::parts(&state, filter) {
            if self.parts.get(&id) != Some(&html) {
                event(&mut events, "part", &json!({ "id": id, "html": html }));
                self.parts.insert(id, html);
            }
        }
        for (number, server) in state.servers.iter().enumerate() {
            if let Some(owner) = server.followed.as_ref().filter(|_| server.deployment().is_some()) {
                self.log(&mut events, format!("log-{number}"), owner, &server.log);
            }
        }
        if let Some(job) = &state.job {
            self.log(&mut events, "job-log".into(), &job.number.to_string(), &job.log);
            self.samples(&mut events, job);
        }
        events
    }

    /// Adds the lines that the browser lacks. `owner` names what writes the log.
    fn log(&mut self, events: &mut String, id: String, owner: &str, log: &Recent<String>) {
        let (known, next) = self.logs.get(&id).map_or(("", 0), |(known, next)| (known.as_str(), *next));
        let is_new = known != owner;
        let (lines, is_cut) = log.since(if is_new { 0 } else { next });
        let text: String = lines.flat_map(|line| [line.as_str(), "\n"]).collect();
        if is_new || !text.is_empty() {
            let data = json!({ "id": id, "reset": is_new || is_cut, "text": text });
            event(events, "log", &data);
            self.logs.insert(id, (owner.to_owned(), log.next()));
        }
    }

    fn samples(&mut self, events: &mut String, job: &Job) {
        let known = self.samples.filter(|(number, ..)| *number == job.number);
        let (_, next, marks) = known.unwrap_or_default();
        let (samples, is_cut) = job.samples.since(next);
        let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
        // The time since the beginning in seconds, the response time in milliseconds, and the class of the dot.
        let points: Vec<_> = samples
            .map(|sample| {
                json!([seconds(sample.at), sample.took.as_millis() as u64, views::kind(job, sample)])
            })
            .collect();
        if known.is_none() || !points.is_empty() || marks < job.marks.len() {
            let marks: Vec<_> = job.marks.iter().map(|(at, label)| json!([seconds(*at), label])).collect();
            let data = json!({ "reset": known.is_none() || is_cut, "points": points, "marks": marks });
            event(events, "samples", &data);
            self.samples = Some((job.number, job.samples.next(), job.marks.len()));
        }
    }
}

/// Appends an event. JSON contains no line ends.
fn event(events: &mut String, name: &str, data: &serde_json::Value) {
    // Writing to a string does not fail.
    let _ = write!(events, "event: {name}\ndata: {data}\n\n");
}
