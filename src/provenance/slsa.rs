//! How something was made: an in-toto statement, version 1 (github.com/in-toto/attestation), with SLSA's provenance, version
//! 1 (slsa.dev/spec/v1.0/provenance). Without times: the same build says the same.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Subject;
use crate::bundle::gz1;
use crate::model::Digest;
use crate::model::json::{self, CanonicalJsonError};

/// Media type of a statement.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// What is known of the build, and how to do it again: `bundle build` on the profile and its lock.
pub const BUILD_TYPE: &str = "https://bundle.dev/build/profile/v1";
/// The same of an image that BuildKit built from a Dockerfile, for `bundle lock`; the profile's lock has its digest.
pub const DOCKERFILE_BUILD_TYPE: &str = "https://bundle.dev/build/dockerfile/v1";
/// What the statement is about, as its attachment says besides.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILDER: &str = "https://bundle.dev/builder/v1";

/// What went into a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// The profile's path, as its own project names it.
    pub profile: String,
    /// The profile's file, all that it extends, and the lock: path and SHA-256.
    pub files: BTreeMap<String, Digest>,
    /// The lock's path, if there is a lock.
    pub lock: Option<String>,
    /// What the lock pins, by its address: packages and indexes by URL, images by reference.
    pub pinned: BTreeMap<String, Pinned>,
    /// Where git tracks the project: the commit, and whether anything differs from it.
    pub commit: Option<(String, bool)>,
    /// The Dockerfile that the subject was built from, if it is an image of one.
    pub dockerfile: Option<Dockerfile>,
}

/// What BuildKit built an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its path in the context.
    pub path: String,
    /// The stage, if one was named.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Platforms.
    pub platforms: Vec<String>,
    /// The digest of the context and all of the above, as the lock has it.
    pub inputs: Digest,
    /// The builder and its version, as the lock has it.
    pub builder: String,
}

/// What something had to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Its SHA-256.
    pub digest: Digest,
    /// The fingerprints of the keys whose signatures on it were good, if it is signed.
    pub keys: Vec<String>,
}

impl From<Digest> for Pinned {
    fn from(digest: Digest) -> Self {
        Self { digest, keys: Vec::new() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [Resource<'a>; 1],
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    digest: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: Definition<'a>,
    run_details: Details,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    build_type: &'static str,
    external_parameters: Parameters<'a>,
    internal_parameters: BTreeMap<&'static str, &'a str>,
    resolved_dependencies: Vec<Resource<'a>>,
}

#[derive(Serialize)]
struct Parameters<'a> {
    profile: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<&'a str>,
    files: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile: Option<FromDockerfile<'a>>,
}

#[derive(Serialize)]
struct FromDockerfile<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    args: &'a BTreeMap<String, String>,
    platforms: &'a [String],
    inputs: String,
}

#[derive(Serialize)]
struct Details {
    builder: Builder,
}

#[derive(Serialize)]
struct Builder {
    id: &'static str,
    version: BTreeMap<&'static str, &'static str>,
}

fn sha256(digest: Digest) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("sha256", digest.hex())])
}

/// The statement of how `subject` was built.
pub fn statement(subject: &Subject, build: &Build) -> Result<Vec<u8>, CanonicalJsonError> {
    let mut dependencies = Vec::new();
    if let Some((commit, dirty)) = &build.commit {
        dependencies.push(Resource {
            name: Some("project"),
            digest: BTreeMap::from([("gitCommit", commit.clone())]),
            annotations: BTreeMap::from([("dirty", Value::from(*dirty))]),
            ..Resource::default()
        });
    }
    let pinned = build.pinned.iter();
    dependencies.extend(pinned.map(|(uri, Pinned { digest, keys })| Resource {
        uri: Some(uri),
        digest: sha256(*digest),
        annotations: (!keys.is_empty()).then(|| ("keys", Value::from(keys.clone()))).into_iter().collect(),
        ..Resource::default()
    }));
    let dockerfile = build.dockerfile.as_ref();
    let (build_type, made_by) = match dockerfile {
        Some(dockerfile) => (DOCKERFILE_BUILD_TYPE, ("buildkit", dockerfile.builder.as_str())),
        None => (BUILD_TYPE, ("encoder", gz1::ID)),
    };
    json::to_vec(&Statement {
        kind: "https://in-toto.io/Statement/v1",
        subject: [Resource {
            name: Some(&subject.name),
            digest: sha256(subject.digest),
            ..Resource::default()
        }],
        predicate_type: PREDICATE,
        predicate: Predicate {
            build_definition: Definition {
                build_type,
                external_parameters: Parameters {
                    profile: &build.profile,
                    lock: build.lock.as_deref(),
                    files: build
                        .files
                        .iter()
                        .map(|(path, digest)| (path.as_str(), digest.to_string()))
                        .collect(),
                    dockerfile: dockerfile.map(|one| FromDockerfile {
                        path: &one.path,
                        target: one.target.as_deref(),
                        args: &one.args,
                        platforms: &one.platforms,
                        inputs: one.inputs.to_string(),
                    }),
                },
                internal_parameters: BTreeMap::from([made_by]),
                resolved_dependencies: dependencies,
            },
            run_details: Details {
                builder: Builder {
                    id: BUILDER,
                    version: BTreeMap::from([("bundle", env!("CARGO_PKG_VERSION"))]),
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_says_what_went_in_and_nothing_of_when_and_where() {
        let build = Build {
            profile: "profiles/production.toml".to_owned(),
            files: BTreeMap::from([("profiles/production.toml".to_owned(), Digest::of(b"profile"))]),
            lock: Some("profiles/bundle.lock".to_owned()),
            pinned: BTreeMap::from([
                ("docker.io/library/redis".to_owned(), Digest::of(b"redis").into()),
                (
                    "http://deb.debian.org/debian/dists/trixie/InRelease".to_owned(),
                    Pinned { digest: Digest::of(b"signed"), keys: vec!["0123".to_owned()] },
                ),
            ]),
            commit: Some(("0123456789012345678901234567890123456789".to_owned(), true)),
            dockerfile: None,
        };
        let subject =
            Subject { name: "registry.example.com/app".to_owned(), digest: Digest::of(b"manifest") };
        let bytes = statement(&subject, &build).unwrap();
        assert_eq!(bytes, statement(&subject, &build).unwrap());
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(read["subject"][0]["digest"]["sha256"], Digest::of(b"manifest").hex());
        let definition = &read["predicate"]["buildDefinition"];
        assert_eq!(definition["externalParameters"]["profile"], "profiles/production.toml");
        assert_eq!(definition["internalParameters"]["encoder"], "gz1");
        assert_eq!(definition["resolvedDependencies"][0]["annotations"]["dirty"], true);
        assert_eq!(definition["resolvedDependencies"][1]["uri"], "docker.io/library/redis");
        assert_eq!(definition["resolvedDependencies"][2]["annotations"]["keys"][0], "0123");
        assert!(read["predicate"]["runDetails"].get("metadata").is_none());
    }

    #[test]
    fn what_buildkit_built_is_said_to_be_built_by_it() {
        let dockerfile = Dockerfile {
            path: "Dockerfile".to_owned(),
            target: Some("runtime".to_owned()),
            args: BTreeMap::from([("VERSION".to_owned(), "1.4".to_owned())]),
            platforms: vec!["linux/amd64".to_owned()],
            inputs: Digest::of(b"inputs"),
            builder: "buildx 0.13.1, BuildKit v0.13.2".to_owned(),
        };
        let build = Build { dockerfile: Some(dockerfile), ..Build::default() };
        let subject = Subject { name: "registry.example.com/app".to_owned(), digest: Digest::of(b"image") };
        let read: serde_json::Value = serde_json::from_slice(&statement(&subject, &build).unwrap()).unwrap();
        let definition = &read["predicate"]["buildDefinition"];
        assert_eq!(definition["buildType"], DOCKERFILE_BUILD_TYPE);
        assert_eq!(definition["internalParameters"]["buildkit"], "buildx 0.13.1, BuildKit v0.13.2");
        assert!(definition["internalParameters"].get("encoder").is_none());
        let said = &definition["externalParameters"]["dockerfile"];
        assert_eq!(
            (&said["target"], &said["inputs"]),
            (&"runtime".into(), &Digest::of(b"inputs").to_string().into())
        );
    }
}
