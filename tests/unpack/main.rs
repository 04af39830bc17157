//! Images of any make, unpacked: as `umoci` does it, and hostile ones.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    clippy::disallowed_methods,
    unreachable_pub,
    clippy::print_stdout,
    reason = "a test may"
)]

mod compare;
mod documents;
mod equal;
mod hostile;
mod image;
mod listing;
