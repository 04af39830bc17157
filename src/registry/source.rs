//! Bytes on their way out, which can be opened again when they have to be sent again.
#![expect(clippy::disallowed_methods, reason = "an upload may have to be read again from its file")]

use std::fs::File;
use std::io;
use std::path::PathBuf;

use futures_util::stream;
use reqwest::{Body, Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::RegistryError;
use super::pace::{Counter, Pace, broken};
use super::reference::Repository;
use super::transport::Transport;
use crate::bundle::oci::Descriptor;
use crate::model::Digest;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Where the bytes of a blob or manifest are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file.
    File(PathBuf),
    /// In another repository, from where they are passed on without being kept.
    Remote(Repository),
    /// Nowhere: the image of this digest can be sent only if the registry has the blob.
    Nowhere(Digest),
}

/// What a request sends.
#[derive(Debug, Clone)]
pub(super) struct Outgoing<'a> {
    pub(super) source: &'a Source,
    pub(super) blob: &'a Descriptor,
}

impl Transport {
    /// Opens what is to be sent, from its beginning.
    pub(super) async fn open(
        &self,
        Outgoing { source, blob }: &Outgoing<'_>,
        sent: &Counter,
    ) -> Result<Body, RegistryError> {
        match source {
            Source::Bytes(bytes) => {
                sent.add(bytes.len());
                Ok(Body::from(bytes.clone()))
            }
            Source::File(path) => {
                let opened = File::open(path);
                let file =
                    opened.map_err(|source| RegistryError::Unreadable { path: path.clone(), source })?;
                Ok(of_file(file, blob.size, sent.clone()))
            }
            Source::Nowhere(image) => Err(RegistryError::NoSource { image: *image, blob: blob.digest }),
            Source::Remote(from) => {
                let action = format!("get the blob {} from", blob.digest);
                let call = self.blob_call(from, blob.digest, Method::GET, &action).await?;
                // A request within a request: boxed, so that its size is known.
                let response = Box::pin(self.expect(&call, StatusCode::OK)).await?;
                Ok(passed_on(response, blob, self.options.patience.pace(), sent.clone()))
            }
        }
    }
}

/// A file's first `size` bytes; one that is shorter breaks the request off.
fn of_file(file: File, size: u64, sent: Counter) -> Body {
    let state = (tokio::fs::File::from_std(file).take(size), sent);
    Body::wrap_stream(stream::try_unfold(state, async |(mut file, sent)| {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        sent.add(read);
        io::Result::Ok((read > 0).then_some((chunk, (file, sent))))
    }))
}

/// What is passed on, in the middle.
struct Passing {
    response: Response,
    blob: (Digest, u64),
    hasher: Sha256,
    left: u64,
    pace: Pace,
    sent: Counter,
}

/// An answer's body. The last of it is held back until all of it is known to be right.
fn passed_on(response: Response, blob: &Descriptor, pace: Pace, sent: Counter) -> Body {
    let (blob, hasher, left) = ((blob.digest, blob.size), Sha256::new(), blob.size);
    let passing = Passing { response, blob, hasher, left, pace, sent };
    Body::wrap_stream(stream::try_unfold(passing, async |mut passing| {
        let chunk = passing.pace.chunk(&mut passing.response).await.map_err(broken)?;
        let Some(chunk) = chunk else { return Ok(None) };
        passing.take(&chunk).map_err(io::Error::other)?;
        io::Result::Ok(Some((chunk, passing)))
    }))
}

impl Passing {
    fn take(&mut self, chunk: &[u8]) -> Result<(), String> {
        let (digest, size) = self.blob;
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left.ok_or_else(|| format!("{digest} is longer than {size} bytes there"))?;
        self.hasher.update(chunk);
        self.sent.add(chunk.len());
        match self.left {
            0 => match Digest::from_hasher(std::mem::take(&mut self.hasher)) {
                found if found == digest => Ok(()),
                found => Err(format!("{digest} has other bytes there: those of {found}")),
            },
            _ => Ok(()),
        }
    }
}
