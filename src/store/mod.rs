//! The droplet's disk below one root: objects, generations with their views, the flip, journal, ledger, lock, secrets.
//!
//! Synchronous, and in an order that is the same every time, so that each system call can be a place to die in a
//! test. Whatever is named by something durable was durable before.
#![expect(clippy::disallowed_methods, reason = "touching the droplet's disk is this module's job")]

pub mod activator;
pub mod backups;
pub mod ballast;
pub mod certs;
pub mod confirm;
pub mod durable;
pub mod etc;
pub mod first_boot;
pub mod gc;
pub mod generations;
pub mod journal;
pub mod ledger;
pub mod lock;
pub mod login;
pub mod objects;
pub mod received;
pub mod renewals;
pub mod secrets;

use std::io;
use std::path::{Path, PathBuf};

pub use first_boot::Waiting;
pub use generations::{Generation, Outcome, Record, View};
pub use journal::{Event, Journal, Phase, TransactionId};
pub use ledger::Ledger;
pub use lock::{Busy, Holder, Lock, LockError};
pub use login::Login;

/// Where a machine's state lies. `root` is `/` on a droplet and any directory elsewhere; rendered files always say
/// `/var/lib/bundle`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A failed attempt on the disk: what was being done to which path.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system said no.
    #[error("{doing} `{path}`")]
    Io {
        /// What was being done, as a gerund.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file of ours does not say what we once wrote.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Names the path and the attempt, so that no bare [`io::Error`] leaves this module.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(doing, path, error.into()))
    }
}

impl Store {
    /// The store of the machine whose root file system is `root`. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The machine's root file system.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running system itself.
    pub fn is_running_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// `/var/lib/bundle` below the root.
    pub fn home(&self) -> PathBuf {
        self.root.join("var/lib/bundle")
    }

    /// A path below `/var/lib/bundle`.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home().join(path)
    }

    /// An absolute path of the machine, below the root.
    pub fn below(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Makes the directories that everything else expects. Doing it again does no harm.
    pub fn prepare(&self) -> Result<(), StoreError> {
        // Services that are not root pass through here on their way to their configuration in the store.
        for (path, mode) in [
            ("", 0o755),
            ("store", 0o755),
            ("bundles", 0o755),
            ("generations", 0o755),
            ("staging", 0o700),
            ("backups", 0o700),
            ("secrets", 0o700),
            ("certs", 0o770),
        ] {
            durable::make_dir(&self.at(path), mode)?;
        }
        Ok(())
    }
}
