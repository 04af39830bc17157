//! The registry client against Debian's `docker-registry`, with `skopeo` as the second opinion, and against a registry
//! that lies.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test may"
)]

mod activator;
mod attached;
mod faults;
mod hostile;
mod images;
mod pushes;
mod real;
mod rebuilt;
mod transfers;

#[path = "../support/hostile.rs"]
mod hostile_server;
#[path = "../image/project.rs"]
mod project;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/sample.rs"]
mod sample;

use std::error::Error;
use std::path::Path;

use bundle::bundle::{Bundle, Layout};

/// A layout with this bundle.
fn layout(bundle: &Bundle, at: &Path) -> Layout {
    let layout = Layout::create(at).unwrap();
    layout.add(bundle).unwrap();
    layout
}

/// All that an error says, cause by cause.
fn words(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Every file below a directory.
fn files(at: &Path) -> Vec<String> {
    walkdir::WalkDir::new(at)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
