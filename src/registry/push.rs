//! Images to a registry: what it has is not sent, what another repository of it has is mounted, and what is only in a
//! base's registry is passed on from there.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::RegistryError;
use super::operations::How;
use super::reference::{Repository, Tag};
use super::source::Source;
use super::transport::Transport;
use super::{Descriptor, Registry};
use crate::bundle::image::{ImageError, Leads};
use crate::bundle::oci::MAX_MANIFEST;
use crate::bundle::{Blob, Layout};
use crate::model::Digest;

/// How many blobs are on their way at once. More would not make a line faster, and registries count requests.
pub(super) const IN_FLIGHT: usize = 4;

/// What the push of an image did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushedImage {
    /// The digest of the index or manifest: `repository@sha256:…`.
    pub digest: Digest,
    /// How many blobs were sent.
    pub blobs_sent: usize,
    /// Their bytes.
    pub bytes_sent: u64,
    /// How many blobs the registry took from another of its repositories.
    pub blobs_mounted: usize,
    /// Whether the tag pointed elsewhere, or nowhere.
    pub tag_moved: bool,
}

/// An image as it has to be sent.
struct Plan {
    /// Config and layers, each once, the config of an image after its layers.
    blobs: Vec<Descriptor>,
    /// Manifests, and the index if there is one, each after what it leads to.
    documents: Vec<(Descriptor, Vec<u8>)>,
}

impl Registry {
    /// Pushes the manifest or index with this digest, and all that it leads to, and tags it. If the registry has it,
    /// that is two requests. Blobs that the layout does not have are looked for in the repositories of `mounts`, by
    /// digest: mounted if that is in the same registry, otherwise passed on. Manifests go last.
    pub fn push_image(
        &self,
        layout: &Layout,
        digest: Digest,
        repository: &Repository,
        tag: &Tag,
        mounts: &BTreeMap<Digest, Repository>,
    ) -> Result<PushedImage, RegistryError> {
        self.runtime.block_on(self.transport.push_image(layout, digest, repository, tag, mounts))
    }

    /// Whether a repository that we may push to has a manifest or index with this digest.
    pub fn has_image(&self, repository: &Repository, digest: Digest) -> Result<bool, RegistryError> {
        let name = digest.to_string();
        let head = self.transport.head_manifest(repository, &name, true);
        Ok(self.runtime.block_on(head)?.is_some())
    }
}

impl Transport {
    pub(super) async fn push_image(
        &self,
        layout: &Layout,
        digest: Digest,
        repository: &Repository,
        tag: &Tag,
        mounts: &BTreeMap<Digest, Repository>,
    ) -> Result<PushedImage, RegistryError> {
        let mut pushed =
            PushedImage { digest, blobs_sent: 0, bytes_sent: 0, blobs_mounted: 0, tag_moved: false };
        let head = self.head_manifest(repository, tag.as_str(), true).await?;
        if head.is_some_and(|head| head.digest == Some(digest)) {
            return Ok(pushed);
        }
        pushed.tag_moved = true;
        let mut plan = Plan::of(layout, digest)?;
        if self.head_manifest(repository, &digest.to_string(), true).await?.is_none() {
            let sends = plan.blobs.iter().map(|blob| async {
                let from = mounts.get(&blob.digest);
                let source = match (layout.has_file(blob.digest, blob.size), from) {
                    (true, _) => Source::File(layout.blob_path(blob.digest)),
                    (false, Some(from)) => Source::Remote(from.clone()),
                    (false, None) => Source::Nowhere(digest),
                };
                Ok::<_, RegistryError>((blob.size, self.send_blob(repository, blob, &source, from).await?))
            });
            let done: Vec<(u64, How)> = stream::iter(sends).buffer_unordered(IN_FLIGHT).try_collect().await?;
            for (size, how) in done {
                pushed.blobs_sent += usize::from(how == How::Sent);
                pushed.bytes_sent += if how == How::Sent { size } else { 0 };
                pushed.blobs_mounted += usize::from(how == How::Mounted);
            }
            let last = plan.documents.pop();
            for (document, bytes) in &plan.documents {
                let name = document.digest.to_string();
                self.put_manifest(repository, &name, &document.media_type, bytes).await?;
            }
            plan.documents.extend(last);
        }
        if let Some((document, bytes)) = plan.documents.last() {
            self.put_manifest(repository, tag.as_str(), &document.media_type, bytes).await?;
        }
        Ok(pushed)
    }
}

impl Plan {
    fn of(layout: &Layout, digest: Digest) -> Result<Self, RegistryError> {
        let mut plan = Self { blobs: Vec::new(), documents: Vec::new() };
        let bytes = layout.read_blob(digest, MAX_MANIFEST)?;
        match Leads::of(&bytes)? {
            Leads::Blobs(media_type, blobs) => plan.manifest(&media_type, bytes, blobs),
            Leads::Manifests(media_type, manifests) => {
                for manifest in manifests {
                    let bytes = layout.read_blob(manifest.digest, MAX_MANIFEST)?;
                    match Leads::of(&bytes)? {
                        Leads::Blobs(media_type, blobs) => plan.manifest(&media_type, bytes, blobs),
                        Leads::Manifests(..) => {
                            let reason = "an index leads to another index".to_owned();
                            return Err(ImageError { digest: manifest.digest, reason }.into());
                        }
                    }
                }
                plan.documents.push((Descriptor::of(&media_type, &bytes), bytes));
            }
        }
        Ok(plan)
    }

    fn manifest(&mut self, media_type: &str, bytes: Vec<u8>, mut blobs: Vec<Blob>) {
        blobs.rotate_left(1);
        for Blob { media_type, digest, size } in blobs {
            if self.blobs.iter().all(|there| there.digest != digest) {
                self.blobs.push(Descriptor { media_type, digest, size });
            }
        }
        self.documents.push((Descriptor::of(media_type, &bytes), bytes));
    }
}
