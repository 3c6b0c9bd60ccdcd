//! Requests to a panel, byte by byte, as a browser or an attacker sends them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::fake::Panel;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }

    /// Returns the CSRF token in the page's form.
    pub fn csrf(&self) -> String {
        let value = self.body.split("name=\"csrf\" value=\"").nth(1).expect("the page has a form");
        value.split('"').next().unwrap().to_owned()
    }
}

impl Panel {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request unchanged, and reads the whole response.
    ///
    /// The panel may reject a request and close the connection before it has received all of it.
    pub fn raw(&self, request: &str) -> Response {
        let mut stream = self.connect();
        let _ = stream.write_all(request.as_bytes());
        read(stream)
    }

    /// Requests a page with additional headers.
    pub fn get_with(&self, path: &str, headers: &str) -> Response {
        let host =
            if headers.contains("Host: ") { String::new() } else { format!("Host: {}\r\n", self.address) };
        self.raw(&format!("GET {path} HTTP/1.1\r\n{host}{headers}\r\n"))
    }

    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, "")
    }

    /// Submits a form with additional headers.
    pub fn post_with(&self, path: &str, form: &str, headers: &str) -> Response {
        let length = form.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {length}\r\n{headers}\r\n{form}",
            self.address
        ))
    }

    pub fn post(&self, path: &str, form: &str) -> Response {
        self.post_with(path, form, &format!("Origin: http://{}\r\n", self.address))
    }

    /// Opens an event stream and returns its reader.
    pub fn events(&self, query: &str) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        write!(stream, "GET /events{query} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).unwrap();
        BufReader::new(stream)
    }
}

/// Reads events until they contain all of these texts, and returns them.
pub fn read_until(events: &mut impl BufRead, texts: &[&str]) -> String {
    let (mut all, started) = (String::new(), Instant::now());
    while !texts.iter().all(|text| all.contains(text)) {
        assert!(started.elapsed() < Duration::from_secs(30), "{texts:?}: {all}");
        let before = all.len();
        events.read_line(&mut all).unwrap();
        assert!(all.len() > before, "the stream ended: {all}");
    }
    all
}

/// Reads a whole response. A connection that is closed early has status 0.
pub fn read(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Response { status, head: head.to_owned(), body: body.to_owned() }
}
