//! TOML → Profile → Spec: load, merge, validate, resolve against the lock.
//!
//! Only [`load`](load()) reads files; everything else is a pure function of texts. Whatever is wrong is said at once, with file,
//! line and caret ([`Diagnostics`]).

mod checks;
mod compose_keys;
mod compose_list;
mod compose_value;
pub mod describe;
mod diagnostics;
mod droplet;
mod env_files;
mod files;
mod images;
mod lints;
mod load;
mod lock;
mod merge;
mod read;
mod registry;
mod resolve;
mod schema;
mod sections;
mod service;
mod source;
mod units;
mod why;

pub use diagnostics::{Also, Diagnostic, Diagnostics, Finding, Place, Severity};
pub use lints::{Lint, lints};
pub use load::load;
pub use lock::{Lock, Pin};
pub use resolve::{Resolved, check, resolve};
pub use schema::Profile;
pub use source::{Sources, Span};
pub use units::{Bytes, Duration, ImageReference, ParseBytesError, ParseDurationError, ParseImageError};
pub use why::{Decides, Line, Why, WhyError, why};
