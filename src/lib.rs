//! One digest is the whole machine, and going back is as safe as never having left.
//!
//! ```text
//! profiles/*.toml ──load, merge, validate──▶ Profile ──+ bundle.lock──▶ Resolved (spec + kinds)
//!   Resolved ──render, one file per artifact kind, pure──▶ Tree ──canonical manifest──▶ Bundle (sha256:…)
//!   Bundle ──push──▶ registry ──pull, verify──▶ store on the droplet
//!   droplet: current + target + machine ──▶ Plan ──apply under a journal──▶ generation N
//! ```
//!
//! The folders are that flow: [`profile`], [`spec`], [`artifacts`], [`bundle`], [`registry`], [`store`],
//! [`activate`], [`host`], and [`cli`] around them; [`adopt`] makes a first profile of a Compose project; [`model`] holds the words that all of them use. Everything left of
//! the push is a pure function of its arguments; `ARCHITECTURE.md` says who may use whom and who may touch the world.

pub mod activate;
pub mod adopt;
pub mod artifacts;
pub mod bundle;
pub mod cli;
pub mod debian;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod host;
pub mod image;
pub mod model;
pub mod profile;
pub mod provenance;
pub mod registry;
pub mod spec;
pub mod store;
