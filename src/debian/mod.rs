//! Images from Debian packages: which ones, with the archive's signatures checked down to each file, and the entries of
//! an image that has them, without root and without running anything of theirs.

mod cache;
mod control;
mod deb;
mod error;
mod fetch;
mod lock;
mod members;
mod release;
mod signature;
mod solve;
mod universe;
mod version;

pub use cache::Cache;
pub use error::{DebianError, UnknownScript};
pub use fetch::{Fetch, Http, Wanted};
pub use lock::{Indexes, KEYRING, MIRROR, SECURITY, Sources, Suite};
