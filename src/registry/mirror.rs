//! Images of others, from one repository into another: manifests through a layout, blobs mounted or passed on.

use std::collections::BTreeMap;

use super::Registry;
use super::error::RegistryError;
use super::push::{PushedImage, Shipment};
use super::reference::Repository;
use super::transport::{Transport, refused};
use crate::bundle::Layout;
use crate::bundle::image::Leads;
use crate::bundle::oci::MAX_MANIFEST;
use crate::model::Digest;

impl Registry {
    /// Copies an image or index that is in the repository `from`, with all its platforms, because registries refuse an
    /// index of whose manifests they do not have every one. The manifests are kept in the layout; blobs are not, and none
    /// is sent twice.
    pub fn mirror_image(&self, from: &Repository, image: Shipment<'_>) -> Result<PushedImage, RegistryError> {
        self.runtime.block_on(async {
            let mut blobs = BTreeMap::new();
            let (_, tagged) = self.transport.look(image).await?;
            // With its tag it is there, and the push finds that out once more by itself.
            if !tagged || image.again {
                self.transport.documents(from, image.digest, image.layout, &mut blobs).await?;
            }
            self.transport.push_image(Shipment { mounts: &blobs, ..image }).await
        })
    }
}

impl Transport {
    /// Gets every manifest that a digest leads to, and notes where its blobs are.
    async fn documents(
        &self,
        from: &Repository,
        digest: Digest,
        into: &Layout,
        blobs: &mut BTreeMap<Digest, Repository>,
    ) -> Result<(), RegistryError> {
        match self.kept(from, digest, into).await? {
            Leads::Blobs(_, found) => {
                blobs.extend(found.into_iter().map(|blob| (blob.digest, from.clone())));
            }
            Leads::Manifests(_, manifests) => {
                for manifest in manifests {
                    let Leads::Blobs(_, found) = self.kept(from, manifest.digest, into).await? else {
                        let action = format!("get the manifest `{digest}` from");
                        return Err(refused(from, &action, "an index leads to another index"));
                    };
                    blobs.extend(found.into_iter().map(|blob| (blob.digest, from.clone())));
                }
            }
        }
        Ok(())
    }

    /// A manifest, out of the layout if that has it.
    async fn kept(&self, from: &Repository, digest: Digest, into: &Layout) -> Result<Leads, RegistryError> {
        if let Ok(bytes) = into.read_blob(digest, MAX_MANIFEST) {
            return Ok(Leads::of(&bytes)?);
        }
        let (bytes, leads) = self.get_document(from, &digest.to_string()).await?;
        into.write_blob(&bytes)?;
        Ok(leads)
    }
}
