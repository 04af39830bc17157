//! One command at a time: flock(2) on one file, in which the holder says who it is.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
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

/// How often the lock is tried while only lookers have it, each for a moment.
const LOOKERS: usize = 10_000;

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
        if !take(&file).doing("locking", &path)? {
            return Err(LockError::Busy(said(&mut file).doing("reading the lock", &path)?));
        }
        let mut lock = Lock { file, path, holder };
        lock.write()?;
        Ok(lock)
    }

    /// Who holds the lock; `None` if nobody does. Waits for nobody, and keeps nobody waiting.
    pub fn holder(&self) -> Result<Option<Busy>, StoreError> {
        let path = self.at("lock");
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.doing("opening the lock", &path)?,
        };
        // A lock that is shared is let go with the file, at once.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => said(&mut file).doing("reading the lock", &path).map(Some),
            Err(TryLockError::Error(error)) => Err(StoreError::io("looking at the lock", &path, error)),
        }
    }
}

/// Takes the lock; `false` if somebody else has it. Those who only look ([`Store::holder`]) are no reason to give up.
fn take(file: &File) -> std::io::Result<bool> {
    for _ in 0..LOOKERS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match file.try_lock_shared() {
            // Let go again, or two who want it would keep each other from it.
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        std::thread::yield_now();
    }
    Ok(false)
}

/// What the holder has written.
fn said(file: &mut File) -> std::io::Result<Busy> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Busy(serde_json::from_str(&text).ok()))
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

    fn holder(pid: u32) -> Holder {
        Holder { pid, user: "root".into(), command: "bundle switch".into(), phase: "stage".into(), since: 0 }
    }

    #[test]
    fn whoever_looks_sees_the_holder_and_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert_eq!(store.holder().unwrap(), None, "before there is anything");
        store.prepare().unwrap();
        let mut lock = store.lock(holder(7)).unwrap();
        lock.phase("prepare").unwrap();
        let Some(Busy(Some(seen))) = store.holder().unwrap() else { panic!("not busy") };
        assert_eq!((seen.pid, seen.phase.as_str()), (7, "prepare"));
        drop(lock);
        assert_eq!(store.holder().unwrap(), None, "what it wrote is still there, and it is gone");
    }

    #[test]
    fn those_who_look_are_never_taken_for_those_who_change() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        drop(store.lock(holder(1)).unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    store.holder().unwrap();
                }
            });
            let taken = (0..2000).all(|pid| store.lock(holder(pid)).is_ok());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let mut first = store.lock(holder(1)).unwrap();
        first.phase("trial").unwrap();
        let Err(LockError::Busy(Busy(Some(seen)))) = store.lock(holder(2)) else { panic!("not busy") };
        assert_eq!((seen.pid, seen.phase.as_str()), (1, "trial"));
        drop(first);
        assert!(store.lock(holder(2)).is_ok());
    }
}
