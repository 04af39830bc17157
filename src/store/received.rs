//! What an operator sent over their own connection instead of through a registry: one bundle at a time, and the blobs of
//! images until Docker has them.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;

use super::{Doing, Store, StoreError, durable};

/// The right to receive; it ends with the process. Not the lock of the machine: that may be needed to go back while
/// images are on their way for minutes.
#[derive(Debug)]
pub struct Receiving {
    _file: File,
    /// Where blobs of images are on their way through; empty.
    pub images: PathBuf,
    /// Where the bundle is going to be; empty.
    pub bundle: PathBuf,
}

impl Store {
    /// The layout of the bundle that was last sent here, which need not be there.
    pub fn received_bundle(&self) -> PathBuf {
        self.at("received/bundle")
    }

    /// Makes room for what comes in. `None`: somebody else is sending.
    pub fn receive(&self) -> Result<Option<Receiving>, StoreError> {
        let Some(file) = self.receive_nothing()? else { return Ok(None) };
        let (images, bundle) = (self.at("received/images"), self.received_bundle());
        durable::remove_dir_if_there(&images)?;
        durable::remove_dir_if_there(&bundle)?;
        Ok(Some(Receiving { _file: file, images, bundle }))
    }

    /// Keeps others from sending as long as the file is open. `None`: somebody is.
    pub fn receive_nothing(&self) -> Result<Option<File>, StoreError> {
        durable::make_dir(&self.at("received"), 0o700)?;
        let path = self.at("received/lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open.doing("opening the lock", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("locking", &path, error)),
        }
    }

    /// Removes the blobs of images: Docker has them by now, or never will.
    pub fn clear_received_images(&self) -> Result<(), StoreError> {
        durable::remove_dir_if_there(&self.at("received/images"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sends_at_a_time_and_begins_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let first = store.receive().unwrap().unwrap();
        std::fs::create_dir(&first.images).unwrap();
        assert!(store.receive().unwrap().is_none());
        drop(first);
        assert!(!store.receive().unwrap().unwrap().images.exists());
    }
}
