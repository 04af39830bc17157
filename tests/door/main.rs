//! Tests of the door: Debian's `HAProxy` with the configuration that the program itself has laid down, as an unprivileged
//! user, on its real ports and addresses, in namespaces of each test's own (see [`room`]). Behind it are servers of the
//! tests, at the addresses of the containers; before it are clients that say what no good client says.
//!
//! They run as root. `tests/setup` installs what they need; without it they fail, they do not skip. Nothing outlives a
//! test: its namespaces take everything with them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test ends with a panic that says what went wrong, and may look at the clock and the machine"
)]

#[macro_use]
mod room;

mod acme;
#[path = "../support/authority.rs"]
mod authority;
mod backend;
mod balancer;
mod client;
mod grade;
mod limits;
mod routes;
mod site;
mod slow;
mod smuggle;
mod tls;
mod two;
