//! The checker: is a machine in exactly one generation, complete, with nothing left over? It reads the disk and the
//! scripted machine, and says everything that is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use bundle::activate::Side;
use bundle::bundle::{ArtifactEntry, Manifest};
use bundle::model::{Digest, OnChange, SecretFile, SecretSource, Slot};
use bundle::store::{Outcome, Store, View};
use serde_json::Value;

use crate::machine::Machine;
use crate::world;

/// Everything that keeps this machine from being in exactly one generation.
pub fn damage(machine: &Machine) -> Vec<String> {
    let store = Store::new(machine.root());
    let mut check = Check { machine, store: &store, found: Vec::new() };
    if let Err(error) = check.all() {
        check.found.push(error);
    }
    check.found
}

#[track_caller]
pub fn assert_settled(machine: &Machine, when: &str) {
    let damage = damage(machine);
    assert!(damage.is_empty(), "{when}: {}\n{}", damage.join("\n"), machine.run(&["generations"]).stdout);
}

struct Check<'a> {
    machine: &'a Machine,
    store: &'a Store,
    found: Vec<String>,
}

impl Check<'_> {
    fn that(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.found.push(otherwise());
        }
    }

    fn all(&mut self) -> Result<(), String> {
        let words = |error: bundle::store::StoreError| format!("{error:?}");
        let pending = self.store.pending().map_err(words)?;
        self.that(pending.is_none(), || format!("pending: {pending:?}"));
        let Some(view) = self.store.current().map_err(words)? else {
            self.nothing_yet();
            return Ok(());
        };
        let last_good = self.store.last_good().map_err(words)?;
        self.that(last_good == Some(view), || format!("current is {view}, last good {last_good:?}"));
        self.records(view)?;
        let generation = self.store.generation(view.generation).map_err(words)?;
        let generation = generation.ok_or_else(|| format!("{view} has no record"))?;
        let manifest = generation.manifest.as_ref();
        let side = Side { view, manifest };
        self.leftovers();
        self.objects();
        if let Some(manifest) = manifest {
            self.view(view, manifest);
        }
        self.links(&side);
        self.secrets(manifest);
        self.containers(&side);
        self.units(manifest);
        Ok(())
    }

    /// Before the first switch there is nothing outside our own directory.
    fn nothing_yet(&mut self) {
        let etc = world::links(self.machine.root(), "etc").unwrap();
        self.that(etc.is_empty(), || format!("nothing is current, but /etc has {etc:?}"));
        let state = self.machine.state();
        self.that(state["containers"].as_object().is_none_or(serde_json::Map::is_empty), || {
            format!("nothing is current, but there are containers: {}", state["containers"])
        });
    }

    fn records(&mut self, view: View) -> Result<(), String> {
        let records = self.store.records().map_err(|error| format!("{error:?}"))?;
        for record in records {
            let number = record.generation;
            self.that(record.outcome != Outcome::Pending, || {
                format!("generation {number} says that its activation has not ended")
            });
            if number == view.generation {
                self.that(record.outcome == Outcome::Good, || {
                    format!("generation {number} is current and {:?}", record.outcome)
                });
            }
            if let Some(bundle) = record.bundle
                && let Err(error) = self.store.manifest(bundle)
            {
                self.found.push(format!("generation {number}: {error:?}"));
            }
        }
        Ok(())
    }

    /// What a switch makes for itself is gone.
    fn leftovers(&mut self) {
        for name in ["current.forward", "current.back"] {
            let there = fs::symlink_metadata(self.store.home().join(name)).is_ok();
            self.that(!there, || format!("`{name}` is left over"));
        }
        let staging = fs::read_dir(self.store.home().join("staging")).map_or(0, Iterator::count);
        self.that(staging == 0, || format!("{staging} things are left in staging"));
        for directory in ["etc", "run/bundle"] {
            for entry in walkdir::WalkDir::new(self.machine.path(directory)).into_iter().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                self.that(!name.starts_with('.'), || format!("`{}` is left over", entry.path().display()));
            }
        }
    }

    /// What has a final name in the store is what the name says.
    fn objects(&mut self) {
        for entry in fs::read_dir(self.store.home().join("store")).into_iter().flatten().flatten() {
            let hash = entry.file_name().to_string_lossy().into_owned();
            if hash.starts_with('.') {
                continue;
            }
            let files: Vec<_> = fs::read_dir(entry.path()).into_iter().flatten().flatten().collect();
            let [file] = files.as_slice() else {
                self.found.push(format!("store/{hash} has {} files", files.len()));
                continue;
            };
            let name = file.file_name().to_string_lossy().into_owned();
            let content = Digest::of(&fs::read(file.path()).unwrap_or_default());
            let mode = file.metadata().map_or(0, |meta| meta.permissions().mode() & 0o7777);
            let is = [bundle::model::Mode::Read, bundle::model::Mode::Run].into_iter().any(|one| {
                one.bits() == mode
                    && bundle::model::StorePath::of(&name, one, content).to_string()
                        == format!("{hash}/{name}")
            });
            self.that(is, || format!("store/{hash}/{name} (mode {mode:o}) is not what its hash says"));
        }
    }

    fn view(&mut self, view: View, manifest: &Manifest) {
        let wanted: BTreeMap<String, String> = manifest
            .view(view.slot)
            .map(|entry| (entry.path.to_string(), entry.store_path().to_string()))
            .collect();
        let there = world::view(self.machine.root()).unwrap();
        self.that(there == wanted, || format!("the view is {there:#?}, not {wanted:#?}"));
        for store_path in wanted.values() {
            let there = self.store.home().join("store").join(store_path).is_file();
            self.that(there, || format!("store/{store_path} is not there"));
        }
    }

    fn links(&mut self, side: &Side<'_>) {
        let wanted = side.links();
        let there: BTreeMap<String, String> = world::links(self.machine.root(), "etc")
            .unwrap()
            .into_iter()
            .map(|(path, target)| (format!("/{path}"), target.display().to_string()))
            .collect();
        self.that(there == wanted, || format!("/etc has {there:#?}, not {wanted:#?}"));
        match self.store.ledger() {
            Ok(ledger) => self.that(ledger.links == wanted, || format!("the ledger says {ledger:#?}")),
            Err(error) => self.found.push(format!("{error:?}")),
        }
    }

    fn secrets(&mut self, manifest: Option<&Manifest>) {
        let files: Vec<&SecretFile> = manifest.iter().flat_map(|manifest| &manifest.secret_files).collect();
        let wanted: BTreeSet<String> = files.iter().map(|file| file.path.to_string()).collect();
        let directory = self.machine.path("run/bundle/secrets");
        let there: BTreeSet<String> = walkdir::WalkDir::new(&directory)
            .into_iter()
            .flatten()
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.path().strip_prefix(&directory).unwrap().display().to_string())
            .collect();
        self.that(there == wanted, || format!("the secret files are {there:?}, not {wanted:?}"));
        for file in files {
            self.secret(&directory, file);
        }
    }

    fn secret(&mut self, directory: &Path, file: &SecretFile) {
        let path = directory.join(file.path.as_str());
        let (Ok(meta), Ok(content)) = (fs::metadata(&path), fs::read(&path)) else { return };
        let mode = meta.permissions().mode() & 0o7777;
        self.that(mode == 0o400 && !content.is_empty(), || format!("{} is {mode:o} or empty", file.path));
        if rustix::process::geteuid().is_root() {
            let owner = (meta.uid(), meta.gid());
            self.that(owner == (file.owner.uid, file.owner.gid), || format!("{} is of {owner:?}", file.path));
        }
        if let SecretSource::Value(name) = &file.source
            && let Ok(kept) = fs::read(self.store.home().join("secrets").join(name.as_str()))
        {
            self.that(content == kept, || format!("{} is not the value of `{name}`", file.path));
        }
        let text = String::from_utf8_lossy(&content);
        self.that(!text.contains("{{"), || format!("{} has a blank that was not filled in", file.path));
    }

    /// Containers, restart policies, routes, networks, timers.
    fn containers(&mut self, side: &Side<'_>) {
        let state = self.machine.state();
        let empty = serde_json::Map::new();
        let containers = state["containers"].as_object().unwrap_or(&empty);
        let mut wanted: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
        if let Some(manifest) = side.manifest {
            if let Some(data) = &manifest.projects.data {
                for service in &data.services {
                    wanted.insert(service.to_string(), (data.file.absolute(), None));
                }
            }
            let file = manifest.projects.file(side.slot()).absolute();
            for service in manifest.projects.slot.keys() {
                if manifest.projects.migrations.as_ref() != Some(service) {
                    let name = format!("{service}-{}", side.slot());
                    wanted.insert(name, (file.clone(), Some(manifest.release.to_string())));
                }
            }
            for network in &manifest.networks {
                let there = state["networks"]
                    .as_array()
                    .is_some_and(|all| all.contains(&network.name.to_string().into()));
                self.that(there, || format!("the network {} is not there", network.name));
            }
        }
        for (name, (file, release)) in &wanted {
            let container = containers.get(name).unwrap_or(&Value::Null);
            let right = container["running"] == true
                && container["keep"] == true
                && container["file"] == file.as_str()
                && release.as_ref().is_none_or(|release| container["release"] == release.as_str());
            self.that(right, || {
                format!("container {name} is {container}, wanted from {file} of {release:?}")
            });
        }
        for (name, container) in containers {
            if !wanted.contains_key(name) {
                let gone = container["running"] == false;
                self.that(gone, || format!("container {name} is of nobody and runs: {container}"));
                // What was stopped by hand does not come back, whatever its policy; a slot's must have lost it anyway.
                if name.ends_with("-blue") || name.ends_with("-green") {
                    let gone = container["keep"] == false;
                    self.that(gone, || {
                        format!("container {name} is of nobody and has a policy: {container}")
                    });
                }
            }
        }
        for (name, rule) in side.manifest.iter().flat_map(|manifest| &manifest.routes) {
            let to = &state["routes"][name.as_str()];
            let slot = side.slot();
            self.that(to == slot.as_str(), || {
                format!("route {name} to {} goes to {to}, not {slot}", rule.service)
            });
        }
        let timers = state["timers"].as_array().map_or(0, Vec::len);
        self.that(timers == 0, || format!("timers are armed: {}", state["timers"]));
        let overlaps = &state["overlaps"];
        let singletons = overlaps.as_array().into_iter().flatten().any(|name| name == "worker");
        self.that(!singletons, || format!("a singleton ran twice at once: {overlaps}"));
    }

    /// Units run that should and no others, each with the files of this generation, and PID 1 knows them.
    fn units(&mut self, manifest: Option<&Manifest>) {
        let state = self.machine.state();
        let entries: Vec<&ArtifactEntry> =
            manifest.iter().flat_map(|manifest| manifest.view(Slot::Blue)).collect();
        let wanted: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| entry.unit.as_ref().is_some_and(|unit| unit.start))
            .map(|entry| entry.path.name())
            .collect();
        let empty = serde_json::Map::new();
        let units = state["units"].as_object().unwrap_or(&empty);
        // The distribution's own, sshd among them, run on every machine: a file of ours only has them read it.
        let ours = |unit: &str| {
            unit.starts_with("bundle-") || unit.rsplit_once('.').is_some_and(|(_, kind)| kind == "mount")
        };
        let active: BTreeSet<&str> = units
            .iter()
            .filter(|(unit, state)| *state == "active" && ours(unit))
            .map(|(unit, _)| unit.as_str())
            .collect();
        self.that(active == wanted, || format!("active are {active:?}, not {wanted:?}"));
        for entry in manifest.iter().flat_map(|manifest| &manifest.artifacts) {
            let mut readers: Vec<&str> = entry
                .on_change
                .iter()
                .map(|asked| match asked {
                    OnChange::Reload(unit) | OnChange::Restart(unit) => unit.as_str(),
                })
                .collect();
            if wanted.contains(entry.path.name()) {
                readers.push(entry.path.name());
            }
            for unit in readers {
                let read = &state["loaded"][unit][entry.path.as_str()];
                // A file with two renderings may have been read in either.
                let renderings = manifest.iter().flat_map(|manifest| &manifest.artifacts);
                let fits = renderings
                    .filter(|other| other.path == entry.path)
                    .any(|other| *read == other.store_path().to_string().as_str());
                self.that(fits, || format!("{unit} runs with {} as it was in {read}", entry.path));
            }
        }
        let known: BTreeMap<String, String> =
            serde_json::from_value(state["daemon"].clone()).unwrap_or_default();
        let there = world::units(self.machine.root()).unwrap();
        self.that(known == there, || format!("PID 1 knows {known:#?}, /etc has {there:#?}"));
    }
}
