//! The OCI artifact around the activator's program. A fresh machine gets the program itself, a blob, by its digest; the
//! manifest is there so that no registry takes the blob for garbage.

use serde::Serialize;

use super::oci::{Descriptor, MANIFEST_TYPE};
use crate::model::Digest;
use crate::model::json::{self, CanonicalJsonError};

/// What this artifact is, and the media type of its one layer.
pub const ARTIFACT_TYPE: &str = "application/vnd.bundle.activator.v1";
/// The media type of a config that says nothing (image-spec 1.1, `manifest.md`, "Guidance for an Empty Descriptor").
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Such a config's bytes.
pub const EMPTY: &[u8] = b"{}";

/// The artifact's manifest and what it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivatorArtifact {
    /// The program.
    pub program: Descriptor,
    /// [`EMPTY`].
    pub config: Descriptor,
    /// The manifest's bytes: canonical, so that one program has one manifest.
    pub manifest: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: &'a Descriptor,
    layers: [&'a Descriptor; 1],
}

/// The tag under which a registry has the activator with this digest.
pub fn activator_tag(program: Digest) -> String {
    format!("activator-{}", program.hex())
}

impl ActivatorArtifact {
    /// The artifact of the program with this digest and size in bytes.
    pub fn of(digest: Digest, size: u64) -> Result<Self, CanonicalJsonError> {
        let program = Descriptor { media_type: ARTIFACT_TYPE.to_owned(), digest, size };
        let config = Descriptor::of(EMPTY_TYPE, EMPTY);
        let manifest = json::to_vec(&Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            artifact_type: ARTIFACT_TYPE,
            config: &config,
            layers: [&program],
        })?;
        Ok(Self { program, config, manifest })
    }

    /// The manifest's own digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_of_the_specification_agrees() {
        let artifact = ActivatorArtifact::of(Digest::of(b"program"), 7).unwrap();
        let read = oci_spec::image::ImageManifest::from_reader(&*artifact.manifest).unwrap();
        assert_eq!(read.artifact_type().as_ref().map(ToString::to_string).as_deref(), Some(ARTIFACT_TYPE));
        assert_eq!(
            read.config().digest().to_string(),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!((read.config().size(), read.layers()[0].size()), (2, 7));
    }
}
