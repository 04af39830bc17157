//! Images from Debian packages: which ones, with the archive's signatures checked down to each file, and the entries of
//! an image that has them, without root and without running anything of theirs.

mod build;
mod cache;
mod certificates;
mod control;
mod deb;
mod error;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod grouping;
mod known;
mod leftovers;
mod lock;
mod members;
mod package;
mod release;
mod scripts;
mod signature;
mod solve;
mod status;
mod tree;
mod universe;
mod users;
mod version;

pub use build::{Options, entries, fetch, layers};
pub use cache::Cache;
pub use error::{DebianError, UnknownScript};
pub use fetch::{Fetch, Http, Wanted};
pub use lock::{Indexes, KEYRING, MIRROR, SECURITY, Sources, Suite};
pub use users::User;
