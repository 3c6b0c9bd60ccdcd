//! The client's end of a hold: `bluegreen hold` on a server keeps deployments out for as long as it hears of
//! us, and we know that it does for as long as it answers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::program;
use super::side::{Remote, State};
use crate::error::{Error, Result};
use crate::run::signals::Stop;

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(3);

/// The time in which an answer must come; the server's own lease is longer.
const ANSWER: Duration = Duration::from_secs(10);

/// The time for which a promotion waits for `[notify]`, which goes on without it.
const NOTICES: Duration = Duration::from_secs(30);

/// The time for which a promotion waits for a lock.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lock of one server, for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    /// The state of the server, which nobody else changes now.
    pub state: State,
    connection: Connection,
}

/// A `bluegreen hold` that runs on a server.
#[derive(Debug)]
struct Connection {
    url: String,
    child: Child,
    input: Arc<Mutex<Option<ChildStdin>>>,
    answers: Receiver<Value>,
    last_words: LastWords,
}

/// The last line that the server, or ssh itself, said to people.
type LastWords = Arc<Mutex<String>>;

impl Hold {
    /// Takes the lock of a server. `announce` gets the holder that it waits for.
    pub fn take(remote: &Remote, stop: &Stop, announce: impl Fn(&str)) -> Result<Self> {
        let connection = Connection::open(remote)?;
        let started = Instant::now();
        loop {
            stop.check()?;
            match connection.answers.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => {
                    if let Some(held) = answer.get("held") {
                        let state = connection.state(held)?;
                        return Ok(Self { state, connection });
                    }
                    if let Some(holder) = answer.get("waiting").and_then(Value::as_str) {
                        announce(holder);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(connection.lost("cannot be held")),
                Err(RecvTimeoutError::Timeout) if started.elapsed() >= PATIENCE => {
                    return Err(connection.lost("is still busy after 60 s"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.connection.url
    }

    /// Asks the server whether it still holds the lock: an answer that comes now is proof, a clock is not,
    /// because that of a laptop stands still while it sleeps.
    pub fn confirm(&self) -> Result<State> {
        self.connection.state(&self.connection.ask("status", "status")?["status"])
    }

    /// Writes the mark.
    pub fn mark(&self, public: bool) -> Result<()> {
        self.connection.ask(if public { "public yes" } else { "public no" }, "marked").map(drop)
    }

    /// Adds a line to the history.
    pub fn record(&self, entry: &Value) -> Result<()> {
        self.connection.ask(&format!("record {entry}"), "recorded").map(drop)
    }

    /// Lets go, and has the server run its `[notify]` for what it recorded; returns what went wrong.
    #[must_use]
    pub fn notify(self) -> Vec<String> {
        let said = self.connection.ask_within("notify", "notified", NOTICES);
        let words = |value: &Value| value.as_str().map(bluegreen_text::escape_controls);
        match said.map(|said| said["notified"].as_array().cloned()) {
            Ok(warnings) => warnings.iter().flatten().filter_map(words).collect(),
            Err(_) => vec![format!("`{}` does not say how its `[notify]` went", self.url())],
        }
    }
}

impl Connection {
    fn open(remote: &Remote) -> Result<Self> {
        let mut command = remote.command(&["hold"])?;
        command.stdin(std::process::Stdio::piped());
        let mut child = command.spawn().map_err(|error| program::missing(&command, &error))?;
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let last_words = LastWords::default();
        let answers = listen(&mut child, &last_words);
        beat(&input);
        Ok(Self { url: remote.url.clone(), child, input, answers, last_words })
    }

    fn state(&self, answer: &Value) -> Result<State> {
        State::deserialize(answer)
            .map_err(|error| self.lost(&format!("answers what cannot be read: {error}")))
    }

    fn ask(&self, line: &str, key: &str) -> Result<Value> {
        self.ask_within(line, key, ANSWER)
    }

    fn ask_within(&self, line: &str, key: &str, time: Duration) -> Result<Value> {
        write(&self.input, line).ok_or_else(|| self.lost("is not held any more"))?;
        let deadline = Instant::now() + time;
        while let Ok(answer) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(problem) = answer.get("error").and_then(Value::as_str) {
                return Err(self.lost(&format!("says: {}", bluegreen_text::escape_controls(problem))));
            }
            if answer.get(key).is_some() {
                return Ok(answer);
            }
        }
        Err(self.lost("is not held any more"))
    }

    fn lost(&self, how: &str) -> Error {
        let said = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let said = bluegreen_text::escape_controls(said.trim_start_matches("error: "));
        let reason = if said.is_empty() { String::new() } else { format!(": {said}") };
        Error::Promotion {
            problem: format!("`{}` {how}{reason}", self.url),
            hint: "look with `bluegreen public`, then promote again".into(),
        }
    }
}

impl Drop for Connection {
    /// The end of input releases the lock.
    fn drop(&mut self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if let Ok(Some(_)) | Err(_) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        program::end(&mut self.child);
    }
}

fn listen(child: &mut Child, last_words: &LastWords) -> Receiver<Value> {
    let (sender, answers) = channel();
    if let Some(errors) = child.stderr.take() {
        let last_words = Arc::clone(last_words);
        // A full pipe would stop the server.
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(std::result::Result::ok) {
                if !line.starts_with("hint: ") && !line.trim().is_empty() {
                    *last_words.lock().unwrap_or_else(PoisonError::into_inner) = line;
                }
            }
        });
    }
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|answer| sender.send(answer).is_err()) {
                    return;
                }
            }
        });
    }
    answers
}

/// Sends a line every few seconds, until the input is closed.
fn beat(input: &Arc<Mutex<Option<ChildStdin>>>) {
    let input = Arc::clone(input);
    thread::spawn(move || {
        while write(&input, "beat").is_some() {
            thread::sleep(BEAT);
        }
    });
}

fn write(input: &Mutex<Option<ChildStdin>>, line: &str) -> Option<()> {
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(input.as_mut()?, "{line}").ok()
}
