//! What an image's Debian packages are, down to their bytes: what `bundle lock` writes and what a build fetches.

use crate::model::Digest;

/// The packages of one image, and the signed indexes that they were chosen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageLock {
    /// Debian's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// The names that were asked for, sorted.
    pub requested: Vec<String>,
    /// The indexes, in the order in which they were asked.
    pub indexes: Vec<IndexPin>,
    /// The packages, sorted by name.
    pub packages: Vec<PackagePin>,
}

/// One index of packages, and what vouched for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexPin {
    /// The archive's URL, without a slash at its end.
    pub url: String,
    /// The suite in it, such as `trixie-updates`.
    pub suite: String,
    /// The SHA-256 of the suite's `InRelease`.
    pub in_release: Digest,
    /// The fingerprints of the keys whose signatures under it are good, sorted.
    pub keys: Vec<String>,
    /// The index's path below the suite, such as `main/binary-amd64/Packages.xz`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, which `InRelease` gives.
    pub digest: Digest,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagePin {
    /// Its name.
    pub name: String,
    /// Its version (`deb-version(7)`).
    pub version: String,
    /// The architecture that it was built for, or `all`.
    pub architecture: String,
    /// The suite whose index names it; where it comes from is that index's URL.
    pub suite: String,
    /// Its path below the archive's URL.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, which the index gives.
    pub digest: Digest,
}

impl PackageLock {
    /// Where a package is to be had: the URL of the archive whose suite names it, and its path there.
    pub fn url(&self, package: &PackagePin) -> Option<String> {
        let index = self.indexes.iter().find(|index| index.suite == package.suite)?;
        Some(format!("{}/{}", index.url, package.path))
    }
}
