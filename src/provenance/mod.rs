//! What a bundle or an image is made of, and how: documents that travel beside it and are no part of its bytes.
//!
//! Two forms that others read: an SPDX 2.3 bill of materials and an in-toto statement with SLSA's provenance. Both are
//! functions of what they are about: no clock, no host, canonical JSON. Pure; who sends them is the registry's matter.

pub mod slsa;
pub mod spdx;

use crate::model::Digest;

/// What a document is about: a manifest in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Where it is, as in `registry.example.com/team/app`.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
}
