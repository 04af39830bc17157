//! Images: from entries to layers, configuration, manifest and index, without a daemon and without root.

pub mod base;
pub mod build;
pub mod cache;
pub mod compare;
pub mod context;
pub mod document;
pub mod entry;
pub mod files;
pub mod foreign;
pub mod layer;
mod rootfs;
pub mod tar;
pub mod unpack;
pub mod write;

pub use base::BaseImage;
pub use build::{BuildError, Builder, Built, Parts, Platform};
pub use cache::Actions;
pub(crate) use cache::{MAX_RESULT, touch};
pub use context::Context;
pub use entry::{Content, Entry, EntryPath, EntryPathError, Kind};
pub use files::FilesError;
pub use layer::LayerError;
pub use write::{Layer, WriteError};
