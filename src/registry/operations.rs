//! The half-dozen operations of the distribution-spec that bundles need.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};

use super::RegistryError;
use super::reference::Repository;
use super::source::{Outgoing, Source};
use super::transport::{Call, Transport, location, read_at_most};
use crate::bundle::Layout;
use crate::bundle::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, MAX_MANIFEST};
use crate::model::Digest;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONTENT_DIGEST: &str = "docker-content-digest";
/// The slowest line that an upload may have, in bytes per second, and what it may take besides.
const SLOWEST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_mins(1);

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

/// What a registry says of a manifest without sending it.
#[derive(Debug)]
pub(super) struct Head {
    /// The digest, if it says one.
    pub(super) digest: Option<Digest>,
}

impl Transport {
    /// Asks for a manifest by tag or digest; nothing if it is not there. `push`: with the right to push, for the sake
    /// of registries that hide from others whether a repository exists.
    pub(super) async fn head_manifest(
        &self,
        repository: &Repository,
        name: &str,
        push: bool,
    ) -> Result<Option<Head>, RegistryError> {
        let action = format!("look for the manifest `{name}` in");
        self.retry(async || {
            let call = Call { push, ..self.manifest_call(repository, name, Method::HEAD, &action).await? };
            let response = self.send(&call).await?;
            match response.status() {
                StatusCode::OK => Ok(Some(Head { digest: content_digest(&response) })),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(call.wrong(response).await),
            }
        })
        .await
    }

    /// Gets a manifest by tag or digest. Asked for by digest, it has that digest.
    pub(super) async fn get_manifest(
        &self,
        repository: &Repository,
        name: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let action = format!("get the manifest `{name}` from");
        let bytes = self
            .retry(async || {
                let call = self.manifest_call(repository, name, Method::GET, &action).await?;
                self.get(&call, MAX_MANIFEST).await
            })
            .await?;
        match name.parse() {
            Ok(expected) => verified(repository, expected, bytes),
            Err(_) => Ok(bytes),
        }
    }

    /// The digest that a tag means. Registries that do not say it are asked for the bytes.
    pub(super) async fn resolve(&self, repository: &Repository, tag: &str) -> Result<Digest, RegistryError> {
        match self.head_manifest(repository, tag, false).await? {
            Some(Head { digest: Some(digest) }) => Ok(digest),
            // Also where there is none: this one says so.
            _ => Ok(Digest::of(&self.get_manifest(repository, tag).await?)),
        }
    }

    /// Writes a manifest of this media type under a tag or its digest.
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let action = format!("write the manifest `{name}` to");
        let (source, blob) = (Source::Bytes(bytes.to_vec()), Descriptor::of(media_type, bytes));
        self.retry(async || {
            let url = self.url(repository, &format!("manifests/{name}")).await?;
            let call = Call {
                headers: vec![(CONTENT_TYPE, media_type.to_owned())],
                push: true,
                body: Some((Outgoing { source: &source, blob: &blob }, PATIENCE)),
                ..Call::new(repository, &action, Method::PUT, url)
            };
            self.expect(&call, StatusCode::CREATED).await.map(drop)
        })
        .await
    }

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
            let response = self.send(&call).await?;
            match response.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(call.wrong(response).await),
            }
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

    /// Sends a blob: one POST, one PUT (distribution-spec, "Pushing a blob monolithically", "POST then PUT"). If either
    /// fails in a way that passes, both are done again, because the session may be gone.
    async fn upload_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        source: &Source,
        from: Option<&Repository>,
    ) -> Result<How, RegistryError> {
        let action = format!("send the blob {} to", blob.digest);
        let time = PATIENCE + Duration::from_secs(blob.size / SLOWEST);
        let from = from.filter(|from| from.host() == repository.host() && *from != repository);
        self.retry(async || {
            let url = self.url(repository, "blobs/uploads/").await?;
            let post = Call {
                headers: vec![(CONTENT_LENGTH, "0".to_owned())],
                push: true,
                ..Call::new(repository, &action, Method::POST, url)
            };
            let mut started = None;
            if let Some(from) = from {
                let mut mount = Call { from: Some(from), ..post.clone() };
                let pairs = [("mount", blob.digest.to_string()), ("from", from.name().to_owned())];
                mount.url.query_pairs_mut().extend_pairs(pairs);
                match self.send(&mount).await {
                    Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(How::Mounted),
                    // It goes on as an upload that nobody tried to spare.
                    Ok(answer) if answer.status() == StatusCode::ACCEPTED => started = Some(answer),
                    Err(error) if error.is_passing() => return Err(error),
                    // Mounting is a favour: a registry that does not know it, or does not grant it, takes the bytes.
                    _ => {}
                }
            }
            let started = match started {
                Some(started) => started,
                None => self.expect(&post, StatusCode::ACCEPTED).await?,
            };
            let mut url = location(&post, &started)?;
            url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
            let put = Call {
                method: Method::PUT,
                url,
                headers: vec![
                    (CONTENT_LENGTH, blob.size.to_string()),
                    (CONTENT_TYPE, "application/octet-stream".to_owned()),
                ],
                body: Some((Outgoing { source, blob }, time)),
                ..post
            };
            self.expect(&put, StatusCode::CREATED).await.map(|_| How::Sent)
        })
        .await
    }

    /// Gets a small blob and verifies it.
    pub(super) async fn get_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let action = format!("get the blob {} from", blob.digest);
        let bytes = self
            .retry(async || {
                let call = self.blob_call(repository, blob.digest, Method::GET, &action).await?;
                self.get(&call, limit.min(blob.size)).await
            })
            .await?;
        verified(repository, blob.digest, bytes)
    }

    /// Streams a blob into a layout. It gets its name there only if it has the right size and digest; otherwise
    /// nothing of it stays.
    pub(super) async fn download_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        layout: &Layout,
    ) -> Result<(), RegistryError> {
        let action = format!("get the blob {} from", blob.digest);
        self.retry(async || {
            let call = self.blob_call(repository, blob.digest, Method::GET, &action).await?;
            let mut response = self.expect(&call, StatusCode::OK).await?;
            let mut incoming = layout.incoming(blob.digest, blob.size)?;
            while let Some(chunk) =
                response.chunk().await.map_err(|error| call.no_answer(&call.url, error))?
            {
                if !incoming.write(&chunk)? {
                    return Err(call.refused(format!("it is longer than {} bytes", blob.size)));
                }
            }
            match incoming.finish()? {
                found if found == blob.digest => Ok(()),
                found => Err(other(repository, blob.digest, found)),
            }
        })
        .await
    }

    async fn get(&self, call: &Call<'_>, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let response = self.expect(call, StatusCode::OK).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let bytes = read_at_most(response, limit).await.map_err(|error| call.no_answer(&call.url, error))?;
        bytes.ok_or_else(|| call.refused(format!("it is longer than {limit} bytes")))
    }

    pub(super) async fn expect(
        &self,
        call: &Call<'_>,
        status: StatusCode,
    ) -> Result<Response, RegistryError> {
        let response = self.send(call).await?;
        if response.status() == status { Ok(response) } else { Err(call.wrong(response).await) }
    }

    async fn manifest_call<'a>(
        &self,
        repository: &'a Repository,
        name: &str,
        method: Method,
        action: &'a str,
    ) -> Result<Call<'a>, RegistryError> {
        let types = [MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST, DOCKER_LIST];
        let url = self.url(repository, &format!("manifests/{name}")).await?;
        Ok(Call { headers: vec![(ACCEPT, types.join(", "))], ..Call::new(repository, action, method, url) })
    }

    pub(super) async fn blob_call<'a>(
        &self,
        repository: &'a Repository,
        digest: Digest,
        method: Method,
        action: &'a str,
    ) -> Result<Call<'a>, RegistryError> {
        let url = self.url(repository, &format!("blobs/{digest}")).await?;
        Ok(Call::new(repository, action, method, url))
    }
}

fn content_digest(response: &Response) -> Option<Digest> {
    response.headers().get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn verified(repository: &Repository, expected: Digest, bytes: Vec<u8>) -> Result<Vec<u8>, RegistryError> {
    match Digest::of(&bytes) {
        found if found == expected => Ok(bytes),
        found => Err(other(repository, expected, found)),
    }
}

fn other(repository: &Repository, expected: Digest, found: Digest) -> RegistryError {
    let (host, repository) = (repository.host().to_owned(), repository.to_string());
    RegistryError::Digest { host, repository, expected, found }
}
