//! A server where a container would be. It believes what it is told, keeps every byte, and says who it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What came over each connection.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that runs as long as the test.
pub(crate) struct Backend {
    seen: Seen,
}

impl Backend {
    /// Serves at `place`.
    pub(crate) fn start(place: &str, service: &str, slot: &str) -> Self {
        let listener = TcpListener::bind(place).unwrap_or_else(|error| panic!("{place}: {error}"));
        let seen = Seen::default();
        let name = format!("{service} {slot}");
        thread::spawn({
            let seen = seen.clone();
            move || {
                for stream in listener.incoming() {
                    let (seen, name) = (seen.clone(), name.clone());
                    thread::spawn(move || serve(stream.unwrap(), &name, &seen));
                }
            }
        });
        Self { seen }
    }

    /// What came over each connection since the last time, without the proxy's own questions.
    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        let mut seen = self.seen.lock().unwrap();
        let all: Vec<_> = seen.iter_mut().map(std::mem::take).collect();
        all.into_iter().filter(|bytes| !bytes.is_empty() && !bytes.starts_with(b"GET /readyz ")).collect()
    }
}

/// Answers until the other side goes away. The request's path says how.
fn serve(mut stream: TcpStream, name: &str, seen: &Seen) {
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(Vec::new());
        seen.len() - 1
    };
    let mut bytes = Vec::new();
    let read = move |bytes: &mut Vec<u8>, stream: &mut TcpStream| -> bool {
        let mut some = [0; 16384];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                seen.lock().unwrap()[number].extend_from_slice(&some[..length]);
                bytes.extend_from_slice(&some[..length]);
                true
            }
        }
    };
    loop {
        let end = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if !read(&mut bytes, &mut stream) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        let field = |name: &str| {
            let lead = format!("{name}:");
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&lead));
            line.map(|line| line[lead.len()..].trim().to_ascii_lowercase())
        };
        if field("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            while find(&bytes, b"0\r\n\r\n").is_none() {
                if !read(&mut bytes, &mut stream) {
                    return;
                }
            }
            let end = find(&bytes, b"0\r\n\r\n").unwrap() + 5;
            bytes.drain(..end);
        } else if let Some(length) = field("content-length").and_then(|text| text.parse::<usize>().ok()) {
            while bytes.len() < length {
                if !read(&mut bytes, &mut stream) {
                    return;
                }
            }
            bytes.drain(..length);
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if !answer(&mut stream, &path, name, &head) {
            return;
        }
    }
}

/// Answers one request; whether the connection stays open.
fn answer(stream: &mut TcpStream, path: &str, name: &str, head: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let (status, body) = match last {
        "headers" => ("200 OK", head.to_owned()),
        "missing" => ("404 Not Found", "nothing".to_owned()),
        "broken" => {
            drop(stream.write_all(b"this is no answer\r\n\r\n"));
            return false;
        }
        "pause" => {
            // Half an answer, a silence longer than a client may be silent, the other half.
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"));
            thread::sleep(Duration::from_secs(22));
            return stream.write_all(b"half").is_ok();
        }
        "late" => {
            thread::sleep(Duration::from_secs(22));
            ("200 OK", "late".to_owned())
        }
        _ => ("200 OK", format!("{name} {path}")),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nServer: secret/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).is_ok()
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
