//! Tree → bundle: the canonical manifest whose SHA-256 is the bundle's identity, and the bytes that travel with it.
//!
//! [`seal()`] makes one, [`Layout`] keeps it in a directory, and [`Verified`] is the only way to get at what a
//! directory says: a value of that type means that every byte it came from has the digest that somebody asked for.

pub mod activator;
pub mod archive;
pub mod check;
pub mod gz1;
pub mod image;
pub mod layout;
pub mod manifest;
pub mod oci;
pub mod parcel;
#[cfg(test)]
pub(crate) mod sample;
pub mod seal;
pub mod verified;

pub use image::{Blob, ImageError, ImageFiles, Platform};
pub use layout::{Incoming, IndexEntry, Layout, LayoutError};
pub use manifest::{
    ActivatorPin, ArtifactEntry, Backups, ImagePin, Manifest, Network, Project, Projects, RouteRule,
    SlotService, Switching,
};
pub use seal::{Bundle, SealError, seal};
pub use verified::{OpenedBundle, UnpackError, Verified, VerifyError};
