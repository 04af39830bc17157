//! Clients that post all the while: over TLS, on connections kept alive, without ever trying again. What they count as
//! failed, a real client would have seen.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The host name of the overlay profile.
pub(crate) const DOMAIN: &str = "bot.test";
const LIMIT: Duration = Duration::from_secs(30);

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answers with a 2xx.
    pub(crate) answered: u64,
    /// Everything else, in words.
    pub(crate) failed: Vec<String>,
    /// The releases that answered.
    pub(crate) releases: BTreeSet<String>,
    /// The longest time any request took.
    pub(crate) slowest: Duration,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Posters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// How a client reaches the droplet.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Door {
    /// The HTTPS listener at this address, which shows the certificate `pem`.
    pub(crate) fn new(address: IpAddr, pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address: (address, 443).into(), config: Arc::new(config) }
    }

    pub(crate) fn connect(&self) -> Result<Connection, String> {
        let words = |error: &dyn std::fmt::Display| format!("no connection: {error}");
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).map_err(|error| words(&error))?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|error| words(&error))?;
        stream.set_nodelay(true).map_err(|error| words(&error))?;
        let name = ServerName::try_from(DOMAIN).unwrap();
        let client = ClientConnection::new(self.config.clone(), name).map_err(|error| words(&error))?;
        Ok(Connection(StreamOwned::new(client, stream)))
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, String> {
        self.connect()?.ask("GET", path, "")
    }
}

/// The bytes of a connection.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection kept alive.
pub(crate) struct Connection(Stream);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Connection {
    /// The bytes, for what is not HTTP.
    pub(crate) fn into_stream(self) -> Stream {
        self.0
    }

    /// Waits for answers so long.
    pub(crate) fn patience(&mut self, limit: Duration) {
        self.0.get_ref().set_read_timeout(Some(limit)).unwrap();
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, String> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).map_err(|error| format!("while sending: {error}"))?;
        self.0.flush().map_err(|error| format!("while sending: {error}"))?;
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut bytes)?;
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: String::new() };
        let length: usize = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while bytes.len() < head_end + length {
            self.more(&mut bytes)?;
        }
        answer.body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
        Ok(answer)
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer) {
            Ok(0) => Err("the connection was closed before the answer".to_owned()),
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) => Err(format!("while waiting for the answer: {error}")),
        }
    }
}

impl Posters {
    /// Starts `count` clients.
    pub(crate) fn start(door: &Door, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicU64::new(1));
        let threads = (0..count)
            .map(|client| {
                let (door, stop, number) = (door.clone(), stop.clone(), number.clone());
                // Half of them pause for a moment so short that a closed idle connection would be met.
                let pause = Duration::from_millis(if client % 2 == 0 { 5 } else { 120 });
                spawn(move || post(&door, &stop, &number, pause))
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends them and adds up what they saw.
    pub(crate) fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().unwrap();
            all.answered += seen.answered;
            all.failed.extend(seen.failed);
            all.releases.extend(seen.releases);
            all.slowest = all.slowest.max(seen.slowest);
        }
        all
    }
}

fn post(door: &Door, stop: &AtomicBool, number: &AtomicU64, pause: Duration) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) {
        let started = Instant::now();
        let mut open = match connection.take().map_or_else(|| door.connect(), Ok) {
            Ok(open) => open,
            Err(why) => {
                seen.failed.push(why);
                sleep(Duration::from_millis(200));
                continue;
            }
        };
        let update = number.fetch_add(1, Ordering::SeqCst);
        let body = format!(r#"{{"update_id":{update},"text":"hello"}}"#);
        match open.ask("POST", "/webhook", &body) {
            Ok(answer) if (200..300).contains(&answer.status) => {
                seen.answered += 1;
                seen.releases.extend(answer.header("x-bundle-release").map(str::to_owned));
                // A server that says so may close; it is the next request that must not fail.
                if answer.header("connection") != Some("close") {
                    connection = Some(open);
                }
            }
            Ok(answer) => {
                seen.failed.push(format!("update {update}: {} {}", answer.status, answer.body));
                connection = Some(open);
            }
            Err(why) => seen.failed.push(format!("update {update}: {why}")),
        }
        seen.slowest = seen.slowest.max(started.elapsed());
        sleep(pause);
    }
    seen
}
