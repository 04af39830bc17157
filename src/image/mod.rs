//! Images: from entries to layers, configuration, manifest and index, without a daemon and without root.

pub mod entry;
pub mod unpack;

pub use entry::{Content, Entry, EntryPath, EntryPathError, Kind};
