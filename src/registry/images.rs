//! Container images by digest, blob by blob, for machines that cannot fetch them themselves.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::RegistryError;
use super::push::IN_FLIGHT;
use super::reference::Repository;
use super::transport::{Transport, refused};
use super::{Image, Registry};
use crate::bundle::image::{Document, ImageError};
use crate::bundle::oci::{Descriptor, MAX_MANIFEST};
use crate::bundle::{Blob, ImageFiles, Layout, Platform};
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
        self.pull_image_for(image, digest, &Platform::droplet(), into)
    }

    /// The same for another platform.
    pub fn pull_image_for(
        &self,
        image: &Image,
        digest: Digest,
        platform: &Platform,
        into: &Layout,
    ) -> Result<ImageFiles, RegistryError> {
        self.runtime.block_on(self.transport.image(&image.repository, digest, platform, into))
    }
}

impl Registry {
    /// Of an index: the manifest that it has for our platform. Of an image that is for one platform alone: nothing.
    pub fn platform_manifest(&self, image: &Image, digest: Digest) -> Result<Option<Digest>, RegistryError> {
        let bytes =
            self.runtime.block_on(self.transport.get_manifest(&image.repository, &digest.to_string()))?;
        match Document::parse(&bytes) {
            Ok(Document::Index(manifest)) => Ok(Some(manifest.digest)),
            Ok(Document::Image(_)) => Ok(None),
            Err(error) => {
                Err(refused(&image.repository, &format!("take the image `{digest}` from"), error.reason))
            }
        }
    }
}

impl Transport {
    async fn image(
        &self,
        repository: &Repository,
        digest: Digest,
        platform: &Platform,
        into: &Layout,
    ) -> Result<ImageFiles, RegistryError> {
        let document = |digest| self.document(repository, digest, platform, into);
        let files = match document(digest).await? {
            Document::Image(files) => files,
            Document::Index(manifest) => match document(manifest.digest).await? {
                Document::Image(files) => files,
                Document::Index(_) => {
                    let reason = "an index leads to another index".to_owned();
                    return Err(ImageError { digest: manifest.digest, reason }.into());
                }
            },
        };
        let mut blobs: Vec<&Blob> = [&files.config].into_iter().chain(&files.layers).collect();
        // One layer may stand twice in an image.
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        let gets = blobs.into_iter().map(|Blob { media_type, digest, size }| async {
            if into.has_blob(*digest, *size) {
                return Ok(());
            }
            let blob = Descriptor { media_type: media_type.clone(), digest: *digest, size: *size };
            self.download_blob(repository, &blob, into).await
        });
        stream::iter(gets).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
        Ok(files)
    }

    async fn document(
        &self,
        repository: &Repository,
        digest: Digest,
        platform: &Platform,
        into: &Layout,
    ) -> Result<Document, RegistryError> {
        let parse = |bytes: &[u8]| {
            let wrong = |error: ImageError| error.reason;
            let action = format!("get the manifest `{digest}` from");
            Document::parse_for(bytes, platform).map_err(|error| refused(repository, &action, wrong(error)))
        };
        if let Ok(bytes) = into.read_blob(digest, MAX_MANIFEST) {
            return parse(&bytes);
        }
        let bytes = self.get_manifest(repository, &digest.to_string()).await?;
        let document = parse(&bytes)?;
        into.write_blob(&bytes)?;
        Ok(document)
    }
}
