//! Bundles to a registry: asked for by two tags, sent in an order that makes the second tag mean that all is there.

use futures_util::future::try_join;

use super::Registry;
use super::error::RegistryError;
use super::reference::{Repository, Tag};
use super::source::Source;
use super::upload::How;
use crate::bundle::oci::{MANIFEST_TYPE, MAX_MANIFEST, OciManifest, bundle_tag};
use crate::bundle::{Layout, OpenedBundle, Verified, VerifyError};
use crate::model::Digest;

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The OCI manifest's digest: `repository@sha256:…`.
    pub oci_digest: Digest,
    /// How many blobs the registry did not have yet.
    pub blobs_sent: usize,
    /// How many tags were written.
    pub tags_moved: usize,
}

/// What a registry says of a bundle's two tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Whether `bundle-<hex>` leads to the bundle's manifest.
    pub bundle: bool,
    /// Whether the profile's tag does.
    pub tag: bool,
}

impl Asked {
    /// Whether nothing is to be done. The profile's tag is written last of all that a push writes: after the images and
    /// the activator, the blobs, what is attached, and `bundle-<hex>`. So where both tags are right, all of that
    /// was there once; and a registry throws away nothing that a tag leads to. It may have lost an image whose own tag
    /// `image-<hex>` somebody has deleted, or a rule by age has: then whoever pulls it is told, and `push --again`
    /// asks for every single thing. To ask for all of it each time would cost every push what that one needs.
    pub fn is_there(self) -> bool {
        self.bundle && self.tag
    }
}

impl Registry {
    /// Asks whether a bundle, by its own digest and that of its OCI manifest, is in the repository under both its tags:
    /// at most two requests.
    pub fn ask_bundle(
        &self,
        repository: &Repository,
        bundle: Digest,
        oci_digest: Digest,
        tag: &Tag,
    ) -> Result<Asked, RegistryError> {
        self.runtime.block_on(async {
            let leads = async |name: &str| {
                let head = self.transport.head_manifest(repository, name, true).await?;
                Ok::<_, RegistryError>(head.and_then(|head| head.digest) == Some(oci_digest))
            };
            // What is not there under its own name is sent, and then both are written anyway.
            if leads(&bundle_tag(bundle)).await? {
                Ok(Asked { bundle: true, tag: leads(tag.as_str()).await? })
            } else {
                Ok(Asked::default())
            }
        })
    }

    /// Sends the bundle whose OCI manifest has this digest, unless it is there by what was asked. It is verified first;
    /// what the registry has is not sent; the manifest goes last, under its digest. [`Registry::tag`] tags it then.
    pub fn send_bundle(
        &self,
        layout: &Layout,
        oci_digest: Digest,
        repository: &Repository,
        asked: Asked,
    ) -> Result<Pushed, RegistryError> {
        let opened = Verified::<OpenedBundle>::by_manifest(layout, oci_digest)?;
        let mut pushed = Pushed { oci_digest, blobs_sent: 0, tags_moved: 0 };
        if asked.bundle {
            return Ok(pushed);
        }
        let (bytes, oci) = manifest(layout, oci_digest)?;
        self.runtime.block_on(async {
            let transport = &self.transport;
            let layer = Source::File(layout.blob_path(oci.layer().digest));
            let config = Source::Bytes(opened.config().to_vec());
            let (layer, config) = try_join(
                transport.send_blob(repository, oci.layer(), &layer, None),
                transport.send_blob(repository, oci.config(), &config, None),
            )
            .await?;
            pushed.blobs_sent = [layer, config].into_iter().filter(|how| *how == How::Sent).count();
            let name = oci_digest.to_string();
            transport.put_manifest(repository, &name, MANIFEST_TYPE, &bytes).await?;
            Ok(pushed)
        })
    }

    /// Pushes the bundle whose OCI manifest has this digest, and tags it `bundle-<hex>` and `tag`: asks, sends, tags.
    pub fn push_bundle(
        &self,
        layout: &Layout,
        oci_digest: Digest,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Pushed, RegistryError> {
        let bundle = manifest(layout, oci_digest)?.1.config().digest;
        let asked = self.ask_bundle(repository, bundle, oci_digest, tag)?;
        let mut pushed = self.send_bundle(layout, oci_digest, repository, asked)?;
        for (there, tag) in [(asked.bundle, Tag::of_bundle(bundle)), (asked.tag, tag.clone())] {
            if !there {
                self.tag(layout, repository, &[(oci_digest, tag)])?;
                pushed.tags_moved += 1;
            }
        }
        Ok(pushed)
    }
}

fn manifest(layout: &Layout, oci_digest: Digest) -> Result<(Vec<u8>, OciManifest), RegistryError> {
    let bytes = layout.read_blob(oci_digest, MAX_MANIFEST)?;
    let oci =
        OciManifest::parse(&bytes).map_err(|source| VerifyError::Oci { manifest: oci_digest, source })?;
    Ok((bytes, oci))
}
