//! Container images, as far as they must be carried to a machine that reaches no registry: which blobs a digest leads to.
//!
//! These documents are others' (image-spec, `image-index.md` and `manifest.md`, and the older spelling of Docker's). Only
//! what is needed is read, after the bytes have been verified, and a document that could be taken for both an index and a
//! manifest is refused (CVE-2021-41190).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::oci::MAX_CONFIG;
use crate::model::Digest;

/// The largest layer that is carried, in bytes: what the octal field of a tar header holds.
pub const MAX_LAYER: u64 = (8 << 30) - 1;
/// How many layers an image may have; Docker's own limit is 127.
pub const MAX_LAYERS: usize = 256;
/// How many manifests an index may list.
pub const MAX_MANIFESTS: usize = 4096;

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

/// What an image runs on (image-spec, `image-index.md`, `platform`): `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Platform {
    /// The operating system, as Go names it.
    pub os: String,
    /// The processor, as Go names it.
    pub architecture: String,
    /// Which kind of that processor, if it matters.
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a platform: write `linux/amd64`, or `linux/arm/v7` where the kind of processor matters"
)]
pub struct ParsePlatformError(String);

impl Platform {
    /// What a droplet is: `linux/amd64`.
    pub fn droplet() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }

    /// Whether what is made for `other` is what is meant. Without a variant, the plain one is.
    fn is(&self, other: &Self) -> bool {
        let plain = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm64" => "v8",
            _ => "",
        };
        let variant = |platform: &Self| platform.variant.clone().unwrap_or_else(|| plain.to_owned());
        (&self.os, &self.architecture) == (&other.os, &other.architecture) && variant(self) == variant(other)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let words: Vec<&str> = text.split('/').collect();
        match words.as_slice() {
            [os, architecture, variant @ ..] if variant.len() < 2 && words.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.first().map(|&variant| variant.to_owned()),
            }),
            _ => Err(ParsePlatformError(text.to_owned())),
        }
    }
}

#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    blob: Blob,
    urls: Option<IgnoredAny>,
}

/// All that a document leads to, whatever the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// An index of this media type: the manifests.
    Manifests(String, Vec<Blob>),
    /// A manifest of this media type: config and layers, of any type.
    Blobs(String, Vec<Blob>),
}

impl Leads {
    /// Reads a document whose bytes have been verified.
    pub fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        let error = |reason: String| ImageError { digest: Digest::of(bytes), reason };
        let raw = raw(bytes)?;
        let media_type = |known| one_of(raw.media_type.as_deref(), known);
        match (raw.manifests, raw.config, raw.layers) {
            (Some(entries), None, None) => {
                let media_type = media_type(&INDEX_TYPES).map_err(error)?;
                if entries.len() > MAX_MANIFESTS {
                    return Err(error(format!("it lists {} manifests", entries.len())));
                }
                Ok(Self::Manifests(media_type, entries.into_iter().map(|entry| entry.blob).collect()))
            }
            (None, Some(config), Some(layers)) => {
                let media_type = media_type(&MANIFEST_TYPES).map_err(error)?;
                let mut blobs = vec![config];
                for Layer { blob, urls } in layers {
                    if urls.is_some() {
                        return Err(error(format!("its layer {} lies elsewhere", blob.digest)));
                    }
                    blobs.push(blob);
                }
                if blobs.len() > MAX_LAYERS + 1 {
                    return Err(error(format!("it has {} layers", blobs.len() - 1)));
                }
                if let Some(large) = blobs.iter().find(|blob| blob.size > MAX_LAYER) {
                    return Err(error(format!("its blob {} is {} bytes large", large.digest, large.size)));
                }
                Ok(Self::Blobs(media_type, blobs))
            }
            _ => Err(error(AMBIGUOUS.to_owned())),
        }
    }
}

const AMBIGUOUS: &str = "it is neither an index nor a manifest, or both";

fn raw(bytes: &[u8]) -> Result<Raw, ImageError> {
    let error = |reason: String| ImageError { digest: Digest::of(bytes), reason };
    let raw: Raw = serde_json::from_slice(bytes).map_err(|cause| error(cause.to_string()))?;
    if raw.schema_version == 2 {
        Ok(raw)
    } else {
        Err(error(format!("its `schemaVersion` is {}, not 2", raw.schema_version)))
    }
}

impl Document {
    /// Reads a document whose bytes have been verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::parse_for(bytes, &Platform::droplet())
    }

    /// The same, for another platform than the droplet's.
    pub fn parse_for(bytes: &[u8], platform: &Platform) -> Result<Self, ImageError> {
        let error = |reason: String| ImageError { digest: Digest::of(bytes), reason };
        let raw = raw(bytes)?;
        match (raw.manifests, raw.config, raw.layers) {
            (Some(entries), None, None) => {
                one_of(raw.media_type.as_deref(), &INDEX_TYPES).map_err(error)?;
                made_for(entries, platform)
                    .map(Self::Index)
                    .ok_or_else(|| error(format!("it has none for {platform}")))
            }
            (None, Some(config), Some(layers)) => {
                let media_type = one_of(raw.media_type.as_deref(), &MANIFEST_TYPES).map_err(error)?;
                let manifest = Blob { media_type, digest: Digest::of(bytes), size: bytes.len() as u64 };
                image(manifest, config, layers).map(Self::Image).map_err(error)
            }
            _ => Err(error(AMBIGUOUS.to_owned())),
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

/// The first one for a platform. Attestations are of none.
fn made_for(entries: Vec<Entry>, platform: &Platform) -> Option<Blob> {
    let made = |entry: &Entry| entry.platform.as_ref().is_some_and(|other| platform.is(other));
    let known = |entry: &Entry| MANIFEST_TYPES.contains(&entry.blob.media_type.as_str());
    entries.into_iter().find(|entry| made(entry) && known(entry)).map(|entry| entry.blob)
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
    fn another_platform_is_found_by_name_and_the_plain_variant_is_meant() {
        let text = index(&[
            (r#"{"os":"linux","architecture":"amd64"}"#, "ours"),
            (r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#, "arm"),
            (r#"{"os":"linux","architecture":"arm","variant":"v7"}"#, "old arm"),
        ]);
        let found = |platform: &str| match Document::parse_for(text.as_bytes(), &platform.parse().unwrap()) {
            Ok(Document::Index(blob)) => Some(blob.digest),
            _ => None,
        };
        assert_eq!(found("linux/amd64"), Some(Digest::of(b"ours")));
        assert_eq!(found("linux/arm64"), Some(Digest::of(b"arm")));
        assert_eq!(found("linux/arm64/v8"), Some(Digest::of(b"arm")));
        assert_eq!(found("linux/arm/v7"), Some(Digest::of(b"old arm")));
        assert_eq!(found("linux/arm"), None);
        for wrong in ["", "linux", "linux/", "linux/a/b/c", "Linux/amd64", "../amd64"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_that_a_document_leads_to_is_listed_unless_it_lies_elsewhere() {
        let text = index(&[("null", "attestation"), (r#"{"os":"linux","architecture":"arm64"}"#, "arm")]);
        let Leads::Manifests(_, blobs) = Leads::of(text.as_bytes()).unwrap() else { panic!("no index") };
        assert_eq!(blobs.len(), 2);
        let text = manifest().replace(LAYER_TYPES[1], "application/vnd.in-toto+json");
        let Leads::Blobs(_, blobs) = Leads::of(text.as_bytes()).unwrap() else { panic!("no manifest") };
        assert_eq!(
            blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>(),
            [b"config".as_slice(), b"layer"].map(Digest::of)
        );
        for (from, to) in [
            (r#""size":5"#, r#""size":5,"urls":["https://example.com"]"#),
            (r#""size":5"#, r#""size":99999999999"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"manifests":[]"#),
        ] {
            assert!(Leads::of(manifest().replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
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
