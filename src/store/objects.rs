//! Artifacts by content: `store/<hash>/<name>`, written once, never changed.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::{Doing, Store, StoreError, durable};
use crate::bundle::{OpenedBundle, UnpackError, Verified};
use crate::model::{Digest, Mode, StorePath};

/// Why a bundle is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Its files are not what its manifest says.
    #[error("the bundle cannot be unpacked")]
    Unpack(#[from] UnpackError),
    /// The disk said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Puts a bundle's files and manifest into the store. Takes nothing that was not verified.
    pub fn install(&self, bundle: &Verified<OpenedBundle>) -> Result<(), InstallError> {
        bundle
            .unpack(|path, mode, content| self.put_object(path, mode, content).map_err(io::Error::other))?;
        self.sync_objects()?;
        self.put_manifest(bundle.digest(), bundle.config())?;
        Ok(())
    }

    /// Where an artifact lies on this disk.
    pub fn object(&self, path: &StorePath) -> PathBuf {
        self.at("store").join(path.to_string())
    }

    /// Whether an artifact is on this disk as its path says.
    pub fn verify_object(&self, path: &StorePath, mode: Mode) -> Result<(), StoreError> {
        let object = self.object(path);
        let content = fs::read(&object).doing("reading", &object)?;
        if StorePath::of(path.name(), mode, Digest::of(&content)) == *path {
            Ok(())
        } else {
            Err(StoreError::damaged(&object, "its content does not have the hash in its path"))
        }
    }

    /// Writes an artifact, unless it is there. What stands under a final name is complete: the file and its directory
    /// are synced before the rename that gives the name.
    ///
    /// The caller makes the names durable with [`Store::sync_objects`] when all are written.
    pub fn put_object(&self, path: &StorePath, mode: Mode, content: &[u8]) -> Result<(), StoreError> {
        let object = self.object(path);
        let directory = durable::parent(&object);
        if directory.exists() {
            return Ok(());
        }
        let beside = durable::beside(directory);
        durable::remove_dir_if_there(&beside)?;
        durable::make_dir(&beside, 0o755)?;
        let file_path = beside.join(path.name());
        let mut file = durable::create_new(&file_path, mode.bits())?;
        file.write_all(content).doing("writing", &file_path)?;
        file.sync_all().doing("syncing", &file_path)?;
        durable::sync_dir(&beside)?;
        fs::rename(&beside, directory).doing("naming", directory)
    }

    /// Makes the names of all objects durable.
    pub fn sync_objects(&self) -> Result<(), StoreError> {
        durable::sync_dir(&self.at("store"))
    }

    /// Keeps a bundle's manifest, by its digest.
    pub fn put_manifest(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.at("bundles").join(digest.hex());
        if path.exists() { Ok(()) } else { durable::write(&path, bytes, 0o444) }
    }

    /// The bytes of a bundle's manifest, checked against its digest.
    pub fn manifest_bytes(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.at("bundles").join(digest.hex());
        let bytes = fs::read(&path).doing("reading the manifest", &path)?;
        if Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(StoreError::damaged(&path, "its content does not have the digest in its name"))
        }
    }

    /// An empty directory for bytes on their way in; the leftovers of an earlier attempt are removed.
    pub fn staging(&self) -> Result<PathBuf, StoreError> {
        let path = self.at("staging");
        durable::remove_dir_if_there(&path)?;
        durable::make_dir(&path, 0o700)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_once_and_found_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let path = StorePath::of("a.conf", Mode::Read, Digest::of(b"content"));
        // What a crash left behind must not get in the way.
        fs::create_dir(durable::beside(durable::parent(&store.object(&path)))).unwrap();
        store.put_object(&path, Mode::Read, b"content").unwrap();
        store.put_object(&path, Mode::Read, b"never read").unwrap();
        assert_eq!(fs::read(store.object(&path)).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path().join("var/lib/bundle/store")).unwrap().count(), 1);
    }

    #[test]
    fn a_manifest_that_rotted_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let digest = Digest::of(b"{}");
        store.put_manifest(digest, b"{]").unwrap();
        assert!(matches!(store.manifest_bytes(digest), Err(StoreError::Damaged { .. })));
    }
}
