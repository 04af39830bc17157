//! Bytes and inodes set aside for going back: released before Docker and we must write on a full disk.

use std::fs;

use super::{Doing, Store, StoreError, durable};

/// How many files: one inode each.
const FILES: usize = 16;
/// How large each is.
const SIZE: usize = 64 * 1024;

/// Free space of the file system that holds our directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that root may still write.
    pub bytes: u64,
    /// Files that may still be made; file systems without such a limit say `u64::MAX`.
    pub inodes: u64,
}

impl Store {
    /// Sets bytes and inodes aside, unless they are.
    pub fn ensure_ballast(&self) -> Result<(), StoreError> {
        let directory = self.at("ballast");
        durable::make_dir(&directory, 0o700)?;
        for number in 0..FILES {
            let path = directory.join(number.to_string());
            if !path.exists() {
                // Written, not sparse: a hole sets nothing aside.
                durable::write_new(&path, &vec![0; SIZE], 0o600)?;
            }
        }
        durable::sync_dir(&directory)
    }

    /// Gives them back.
    pub fn release_ballast(&self) -> Result<(), StoreError> {
        durable::remove_dir_if_there(&self.at("ballast"))
    }

    /// What is free.
    pub fn space(&self) -> Result<Space, StoreError> {
        // Before the first switch the directory is not there; its file system is.
        let home = self.home();
        let home = home.ancestors().find(|path| path.exists()).unwrap_or(&self.root);
        let stat = rustix::fs::statvfs(home).doing("looking at the file system of", home)?;
        let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_ffree };
        Ok(Space { bytes: stat.f_bfree.saturating_mul(stat.f_frsize), inodes })
    }

    /// Removes what came in and is no longer needed.
    pub fn clear_staging(&self) -> Result<(), StoreError> {
        let path = self.at("staging");
        for entry in fs::read_dir(&path).doing("listing", &path)? {
            let entry = entry.doing("listing", &path)?.path();
            if entry.is_dir() {
                durable::remove_dir_if_there(&entry)?;
            } else {
                durable::remove_if_there(&entry)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        store.ensure_ballast().unwrap();
        let ballast = dir.path().join("var/lib/bundle/ballast");
        assert_eq!(fs::read_dir(&ballast).unwrap().count(), FILES);
        store.release_ballast().unwrap();
        assert!(!ballast.exists());
        assert!(store.space().unwrap().bytes > 0);
    }
}
