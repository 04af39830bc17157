//! The half-dozen operations of the distribution-spec that bundles need.

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};

use serde::Deserialize;

use super::RegistryError;
use super::reference::Repository;
use super::source::{Outgoing, Source};
use super::transport::{Call, Transport, refused};
use crate::bundle::image::Leads;
use crate::bundle::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, MAX_MANIFEST};
use crate::model::Digest;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONTENT_DIGEST: &str = "docker-content-digest";
const OCI_SUBJECT: &str = "oci-subject";
/// What a manifest may be.
const MANIFEST_TYPES: [&str; 4] = [MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST, DOCKER_LIST];
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
            Ok(self.found(&call).await?.map(|response| {
                let known = media_type(&response).is_none_or(|found| MANIFEST_TYPES.contains(&&*found));
                Head { digest: content_digest(&response).filter(|_| known) }
            }))
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
                let response = self.expect(&call, StatusCode::OK).await?;
                let announced = media_type(&response);
                let bytes = self.read(&call, response, most(MAX_MANIFEST)).await?;
                announced_as(&bytes, announced.as_deref()).map_err(|reason| call.refused(reason))?;
                Ok(bytes)
            })
            .await?;
        match name.parse() {
            Ok(expected) => verified(repository, expected, bytes),
            Err(_) => Ok(bytes),
        }
    }

    /// The same with what it leads to.
    pub(super) async fn get_document(
        &self,
        repository: &Repository,
        name: &str,
    ) -> Result<(Vec<u8>, Leads), RegistryError> {
        let bytes = self.get_manifest(repository, name).await?;
        let action = format!("get the manifest `{name}` from");
        let leads = Leads::of(&bytes).map_err(|error| refused(repository, &action, error.reason))?;
        Ok((bytes, leads))
    }

    /// The digest that a tag means. Registries that do not say it are asked for the bytes.
    pub(super) async fn resolve(&self, repository: &Repository, tag: &str) -> Result<Digest, RegistryError> {
        match self.head_manifest(repository, tag, false).await? {
            Some(Head { digest: Some(digest) }) => Ok(digest),
            // Also where there is none: this one says so.
            _ => Ok(Digest::of(&self.get_document(repository, tag).await?.0)),
        }
    }

    /// Writes a manifest of this media type under a tag or its digest; whether the registry says that it has entered it
    /// among the referrers of its subject.
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let action = format!("write the manifest `{name}` to");
        let (source, blob) = (Source::Bytes(bytes.to_vec()), Descriptor::of(media_type, bytes));
        self.retry(async || {
            let url = self.url(repository, &format!("manifests/{name}")).await?;
            let call = Call {
                headers: vec![(CONTENT_TYPE, media_type.to_owned())],
                push: true,
                body: Some(Outgoing { source: &source, blob: &blob }),
                ..Call::new(repository, &action, Method::PUT, url)
            };
            let answer = self.expect(&call, StatusCode::CREATED).await?;
            Ok(answer.headers().contains_key(OCI_SUBJECT))
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

    async fn get(&self, call: &Call<'_>, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let response = self.expect(call, StatusCode::OK).await?;
        self.read(call, response, most(limit)).await
    }

    /// Reads an answer of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        call: &Call<'_>,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let (mut pace, mut bytes) = (self.options.patience.pace(), Vec::new());
        let url = response.url().clone();
        while let Some(chunk) = pace.chunk(&mut response).await.map_err(|stuck| call.stuck(&url, stuck))? {
            if bytes.len() + chunk.len() > limit {
                return Err(call.refused(format!("it is longer than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(super) async fn expect(
        &self,
        call: &Call<'_>,
        status: StatusCode,
    ) -> Result<Response, RegistryError> {
        let response = self.send(call).await?;
        if response.status() == status { Ok(response) } else { Err(self.wrong(call, response).await) }
    }

    /// The answer, if there is what is asked for.
    pub(super) async fn found(&self, call: &Call<'_>) -> Result<Option<Response>, RegistryError> {
        let response = self.send(call).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.wrong(call, response).await),
        }
    }

    async fn manifest_call<'a>(
        &self,
        repository: &'a Repository,
        name: &str,
        method: Method,
        action: &'a str,
    ) -> Result<Call<'a>, RegistryError> {
        let url = self.url(repository, &format!("manifests/{name}")).await?;
        Ok(Call {
            headers: vec![(ACCEPT, MANIFEST_TYPES.join(", "))],
            ..Call::new(repository, action, method, url)
        })
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

fn most(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// `Content-Type` without its parameters.
fn media_type(response: &Response) -> Option<String> {
    let text = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// What a document calls itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    media_type: Option<String>,
}

/// A document that calls itself something else than its answer does is two things (CVE-2021-41190).
fn announced_as(bytes: &[u8], announced: Option<&str>) -> Result<(), String> {
    let own = serde_json::from_slice(bytes).ok().and_then(|Own { media_type }| media_type);
    match (own, announced.filter(|announced| MANIFEST_TYPES.contains(announced))) {
        (Some(own), Some(announced)) if own != announced => {
            Err(format!("it is announced as `{announced}` and calls itself `{own}`"))
        }
        _ => Ok(()),
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

pub(super) fn other(repository: &Repository, expected: Digest, found: Digest) -> RegistryError {
    let (host, repository) = (repository.host().to_owned(), repository.to_string());
    RegistryError::Digest { host, repository, expected, found }
}
