//! Profiles from outside: the shipped ones resolve, malformed ones are refused with everything that is wrong at once,
//! and no text makes the reader panic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a test may")]

mod accepted;
mod commands;
mod described;
mod kinds;
mod lints;
mod malformed;
mod mutated;
mod refusals;
mod shipped;
