//! What a user does, from a profile to a generation and back: the program itself, a real registry, and a scripted
//! machine behind it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub, reason = "tests may")]
#![allow(dead_code, reason = "`support` is shared, and each program needs its own part of it")]

#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../image/project.rs"]
mod project;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/settled.rs"]
mod settled;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/world.rs"]
mod world;

mod airgap;
mod carried;
mod confirm;
mod decisions;
mod failures;
mod first_boot;
mod refusals;
mod whole;
