//! Somebody comes with a Compose project of their own: projects in the style of well-known ones become profiles that
//! build at once, mean what they meant but for what the report names, and keep nothing back from it.
//!
//! Compose itself reads both sides, so its plugin is needed: `docker compose`, or the one in the tests' Debian tree.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a test may")]

mod env_files;
mod first;
mod mutated;
mod project;
mod roundtrip;
mod special;
