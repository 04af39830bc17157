//! Spec → tree: one file per artifact kind, each a pure function of the spec and of its own profile table.
//!
//! To add a kind, write `src/artifacts/<kind>.rs` and add a line to [`KINDS`].

pub mod backup;
pub mod certificates;
pub mod cloud_init;
pub mod compose;
pub mod docker;
pub mod env_files;
pub mod files;
#[cfg(test)]
mod fixture;
mod format;
pub mod gc;
pub mod haproxy;
pub mod hardening;
pub mod health;
pub mod journald;
mod literal;
pub mod manifest;
pub mod nftables;
pub mod nginx;
pub mod postgres;
pub mod redis;
pub mod seconds;
pub mod size;
pub mod slice;
pub mod sshd;
pub mod sysctl;
pub mod systemd;
mod timer;
pub mod tree;
pub mod updates;
pub mod valkey;
pub mod version;
pub mod volumes;

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::spec::Spec;
pub use tree::{Entry, RenderError, ServiceMount, Tree};

/// The kinds this build knows, in the order they render: what others name comes before those who name it.
pub const KINDS: &[Kind] = &[
    Kind::of::<docker::Docker>(),
    Kind::of::<nftables::Firewall>(),
    Kind::of::<redis::Redis>(),
    Kind::of::<valkey::Valkey>(),
    Kind::of::<postgres::Postgres>(),
    Kind::of::<certificates::Certificates>(),
    Kind::of::<nginx::Nginx>(),
    Kind::of::<haproxy::Proxy>(),
    Kind::of::<sshd::Sshd>(),
    Kind::of::<sysctl::Sysctl>(),
    Kind::of::<journald::Journald>(),
    Kind::of::<updates::Updates>(),
    Kind::of::<hardening::Hardening>(),
    Kind::of::<slice::Slice>(),
    Kind::of::<volumes::Volumes>(),
    Kind::of::<backup::Backup>(),
    Kind::of::<gc::Gc>(),
    Kind::of::<health::Health>(),
    Kind::of::<systemd::Systemd>(),
    Kind::of::<cloud_init::CloudInit>(),
    Kind::of::<env_files::EnvFiles>(),
    Kind::of::<files::Files>(),
    Kind::of::<compose::Compose>(),
    Kind::of::<manifest::Manifest>(),
];

/// One artifact kind: reads its own profile table, renders its own files.
pub trait Artifact: fmt::Debug {
    /// What is wrong between this kind's table and the rest of the profile; empty when all is well.
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        Vec::new()
    }

    /// Adds this kind's files to the tree.
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError>;
}

/// The profile table of a kind. Its schema is what `bundle schema` and `docs/profile.md` say of it: the doc comments of
/// its fields.
pub trait Section: Artifact + DeserializeOwned + JsonSchema + 'static {
    /// The kind's name, in manifests and messages.
    const KIND: &'static str;
    /// The table's name, if the kind has one.
    const TABLE: Option<&'static str>;

    /// What the kind is when the profile does not have its table; `None`: it renders nothing.
    fn absent() -> Option<Self>;
}

/// A finding of [`Artifact::check`]. The profile adds file, line and caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The keys that lead to the value below the kind's table, as in `["memory"]`; empty for the table itself.
    pub at: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A kind's table, read.
pub type Parsed = Result<Box<dyn Artifact>, toml::de::Error>;

/// An entry of [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The kind's name.
    pub name: &'static str,
    /// Its profile table.
    pub table: Option<&'static str>,
    /// Reads the table.
    pub parse: fn(Spanned<DeValue<'_>>) -> Parsed,
    /// Describes the table.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// What it is without the table.
    pub absent: fn() -> Option<Box<dyn Artifact>>,
}

impl Kind {
    /// The entry for `S`.
    pub const fn of<S: Section>() -> Self {
        Self {
            name: S::KIND,
            table: S::TABLE,
            parse: |value| Ok(Box::new(S::deserialize(ValueDeserializer::from(value))?)),
            schema: S::json_schema,
            absent: || S::absent().map(|section| Box::new(section) as Box<dyn Artifact>),
        }
    }
}
