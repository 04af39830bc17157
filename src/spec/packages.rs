//! What an image's Debian packages are, down to their bytes: what `bundle lock` writes and what a build fetches.

use super::image::{DEBIAN_MIRROR, DEBIAN_SECURITY, DEBIAN_SNAPSHOT};
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
    /// When that was made, as it says: `2026-11-21T14:18:11Z`. Locks of earlier versions do not have it.
    pub date: Option<String>,
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

/// Where an archive of Debian's was when a lock was made: a mirror drops a package when a newer one comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Where archives as they were are to be had, without a slash at its end.
    pub url: String,
    /// Which archives those are: the URL that a lock has, and the name there.
    pub archives: Vec<(String, &'static str)>,
}

impl Default for Past {
    /// Debian's own.
    fn default() -> Self {
        let archives = [(DEBIAN_MIRROR, "debian"), (DEBIAN_SECURITY, "debian-security")];
        let archives = archives.into_iter().map(|(url, name)| (url.to_owned(), name));
        Self { url: DEBIAN_SNAPSHOT.to_owned(), archives: archives.collect() }
    }
}

/// How long after its index an archive is looked at, in hours. By then the index has been seen there, and what it names
/// is not yet removed (snapshot.debian.org looks four times a day, and Debian keeps for a day and a half what no index
/// names any more).
const LATER: i64 = 24;

impl PackageLock {
    /// Where else a package is to be had, if its archive has dropped it.
    pub fn past(&self, package: &PackagePin, past: &Past) -> Option<String> {
        let index = self.indexes.iter().find(|index| index.suite == package.suite)?;
        // By which protocol it is reached is no matter.
        let bare = |url: &str| url.split_once("://").map(|(_, rest)| rest.to_owned());
        let (_, name) = past.archives.iter().find(|(url, _)| bare(url) == bare(&index.url))?;
        let made: jiff::Timestamp = index.date.as_ref()?.parse().ok()?;
        let then = made.checked_add(jiff::SignedDuration::from_hours(LATER)).ok()?;
        let then = jiff::Timestamp::from_second(then.as_second()).ok()?.to_string().replace(['-', ':'], "");
        Some(format!("{}/{name}/{then}/{}", past.url, package.path))
    }

    /// Where a package is to be had: the URL of the archive whose suite names it, and its path there.
    pub fn url(&self, package: &PackagePin) -> Option<String> {
        let index = self.indexes.iter().find(|index| index.suite == package.suite)?;
        Some(format!("{}/{}", index.url, package.path))
    }
}
