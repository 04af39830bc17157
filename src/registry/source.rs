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
    pub(super) async fn open(&self, Outgoing { source, blob }: &Outgoing<'_>) -> Result<Body, RegistryError> {
        match source {
            Source::Bytes(bytes) => Ok(Body::from(bytes.clone())),
            Source::File(path) => {
                let opened = File::open(path);
                let file =
                    opened.map_err(|source| RegistryError::Unreadable { path: path.clone(), source })?;
                Ok(of_file(file, blob.size))
            }
            Source::Nowhere(image) => Err(RegistryError::NoSource { image: *image, blob: blob.digest }),
            Source::Remote(from) => {
                let action = format!("get the blob {} from", blob.digest);
                let call = self.blob_call(from, blob.digest, Method::GET, &action).await?;
                // A request within a request: boxed, so that its size is known.
                Ok(passed_on(Box::pin(self.expect(&call, StatusCode::OK)).await?, blob))
            }
        }
    }
}

/// A file's first `size` bytes; one that is shorter breaks the request off.
fn of_file(file: File, size: u64) -> Body {
    let file = tokio::fs::File::from_std(file).take(size);
    Body::wrap_stream(stream::try_unfold(file, async |mut file| {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        io::Result::Ok((read > 0).then_some((chunk, file)))
    }))
}

/// An answer's body. The last of it is held back until all of it is known to be right.
fn passed_on(response: Response, blob: &Descriptor) -> Body {
    let (digest, size) = (blob.digest, blob.size);
    let state = (response, Sha256::new(), size);
    Body::wrap_stream(stream::try_unfold(state, move |(mut response, mut hasher, left)| async move {
        let Some(chunk) = response.chunk().await.map_err(io::Error::other)? else { return Ok(None) };
        let left = left.checked_sub(chunk.len() as u64);
        let left =
            left.ok_or_else(|| io::Error::other(format!("{digest} is longer than {size} bytes there")))?;
        hasher.update(&chunk);
        if left == 0 {
            let found = Digest::from_hasher(hasher.clone());
            if found != digest {
                return Err(io::Error::other(format!("{digest} has other bytes there: those of {found}")));
            }
        }
        io::Result::Ok(Some((chunk, (response, hasher, left))))
    }))
}
