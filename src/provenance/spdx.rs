//! A bill of materials: SPDX 2.3 in JSON (spdx.github.io/spdx-spec/v2.3).

#![expect(clippy::struct_field_names, reason = "the names are the specification's")]

use serde::Serialize;

use super::Subject;
use crate::model::Digest;
use crate::model::json::{self, CanonicalJsonError};

/// Media type of the document (IANA, `application/spdx+json`).
pub const MEDIA_TYPE: &str = "application/spdx+json";
/// Nobody's clock is an input.
const CREATED: &str = "1970-01-01T00:00:00Z";
const NOTHING: &str = "NOASSERTION";
const ROOT: &str = "SPDXRef-Subject";

/// A part of the subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A container image of a bundle, or the base of an image.
    Image {
        /// `repository`.
        name: String,
        /// Its manifest.
        digest: Digest,
    },
    /// A layer of an image, or the archive of a bundle.
    Layer(Digest),
    /// A Debian package.
    Package {
        /// Its name.
        name: String,
        /// Its version, as Debian writes it.
        version: String,
        /// Its architecture.
        architecture: String,
        /// The `.deb`.
        sha256: Digest,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: &'static str,
    creators: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    license_concluded: &'static str,
    license_declared: &'static str,
    copyright_text: &'static str,
    primary_package_purpose: &'static str,
    checksums: [Checksum; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

impl Package {
    fn new(id: String, name: &str, version: Option<String>, purpose: &'static str, digest: Digest) -> Self {
        Self {
            id,
            name: name.to_owned(),
            version_info: version,
            download_location: NOTHING,
            files_analyzed: false,
            license_concluded: NOTHING,
            license_declared: NOTHING,
            copyright_text: NOTHING,
            primary_package_purpose: purpose,
            checksums: [Checksum { algorithm: "SHA256", checksum_value: digest.hex() }],
            external_refs: Vec::new(),
        }
    }

    /// With a package URL (package-url/purl-spec), by which scanners find it.
    fn found_by(mut self, purl: String) -> Self {
        self.external_refs.push(ExternalRef {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: purl,
        });
        self
    }
}

impl Part {
    fn package(&self, nth: usize) -> Package {
        let id = format!("SPDXRef-Part-{nth}");
        match self {
            Self::Image { name, digest } => {
                let last = name.rsplit('/').next().unwrap_or(name);
                let purl = format!(
                    "pkg:oci/{}@sha256%3A{}?repository_url={}",
                    escaped(last),
                    digest.hex(),
                    escaped(name)
                );
                Package::new(id, name, Some(digest.to_string()), "CONTAINER", *digest).found_by(purl)
            }
            Self::Layer(digest) => Package::new(id, &digest.to_string(), None, "ARCHIVE", *digest),
            Self::Package { name, version, architecture, sha256 } => {
                let purl = format!(
                    "pkg:deb/debian/{}@{}?arch={}",
                    escaped(name),
                    escaped(version),
                    escaped(architecture)
                );
                Package::new(id, name, Some(version.clone()), "INSTALL", *sha256).found_by(purl)
            }
        }
    }
}

/// What a URL has no other meaning for stays, the rest is escaped (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The bill of materials of a bundle or an image. The order of its parts does not show.
pub fn document(subject: &Subject, mut parts: Vec<Part>) -> Result<Vec<u8>, CanonicalJsonError> {
    parts.sort();
    parts.dedup();
    let related = |from: &str, how, to: &str| Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: how,
        related_spdx_element: to.to_owned(),
    };
    let own = Package::new(
        ROOT.to_owned(),
        &subject.name,
        Some(subject.digest.to_string()),
        "CONTAINER",
        subject.digest,
    );
    let mut packages = vec![own];
    let mut relationships = vec![related("SPDXRef-DOCUMENT", "DESCRIBES", ROOT)];
    for (nth, part) in parts.iter().enumerate() {
        let package = part.package(nth + 1);
        relationships.push(related(ROOT, "CONTAINS", &package.id));
        packages.push(package);
    }
    json::to_vec(&Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: subject.name.clone(),
        document_namespace: format!("https://spdx.org/spdxdocs/bundle-{}", subject.digest.hex()),
        creation_info: CreationInfo {
            created: CREATED,
            creators: [format!("Tool: bundle-{}", env!("CARGO_PKG_VERSION"))],
        },
        packages,
        relationships,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let (name, architecture) = ("libc6".to_owned(), "amd64".to_owned());
        vec![
            Part::Package {
                name,
                version: "1:2.41-12+b1~x".to_owned(),
                architecture,
                sha256: Digest::of(b"deb"),
            },
            Part::Layer(Digest::of(b"layer")),
            Part::Image { name: "docker.io/library/redis".to_owned(), digest: Digest::of(b"image") },
        ]
    }

    fn subject() -> Subject {
        Subject { name: "registry.example.com/team/app".to_owned(), digest: Digest::of(b"manifest") }
    }

    #[test]
    fn the_order_of_parts_does_not_show_and_each_stands_once() {
        let once = document(&subject(), parts()).unwrap();
        let twice = parts().into_iter().rev().chain(parts()).collect();
        assert_eq!(document(&subject(), twice).unwrap(), once);
        let read: serde_json::Value = serde_json::from_slice(&once).unwrap();
        assert_eq!(read["packages"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn scanners_find_packages_by_their_urls() {
        let text = String::from_utf8(document(&subject(), parts()).unwrap()).unwrap();
        assert!(text.contains("pkg:deb/debian/libc6@1%3A2.41-12%2Bb1~x?arch=amd64"), "{text}");
        assert!(text.contains("pkg:oci/redis@sha256%3A"), "{text}");
    }
}
