//! The generated files before really started programs: accepted, and in force. Each server runs as its container would:
//! the mounts, the command, the variables and the user of the compose file, a read-only root, no capability, and only the
//! networks that it has on a droplet. What it runs on is asked back from it, key by key.
//!
//! The programs are those that this machine has (`tests/setup`), and for a second version those of the images that the
//! droplets run (`tests/images`). They run as root does, in namespaces of their own.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test ends with a panic that says what went wrong, and may look at the clock and the machine"
)]

mod cell;
mod image;
mod laid;
mod model;
mod nginx;
mod postgres;
mod redis;
