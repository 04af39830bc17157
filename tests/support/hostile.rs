//! A registry that answers what a test tells it to, for what no honest one does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How much of a body is kept.
const SMALL: u64 = 64 << 10;

/// What came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub authorization: Option<String>,
    /// All headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, if it is small.
    #[allow(dead_code, reason = "not every test program asks")]
    pub body: Vec<u8>,
}

impl Request {
    #[allow(dead_code, reason = "not every test program asks")]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What happens when an answer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing, for long.
    Stall,
    /// One byte now and then.
    Drip,
}

/// What goes out: status line, headers, body.
pub struct Answer {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// After how many bytes of the body something else happens; before the status line, if there are none to come.
    pub cut: Option<(Option<usize>, Then)>,
}

impl Answer {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Cut off after so many bytes of the body; `None` is before the status line.
    #[allow(dead_code, reason = "not every test program cuts")]
    pub fn cut(mut self, after: impl Into<Option<usize>>, then: Then) -> Self {
        self.cut = Some((after.into(), then));
        self
    }
}

/// The server. Its threads end with the test's process.
pub struct Hostile {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hostile {
    /// Answers every request with what `handler` says, in plain HTTP.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                // A client that goes away, or speaks TLS, is no failure of the test.
                thread::spawn(move || drop(serve(&stream, &*handler, &seen)));
            }
        });
        Self { address, requests }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    handler: &dyn Fn(&Request) -> Answer,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes)?;
    let Ok(line) = String::from_utf8(bytes) else { return Ok(()) };
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Ok(());
    };
    let mut request = Request { method, target, authorization: None, headers: Vec::new(), body: Vec::new() };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    reader.by_ref().take(length.min(SMALL)).read_to_end(&mut request.body)?;
    std::io::copy(&mut reader.take(length.saturating_sub(SMALL)), &mut std::io::sink())?;
    seen.lock().unwrap().push(request.clone());
    let answer = handler(&request);
    if let Some((None, then)) = answer.cut {
        return then.happen(stream, b"");
    }
    let length = ("Content-Length", answer.body.len().to_string());
    let own_length = answer.headers.iter().any(|(name, _)| *name == length.0);
    let headers = answer.headers.into_iter().chain((!own_length).then_some(length));
    let headers: String = headers.map(|(name, value)| [name, ": ", &value, "\r\n"].concat()).collect();
    let out = format!("HTTP/1.1 {}\r\nConnection: close\r\n{headers}", answer.status);
    let mut stream = stream;
    stream.write_all(format!("{out}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return stream.flush();
    }
    match answer.cut {
        Some((Some(after), then)) => {
            let (first, rest) = answer.body.split_at(after.min(answer.body.len()));
            stream.write_all(first)?;
            stream.flush()?;
            // What was sent should arrive before the line breaks.
            thread::sleep(Duration::from_millis(50));
            then.happen(stream, rest)
        }
        _ => stream.write_all(&answer.body).and_then(|()| stream.flush()),
    }
}

impl Then {
    fn happen(self, mut stream: &TcpStream, rest: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Close => Ok(()),
            // Closed with unread or unsent data at once, it is reset (socket(7), SO_LINGER).
            Self::Reset => Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?),
            Self::Stall => {
                thread::sleep(Duration::from_secs(30));
                Ok(())
            }
            Self::Drip => rest.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(&[*byte])
            }),
        }
    }
}
