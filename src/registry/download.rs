//! Blobs into a layout, from where an earlier try ended.

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::RegistryError;
use super::operations::other;
use super::reference::Repository;
use super::transport::{Call, Transport};
use crate::bundle::oci::Descriptor;
use crate::bundle::{Incoming, Layout};

impl Transport {
    /// Streams a blob into a layout. It gets its name there only if it has the right size and digest. What came before
    /// the line broke is kept beside for the next try; bytes that are wrong are not.
    pub(super) async fn download_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        layout: &Layout,
    ) -> Result<(), RegistryError> {
        let action = format!("get the blob {} from", blob.digest);
        // What an earlier run left may be wrong, and is no reason to fail: it is given one chance.
        for trusts_the_past in [true, false] {
            let mut incoming = layout.resume(blob.digest, blob.size)?;
            if !trusts_the_past {
                incoming.restart()?;
            }
            let resumed = incoming.received() > 0;
            self.retry(async || self.go_on(repository, blob, &action, &mut incoming).await).await?;
            match incoming.finish()? {
                found if found == blob.digest => return Ok(()),
                found if !resumed => return Err(other(repository, blob.digest, found)),
                _ => {}
            }
        }
        Ok(())
    }

    /// One try to get the rest of a blob.
    async fn go_on(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        action: &str,
        incoming: &mut Incoming,
    ) -> Result<(), RegistryError> {
        let there = incoming.received();
        if there == blob.size && there > 0 {
            return Ok(());
        }
        let mut call = self.blob_call(repository, blob.digest, Method::GET, action).await?;
        if there > 0 {
            call.headers.push((RANGE, format!("bytes={there}-")));
        }
        let mut response = self.send(&call).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if there > 0 && begins_at(&response, there) => {}
            // The whole again, or something that nobody asked for: the next try asks for the whole.
            StatusCode::OK => incoming.restart()?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => {
                incoming.restart()?;
                let reason = format!("does not give it from byte {there} on");
                return Err(stopped(&call, reason));
            }
            _ => return Err(self.wrong(&call, response).await),
        }
        let (mut pace, url) = (self.options.patience.pace(), response.url().clone());
        while let Some(chunk) = pace.chunk(&mut response).await.map_err(|stuck| call.stuck(&url, stuck))? {
            if !incoming.write(&chunk)? {
                return Err(call.refused(format!("it is longer than {} bytes", blob.size)));
            }
            if let Some(progress) = &self.options.progress {
                progress.moved(blob.digest, incoming.received(), blob.size);
            }
        }
        match incoming.received() {
            all if all == blob.size => Ok(()),
            part => Err(stopped(&call, format!("breaks off after {part} of {} bytes", blob.size))),
        }
    }
}

fn begins_at(response: &Response, byte: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| begins(range, byte))
}

/// Whether a `Content-Range` (RFC 9110, section 14.4) begins at this byte.
pub(super) fn begins(range: &str, byte: u64) -> bool {
    range.trim().starts_with(&format!("bytes {byte}-"))
}

fn stopped(call: &Call<'_>, reason: String) -> RegistryError {
    RegistryError::Stuck {
        action: call.action.to_owned(),
        repository: call.repository.to_string(),
        host: call.repository.api_host().to_owned(),
        reason,
    }
}
