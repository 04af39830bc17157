//! Fetching from a mirror: bytes that are signed themselves, and files of which size and SHA-256 are known before. A
//! mirror is not trusted, so plain HTTP will do.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RANGE;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};

use super::DebianError;
use crate::model::Digest;

const CONNECT: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_mins(1);
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const REDIRECTS: usize = 5;
/// How many files are fetched at once: mirrors ask for modesty.
const AT_ONCE: usize = 4;

/// A file to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where from.
    pub url: String,
    /// Where else, if it is not there.
    pub also: Option<String>,
    /// Where to. Nothing is there until all of it is, and right.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// Where files come from.
pub trait Fetch {
    /// All that a URL has, at most `limit` bytes.
    fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, DebianError>;

    /// Fetches files. They are there, and right, if and only if this succeeds. Says how many came from elsewhere.
    fn files(&self, wanted: &[Wanted]) -> Result<usize, DebianError>;
}

/// Mirrors, over HTTP and HTTPS.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

/// How one try ended.
enum Failed {
    /// It may be better next time.
    Passing(String),
    /// It will not.
    Final(DebianError),
}

impl Http {
    /// A client.
    pub fn new() -> Result<Self, DebianError> {
        // Fails only if a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let setup = |reason: String| DebianError::Fetch { url: "mirrors".to_owned(), reason };
        let client = reqwest::Client::builder()
            .user_agent(concat!("bundle/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .dns_resolver(Arc::new(crate::registry::Names))
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .build()
            .map_err(|error| setup(chain(&error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { runtime: runtime.map_err(|error| setup(error.to_string()))?, client })
    }
}

impl Fetch for Http {
    fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, DebianError> {
        self.runtime.block_on(patiently(url, async || {
            let mut answer = ask(&self.client, url, 0).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(passing)? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > limit {
                    let reason = format!("it is larger than {limit} bytes");
                    return Err(Failed::Final(DebianError::Fetch { url: url.to_owned(), reason }));
                }
            }
            Ok(bytes)
        }))
    }

    fn files(&self, wanted: &[Wanted]) -> Result<usize, DebianError> {
        let mut elsewhere = 0;
        let local = LocalSet::new();
        self.runtime.block_on(local.run_until(async {
            let mut tasks = JoinSet::new();
            let mut left = wanted.iter();
            loop {
                while tasks.len() < AT_ONCE
                    && let Some(next) = left.next()
                {
                    let (client, next) = (self.client.clone(), next.clone());
                    tasks.spawn_local(async move { either(&client, &next).await });
                }
                match tasks.join_next().await {
                    None => return Ok(elsewhere),
                    Some(Ok(done)) => elsewhere += usize::from(done?),
                    Some(Err(died)) => {
                        return Err(DebianError::Fetch {
                            url: "mirrors".to_owned(),
                            reason: died.to_string(),
                        });
                    }
                }
            }
        }))
    }
}

/// Tries again what may pass.
async fn patiently<T>(url: &str, mut work: impl AsyncFnMut() -> Result<T, Failed>) -> Result<T, DebianError> {
    let mut wait = FIRST_WAIT;
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        match work().await {
            Ok(done) => return Ok(done),
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::Passing(reason)) => last = reason,
        }
    }
    Err(DebianError::Fetch { url: url.to_owned(), reason: last })
}

/// Asks for the bytes from `offset` on.
async fn ask(client: &reqwest::Client, url: &str, offset: u64) -> Result<Response, Failed> {
    let mut request = client.get(url);
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
    }
    let answer = request.send().await.map_err(passing)?;
    let status = answer.status();
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(Failed::Final(DebianError::Gone { url: url.to_owned() }))
        }
        _ if status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) =>
        {
            Err(Failed::Passing(format!("the server answers {status}")))
        }
        _ => {
            let reason = format!("the server answers {status}");
            Err(Failed::Final(DebianError::Fetch { url: url.to_owned(), reason }))
        }
    }
}

/// One file, from elsewhere if it is not where it should be; whether that was so.
async fn either(client: &reqwest::Client, wanted: &Wanted) -> Result<bool, DebianError> {
    match (file(client, wanted).await, &wanted.also) {
        (Err(DebianError::Gone { url }), Some(also)) => {
            let other = Wanted { url: also.clone(), also: None, ..wanted.clone() };
            let failed = |source| DebianError::Dropped { url, also: also.clone(), source: Box::new(source) };
            file(client, &other).await.map_err(failed)?;
            Ok(true)
        }
        (done, _) => done.map(|()| false),
    }
}

/// One file, hashed as it comes in, gone on with where a connection broke.
async fn file(client: &reqwest::Client, wanted: &Wanted) -> Result<(), DebianError> {
    let folder = wanted.path.parent().unwrap_or(Path::new("."));
    let cannot_write = || DebianError::io("write", &wanted.path);
    let new = || partial_in(folder);
    let mut partial = new()?;
    let mut hasher = Sha256::new();
    let mut have: u64 = 0;
    patiently(&wanted.url, async || {
        let mut answer = ask(client, &wanted.url, have).await?;
        let length = answer.content_length();
        if have > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            hasher = Sha256::new();
            have = 0;
            partial = new().map_err(Failed::Final)?;
        }
        while let Some(chunk) = answer.chunk().await.map_err(passing)? {
            have += chunk.len() as u64;
            if have > wanted.size {
                break;
            }
            hasher.update(&chunk);
            partial.write_all(&chunk).map_err(cannot_write()).map_err(Failed::Final)?;
        }
        if have == wanted.size {
            return Ok(());
        }
        let ended = answer.status() == StatusCode::OK && length == Some(have);
        if have > wanted.size || ended {
            // Not cut short: it is another file.
            return Err(Failed::Final(DebianError::Size { url: wanted.url.clone(), expected: wanted.size }));
        }
        Err(Failed::Passing(format!("it ended after {have} of {} bytes", wanted.size)))
    })
    .await?;
    let found = Digest::from_hasher(hasher);
    if found != wanted.digest {
        return Err(DebianError::Digest { url: wanted.url.clone(), expected: wanted.digest, found });
    }
    persist(partial, &wanted.path)
}

/// A file that is not yet what it is to be, and has no name that anybody looks for.
pub(crate) fn partial_in(folder: &Path) -> Result<NamedTempFile, DebianError> {
    let file = tempfile::Builder::new().suffix(".partial").tempfile_in(folder);
    file.map_err(DebianError::io("make a file in", folder))
}

/// Complete or absent, and readable by whom it may concern.
pub(crate) fn persist(partial: NamedTempFile, path: &Path) -> Result<(), DebianError> {
    let file: File =
        partial.persist(path).map_err(|error| error.error).map_err(DebianError::io("write", path))?;
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    file.set_permissions(mode).map_err(DebianError::io("write", path))
}

fn passing(error: reqwest::Error) -> Failed {
    Failed::Passing(chain(&error.without_url()))
}

/// An error with its causes: reqwest says the interesting part last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
