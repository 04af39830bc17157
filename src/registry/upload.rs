//! Blobs on their way into a registry: not at all if they are there, out of another repository if that has them, in one
//! request if they are small, else in two.

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode, Url};

use super::RegistryError;
use super::reference::Repository;
use super::source::{Outgoing, Source};
use super::transport::{Call, Transport, location};
use crate::bundle::oci::Descriptor;

/// The largest blob, in bytes, whose bytes go along with the question where they should go. A registry that does not
/// take them then gets them twice.
const SMALL: u64 = 64 << 10;

/// How a blob came to be in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It was there.
    There,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// What became of asking for more than the beginning of an upload.
enum Favour {
    /// The blob is there.
    Done(How),
    /// An upload has begun, as without it.
    Started(Response),
    /// Nothing.
    No,
}

impl Transport {
    /// Whether the registry has a blob.
    pub(super) async fn has_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<bool, RegistryError> {
        let action = format!("look for the blob {} in", blob.digest);
        self.retry(async || {
            let mut call = self.blob_call(repository, blob.digest, Method::HEAD, &action).await?;
            // The same token as for the upload that may follow.
            call.push = true;
            Ok(self.found(&call).await?.is_some())
        })
        .await
    }

    /// Sends a blob, unless the registry has it, or takes it out of `from`, another repository, by itself
    /// (distribution-spec, "Mounting a blob from another repository").
    pub(super) async fn send_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        source: &Source,
        from: Option<&Repository>,
    ) -> Result<How, RegistryError> {
        if self.has_blob(repository, blob).await? {
            return Ok(How::There);
        }
        self.upload_blob(repository, blob, source, from).await
    }

    /// Sends a blob that the registry does not have, as far as is known: a small one in one POST, if the registry takes
    /// that (distribution-spec, "Single POST"), others in one POST and one PUT ("POST then PUT"). If either fails in a
    /// way that passes, both are done again, because the session may be gone.
    pub(super) async fn upload_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        source: &Source,
        from: Option<&Repository>,
    ) -> Result<How, RegistryError> {
        let action = format!("send the blob {} to", blob.digest);
        let from = from.filter(|from| from.host() == repository.host() && *from != repository);
        let mut whole = blob.size <= SMALL && matches!(source, Source::Bytes(_) | Source::File(_));
        self.retry(async || {
            let url = self.url(repository, "blobs/uploads/").await?;
            let post = Call {
                headers: vec![(CONTENT_LENGTH, "0".to_owned())],
                push: true,
                ..Call::new(repository, &action, Method::POST, url)
            };
            let favour = match from {
                Some(from) => self.mount(&post, blob, from).await?,
                // Once: a registry that stumbles over it is asked in the other way.
                None if std::mem::take(&mut whole) => self.in_one(&post, blob, source).await?,
                None => Favour::No,
            };
            let started = match favour {
                Favour::Done(how) => return Ok(how),
                Favour::Started(started) => started,
                Favour::No => self.expect(&post, StatusCode::ACCEPTED).await?,
            };
            let put = sending(&post, Method::PUT, location(&post, &started)?, blob, source);
            self.expect(&put, StatusCode::CREATED).await.map(|_| How::Sent)
        })
        .await
    }

    /// Asks for a blob to be mounted, with the request that would begin an upload.
    async fn mount(
        &self,
        post: &Call<'_>,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Favour, RegistryError> {
        let mut mount = Call { from: Some(from), ..post.clone() };
        let pairs = [("mount", blob.digest.to_string()), ("from", from.name().to_owned())];
        mount.url.query_pairs_mut().extend_pairs(pairs);
        match self.send(&mount).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Ok(Favour::Done(How::Mounted)),
            // It goes on as an upload that nobody tried to spare.
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => Ok(Favour::Started(answer)),
            Err(error) if error.is_passing() => Err(error),
            // Mounting is a favour: a registry that does not know it, or does not grant it, takes the bytes.
            _ => Ok(Favour::No),
        }
    }

    /// Sends a blob along with the request that would begin an upload, unless this registry is known not to take it so.
    async fn in_one(
        &self,
        post: &Call<'_>,
        blob: &Descriptor,
        source: &Source,
    ) -> Result<Favour, RegistryError> {
        let host = post.repository.host();
        if self.in_two.borrow().contains(host) {
            return Ok(Favour::No);
        }
        let call = sending(post, Method::POST, post.url.clone(), blob, source);
        let answer = self.send(&call).await?;
        match answer.status() {
            StatusCode::CREATED => return Ok(Favour::Done(How::Sent)),
            StatusCode::NOT_FOUND => return Err(self.wrong(&call, answer).await),
            _ => self.in_two.borrow_mut().insert(host.to_owned()),
        };
        // The bytes have not been looked at, but an upload has begun.
        Ok(if answer.status() == StatusCode::ACCEPTED { Favour::Started(answer) } else { Favour::No })
    }
}

/// The call that sends a blob's bytes to `url`, like `post` in all else.
fn sending<'a>(
    post: &Call<'a>,
    method: Method,
    mut url: Url,
    blob: &'a Descriptor,
    source: &'a Source,
) -> Call<'a> {
    // A registry may have kept the digest of the request before.
    if url.query_pairs().all(|(name, _)| name != "digest") {
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    }
    let headers =
        vec![(CONTENT_LENGTH, blob.size.to_string()), (CONTENT_TYPE, "application/octet-stream".to_owned())];
    Call { method, url, headers, body: Some(Outgoing { source, blob }), ..post.clone() }
}
