//! Images of one's own, from files: what other tools make of them, and whether they are the same every time.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    clippy::print_stdout,
    reason = "a test may"
)]

mod dockerfile;
#[path = "../unpack/listing.rs"]
mod listing;
mod locked;
mod made;
mod project;
mod pushed;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/registry.rs"]
mod registry;
mod same;
