//! One side of a switch: a view, and the manifest of its generation. The bare machine has none, and then every
//! question has an empty answer, so that the first generation is not special.

use std::collections::BTreeMap;

use super::host::Probe;
use crate::bundle::{Manifest, Project};
use crate::model::{GenerationNumber, RouteName, ServiceName, Slot, StorePath};
use crate::store::{Outcome, View};

/// Whether a switch goes somewhere new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a generation that was never committed on this machine.
    Forward,
    /// To one that was: its files have been judged by their readers, and its migrations are behind the database. They
    /// must not run again: an older program does not know the revisions of a newer one.
    Back,
}

impl Way {
    /// The way to a generation whose activation ended so.
    pub fn to(outcome: &Outcome) -> Self {
        if *outcome == Outcome::Good { Self::Back } else { Self::Forward }
    }
}

/// A generation in a slot.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Which.
    pub view: View,
    /// What it is to be; `None` for the bare machine.
    pub manifest: Option<&'a Manifest>,
}

impl<'a> Side<'a> {
    /// A side of this generation in this slot.
    pub fn new(generation: GenerationNumber, slot: Slot, manifest: Option<&'a Manifest>) -> Self {
        Self { view: View { generation, slot }, manifest }
    }

    /// Its slot.
    pub fn slot(&self) -> Slot {
        self.view.slot
    }

    /// The project `data`, if it has one.
    pub fn data(&self) -> Option<&'a Project> {
        self.manifest?.projects.data.as_ref()
    }

    /// The compose file of its slot.
    pub fn slot_file(&self) -> Option<&'a StorePath> {
        Some(self.manifest?.projects.file(self.slot()))
    }

    /// The services of its slot that run all the time: not the migrations.
    pub fn services(&self, singleton: bool) -> Vec<ServiceName> {
        let Some(projects) = self.manifest.map(|manifest| &manifest.projects) else { return Vec::new() };
        projects
            .slot
            .iter()
            .filter(|(name, service)| {
                service.singleton == singleton && projects.migrations.as_ref() != Some(name)
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The containers of some services of its slot.
    pub fn containers(&self, services: &[ServiceName]) -> Vec<String> {
        services.iter().map(|service| format!("{service}-{}", self.slot())).collect()
    }

    /// The container of its migrations, which may have outlived whoever started it.
    pub fn migrations(&self) -> Vec<String> {
        let service = self.manifest.and_then(|manifest| manifest.projects.migrations.clone());
        self.containers(&service.into_iter().collect::<Vec<_>>())
    }

    /// All containers of its slot that run all the time.
    pub fn all_containers(&self) -> Vec<String> {
        let mut containers = self.containers(&self.services(false));
        containers.extend(self.containers(&self.services(true)));
        containers
    }

    /// Its routes.
    pub fn routes(&self) -> Vec<RouteName> {
        self.manifest.iter().flat_map(|manifest| manifest.routes.keys().cloned()).collect()
    }

    /// Whether `other` has the same stateless half, so that the slot can stay.
    pub fn same_release(&self, other: &Side<'_>) -> bool {
        match (self.manifest, other.manifest) {
            (Some(a), Some(b)) => {
                a.release == b.release && a.projects.file(self.slot()) == b.projects.file(self.slot())
            }
            _ => false,
        }
    }

    /// What tells whether the slot is ready before it gets requests: each route at its own address, and every other
    /// service that is not a singleton by its container.
    pub fn slot_probes(&self) -> Vec<Probe> {
        let Some(manifest) = self.manifest else { return Vec::new() };
        let mut probes: Vec<_> = manifest
            .routes
            .iter()
            .map(|(name, rule)| Probe::Route {
                name: name.clone(),
                rule: rule.clone(),
                slot: self.slot(),
                release: manifest.release,
                container: format!("{}-{}", rule.service, self.slot()),
            })
            .collect();
        let routed: Vec<_> = manifest.routes.values().map(|rule| rule.service.clone()).collect();
        let others: Vec<_> =
            self.services(false).into_iter().filter(|service| !routed.contains(service)).collect();
        probes.extend(self.containers(&others).into_iter().map(|name| Probe::Ready { name }));
        probes
    }

    /// What must be green once after the flip, and is green on a machine where all is well: as
    /// [`public_probes`](Self::public_probes), but a container that starts is not ready yet.
    pub fn ready_probes(&self) -> Vec<Probe> {
        let ready = |probe| match probe {
            Probe::Container { name } => Probe::Ready { name },
            probe => probe,
        };
        self.public_probes().into_iter().map(ready).collect()
    }

    /// What is watched after the flip: each route through the public listener, and every container.
    pub fn public_probes(&self) -> Vec<Probe> {
        let Some(manifest) = self.manifest else { return Vec::new() };
        let mut probes: Vec<_> = manifest
            .routes
            .iter()
            .map(|(name, rule)| Probe::Public {
                name: name.clone(),
                rule: rule.clone(),
                slot: self.slot(),
                release: manifest.release,
                domain: rule.host.clone().unwrap_or_else(|| manifest.domain.clone()),
            })
            .collect();
        let data = self.data().into_iter().flat_map(|data| data.services.iter().map(ToString::to_string));
        probes.extend(self.all_containers().into_iter().chain(data).map(|name| Probe::Container { name }));
        probes
    }

    /// The files of both views by path, for comparing with another side: a file that differs by slot is the same file
    /// as long as neither rendering changes.
    pub(super) fn files(&self) -> BTreeMap<&'a str, Vec<StorePath>> {
        let mut files: BTreeMap<&str, Vec<StorePath>> = BTreeMap::new();
        for entry in self.manifest.into_iter().flat_map(|manifest| &manifest.artifacts) {
            files.entry(entry.path.as_str()).or_default().push(entry.store_path());
        }
        files
    }
}
