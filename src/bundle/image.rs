//! Container images, as far as they must be carried to a machine that reaches no registry: which blobs a digest leads to.
//!
//! These documents are others' (image-spec, `image-index.md` and `manifest.md`, and the older spelling of Docker's). Only
//! what is needed is read, after the bytes have been verified, and a document that could be taken for both an index and a
//! manifest is refused (CVE-2021-41190).

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::oci::MAX_CONFIG;
use crate::model::Digest;

/// The largest layer that is carried, in bytes: what the octal field of a tar header holds.
pub const MAX_LAYER: u64 = (8 << 30) - 1;
/// How many layers an image may have; Docker's own limit is 127.
pub const MAX_LAYERS: usize = 256;

const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// What `docker load` unpacks by itself.
const LAYER_TYPES: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// A blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The blobs of an image for our platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// Its manifest. An index is not part of it.
    pub manifest: Blob,
    /// Its configuration; its digest is the image's ID in Docker.
    pub config: Blob,
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
}

/// What an image's digest leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index: the manifest for our platform.
    Index(Blob),
    /// A manifest.
    Image(ImageFiles),
}

/// Why an image cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{digest} is not an image that can be carried: {reason}")]
pub struct ImageError {
    /// The document.
    pub digest: Digest,
    /// Why not.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Entry>>,
    config: Option<Blob>,
    layers: Option<Vec<Layer>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    blob: Blob,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    blob: Blob,
    urls: Option<IgnoredAny>,
}

impl Document {
    /// Reads a document whose bytes have been verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let error = |reason: String| ImageError { digest: Digest::of(bytes), reason };
        let raw: Raw = serde_json::from_slice(bytes).map_err(|cause| error(cause.to_string()))?;
        if raw.schema_version != 2 {
            return Err(error(format!("its `schemaVersion` is {}, not 2", raw.schema_version)));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(entries), None, None) => {
                one_of(raw.media_type.as_deref(), &INDEX_TYPES).map_err(error)?;
                ours(entries).map(Self::Index).ok_or_else(|| error("it has none for linux/amd64".to_owned()))
            }
            (None, Some(config), Some(layers)) => {
                let media_type = one_of(raw.media_type.as_deref(), &MANIFEST_TYPES).map_err(error)?;
                let manifest = Blob { media_type, digest: Digest::of(bytes), size: bytes.len() as u64 };
                image(manifest, config, layers).map(Self::Image).map_err(error)
            }
            _ => Err(error("it is neither an index nor a manifest, or both".to_owned())),
        }
    }
}

/// The media type of a document, which OCI's may leave out.
fn one_of(found: Option<&str>, known: &[&str]) -> Result<String, String> {
    match found {
        None => Ok(known[0].to_owned()),
        Some(found) if known.contains(&found) => Ok(found.to_owned()),
        Some(found) => Err(format!("its media type is `{found}`")),
    }
}

/// The plain one for our platform, before those for newer processors. Attestations are of no platform.
fn ours(entries: Vec<Entry>) -> Option<Blob> {
    let mut ours: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| Some((entry.platform?, entry.blob)))
        .filter(|(platform, blob)| {
            platform.os == "linux"
                && platform.architecture == "amd64"
                && platform.variant.as_deref().is_none_or(|variant| variant == "v1")
                && MANIFEST_TYPES.contains(&blob.media_type.as_str())
        })
        .map(|(_, blob)| blob)
        .collect();
    if ours.is_empty() { None } else { Some(ours.swap_remove(0)) }
}

fn image(manifest: Blob, config: Blob, layers: Vec<Layer>) -> Result<ImageFiles, String> {
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        return Err(format!(
            "its config is of the type `{}`: it is an artifact, not an image",
            config.media_type
        ));
    }
    if config.size > MAX_CONFIG {
        return Err(format!("its config is {} bytes large", config.size));
    }
    if layers.len() > MAX_LAYERS {
        return Err(format!("it has {} layers", layers.len()));
    }
    for Layer { blob, urls } in &layers {
        if urls.is_some() || !LAYER_TYPES.contains(&blob.media_type.as_str()) {
            return Err(format!(
                "its layer {} is of the type `{}`, or lies elsewhere",
                blob.digest, blob.media_type
            ));
        }
        if blob.size > MAX_LAYER {
            return Err(format!("its layer {} is {} bytes large", blob.digest, blob.size));
        }
    }
    Ok(ImageFiles { manifest, config, layers: layers.into_iter().map(|layer| layer.blob).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(media_type: &str, name: &str) -> String {
        format!(
            r#""mediaType":"{media_type}","digest":"{}","size":{}"#,
            Digest::of(name.as_bytes()),
            name.len()
        )
    }

    fn manifest() -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{{}}},"layers":[{{{}}}],"annotations":{{"a":"b"}}}}"#,
            blob(CONFIG_TYPES[0], "config"),
            blob(LAYER_TYPES[1], "layer")
        )
    }

    fn index(platforms: &[(&str, &str)]) -> String {
        let entries: Vec<_> = platforms
            .iter()
            .map(|(platform, name)| format!(r#"{{{},"platform":{platform}}}"#, blob(MANIFEST_TYPES[0], name)))
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            INDEX_TYPES[0],
            entries.join(",")
        )
    }

    #[test]
    fn an_index_leads_to_the_plain_image_for_our_platform() {
        let text = index(&[
            (r#"{"os":"unknown","architecture":"unknown"}"#, "attestation"),
            (r#"{"os":"linux","architecture":"arm64"}"#, "arm"),
            (r#"{"os":"linux","architecture":"amd64","variant":"v3"}"#, "new"),
            (r#"{"os":"linux","architecture":"amd64"}"#, "ours"),
        ]);
        let Document::Index(found) = Document::parse(text.as_bytes()).unwrap() else { panic!("no index") };
        assert_eq!((found.digest, found.size), (Digest::of(b"ours"), 4));
        let other = index(&[(r#"{"os":"linux","architecture":"arm64"}"#, "arm")]);
        assert!(Document::parse(other.as_bytes()).unwrap_err().to_string().contains("linux/amd64"));
    }

    #[test]
    fn a_manifest_names_its_blobs() {
        let text = manifest();
        let Document::Image(files) = Document::parse(text.as_bytes()).unwrap() else { panic!("no image") };
        assert_eq!(files.manifest.digest, Digest::of(text.as_bytes()));
        assert_eq!(files.config.digest, Digest::of(b"config"));
        assert_eq!(files.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(), [Digest::of(b"layer")]);
    }

    #[test]
    fn what_could_be_two_things_or_lies_elsewhere_is_refused() {
        let good = manifest();
        for (from, to) in [
            (r#""schemaVersion":2"#, r#""schemaVersion":1"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"manifests":[]"#),
            (
                r#""schemaVersion":2"#,
                r#""schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json""#,
            ),
            ("vnd.oci.image.config", "vnd.example.config"),
            ("tar+gzip", "tar+lzma"),
            (r#""size":5"#, r#""size":5,"urls":["https://example.com"]"#),
            (r#""size":5"#, r#""size":99999999999"#),
            (r#""size":6"#, r#""size":99999999"#),
            (r#""size":5"#, r#""size":-5"#),
            ("sha256:", "sha512:"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Document::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }
}
