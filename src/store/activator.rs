//! The program itself, as an artifact: each generation may name its own, and the last good one's is what the units, the
//! timers and people call.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Doing, Store, StoreError, durable};
use crate::model::{Digest, Mode, PROGRAM, StorePath};

fn store_path(digest: Digest) -> StorePath {
    StorePath::of("bundle", Mode::Run, digest)
}

impl Store {
    /// Where the activator with this digest lies, if the machine has it, whole.
    pub fn activator(&self, digest: Digest) -> Result<Option<PathBuf>, StoreError> {
        let path = self.object(&store_path(digest));
        if !path.exists() {
            return Ok(None);
        }
        if digest_of(&path)? == digest { Ok(Some(path)) } else { Err(rotted(&path)) }
    }

    /// Puts a program into the store: a copy of `from`, which must have this digest.
    pub fn put_activator(&self, from: &Path, digest: Digest) -> Result<PathBuf, StoreError> {
        if let Ok(Some(there)) = self.activator(digest) {
            return Ok(there);
        }
        let path = self.object(&store_path(digest));
        let directory = durable::parent(&path);
        // One that rotted makes room.
        durable::remove_dir_if_there(directory)?;
        let beside = durable::beside(directory);
        durable::remove_dir_if_there(&beside)?;
        durable::make_dir(&beside, 0o755)?;
        let file_path = beside.join("bundle");
        let mut file = durable::create_new(&file_path, Mode::Run.bits())?;
        let mut source = fs::File::open(from).doing("reading", from)?;
        io::copy(&mut source, &mut file).doing("writing", &file_path)?;
        file.sync_all().doing("syncing", &file_path)?;
        drop(file);
        if digest_of(&file_path)? != digest {
            return Err(rotted(&file_path));
        }
        durable::sync_dir(&beside)?;
        fs::rename(&beside, directory).doing("naming", directory)?;
        self.sync_objects()?;
        Ok(path)
    }

    /// Makes the activator with this digest the one that is called. One that is not in the store is left where it is.
    pub fn call_activator(&self, digest: Digest) -> Result<(), StoreError> {
        let target = store_path(digest);
        if !self.object(&target).exists() {
            return Ok(());
        }
        let (path, target) = (self.below(PROGRAM), PathBuf::from(target.absolute()));
        // A file is the first boot's, or somebody's own.
        let now = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_symlink);
        if now.is_some() && durable::read_link(&path)?.as_ref() == Some(&target) {
            return Ok(());
        }
        durable::make_parents(&path)?;
        durable::link(&path, &target)
    }
}

fn rotted(path: &Path) -> StoreError {
    StoreError::damaged(path, "it does not have the digest that the bundle names")
}

/// SHA-256 of a file that may be large.
pub fn digest_of(path: &Path) -> Result<Digest, StoreError> {
    let read = fs::File::open(path).and_then(Digest::of_reader).doing("reading", path)?;
    Ok(read.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_is_a_link_to_what_was_verified() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        let digest = Digest::of(b"new");
        assert!(store.put_activator(&old, digest).is_err());
        assert_eq!(store.activator(digest).unwrap(), None);

        // What the first boot laid down gives way.
        let called = dir.path().join("usr/local/bin/bundle");
        fs::create_dir_all(called.parent().unwrap()).unwrap();
        fs::write(&called, "old").unwrap();
        store.call_activator(digest).unwrap();
        assert_eq!(fs::read(&called).unwrap(), b"old");
        let path = store.put_activator(&new, digest).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o555);
        store.call_activator(digest).unwrap();
        store.call_activator(digest).unwrap();
        assert_eq!(fs::read_link(&called).unwrap(), Path::new(&store_path(digest).absolute()));

        fs::remove_file(&path).unwrap();
        fs::write(&path, "rotten").unwrap();
        assert!(store.activator(digest).is_err());
        store.put_activator(&new, digest).unwrap();
        assert_eq!(store.activator(digest).unwrap(), Some(path));
    }
}
