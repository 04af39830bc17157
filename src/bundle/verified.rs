//! Proofs: a [`Verified`] value exists only if every byte it came from had the digest that was asked for.
//!
//! Unpacking takes nothing else. Each document is hashed before it is parsed; each file is hashed before anybody sees
//! it. A name in an index or a registry leads here and is never evidence.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Deref;

use sha2::{Digest as _, Sha256};

use super::archive::{self, ArchiveError, Header};
use super::check::{self, ManifestFault};
use super::layout::{Layout, LayoutError};
use super::oci::{Descriptor, MAX_CONFIG, MAX_MANIFEST, OciError, OciManifest, bundle_tag};
use super::{ArtifactEntry, Manifest, gz1};
use crate::model::json::{self, CanonicalJsonError};
use crate::model::{Digest, Mode, StorePath};

/// Something whose bytes have been verified.
#[derive(Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A bundle in a layout, all of whose blobs have been read and hashed.
#[derive(Debug)]
pub struct OpenedBundle {
    manifest: Manifest,
    config: Vec<u8>,
    digest: Digest,
    oci_digest: Digest,
    layer: Descriptor,
    file: File,
}

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A blob is missing, damaged, or cannot be read.
    #[error("the bundle's files are not what they should be")]
    Layout(#[from] LayoutError),
    /// The OCI manifest is not that of a bundle.
    #[error("{manifest} is not a bundle")]
    Oci {
        /// The digest of the document.
        manifest: Digest,
        /// Why not.
        #[source]
        source: OciError,
    },
    /// The config blob's size is not the descriptor's.
    #[error("the config blob {digest} has {found} bytes, its descriptor says {expected}")]
    ConfigSize {
        /// The blob.
        digest: Digest,
        /// Its size.
        found: u64,
        /// The size in the OCI manifest.
        expected: u64,
    },
    /// The bytes are not the bundle that was asked for.
    #[error("the bytes have the digest {found}, not {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What was there.
        found: Digest,
    },
    /// The layer's bytes are not the descriptor's.
    #[error(
        "the layer {digest} is damaged or was tampered with: it has {size} bytes with the digest {found}"
    )]
    Layer {
        /// The descriptor's digest.
        digest: Digest,
        /// How many bytes were read, one past the descriptor's size at most.
        size: u64,
        /// Their digest.
        found: Digest,
    },
    /// No manifest in the layout leads to the bundle.
    #[error("`{layout}` does not have the bundle {bundle}")]
    NoBundle {
        /// The directory.
        layout: String,
        /// The bundle.
        bundle: Digest,
    },
    /// A layout was named instead of a bundle, and it does not say which.
    #[error("`{layout}` has {count} manifests where one is needed; name the bundle by its digest")]
    NotOne {
        /// The directory.
        layout: String,
        /// How many it has.
        count: usize,
    },
    /// The manifest has another form or another schema.
    #[error(
        "the manifest of bundle {bundle} cannot be read; it was made by another version of `bundle`, or by another program"
    )]
    Manifest {
        /// The bundle.
        bundle: Digest,
        /// Why not.
        #[source]
        source: CanonicalJsonError,
    },
    /// The manifest contradicts itself.
    #[error("the manifest of bundle {bundle} is wrong")]
    Fault {
        /// The bundle.
        bundle: Digest,
        /// What is wrong.
        #[source]
        source: ManifestFault,
    },
}

/// Why a verified bundle's files were refused, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not canonical, or its bytes could not be read.
    #[error("the layer cannot be unpacked")]
    Archive(#[from] ArchiveError),
    /// The layer's file could not be read again.
    #[error("the layer's file cannot be read again")]
    Reread(#[source] io::Error),
    /// The file of the layer changed under our hands.
    #[error("the layer was changed while it was being read")]
    Changed,
    /// A file that the manifest does not have.
    #[error("the layer has `{0}`, which the manifest does not have")]
    Extra(StorePath),
    /// A file that the layer does not have.
    #[error("the layer does not have `{0}`, which the manifest has")]
    Missing(StorePath),
    /// A file that is not what the manifest says.
    #[error("`{path}` in the layer has another {what} than the manifest says")]
    Other {
        /// The file.
        path: StorePath,
        /// `mode`, `size` or `content`.
        what: &'static str,
    },
    /// Whoever takes the files failed.
    #[error("`{path}` cannot be stored")]
    Sink {
        /// The file.
        path: StorePath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Verified<Manifest> {
    /// A bundle's manifest from its canonical bytes, as they lie in the store or in a config blob.
    pub fn of_bytes(bytes: &[u8], bundle: Digest) -> Result<Self, VerifyError> {
        let found = Digest::of(bytes);
        if found != bundle {
            return Err(VerifyError::Digest { expected: bundle, found });
        }
        let manifest: Manifest =
            json::from_slice_canonical(bytes).map_err(|source| VerifyError::Manifest { bundle, source })?;
        check::check(&manifest).map_err(|source| VerifyError::Fault { bundle, source })?;
        Ok(Self(manifest))
    }

    /// The manifest, for those who own it.
    pub fn into_inner(self) -> Manifest {
        self.0
    }
}

impl Verified<OpenedBundle> {
    /// Opens the bundle whose OCI manifest has this digest.
    pub fn by_manifest(layout: &Layout, oci_digest: Digest) -> Result<Self, VerifyError> {
        let oci = oci_manifest(layout, oci_digest)?;
        let digest = oci.config().digest;
        let config = layout.read_blob(digest, MAX_CONFIG)?;
        if config.len() as u64 != oci.config().size {
            let (found, expected) = (config.len() as u64, oci.config().size);
            return Err(VerifyError::ConfigSize { digest, found, expected });
        }
        let manifest = Verified::<Manifest>::of_bytes(&config, digest)?.into_inner();
        let layer = oci.layer().clone();
        let mut file = layout.open_blob(layer.digest)?;
        let (size, found) = hash(&mut file, layer.size).map_err(|source| {
            let path = layout.blob_path(layer.digest);
            LayoutError::Io { action: "read", path, source }
        })?;
        if size != layer.size || found != layer.digest {
            return Err(VerifyError::Layer { digest: layer.digest, size, found });
        }
        Ok(Self(OpenedBundle { manifest, config, digest, oci_digest, layer, file }))
    }

    /// Opens the bundle with this digest, whichever manifest leads to it.
    pub fn by_bundle(layout: &Layout, bundle: Digest) -> Result<Self, VerifyError> {
        for entry in layout.entries()? {
            match oci_manifest(layout, entry.manifest) {
                Ok(oci) if oci.config().digest == bundle => {
                    return Self::by_manifest(layout, entry.manifest);
                }
                // Its name says that this is the one, and it is damaged.
                Err(error) if entry.name == Some(bundle_tag(bundle)) => return Err(error),
                // Others may keep other things in the same layout.
                _ => {}
            }
        }
        Err(VerifyError::NoBundle { layout: layout.root().display().to_string(), bundle })
    }

    /// Opens the bundle of a layout that has one and no more.
    pub fn the_only(layout: &Layout) -> Result<Self, VerifyError> {
        let mut entries = layout.entries()?;
        entries.retain(super::IndexEntry::is_bundle);
        match entries.as_slice() {
            [entry] => Self::by_manifest(layout, entry.manifest),
            entries => {
                let layout = layout.root().display().to_string();
                Err(VerifyError::NotOne { layout, count: entries.len() })
            }
        }
    }

    /// Hands every file of the bundle to `sink`, each once, in order of store path. A file is hashed before the sink
    /// sees it; that the bundle is complete is known only when this returns.
    pub fn unpack(
        &self,
        mut sink: impl FnMut(&StorePath, Mode, &[u8]) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        let mut missing: BTreeMap<StorePath, &ArtifactEntry> = check::files(&self.0.manifest);
        let mut file = &self.0.file;
        file.rewind().map_err(UnpackError::Reread)?;
        let mut hashed = Hashing { inner: file.take(self.0.layer.size), hasher: Sha256::new() };
        let limit = archive::MAX_CONTENT + 1024 * (archive::MAX_ENTRIES as u64 + 1);
        archive::read(gz1::Reader::new(&mut hashed, limit), |header, content| {
            let entry =
                missing.remove(&header.path).ok_or_else(|| UnpackError::Extra(header.path.clone()))?;
            let bytes = verified_content(header, entry, content)?;
            sink(&header.path, entry.mode, &bytes)
                .map_err(|source| UnpackError::Sink { path: header.path.clone(), source })
        })?;
        if let Some(path) = missing.into_keys().next() {
            return Err(UnpackError::Missing(path));
        }
        io::copy(&mut hashed, &mut io::sink()).map_err(UnpackError::Reread)?;
        if Digest::from_hasher(hashed.hasher) == self.0.layer.digest {
            Ok(())
        } else {
            Err(UnpackError::Changed)
        }
    }
}

impl OpenedBundle {
    /// What the machine is to be.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's canonical bytes.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The bundle's identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest of the OCI manifest that led here.
    pub fn oci_digest(&self) -> Digest {
        self.oci_digest
    }
}

fn oci_manifest(layout: &Layout, digest: Digest) -> Result<OciManifest, VerifyError> {
    let bytes = layout.read_blob(digest, MAX_MANIFEST)?;
    OciManifest::parse(&bytes).map_err(|source| VerifyError::Oci { manifest: digest, source })
}

/// Size and digest of a file, read to one byte past `expected` at most.
fn hash(file: &mut File, expected: u64) -> io::Result<(u64, Digest)> {
    let mut hashing = Hashing { inner: file.take(expected + 1), hasher: Sha256::new() };
    let size = io::copy(&mut hashing, &mut io::sink())?;
    Ok((size, Digest::from_hasher(hashing.hasher)))
}

/// The content of a file, once it has been compared with what the manifest says.
fn verified_content(
    header: &Header,
    entry: &ArtifactEntry,
    content: &mut dyn Read,
) -> Result<Vec<u8>, UnpackError> {
    let other = |what| UnpackError::Other { path: header.path.clone(), what };
    if header.mode != entry.mode {
        return Err(other("mode"));
    }
    if header.size != entry.size {
        return Err(other("size"));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
    if Digest::of(&bytes) == entry.digest { Ok(bytes) } else { Err(other("content")) }
}

/// Hashes what passes through.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
