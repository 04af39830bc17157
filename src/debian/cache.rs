//! The builder's cache of packages: each file under its SHA-256, and what was decoded from it beside it.
#![expect(clippy::disallowed_methods, reason = "the cache is a directory, and this file keeps it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::DebianError;
use crate::model::Digest;
use crate::spec::PackageLock;

/// A directory of packages and indexes, by digest.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Takes a directory, which is made if it is not there.
    pub fn open(root: &Path) -> Result<Self, DebianError> {
        fs::create_dir_all(root).map_err(DebianError::io("make", root))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file with that digest is, or will be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    /// Where something decoded from it is, or will be.
    pub(crate) fn decoded(&self, digest: Digest, what: &str) -> PathBuf {
        self.root.join(format!("{}.{what}.tar", digest.hex()))
    }

    /// Notes that the packages of a lock are still of use, for whoever clears the cache.
    pub fn used(&self, lock: &PackageLock, now: SystemTime) {
        for pin in &lock.packages {
            crate::image::touch(&self.path(pin.digest), now);
        }
    }

    /// Whether a file of that size is there. That its bytes are right is looked at whenever they are read.
    pub(crate) fn has(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }
}
