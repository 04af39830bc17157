//! The OCI image manifest around a bundle (image-spec, `manifest.md`): the words by which a registry knows it.
//!
//! The config blob is the bundle's own manifest and the one layer is its archive. We write this document canonically
//! and read no other spelling, no unknown field and no other media type: what one program takes for a manifest must
//! not be an index to another (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{archive, gz1};
use crate::model::Digest;
use crate::model::json::{self, CanonicalJsonError};

/// Media type of the document.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What this artifact is.
pub const ARTIFACT_TYPE: &str = "application/vnd.bundle.bundle.v1";
/// Media type of the config blob: [`super::Manifest`].
pub const CONFIG_TYPE: &str = "application/vnd.bundle.manifest.v1+json";
/// Media type of the layer: [`archive`] in [`gz1`].
pub const LAYER_TYPE: &str = "application/vnd.bundle.store.v1.tar+gzip";
/// The annotation that names the layer's encoder.
pub const ENCODER: &str = "dev.bundle.encoder";
/// The largest manifest that we read, in bytes (distribution-spec, "Pushing Manifests", names the same limit).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The largest config blob that we read, in bytes.
pub const MAX_CONFIG: u64 = 4 << 20;
/// The largest layer that we read, in bytes: all content, incompressible, and what stands around it.
pub const MAX_LAYER: u64 = archive::MAX_CONTENT + (16 << 20);

/// The tag under which a registry has the bundle with this digest.
pub fn bundle_tag(bundle: Digest) -> String {
    format!("bundle-{}", bundle.hex())
}

/// What points at a blob (image-spec, `descriptor.md`). `urls` and the like are refused: a blob comes from the
/// registry that was asked, and from nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Descriptor {
    /// The descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// The OCI image manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciManifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: BTreeMap<String, String>,
}

/// Why a document is not the OCI manifest of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// An index, or something that could be taken for one.
    #[error(
        "the document lists `manifests`: it is an image index, or both an index and a manifest; a bundle is one manifest"
    )]
    Index,
    /// Something else, most likely an image.
    #[error("the document is {}, not a bundle (`{ARTIFACT_TYPE}`)", .found.as_deref().map_or("an image or another artifact".to_owned(), |found| format!("`{found}`")))]
    OtherArtifact {
        /// Its artifact type.
        found: Option<String>,
    },
    /// Not readable, or not in its one form.
    #[error("the OCI manifest is not one that `bundle` writes")]
    Form(#[source] CanonicalJsonError),
    /// A constant field with another value.
    #[error("the OCI manifest has `{field}` = `{found}` where a bundle has `{expected}`")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// Larger than anything we write.
    #[error("the {what} is {size} bytes large; at most {limit} are read")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size, as far as it is known.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// Enough of a document to say what it is before its form is judged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek {
    artifact_type: Option<String>,
    manifests: Option<IgnoredAny>,
}

impl OciManifest {
    /// The manifest of a bundle with these blobs.
    pub fn new(config: Descriptor, layer: Descriptor) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: ARTIFACT_TYPE.to_owned(),
            config,
            layers: [layer],
            annotations: BTreeMap::from([(ENCODER.to_owned(), gz1::ID.to_owned())]),
        }
    }

    /// Reads a manifest whose bytes have been verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, OciError> {
        within("OCI manifest", bytes.len() as u64, MAX_MANIFEST)?;
        let peek: Peek = serde_json::from_slice(bytes)
            .map_err(|error| OciError::Form(CanonicalJsonError::Parse(error)))?;
        if peek.manifests.is_some() {
            return Err(OciError::Index);
        }
        if peek.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            return Err(OciError::OtherArtifact { found: peek.artifact_type });
        }
        let manifest: Self = json::from_slice_canonical(bytes).map_err(OciError::Form)?;
        let encoder = manifest.annotations.get(ENCODER).cloned().unwrap_or_default();
        for (field, found, expected) in [
            ("schemaVersion", &manifest.schema_version.to_string(), "2"),
            ("mediaType", &manifest.media_type, MANIFEST_TYPE),
            ("config.mediaType", &manifest.config.media_type, CONFIG_TYPE),
            ("layers[0].mediaType", &manifest.layers[0].media_type, LAYER_TYPE),
            ("annotations.dev.bundle.encoder", &encoder, gz1::ID),
        ] {
            if found != expected {
                return Err(OciError::Field { field, found: found.clone(), expected });
            }
        }
        within("config blob", manifest.config.size, MAX_CONFIG)?;
        within("layer", manifest.layers[0].size, MAX_LAYER)?;
        Ok(manifest)
    }

    /// The descriptor of the config blob; its digest is the bundle's identity.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The descriptor of the layer.
    pub fn layer(&self) -> &Descriptor {
        &self.layers[0]
    }
}

fn within(what: &'static str, size: u64, limit: u64) -> Result<(), OciError> {
    if size > limit { Err(OciError::TooLarge { what, size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        let manifest =
            OciManifest::new(Descriptor::of(CONFIG_TYPE, b"{}"), Descriptor::of(LAYER_TYPE, b"layer"));
        String::from_utf8(json::to_vec(&manifest).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let good = good();
        let read = OciManifest::parse(good.as_bytes()).unwrap();
        assert_eq!(json::to_vec(&read).unwrap(), good.as_bytes());
        assert_eq!(read.config().digest, Digest::of(b"{}"));
    }

    #[test]
    fn another_reader_of_the_specification_agrees() {
        let read = oci_spec::image::ImageManifest::from_reader(good().as_bytes()).unwrap();
        assert_eq!(read.artifact_type().as_ref().map(ToString::to_string).as_deref(), Some(ARTIFACT_TYPE));
        assert_eq!(read.config().digest().to_string(), Digest::of(b"{}").to_string());
        assert_eq!(read.layers().len(), 1);
    }

    #[test]
    fn a_document_that_is_not_exactly_a_bundle_is_refused_in_words() {
        let good = good();
        let layer = good[good.find("[{").unwrap() + 1..=good.find("}]").unwrap()].to_owned();
        for (words, from, to) in [
            (
                "is an image index, or both",
                r#""mediaType":"application/vnd.oci.image.manifest"#.to_owned(),
                { r#""manifests":[],"mediaType":"application/vnd.oci.image.manifest"#.to_owned() },
            ),
            ("not a bundle", ARTIFACT_TYPE.to_owned(), "application/vnd.other".to_owned()),
            ("`config.mediaType`", CONFIG_TYPE.to_owned(), "application/json".to_owned()),
            ("`layers[0].mediaType`", LAYER_TYPE.to_owned(), "application/x-tar".to_owned()),
            ("`mediaType`", MANIFEST_TYPE.to_owned(), INDEX_TYPE.to_owned()),
            ("`schemaVersion`", r#""schemaVersion":2"#.to_owned(), r#""schemaVersion":1"#.to_owned()),
            ("`annotations.dev.bundle.encoder`", "gz1".to_owned(), "gz2".to_owned()),
            ("not one that", layer.clone(), String::new()),
            ("not one that", layer.clone(), format!("{layer},{layer}")),
            ("not one that", "\"size\":5}".to_owned(), "\"size\":5,\"urls\":[]}".to_owned()),
            ("not one that", "\"size\":5".to_owned(), "\"size\": 5".to_owned()),
            ("not one that", "\"size\":5".to_owned(), "\"size\":-5".to_owned()),
            ("layer is", "\"size\":5".to_owned(), "\"size\":500000000".to_owned()),
        ] {
            assert!(good.contains(&from), "{from}");
            let error = OciManifest::parse(good.replacen(&from, &to, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{to}: {error}");
        }
    }
}
