//! A switch is killed wherever it can be, and the machine is in the old generation or in the new one, complete, and
//! says which. The checker is `tests/support/settled.rs`; `control.rs` shows that it has teeth.
//!
//! `BUNDLE_SEED=N` chooses other random points; the seed of a run is printed.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests may"
)]
#![allow(dead_code, reason = "`support` is shared, and each program needs its own part of it")]

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/settled.rs"]
mod settled;
#[path = "../support/strace.rs"]
mod strace;
#[path = "../support/world.rs"]
mod world;

mod boot;
mod control;
mod effects;
mod full;
mod scene;
mod syscalls;
