//! Tests on a droplet: a whole Debian with systemd, dockerd, `HAProxy` and sshd, booted in namespaces in a few seconds,
//! with a wire to this machine and a real registry at the other end of it. It is prepared, with all programs in it, or
//! stock, as a cloud image is, and installs what its user-data says from a package mirror. What needs a kernel of its
//! own runs in a virtual machine as well (see [`machine`]).
//!
//! They run as root. `tests/setup` installs what they need and builds the Debian tree; without it they fail,
//! they do not skip. What they make they remove, whether they pass, fail or are killed (see [`slot`]).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test ends with a panic that says what went wrong, and may look at the clock and the machine"
)]

mod airgap;
mod another;
#[path = "../support/authority.rs"]
mod authority;
mod bootstrap;
mod builder;
mod certs;
mod deploy;
mod dockerfile;
mod droplet;
mod first_boot;
mod hardening;
mod image;
mod kernel;
mod life;
mod machine;
mod mirror;
mod outside;
mod pace;
mod poster;
mod power;
mod readers;
mod registry;
mod seed;
mod selftest;
mod serving;
mod site;
mod slot;
mod sockets;
mod ssh;
mod steps;
mod stock;
mod switch;
mod traces;
mod vm;
mod words;
