//! Whoever wants to see what moves.

use std::fmt;

use crate::model::Digest;

/// Hears of blobs on their way, in either direction.
pub trait Progress: fmt::Debug + Send + Sync {
    /// So many bytes of a blob have moved, of so many. They are fewer again when a transfer has to begin anew.
    fn moved(&self, blob: Digest, bytes: u64, of: u64);
}
