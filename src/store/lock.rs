//! One command at a time: flock(2) on one file, in which the holder says who it is.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Doing, Store, StoreError};

/// Who holds the lock, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its user, and where that user came from (`SSH_CONNECTION`), as far as known.
    pub user: String,
    /// The command.
    pub command: String,
    /// What it is doing.
    pub phase: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, user, command, phase, .. } = self;
        write!(f, "`{command}` by {user}, process {pid}, phase {phase}")
    }
}

/// The lock, held until dropped. The kernel frees it when the process dies, however it dies; the descriptor is
/// close-on-exec (std opens all files so), because an orphaned child would otherwise keep it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    holder: Holder,
}

/// Somebody else holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy(pub Option<Holder>);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("another command is changing this machine{}", .0.0.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default())]
    Busy(Busy),
    /// The disk said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes the lock, or says who has it.
    pub fn lock(&self, holder: Holder) -> Result<Lock, LockError> {
        let path = self.at("lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut file = open.doing("opening the lock", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).doing("reading the lock", &path)?;
                return Err(LockError::Busy(Busy(serde_json::from_str(&text).ok())));
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::Io { doing: "locking", path, source: error }.into());
            }
        }
        let mut lock = Lock { file, path, holder };
        lock.write()?;
        Ok(lock)
    }
}

impl Lock {
    /// Tells waiters how far we are.
    pub fn phase(&mut self, phase: impl Into<String>) -> Result<(), StoreError> {
        self.holder.phase = phase.into();
        self.write()
    }

    /// Who we said we are.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    fn write(&mut self) -> Result<(), StoreError> {
        // Written over and padded, not truncated first: a reader never finds it empty. Not synced: it is for the living.
        let mut text = serde_json::to_string(&self.holder).unwrap_or_default();
        while text.len() < 500 {
            text.push(' ');
        }
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .doing("writing the lock", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let holder = |pid| Holder {
            pid,
            user: "root".into(),
            command: "bundle switch".into(),
            phase: "stage".into(),
            since: 0,
        };
        let mut first = store.lock(holder(1)).unwrap();
        first.phase("trial").unwrap();
        let Err(LockError::Busy(Busy(Some(seen)))) = store.lock(holder(2)) else { panic!("not busy") };
        assert_eq!((seen.pid, seen.phase.as_str()), (1, "trial"));
        drop(first);
        assert!(store.lock(holder(2)).is_ok());
    }
}
