//! An image of a Dockerfile: what it is built from, and what came of it when it was locked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Copy;
use crate::model::Digest;

/// How an image of a Dockerfile is built. Paths are as the builder opens them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileRecipe {
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// Where it is in the context, relative to its root.
    pub inside: String,
    /// The files that the build sees, copied to `/`.
    pub context: Copy,
    /// The stage that is the image; the last one, if none is named.
    pub target: Option<String>,
    /// Values of its `ARG`s.
    pub args: BTreeMap<String, String>,
    /// For which processors it is built, in the words of OCI: one is an image, more are an index.
    pub architectures: Vec<String>,
}

/// What a Dockerfile came to: the lock's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileLock {
    /// What it was built from: context, Dockerfile, target, arguments and platforms in one digest.
    pub inputs: Digest,
    /// The digest of the image's index or manifest.
    pub digest: Digest,
    /// Who built it, for people: the versions of buildx and BuildKit.
    pub builder: String,
}

/// A Dockerfile and what it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedDockerfile {
    /// What it is built from.
    pub recipe: DockerfileRecipe,
    /// What it came to.
    pub lock: DockerfileLock,
}
