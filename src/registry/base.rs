//! What building on an image takes: its documents. Its layers stay where they are.

use super::error::RegistryError;
use super::reference::{Image, Repository, Tag};
use super::transport::{Transport, refused};
use super::{Descriptor, Registry};
use crate::bundle::image::{Document, ImageError};
use crate::bundle::oci::MAX_CONFIG;
use crate::bundle::{Blob, ImageFiles, Platform};
use crate::model::Digest;

/// An image without its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDocuments {
    /// What the reference means: the digest of the index, or of the manifest if there is none.
    pub digest: Digest,
    /// The bytes of the index, if there is one.
    pub index: Option<Vec<u8>>,
    /// The bytes of the manifest for the platform.
    pub manifest: Vec<u8>,
    /// The bytes of the configuration.
    pub config: Vec<u8>,
    /// What the manifest leads to.
    pub files: ImageFiles,
}

impl Registry {
    /// Gets an image's index, manifest and configuration for one platform, verified, and nothing else. A reference
    /// without digest is taken by its tag, or `latest`.
    pub fn manifest_and_config(
        &self,
        image: &Image,
        platform: &Platform,
    ) -> Result<ImageDocuments, RegistryError> {
        let name = match (&image.digest, &image.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.as_ref().map_or("latest", Tag::as_str).to_owned(),
        };
        self.runtime.block_on(self.transport.base_image(&image.repository, &name, platform))
    }
}

impl Transport {
    async fn base_image(
        &self,
        repository: &Repository,
        name: &str,
        platform: &Platform,
    ) -> Result<ImageDocuments, RegistryError> {
        let first = self.get_manifest(repository, name).await?;
        let digest = Digest::of(&first);
        let parse = |bytes: &[u8]| {
            let action = format!("get the manifest `{name}` from");
            Document::parse_for(bytes, platform).map_err(|error| refused(repository, &action, error.reason))
        };
        let (index, manifest) = match parse(&first)? {
            Document::Image(_) => (None, first),
            Document::Index(Blob { digest, .. }) => {
                (Some(first), self.get_manifest(repository, &digest.to_string()).await?)
            }
        };
        let files = match parse(&manifest)? {
            Document::Image(files) => files,
            Document::Index(_) => {
                let reason = "an index leads to another index".to_owned();
                return Err(ImageError { digest: Digest::of(&manifest), reason }.into());
            }
        };
        let Blob { media_type, digest: config, size } = files.config.clone();
        let config = Descriptor { media_type, digest: config, size };
        let config = self.get_blob(repository, &config, MAX_CONFIG).await?;
        Ok(ImageDocuments { digest, index, manifest, config, files })
    }
}
