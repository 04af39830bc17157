//! Container images by digest, blob by blob, for machines that cannot fetch them themselves.

use super::error::RegistryError;
use super::reference::Repository;
use super::transport::Transport;
use super::{Image, Registry};
use crate::bundle::image::{Document, ImageError};
use crate::bundle::oci::{Descriptor, MAX_MANIFEST};
use crate::bundle::{Blob, ImageFiles, Layout};
use crate::model::Digest;

impl Registry {
    /// Gets all that an image's digest leads to on our platform into a layout, without entering it in the index. What
    /// the layout has is not fetched again.
    pub fn pull_image(
        &self,
        image: &Image,
        digest: Digest,
        into: &Layout,
    ) -> Result<ImageFiles, RegistryError> {
        self.runtime.block_on(self.transport.image(&image.repository, digest, into))
    }
}

impl Transport {
    async fn image(
        &self,
        repository: &Repository,
        digest: Digest,
        into: &Layout,
    ) -> Result<ImageFiles, RegistryError> {
        let files = match self.document(repository, digest, into).await? {
            Document::Image(files) => files,
            Document::Index(manifest) => match self.document(repository, manifest.digest, into).await? {
                Document::Image(files) => files,
                Document::Index(_) => {
                    let reason = "an index leads to another index".to_owned();
                    return Err(ImageError { digest: manifest.digest, reason }.into());
                }
            },
        };
        for Blob { media_type, digest, size } in [&files.config].into_iter().chain(&files.layers) {
            if !into.has_blob(*digest, *size) {
                let blob = Descriptor { media_type: media_type.clone(), digest: *digest, size: *size };
                self.download_blob(repository, &blob, into).await?;
            }
        }
        Ok(files)
    }

    async fn document(
        &self,
        repository: &Repository,
        digest: Digest,
        into: &Layout,
    ) -> Result<Document, RegistryError> {
        if let Ok(bytes) = into.read_blob(digest, MAX_MANIFEST) {
            return Ok(Document::parse(&bytes)?);
        }
        let bytes = self.get_manifest(repository, &digest.to_string()).await?;
        into.write_blob(&bytes)?;
        Ok(Document::parse(&bytes)?)
    }
}
