//! Tree → bundle: the canonical manifest whose SHA-256 is the bundle's identity, and the bytes that travel with it.

pub mod archive;
pub mod gz1;
pub mod manifest;

pub use manifest::{
    ArtifactEntry, ImagePin, Manifest, Network, Project, Projects, RouteRule, SlotService, Switching,
};
