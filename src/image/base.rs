//! What an image is built on: the manifest and the configuration of an image that exists. Its layers are named and not
//! fetched; whoever pushes the result mounts or copies them.

use serde_json::{Map, Value};

use crate::bundle::oci::Descriptor;
use crate::bundle::{Blob, ImageError, ImageFiles};
use crate::model::Digest;

/// An image to build on.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Its layers, the lowest first, in OCI's media types.
    pub layers: Vec<Descriptor>,
    /// Its configuration.
    pub config: Map<String, Value>,
}

/// The words of OCI for Docker's (image-spec, `media-types.md`, "Compatibility Matrix"): the bytes are the same.
fn in_oci(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        other => other,
    }
}

impl BaseImage {
    /// The base whose manifest has named these files, and whose configuration has these bytes, which were verified.
    pub fn new(files: &ImageFiles, config: &[u8], architecture: &str) -> Result<Self, ImageError> {
        let error = |reason: String| ImageError { digest: files.manifest.digest, reason };
        let parsed: Value = serde_json::from_slice(config)
            .map_err(|cause| error(format!("its configuration is no JSON: {cause}")))?;
        let Value::Object(config) = parsed else {
            return Err(error("its configuration is no object".to_owned()));
        };
        let layer = |Blob { media_type, digest, size }: &Blob| Descriptor {
            media_type: in_oci(media_type).to_owned(),
            digest: *digest,
            size: *size,
        };
        let base = Self { layers: files.layers.iter().map(layer).collect(), config };
        for (key, expected) in [("os", "linux"), ("architecture", architecture)] {
            let found = base.config.get(key).and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                return Err(error(format!("its `{key}` is `{found}`, not `{expected}`")));
            }
        }
        let (named, there) = (base.diff_ids().len(), base.layers.len());
        if named != there {
            return Err(error(format!("its configuration names {named} layers, its manifest {there}")));
        }
        Ok(base)
    }

    /// The digests of its layers before compression.
    pub fn diff_ids(&self) -> Vec<Digest> {
        let ids =
            self.config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect()
    }
}
