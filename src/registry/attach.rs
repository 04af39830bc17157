//! Attaching to manifests: what is to be found there later (distribution-spec 1.1, "Pushing Manifests with Subject").
//!
//! All attachments of a push go together: their blobs, then their manifests, then the lists that the registry does not
//! keep itself, one for each subject. Whether it keeps them it says in its answer to each manifest, so nobody asks.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Registry;
use super::error::RegistryError;
use super::push::IN_FLIGHT;
use super::reference::Repository;
use super::referrers::{Entry, list_tag};
use super::source::Source;
use super::transport::{Transport, refused};
use crate::bundle::activator::{EMPTY, EMPTY_TYPE};
use crate::bundle::oci::{Descriptor, INDEX_TYPE, MANIFEST_TYPE};
use crate::model::{Digest, json};

/// How often a list is written when others write it, too.
const TRIES: usize = 4;

/// Something to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// The manifest or index that it is attached to.
    pub subject: &'a Descriptor,
    /// What kind of attachment it is.
    pub artifact_type: &'a str,
    /// The media type of its bytes.
    pub media_type: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What its manifest says besides.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: [Descriptor; 1],
    subject: &'a Descriptor,
    annotations: &'a BTreeMap<String, String>,
}

impl Attachment<'_> {
    fn blob(&self) -> Descriptor {
        Descriptor::of(self.media_type, self.bytes)
    }

    fn manifest(&self) -> Result<Vec<u8>, RegistryError> {
        Ok(json::to_vec(&Written {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            artifact_type: self.artifact_type,
            config: Descriptor::of(EMPTY_TYPE, EMPTY),
            layers: [self.blob()],
            subject: self.subject,
            annotations: &self.annotations,
        })?)
    }

    /// What a list says of it, whose manifest has these bytes.
    fn entry(&self, manifest: &[u8]) -> Entry {
        let annotations = self.annotations.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        let rest = [
            ("artifactType", self.artifact_type.into()),
            ("mediaType", MANIFEST_TYPE.into()),
            ("size", manifest.len().into()),
            ("annotations", Value::Object(annotations.collect())),
        ];
        let rest: Map<String, Value> = rest.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Entry { digest: Digest::of(manifest), rest }
    }
}

impl Registry {
    /// Attaches all of these to manifests or indexes that are in the repository, and says the digests of their manifests,
    /// in the same order. Done twice, each is there once.
    pub fn attach(
        &self,
        repository: &Repository,
        attachments: &[Attachment<'_>],
    ) -> Result<Vec<Digest>, RegistryError> {
        self.runtime.block_on(self.transport.attach(repository, attachments))
    }
}

impl Transport {
    async fn attach(
        &self,
        repository: &Repository,
        attachments: &[Attachment<'_>],
    ) -> Result<Vec<Digest>, RegistryError> {
        let Some(_) = attachments.first() else { return Ok(Vec::new()) };
        let manifests: Vec<Vec<u8>> =
            attachments.iter().map(Attachment::manifest).collect::<Result<_, _>>()?;
        // To ask whether each is there would take as long as to send it.
        let mut blobs = BTreeMap::new();
        let empty = (Descriptor::of(EMPTY_TYPE, EMPTY), EMPTY);
        for (blob, bytes) in attachments.iter().map(|one| (one.blob(), one.bytes)).chain([empty]) {
            blobs.insert(blob.digest, (blob, Source::Bytes(bytes.to_vec())));
        }
        let sends = blobs.values().map(|(blob, source)| self.upload_blob(repository, blob, source, None));
        stream::iter(sends).buffer_unordered(IN_FLIGHT).try_for_each(|_| async { Ok(()) }).await?;
        let puts = manifests.iter().map(|bytes| async {
            let digest = Digest::of(bytes);
            let kept = self.put_manifest(repository, &digest.to_string(), MANIFEST_TYPE, bytes).await?;
            Ok::<_, RegistryError>((digest, kept))
        });
        let put: Vec<(Digest, bool)> = stream::iter(puts).buffered(IN_FLIGHT).try_collect().await?;
        let mut unlisted: BTreeMap<Digest, Vec<Entry>> = BTreeMap::new();
        for ((attachment, manifest), (_, kept)) in attachments.iter().zip(&manifests).zip(&put) {
            if !kept {
                unlisted.entry(attachment.subject.digest).or_default().push(attachment.entry(manifest));
            }
        }
        let lists = unlisted.iter().map(|(subject, entries)| self.list(repository, *subject, entries));
        stream::iter(lists).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
        Ok(put.into_iter().map(|(digest, _)| digest).collect())
    }

    /// Enters attachments in the list of their subject. There is no lock: who writes last wins, so it is read again.
    async fn list(
        &self,
        repository: &Repository,
        subject: Digest,
        entries: &[Entry],
    ) -> Result<(), RegistryError> {
        let tag = list_tag(subject);
        for tries in 0.. {
            let mut list = self.tagged(repository, &tag).await?;
            let there = |entry: &&Entry| list.manifests.iter().any(|there| there.digest == entry.digest);
            let (_, missing): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(there);
            let Some(first) = missing.first() else { break };
            if tries == TRIES {
                let action = format!("enter {} in the list `{tag}` of", first.digest);
                return Err(refused(repository, &action, "somebody else keeps writing it; try again"));
            }
            let missing: Vec<Entry> = missing.into_iter().cloned().collect();
            list.manifests.extend(missing);
            list.media_type = Some(INDEX_TYPE.to_owned());
            self.put_manifest(repository, &tag, INDEX_TYPE, &json::to_vec(&list)?).await?;
        }
        Ok(())
    }
}
