//! The registry client: bundles to and from any OCI registry (distribution-spec 1.1).
//!
//! The only asynchronous code there is, and nobody sees it: [`Registry`] blocks. Nothing that a registry says is
//! believed. A tag leads to a digest, a digest to bytes, and the bytes are hashed before they have a name on disk.

mod attach;
pub mod auth;
mod base;
mod bundles;
mod challenge;
mod download;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod helpers;
mod images;
mod mirror;
mod names;
mod operations;
mod pace;
mod progress;
mod push;
pub mod reference;
mod referrers;
mod retry;
mod source;
mod tokens;
mod transport;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

pub use attach::Attachment;
pub use auth::Environment;
pub use base::ImageDocuments;
pub use bundles::{Asked, Pushed};
pub use error::RegistryError;
pub(crate) use names::Names;
pub use pace::Patience;
pub use progress::Progress;
pub use push::{PushedImage, Shipment};
pub use reference::{Image, ParseRefError, Ref, Repository, Tag};
pub use referrers::Referrer;

use crate::bundle::activator::{ARTIFACT_TYPE, ActivatorArtifact, EMPTY, activator_tag};
use crate::bundle::oci::{Descriptor, MANIFEST_TYPE, MAX_CONFIG, OciManifest, bundle_tag};
use crate::bundle::{Layout, Manifest, OpenedBundle, Verified, VerifyError};
use crate::model::Digest;
use source::Source;
use transport::Transport;

/// How to talk to registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Certificates in PEM that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Speak plain HTTP, whatever the host. Loopback hosts are asked in plain HTTP anyway if they do not speak TLS.
    pub plain_http: bool,
    /// Where credentials are looked for.
    pub environment: Environment,
    /// How long anything may take.
    pub patience: Patience,
    /// Who hears of what moves.
    pub progress: Option<Arc<dyn Progress>>,
}

/// A client for any number of registries. It remembers tokens while it lives, and nothing longer.
#[derive(Debug)]
pub struct Registry {
    runtime: Runtime,
    transport: Transport,
}

impl Registry {
    /// A client.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RegistryError::Runtime)?;
        let transport = Transport::new(options)?;
        Ok(Self { runtime, transport })
    }

    /// Whether the repository has the activator with this digest and size in bytes, under its tag.
    pub fn has_activator(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
    ) -> Result<bool, RegistryError> {
        let artifact = ActivatorArtifact::of(digest, size)?;
        let tag = activator_tag(digest);
        let head = self.runtime.block_on(self.transport.head_manifest(repository, &tag, true))?;
        Ok(head.and_then(|head| head.digest) == Some(artifact.digest()))
    }

    /// Pushes the activator with this digest and size in bytes, whose bytes are in the file `program`, as an artifact
    /// tagged `activator-<hex>`. The manifest goes last.
    pub fn push_activator(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        program: &Path,
    ) -> Result<(), RegistryError> {
        let artifact = ActivatorArtifact::of(digest, size)?;
        self.runtime.block_on(async {
            let transport = &self.transport;
            for (descriptor, source) in [
                (&artifact.program, Source::File(program.to_owned())),
                (&artifact.config, Source::Bytes(EMPTY.to_vec())),
            ] {
                transport.send_blob(repository, descriptor, &source, None).await?;
            }
            let tag = activator_tag(digest);
            transport.put_manifest(repository, &tag, MANIFEST_TYPE, &artifact.manifest).await.map(drop)
        })
    }

    /// Gets the bundle that `reference` means into a layout at `into`. A bundle's own digest is looked for in
    /// `repository` under `bundle-<hex>`, and believed because the config blob has that digest. A layout is verified
    /// where it is and nothing is copied.
    pub fn pull_bundle(
        &self,
        reference: &Ref,
        repository: Option<&Repository>,
        into: &Path,
    ) -> Result<(Layout, Verified<OpenedBundle>), RegistryError> {
        let (repository, name, bundle) = match reference {
            Ref::Layout(path) => {
                let layout = Layout::open(path)?;
                let opened = Verified::<OpenedBundle>::the_only(&layout)?;
                return Ok((layout, opened));
            }
            Ref::Tag(repository, tag) => (repository, tag.to_string(), None),
            Ref::Manifest(repository, digest) => (repository, digest.to_string(), None),
            Ref::Bundle(bundle) => {
                let repository = repository.ok_or(RegistryError::NoRepository { bundle: *bundle })?;
                (repository, bundle_tag(*bundle), Some(*bundle))
            }
        };
        self.runtime.block_on(self.transport.pull(repository, &name, bundle, into))
    }

    /// Gets an activator's program into a layout at `into`, and says where it lies there. It has its digest.
    pub fn pull_activator(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        into: &Path,
    ) -> Result<PathBuf, RegistryError> {
        let layout = Layout::create(into)?;
        let blob = Descriptor { media_type: ARTIFACT_TYPE.to_owned(), digest, size };
        self.runtime.block_on(self.transport.download_blob(repository, &blob, &layout))?;
        Ok(layout.blob_path(digest))
    }

    /// The digest that an image's tag means now; `latest` if it has none.
    pub fn resolve_tag(&self, image: &Image) -> Result<Digest, RegistryError> {
        if let Some(digest) = image.digest {
            return Ok(digest);
        }
        let tag = image.tag.as_ref().map_or("latest", Tag::as_str);
        self.runtime.block_on(self.transport.resolve(&image.repository, tag))
    }
}

impl Transport {
    async fn pull(
        &self,
        repository: &Repository,
        name: &str,
        bundle: Option<Digest>,
        into: &Path,
    ) -> Result<(Layout, Verified<OpenedBundle>), RegistryError> {
        let bytes = self.get_manifest(repository, name).await?;
        let oci_digest = Digest::of(&bytes);
        let not_ours = |source| VerifyError::Oci { manifest: oci_digest, source };
        let oci = OciManifest::parse(&bytes).map_err(not_ours)?;
        let digest = oci.config().digest;
        if let Some(expected) = bundle.filter(|expected| *expected != digest) {
            return Err(RegistryError::OtherBundle {
                repository: repository.to_string(),
                expected,
                found: digest,
            });
        }
        let config = self.get_blob(repository, oci.config(), MAX_CONFIG).await?;
        // Say what is wrong with the bundle before its files are fetched.
        drop(Verified::<Manifest>::of_bytes(&config, digest)?);
        let layout = Layout::create(into)?;
        if layout.read_blob(oci.layer().digest, oci.layer().size).is_err() {
            self.download_blob(repository, oci.layer(), &layout).await?;
        }
        layout.write_blob(&config)?;
        layout.write_blob(&bytes)?;
        let opened = Verified::<OpenedBundle>::by_manifest(&layout, oci_digest)?;
        layout.enter(oci_digest, bytes.len() as u64, digest)?;
        Ok((layout, opened))
    }
}
