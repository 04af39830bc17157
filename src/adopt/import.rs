//! The import itself: roles first, then every service key by key, then what stands beside the services.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::document::{Document, Table};
use super::ledger::{Ledger, Path, path};
use super::mounts;
use super::roles::{Role, listed, roles};
use super::routes::Candidate;
use super::secrets::Secrets;
use super::{Adoption, Found, Project, profile, report, settle};

/// The import under way.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    pub(crate) project: &'a Project,
    /// The model, with marks in the place of secrets that stood in clear.
    pub(crate) model: Value,
    pub(crate) ledger: Ledger,
    pub(crate) roles: BTreeMap<String, Role>,
    /// The services as the profile calls them.
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) secrets: Secrets,
    /// Other names under which a service was reached.
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) services: BTreeMap<String, Vec<Table>>,
    /// Files that travel: the key in `[files]`, and its table; and the paths that they name.
    pub(crate) files: BTreeMap<String, Table>,
    pub(crate) candidates: Vec<Candidate>,
}

/// A service's name as the profile takes it.
fn plain_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let kept: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let mut kept = kept.trim_start_matches(['-', '_', '.']).to_owned();
    kept.truncate(50);
    for ending in ["-blue", "-green"] {
        if kept.ends_with(ending) {
            kept.push_str("-service");
        }
    }
    if kept.is_empty() { "service".to_owned() } else { kept }
}

impl<'a> Import<'a> {
    pub(crate) fn new(project: &'a Project) -> Self {
        Self {
            project,
            model: project.model.clone(),
            ledger: Ledger::default(),
            roles: BTreeMap::new(),
            names: BTreeMap::new(),
            secrets: Secrets::new(&project.marks),
            aliases: BTreeMap::new(),
            services: BTreeMap::new(),
            files: BTreeMap::new(),
            candidates: Vec::new(),
        }
    }

    /// From the project to texts.
    pub(crate) fn run(mut self) -> Adoption {
        let services: Vec<String> =
            self.model["services"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        self.secrets.mark_clear(&mut self.model);
        let writers: BTreeSet<String> = services
            .iter()
            .filter(|name| {
                let service = &self.model["services"][name.as_str()];
                let mounts = service["volumes"].as_array().into_iter().flatten();
                mounts.into_iter().any(|mount| mounts::writes(self.project, service, mount))
            })
            .cloned()
            .collect();
        self.roles = roles(&self.model, &self.project.chosen, &writers);
        self.name(&services);
        for name in &services {
            match self.roles.get(name).cloned() {
                Some(Role::Out(why, instead)) => {
                    self.ledger.left(path(["services", name]), why, instead.as_deref());
                    self.door(name);
                }
                _ => self.service(name),
            }
        }
        self.beside();
        self.notes();
        let (base, profile) = profile::documents(&mut self);
        self.filled(&base.text());
        self.rest();
        self.finish(base, profile)
    }

    /// Names, and everything else under which services were reached.
    fn name(&mut self, services: &[String]) {
        let mut taken = BTreeSet::new();
        for name in services {
            let mut plain = plain_name(name);
            while !taken.insert(plain.clone()) {
                plain.push_str("-2");
            }
            if plain != *name && !self.roles.get(name).is_some_and(Role::is_out) {
                self.ledger.changed(
                    path(["services", name, "(its name)"]),
                    format!("the service is called `{plain}`"),
                    None,
                );
            }
            self.names.insert(name.clone(), plain);
        }
        for name in services {
            let service = &self.model["services"][name.as_str()];
            let networks = service["networks"].as_object().into_iter().flatten();
            let aliases =
                networks.flat_map(|(_, network)| network["aliases"].as_array().into_iter().flatten());
            let container = service["container_name"].as_str();
            let found: Vec<String> =
                aliases.filter_map(Value::as_str).chain(container).map(str::to_owned).collect();
            let links = service["links"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let links = links.filter_map(|link| link.split_once(':'));
            let links =
                links.map(|(to, alias)| (alias.to_owned(), self.names.get(to).cloned().unwrap_or_default()));
            let own = found.into_iter().map(|alias| (alias, self.names[name].clone()));
            let all: Vec<(String, String)> = own.chain(links).collect();
            for (alias, to) in all {
                if !self.names.contains_key(&alias) && !to.is_empty() {
                    self.aliases.insert(alias, to);
                }
            }
        }
    }

    /// Networks, volumes, secrets and configs as a whole, and whatever else stands at the top.
    fn beside(&mut self) {
        let model = self.model.clone();
        let Some(top) = model.as_object() else { return };
        for (key, value) in top {
            match key.as_str() {
                "services" | "secrets" | "configs" => {}
                "networks" => {
                    for (name, network) in value.as_object().into_iter().flatten() {
                        let at = path(["networks", name]);
                        if network["external"] == true {
                            self.ledger.left(at, "a droplet has the networks `data`, `blue` and `green`, and no other: containers of other projects are not reached", None);
                            self.ledger.todo(format!("the network `{name}` is external: what was reached through it has to become a service of this profile, or be reached by its address"));
                        } else {
                            self.ledger.changed(at, "all services stand on `data`, stateless ones on their slot's network too; `data` has no way out", None);
                        }
                    }
                }
                "volumes" => {
                    for (name, volume) in value.as_object().into_iter().flatten() {
                        let at = path(["volumes", name]);
                        if volume["external"] == true {
                            self.ledger.changed(
                                at,
                                "Docker makes it on the droplet if it is not there",
                                None,
                            );
                            self.ledger.todo(format!("the volume `{name}` is external: bring its data to the droplet before the first switch"));
                        } else {
                            self.ledger.changed(at, "a volume of the droplet, without the project's name before its own; driver and labels are Docker's own", None);
                        }
                    }
                }
                "name" => self.ledger.changed(
                    path(["name"]),
                    "the Compose projects are called `data`, `blue` and `green`",
                    None,
                ),
                "version" => {
                    self.ledger.left(path(["version"]), "Compose itself takes no notice of it", None)
                }
                extension if extension.starts_with("x-") => {
                    self.ledger.left(
                        path([extension]),
                        "an extension at the top: what used it has been merged in by Compose",
                        None,
                    );
                }
                _ => self.ledger.left(path([key]), "a profile has nothing of the kind", None),
            }
        }
        self.declared(&model);
    }

    /// Secrets and configs that nobody uses.
    fn declared(&mut self, model: &Value) {
        for kind in ["secrets", "configs"] {
            for (name, _) in model[kind].as_object().into_iter().flatten() {
                let spoken =
                    self.ledger.findings.iter().any(|finding| finding.path.starts_with(&path([kind, name])));
                if !spoken {
                    self.ledger.left(path([kind, name]), "no service of the profile uses it", None);
                }
            }
        }
    }

    /// Values that were put in for want of others, as far as the profile has them.
    fn filled(&mut self, base: &str) {
        for (variable, value) in &self.project.filled {
            if base.contains(value.as_str()) {
                self.ledger.todo(format!(
                    "`{variable}` must have a value and has none: where the profile says `{value}`, write it"
                ));
            }
        }
    }

    /// What reading the files already showed.
    fn notes(&mut self) {
        let unset: Vec<&str> = self.project.unset.iter().map(String::as_str).collect();
        if !unset.is_empty() {
            self.ledger.todo(format!(
                "{} had no value, and Compose takes nothing in their place: look whether that is meant",
                listed(&unset)
            ));
        }
        for note in &self.project.notes {
            self.ledger.todo(note.clone());
        }
    }

    /// Whatever nobody spoke of.
    fn rest(&mut self) {
        for at in self.ledger.unaccounted(&self.project.model) {
            self.ledger.left(at, "this program does not know what to make of it", None);
        }
    }

    /// A file that travels in the bundle; `below` is its path in the project.
    pub(crate) fn file(&mut self, service: &str, target: &str, below: &str, executable: bool, origin: &Path) {
        let key = format!("{service}:{target}");
        let mut table = Table::new(&["files", &key]);
        table.set("source", self.project.from_profile(below)).from(origin.clone());
        if executable {
            table.set("executable", true);
        }
        self.files.insert(key, table);
    }

    /// Takes out what the profile's own reader refuses, and writes everything down.
    fn finish(mut self, mut base: Document, mut profile: Document) -> Adoption {
        let settled = settle::settle(self.project, &mut self.ledger, &mut base, &mut profile);
        let (summary, markdown) = report::write(&self, &settled.faults);
        let mut files = BTreeMap::from([
            ("base.toml".to_owned(), base.text()),
            ("production.toml".to_owned(), profile.text()),
            ("IMPORT.md".to_owned(), markdown),
        ]);
        if !settled.lock.is_empty() {
            files.insert("bundle.lock".to_owned(), settled.lock);
        }
        Adoption {
            files,
            findings: self.ledger.findings,
            todo: self.ledger.todo,
            summary,
            faults: settled.faults,
        }
    }

    /// Whether a path of the machine is a file that can travel.
    pub(crate) fn travels(&self, source: &str) -> bool {
        matches!(self.project.found.get(source), Some(Found::File { .. }))
    }
}
