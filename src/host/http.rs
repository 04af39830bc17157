//! One GET to an address or a socket on this machine: blocking, without redirects, bounded in time and size.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::model::Digest;

const LIMIT: Duration = Duration::from_secs(5);
/// The most that is read: the head of an answer, and what of its body comes with it.
const LONGEST: u64 = 64 * 1024;
/// How many characters of a body are quoted.
const SAYS: usize = 300;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// The beginning of its body, as far as it came with the head: a readiness answer often says what is not ready.
    says: String,
}

/// The status and the whole body that a server on a Unix socket answers to a request without a body, within `limit` of
/// silence. HTTP/1.0, so that the answer is not in chunks and ends with the connection.
pub(super) fn unix(
    socket: &str,
    method: &str,
    path: &str,
    limit: Duration,
    longest: u64,
) -> Result<(u16, Vec<u8>), String> {
    let fail = |error: std::io::Error| format!("no answer from `{socket}`: {error}");
    let mut stream = UnixStream::connect(socket).map_err(fail)?;
    stream.set_read_timeout(Some(limit)).map_err(fail)?;
    stream.set_write_timeout(Some(limit)).map_err(fail)?;
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut bytes = Vec::new();
    stream.take(longest).read_to_end(&mut bytes).map_err(fail)?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(&bytes) {
        Ok(httparse::Status::Complete(head)) => {
            Ok((response.code.unwrap_or_default(), bytes.split_off(head)))
        }
        _ => Err(format!("no HTTP answer from `{socket}`")),
    }
}

/// One GET over plain TCP.
pub(super) fn get(address: SocketAddr, path: &str, host: &str) -> Result<Answer, String> {
    let fail = |error: std::io::Error| format!("no answer from {address}: {error}");
    let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(fail)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(fail)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(fail)?;
    ask(stream, &address, path, host)
}

/// One GET over a connection that has limits of its own.
pub(super) fn ask(
    mut stream: impl Read + Write,
    address: &SocketAddr,
    path: &str,
    host: &str,
) -> Result<Answer, String> {
    let fail = |error: std::io::Error| format!("no answer from {address}: {error}");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: bundle\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    stream.flush().map_err(fail)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut limited = stream.take(LONGEST);
    loop {
        if let Some(answer) = parse(&bytes)? {
            return Ok(answer);
        }
        match limited.read(&mut buffer).map_err(fail)? {
            0 => return Err(format!("no whole answer from {address}")),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(head)) => Ok(Some(Answer {
            says: String::from_utf8_lossy(&bytes[head..])
                .chars()
                .filter(|c| !c.is_control())
                .take(SAYS)
                .collect(),
            status: response.code.unwrap_or_default(),
            headers: response
                .headers
                .iter()
                .map(|header| {
                    (
                        header.name.to_ascii_lowercase(),
                        String::from_utf8_lossy(header.value).trim().to_owned(),
                    )
                })
                .collect(),
        })),
        Err(error) => Err(format!("not an HTTP answer: {error}")),
    }
}

impl Answer {
    /// The first header of this lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// 200, and from the release that was meant.
    pub(super) fn ready(&self, release_header: Option<&str>, release: &Digest) -> Result<(), String> {
        if self.status != 200 {
            let says = if self.says.is_empty() { String::new() } else { format!(": {}", self.says) };
            return Err(format!("answers {}{says}", self.status));
        }
        let Some(name) = release_header else { return Ok(()) };
        match self.header(&name.to_ascii_lowercase()) {
            Some(value) if value == release.to_string() || value == release.hex() => Ok(()),
            Some(_) => Err("answers from another release".to_owned()),
            None => Err(format!("answers without the header `{name}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_of_the_right_release_is_ready() {
        let release = Digest::of(b"release");
        let head = |status: u16, value: &str| {
            parse(format!("HTTP/1.1 {status} X\r\nX-Release: {value}\r\n\r\nbody").as_bytes())
                .unwrap()
                .unwrap()
        };
        assert_eq!(head(200, &release.to_string()).ready(Some("X-Release"), &release), Ok(()));
        assert!(head(200, "other").ready(Some("X-Release"), &release).is_err());
        assert!(head(200, "other").ready(Some("X-Other"), &release).is_err());
        assert!(head(503, "").ready(None, &release).unwrap_err().contains("503"));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nX"), Ok(None));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}
