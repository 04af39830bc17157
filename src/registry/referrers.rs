//! What is attached to a manifest: bills of materials, statements of origin (distribution-spec 1.1, "Listing Referrers").
//!
//! A registry that does not keep the list itself has it as a tag, `sha256-<hex>`. The list is only where to look: what is
//! attached, to what, and of which type it is, each attachment's own manifest says.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::header::{ACCEPT, LINK};
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::RegistryError;
use super::push::IN_FLIGHT;
use super::reference::Repository;
use super::transport::{Call, Transport, origin, refused};
use super::{Descriptor, Registry};
use crate::bundle::image::MAX_MANIFESTS;
use crate::bundle::oci::{INDEX_TYPE, MAX_MANIFEST};
use crate::model::Digest;

/// How many pages a list may have.
const PAGES: usize = 64;

/// Something that is attached. All of it is from its own manifest, which has this digest and names the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What kind of attachment it is.
    pub artifact_type: String,
    /// Its blobs, mostly one.
    pub layers: Vec<Descriptor>,
    /// What it says besides.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    artifact_type: Option<String>,
    config: Part,
    layers: Vec<Part>,
    subject: Option<Part>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// A list, with whatever others put into it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    schema_version: u32,
    pub(super) media_type: Option<String>,
    pub(super) manifests: Vec<Entry>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

impl Registry {
    /// All that is attached to a manifest or index, by digest.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        self.runtime.block_on(self.transport.referrers(repository, subject))
    }

    /// The bytes of an attachment's blob, verified. Larger than `limit` bytes it is refused.
    pub fn attached(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        self.runtime.block_on(self.transport.get_blob(repository, blob, limit))
    }
}

/// The tag that holds the list where the registry does not (distribution-spec, "Referrers Tag Schema").
pub(super) fn list_tag(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

impl Transport {
    /// The tag's list; an empty one if there is none.
    pub(super) async fn tagged(&self, repository: &Repository, tag: &str) -> Result<List, RegistryError> {
        match self.get_manifest(repository, tag).await {
            Ok(bytes) => read_list(repository, tag, &bytes),
            Err(RegistryError::NotFound { .. }) => {
                Ok(List { schema_version: 2, media_type: None, manifests: Vec::new(), rest: Map::new() })
            }
            Err(error) => Err(error),
        }
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let mut digests = self.listed(repository, subject).await?;
        if digests.is_empty() {
            // Some registries answer with an empty list although they do not keep any.
            let list = self.tagged(repository, &list_tag(subject)).await?;
            digests = list.manifests.iter().map(|entry| entry.digest).collect();
        }
        digests.sort();
        digests.dedup();
        let reads = digests.into_iter().map(|digest| self.referrer(repository, subject, digest));
        let read: Vec<Option<Referrer>> = stream::iter(reads).buffered(IN_FLIGHT).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// What the registry's own list names; nothing if it keeps none.
    async fn listed(&self, repository: &Repository, subject: Digest) -> Result<Vec<Digest>, RegistryError> {
        let action = format!("list what is attached to {subject} in");
        let mut digests = Vec::new();
        let mut url = self.url(repository, &format!("referrers/{subject}")).await?;
        for _ in 0..PAGES {
            let call = Call {
                headers: vec![(ACCEPT, INDEX_TYPE.to_owned())],
                ..Call::new(repository, &action, Method::GET, url.clone())
            };
            let page = self
                .retry(async || {
                    let Some(response) = self.found(&call).await? else { return Ok(None) };
                    let next = next(&response);
                    let limit = usize::try_from(MAX_MANIFEST).unwrap_or(usize::MAX);
                    Ok(Some((self.read(&call, response, limit).await?, next)))
                })
                .await?;
            let Some((bytes, next)) = page else { return Ok(digests) };
            let list = read_list(repository, "", &bytes)?;
            digests.extend(list.manifests.iter().map(|entry| entry.digest));
            if digests.len() > MAX_MANIFESTS {
                break;
            }
            match next.and_then(|next| url.join(&next).ok()) {
                None => return Ok(digests),
                Some(next) if origin(&next) == origin(&url) => url = next,
                Some(_) => return Err(call.refused("its list goes on at another host")),
            }
        }
        Err(refused(repository, &action, format!("it has more than {MAX_MANIFESTS} entries")))
    }

    /// One attachment; nothing if the list is wrong about it.
    async fn referrer(
        &self,
        repository: &Repository,
        subject: Digest,
        digest: Digest,
    ) -> Result<Option<Referrer>, RegistryError> {
        let bytes = match self.get_manifest(repository, &digest.to_string()).await {
            Ok(bytes) => bytes,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(read) = serde_json::from_slice::<Read>(&bytes) else { return Ok(None) };
        if read.subject.is_none_or(|found| found.digest != subject) {
            return Ok(None);
        }
        let artifact_type = read.artifact_type.unwrap_or(read.config.media_type);
        let descriptor = |Part { media_type, digest, size }| Descriptor { media_type, digest, size };
        let layers = read.layers.into_iter().map(descriptor).collect();
        Ok(Some(Referrer { digest, artifact_type, layers, annotations: read.annotations }))
    }
}

fn read_list(repository: &Repository, tag: &str, bytes: &[u8]) -> Result<List, RegistryError> {
    let action =
        if tag.is_empty() { "read the referrers of".to_owned() } else { format!("read the list `{tag}` of") };
    let list: List = serde_json::from_slice(bytes)
        .map_err(|error| refused(repository, &action, format!("it is not an image index: {error}")))?;
    if list.manifests.len() > MAX_MANIFESTS {
        return Err(refused(repository, &action, format!("it has more than {MAX_MANIFESTS} entries")));
    }
    Ok(list)
}

/// The next page (RFC 8288): `</v2/…>; rel="next"`.
fn next(response: &Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.replace('"', "").contains("rel=next").then(|| url.to_owned())
}
