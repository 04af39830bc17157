//! Images to a registry: what it has is not sent, what another repository of it has is mounted, and what is only in a
//! base's registry is passed on from there.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::RegistryError;
use super::reference::{Repository, Tag};
use super::source::Source;
use super::transport::Transport;
use super::upload::How;
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
    documents: Vec<Written>,
}

/// A manifest or index with its bytes.
type Written = (Descriptor, Vec<u8>);

/// An image of which all is there but its root.
struct Ready {
    pushed: PushedImage,
    /// Its index or manifest.
    root: Option<Written>,
    /// Whether that is there, too.
    there: bool,
}

/// An image on its way.
#[derive(Debug, Clone, Copy)]
pub struct Shipment<'a> {
    /// Where its documents are, and those blobs that are on this machine.
    pub layout: &'a Layout,
    /// Its index or manifest.
    pub digest: Digest,
    /// The repository that it goes to.
    pub repository: &'a Repository,
    /// The tag that it has there, or will have.
    pub tag: &'a Tag,
    /// In which repository each other blob is: mounted if that is in the same registry, otherwise passed on.
    pub mounts: &'a BTreeMap<Digest, Repository>,
    /// Whether each blob is asked for, although the registry has the image.
    pub again: bool,
}

impl Registry {
    /// Pushes the manifest or index with this digest, and all that it leads to, and tags it. Manifests go last.
    pub fn push_image(&self, image: Shipment<'_>) -> Result<PushedImage, RegistryError> {
        self.runtime.block_on(self.transport.push_image(image))
    }

    /// The same without the tag, which [`Registry::tag`] writes when all else is there that it promises.
    pub fn send_image(&self, image: Shipment<'_>) -> Result<PushedImage, RegistryError> {
        self.runtime.block_on(async {
            let Ready { pushed, root, there } = self.transport.send_image(image).await?;
            if let Some(root) = root.filter(|_| !there) {
                self.transport.put_written(image.repository, &root).await?;
            }
            Ok(pushed)
        })
    }

    /// Tags manifests or indexes of a layout that are in the repository.
    pub fn tag(
        &self,
        layout: &Layout,
        repository: &Repository,
        tags: &[(Digest, Tag)],
    ) -> Result<(), RegistryError> {
        let puts = tags.iter().map(|(digest, tag)| async {
            let bytes = layout.read_blob(*digest, MAX_MANIFEST)?;
            let (Leads::Blobs(kind, _) | Leads::Manifests(kind, _)) = Leads::of(&bytes)?;
            self.transport.put_manifest(repository, tag.as_str(), &kind, &bytes).await?;
            Ok::<_, RegistryError>(())
        });
        self.runtime.block_on(stream::iter(puts).buffer_unordered(IN_FLIGHT).try_collect())
    }

    /// Whether a repository that we may push to has a manifest or index with this digest.
    pub fn has_image(&self, repository: &Repository, digest: Digest) -> Result<bool, RegistryError> {
        let name = digest.to_string();
        let head = self.transport.head_manifest(repository, &name, true);
        Ok(self.runtime.block_on(head)?.is_some())
    }
}

impl Transport {
    pub(super) async fn push_image(&self, image: Shipment<'_>) -> Result<PushedImage, RegistryError> {
        let Ready { pushed, root, .. } = self.send_image(image).await?;
        if let Some((document, bytes)) = root {
            self.put_manifest(image.repository, image.tag.as_str(), &document.media_type, &bytes).await?;
        }
        Ok(pushed)
    }

    /// Looks for an image, and sends what is missing of it. Without a root, nothing is left to be done.
    async fn send_image(&self, image: Shipment<'_>) -> Result<Ready, RegistryError> {
        let Shipment { layout, digest, again, .. } = image;
        let (there, tagged) = self.look(image).await?;
        let tag_moved = !tagged;
        let mut pushed = PushedImage { digest, blobs_sent: 0, bytes_sent: 0, blobs_mounted: 0, tag_moved };
        if !tag_moved && !again {
            return Ok(Ready { pushed, root: None, there });
        }
        let mut plan = Plan::of(layout, digest)?;
        let root = plan.documents.pop();
        if !there || again {
            self.send_parts(image, &plan, &mut pushed).await?;
        }
        Ok(Ready { pushed, root, there })
    }

    /// Whether the registry has an image, and whether it has it under its tag. Where that tag is nowhere, mostly nothing
    /// else is there, and it is not asked for.
    pub(super) async fn look(&self, image: Shipment<'_>) -> Result<(bool, bool), RegistryError> {
        let Shipment { digest, repository, tag, .. } = image;
        match self.head_manifest(repository, tag.as_str(), true).await? {
            None => Ok((false, false)),
            Some(head) if head.digest == Some(digest) => Ok((true, true)),
            Some(_) => {
                let there = self.head_manifest(repository, &digest.to_string(), true).await?;
                Ok((there.is_some(), false))
            }
        }
    }

    /// Sends the blobs that the registry does not have, and the manifests of an index.
    async fn send_parts(
        &self,
        image: Shipment<'_>,
        plan: &Plan,
        pushed: &mut PushedImage,
    ) -> Result<(), RegistryError> {
        let Shipment { layout, digest, repository, mounts, .. } = image;
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
        let puts = plan.documents.iter().map(|written| self.put_written(repository, written));
        stream::iter(puts).buffer_unordered(IN_FLIGHT).try_collect().await
    }

    /// Writes a manifest or index under its digest.
    async fn put_written(
        &self,
        repository: &Repository,
        (document, bytes): &Written,
    ) -> Result<(), RegistryError> {
        let name = document.digest.to_string();
        self.put_manifest(repository, &name, &document.media_type, bytes).await.map(drop)
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
