//! A Compose project → a profile, and a report in which nothing of the project is missing.
//!
//! What is read is the model that the Compose plugin itself makes of the files (`docker compose config`), once filled in
//! and once as written; running the plugin and looking at the disk is the business of `cli`. Here everything is a
//! function of a [`Project`]. What cannot be known is guessed aloud, and what the profile's own reader refuses is taken
//! out again and reported, so that the result is a profile that builds.

mod document;
mod environment;
mod grants;
mod harden;
mod import;
mod known;
mod ledger;
mod mounts;
mod profile;
mod report;
mod roles;
mod routes;
mod secrets;
mod service;
mod settle;
mod variables;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use ledger::{Finding, Outcome, Path, leaves};
pub use profile::starter;
pub use secrets::mark;
pub use variables::{Variable, can_be_secret, find as find_variables, is_secret};

/// A Compose project, as read.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// The normalized model with everything filled in, services of all profiles included. In the place of each secret
    /// variable stands its mark.
    pub model: Value,
    /// The merged model as it was written, variables and all; `null` if it cannot be had.
    pub raw: Value,
    /// The project's directory, absolute.
    pub directory: String,
    /// The same, as seen from the profile's directory: `..`.
    pub above: String,
    /// The Compose files, as the operator named them.
    pub files: Vec<String>,
    /// Each mark in the model, and the variable that it stands for.
    pub marks: BTreeMap<String, String>,
    /// Variables that must have a value and have none, and what was put in their place.
    pub filled: BTreeMap<String, String>,
    /// Variables without a value and without a default: Compose makes nothing of them.
    pub unset: BTreeSet<String>,
    /// The Compose profiles that were asked for.
    pub chosen: BTreeSet<String>,
    /// What is at the paths that [`places`] names.
    pub found: BTreeMap<String, Found>,
    /// What happened on the way that the operator should know.
    pub notes: Vec<String>,
}

/// What is at a path of the machine that imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A file.
    File {
        /// Its length.
        bytes: u64,
        /// Whether it is UTF-8.
        text: bool,
        /// Whether its owner may run it.
        executable: bool,
    },
    /// A directory.
    Directory {
        /// The paths of the files below it.
        files: Vec<String>,
        /// Their length together.
        bytes: u64,
        /// Whether the owner may run one of them.
        executable: bool,
    },
    /// A socket, a pipe, a device, or something that cannot be read.
    Other,
}

/// What came of a project.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The texts to write, by name beside each other: the profile, its base, the lock, the report.
    pub files: BTreeMap<String, String>,
    /// What became of every key.
    pub findings: Vec<Finding>,
    /// What only a person can do, in order.
    pub todo: Vec<String>,
    /// The report for a terminal: what to do, what was hardened, what stays behind.
    pub summary: String,
    /// What still keeps the profile from building; empty when it builds.
    pub faults: String,
}

/// The paths of the machine that the model names: mounts, configs, secrets.
pub fn places(model: &Value) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for service in model["services"].as_object().into_iter().flatten().map(|(_, service)| service) {
        let mounts = service["volumes"].as_array().into_iter().flatten();
        places.extend(
            mounts.filter(|mount| mount["type"] == "bind").filter_map(|mount| mount["source"].as_str()),
        );
    }
    for kind in ["configs", "secrets"] {
        let declared = model[kind].as_object().into_iter().flatten();
        places.extend(declared.filter_map(|(_, entry)| entry["file"].as_str()));
    }
    places.into_iter().map(str::to_owned).collect()
}

/// Makes a profile of a project.
pub fn adopt(project: &Project) -> Adoption {
    import::Import::new(project).run()
}
