//! How long a registry may take: not how long in all, which depends on size and line, but how slow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout, timeout_at};

use super::Progress;
use crate::model::Digest;

/// How long a registry may take, and how often it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To make a connection, TLS and all.
    pub connect: Duration,
    /// From the end of a request to the beginning of its answer. After an upload twice that, and a second per 16 MiB.
    pub answer: Duration,
    /// How long is looked before a line is called too slow.
    pub window: Duration,
    /// The slowest line, in bytes per second over a window.
    pub slowest: u64,
    /// How often something is tried in all.
    pub attempts: u32,
    /// What is waited before the second try; then twice that, and so on.
    pub first_wait: Duration,
    /// The longest wait that a registry may ask for. A longer one is said, not waited.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            window: Duration::from_secs(30),
            slowest: 1 << 10,
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_mins(1),
        }
    }
}

/// Why nothing more comes, or goes.
#[derive(Debug)]
pub(super) enum Stuck {
    /// The connection failed.
    Failed(reqwest::Error),
    /// Nothing for that long.
    Silent(Duration),
    /// So many bytes in so long.
    Slow(u64, Duration),
}

impl From<reqwest::Error> for Stuck {
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error)
    }
}

/// How fast a body comes in.
#[derive(Debug)]
pub(super) struct Pace {
    patience: Patience,
    end: Instant,
    moved: u64,
}

impl Patience {
    fn least(&self) -> u64 {
        self.slowest.saturating_mul(self.window.as_millis().try_into().unwrap_or(u64::MAX)) / 1000
    }

    /// Starts looking at a body.
    pub(super) fn pace(self) -> Pace {
        Pace { patience: self, end: Instant::now() + self.window, moved: 0 }
    }

    /// Waits for the answer to a request with a body of `size` bytes, `sent` of which are on their way.
    pub(super) async fn answer(
        self,
        request: impl Future<Output = reqwest::Result<Response>>,
        size: u64,
        sent: &AtomicU64,
    ) -> Result<Response, Stuck> {
        let mut request = std::pin::pin!(request);
        let mut before = 0;
        while size > before {
            if let Ok(answer) = timeout(self.window, &mut request).await {
                return Ok(answer?);
            }
            let now = sent.load(Ordering::Relaxed);
            if now < size && now - before < self.least() {
                return Err(Stuck::Slow(now - before, self.window));
            }
            before = now;
        }
        // A registry that moves a large blob to where it keeps it takes its time.
        let long = if size == 0 { self.answer } else { self.answer * 2 + Duration::from_secs(size >> 24) };
        timeout(long, request).await.map_err(|_| Stuck::Silent(long))?.map_err(Stuck::Failed)
    }
}

impl Pace {
    /// The next piece of an answer's body.
    pub(super) async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Stuck> {
        loop {
            let came = match timeout_at(self.end, response.chunk()).await {
                Ok(came) => match came? {
                    None => return Ok(None),
                    bytes => bytes,
                },
                Err(_) => None,
            };
            self.moved += came.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if Instant::now() >= self.end {
                if self.moved < self.patience.least() {
                    return Err(Stuck::Slow(self.moved, self.patience.window));
                }
                (self.end, self.moved) = (Instant::now() + self.patience.window, 0);
            }
            if came.is_some() {
                return Ok(came);
            }
        }
    }
}

/// Counts what a body has given away.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    pub(super) sent: Arc<AtomicU64>,
    /// Who hears of it, as which blob of which size.
    pub(super) told: Option<(Arc<dyn Progress>, Digest, u64)>,
}

impl Counter {
    pub(super) fn add(&self, bytes: usize) {
        let before = self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some((told, blob, size)) = &self.told {
            told.moved(*blob, before + bytes as u64, *size);
        }
    }
}

/// In the middle of a body that is being passed on.
pub(super) fn broken(stuck: Stuck) -> io::Error {
    match stuck {
        Stuck::Failed(error) => io::Error::other(error.without_url()),
        Stuck::Silent(long) => io::Error::other(format!("nothing came for {} s", long.as_secs_f32())),
        Stuck::Slow(bytes, long) => io::Error::other(slow(bytes, long)),
    }
}

/// How slow it is, in words.
pub(super) fn slow(bytes: u64, long: Duration) -> String {
    format!("only {bytes} bytes moved in {} s", long.as_secs_f32())
}
