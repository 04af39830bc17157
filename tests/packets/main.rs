//! The rules and real packets: a machine, its public side, its private network and a container, each a network namespace
//! of this test's own, joined by wires; IPv4 and IPv6. What must pass passes, what must not does not.
//!
//! Runs as root, with `ip`, `nft`, `nsenter` and `unshare` (tests/setup). Each namespace is held by a process that ends when
//! its standard input does: nothing is left over, however the test ends.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test ends with a panic that says what went wrong, and may touch the machine"
)]

mod matrix;
mod probe;
mod rules;
mod wires;

#[path = "../support/sample.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod sample;
