//! The program with a scripted machine behind it instead of systemd and Docker: the same command line, the same disk,
//! and a machine that is a JSON file below `--root`. It proves decisions and their order, nothing about the real thing.
//!
//! `run/scripted/script.json` says what goes wrong, `run/scripted/machine.json` is the machine.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub, reason = "a test's program may")]

#[path = "../support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bundle::activate::{Effect, Host, HostError, Probe, UnitVerb};
use bundle::bundle::{ImageFiles, ImagePin, Layout};
use bundle::model::Check;
use bundle::store::Store;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Script {
    /// Subjects that are red: `route backend`, `service worker`, or `route backend in green`.
    red: BTreeSet<String>,
    /// They are from the wait of this number on.
    red_from_wait: Option<u64>,
    /// Effects that fail: the key is a part of the effect's words.
    fail: BTreeMap<String, String>,
    /// The effect of this number fails.
    fail_at: Option<u64>,
    /// Containers that die and are restarted all the time.
    restarting: BTreeSet<String>,
    /// From the effect of this number on the disk below the root is full: no byte, no inode.
    fill_at: Option<u64>,
    /// And with it what was set aside for going back.
    take_ballast: bool,
    /// Every effect takes this long, in milliseconds of the real clock.
    slow_ms: u64,
    /// Every wait takes this long of the real clock, in milliseconds, besides what it takes of the machine's.
    wait_ms: u64,
    /// The operator confirms during the wait of this number.
    confirm_at_wait: Option<u64>,
    /// Die in the wait of this number.
    die_at_wait: Option<u64>,
    /// References of images that are not to be had.
    no_image: BTreeSet<String>,
    /// Kinds of files that their readers refuse, by a part of the path.
    bad_file: BTreeSet<String>,
    /// Die before the effect of this number.
    die_before: Option<u64>,
    /// Die after the effect of this number, before anybody is told.
    die_after: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Container {
    id: u64,
    file: String,
    release: Option<String>,
    running: bool,
    keep: bool,
}

/// The machine.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Machine {
    containers: BTreeMap<String, Container>,
    networks: BTreeSet<String>,
    units: BTreeMap<String, String>,
    /// What PID 1 knows: the units in `/etc` and where their links led at the last `daemon-reload`.
    daemon: BTreeMap<String, String>,
    /// What each unit found when it was last started, restarted or reloaded: the files of the current view and where
    /// in the store they lay.
    loaded: BTreeMap<String, BTreeMap<String, String>>,
    routes: BTreeMap<String, String>,
    timers: BTreeSet<u64>,
    images: BTreeSet<String>,
    /// The most copies of one service that ever ran at once in both slots, singletons first.
    overlaps: BTreeSet<String>,
    daemon_reloads: u64,
    next_id: u64,
    effects: Vec<String>,
    clock: u64,
}

struct Scripted {
    root: PathBuf,
    script: Script,
    machine: Machine,
    count: u64,
    /// How often restarts were asked for.
    looks: u64,
    /// How often was waited.
    waits: u64,
}

impl Scripted {
    fn new(store: &Store) -> Self {
        let root = store.root().join("run/scripted");
        // A machine does not forget what it is because one read failed.
        let again =
            |name| fs::read_to_string(root.join(name)).or_else(|_| fs::read_to_string(root.join(name)));
        let read = |name| again(name).unwrap_or_else(|_| "{}".to_owned());
        let script = serde_json::from_str(&read("script.json")).unwrap();
        let machine = serde_json::from_str(&read("machine.json")).unwrap();
        Self { root, script, machine, count: 0, looks: 0, waits: 0 }
    }

    fn save(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let beside = self.root.join("machine.json.new");
        fs::write(&beside, serde_json::to_string_pretty(&self.machine)?)?;
        fs::rename(beside, self.root.join("machine.json"))
    }

    fn die_if(&self, when: Option<u64>) {
        if when == Some(self.count) {
            die();
        }
    }

    /// As `docker compose up`: what runs from the same file stays, anything else is recreated.
    fn up(&mut self, name: &str, file: &str) -> io::Result<()> {
        let text = fs::read_to_string(self.root.join("../..").join(file.trim_start_matches('/')))?;
        let release = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("bundle.release:"))
            .map(|value| value.trim().trim_matches(['"', '\'']).to_owned());
        let fresh = self.machine.containers.get(name).is_none_or(|container| container.file != file);
        if fresh {
            self.machine.next_id += 1;
            let container = Container {
                id: self.machine.next_id,
                file: file.to_owned(),
                release,
                ..Container::default()
            };
            self.machine.containers.insert(name.to_owned(), container);
        }
        self.machine.containers.get_mut(name).unwrap().running = true;
        let both =
            ["blue", "green"].map(|slot| name.rsplit_once('-').map(|(stem, _)| format!("{stem}-{slot}")));
        let runs = |name: &Option<String>| {
            name.as_ref()
                .and_then(|name| self.machine.containers.get(name))
                .is_some_and(|container| container.running)
        };
        if both.iter().all(runs) {
            self.machine.overlaps.insert(name.rsplit_once('-').unwrap().0.to_owned());
        }
        Ok(())
    }

    fn do_it(&mut self, effect: &Effect) -> Result<(), HostError> {
        let store_root = self.root.join("../..");
        let machine = &mut self.machine;
        match effect {
            Effect::EnsureNetwork { network } => {
                machine.networks.insert(network.name.to_string());
            }
            Effect::DataUp { file, services } => {
                for service in services {
                    self.up(service.as_str(), &file.absolute()).map_err(|error| lost(effect, &error))?;
                    self.machine.containers.get_mut(service.as_str()).unwrap().keep = true;
                }
            }
            Effect::Drain { .. }
                if machine.units.get("bundle-haproxy.service").is_none_or(|state| state != "active") =>
            {
                return Err(HostError::new(effect.to_string(), "there is no proxy to ask"));
            }
            // Nothing of these is left to see; the scripted PID 1 reads `/etc` alone.
            Effect::Migrate { .. } | Effect::Drain { .. } | Effect::UnitsAhead { .. } => {}
            Effect::SlotUp { slot, file, services } => {
                for service in services {
                    let name = format!("{service}-{slot}");
                    self.up(&name, &file.absolute()).map_err(|error| lost(effect, &error))?;
                }
            }
            Effect::Stop { containers } => {
                for name in containers {
                    if let Some(container) = machine.containers.get_mut(name) {
                        container.running = false;
                    }
                }
            }
            Effect::KeepRunning { containers, keep } => {
                for name in containers {
                    match machine.containers.get_mut(name) {
                        Some(container) => container.keep = *keep,
                        None if *keep => {
                            return Err(HostError::new("docker update", format!("no container {name}")));
                        }
                        None => {}
                    }
                }
            }
            Effect::DaemonReload => {
                machine.daemon_reloads += 1;
                machine.daemon = world::units(&store_root).map_err(|error| lost(effect, &error))?;
            }
            Effect::Unit { verb, unit } => {
                let state = if *verb == UnitVerb::Stop { "inactive" } else { "active" };
                machine.units.insert(unit.to_string(), state.to_owned());
                if *verb == UnitVerb::Stop {
                    machine.loaded.remove(unit.as_str());
                } else {
                    let view = world::view(&store_root).map_err(|error| lost(effect, &error))?;
                    machine.loaded.insert(unit.to_string(), view);
                }
            }
            Effect::Route { routes, to } => {
                for route in routes {
                    machine.routes.insert(route.to_string(), to.to_string());
                }
            }
            Effect::Ground => machine.loaded.remove("bundle-firewall.service").map_or((), drop),
            Effect::ResumeFirstBoot => {
                machine.units.insert("bundle-bootstrap.service".to_owned(), "active".to_owned());
            }
            Effect::ArmTrial { transaction, .. } => {
                machine.timers.insert(*transaction);
            }
            Effect::DisarmTrial { transaction } => {
                machine.timers.remove(transaction);
            }
        }
        Ok(())
    }

    fn container(&self, name: &str) -> Result<&Container, String> {
        match self.machine.containers.get(name) {
            Some(container) if container.running => Ok(container),
            Some(_) => Err(format!("container `{name}` is exited")),
            None => Err(format!("container `{name}` is not there")),
        }
    }

    fn red(&self, subject: &str, slot: Option<&str>) -> Result<(), String> {
        if self.script.red_from_wait.is_some_and(|number| self.waits < number) {
            return Ok(());
        }
        let here = slot.map(|slot| format!("{subject} in {slot}"));
        if self.script.red.contains(subject) || here.is_some_and(|here| self.script.red.contains(&here)) {
            return Err("scripted to be red".to_owned());
        }
        Ok(())
    }
}

impl Host for Scripted {
    fn perform(&mut self, effect: &Effect) -> Result<(), HostError> {
        self.count += 1;
        self.die_if(self.script.die_before);
        std::thread::sleep(Duration::from_millis(self.script.slow_ms));
        if self.script.fill_at == Some(self.count) {
            if self.script.take_ballast {
                let ballast = self.root.join("../../var/lib/bundle/ballast");
                fs::remove_dir_all(ballast).map_err(|error| lost(effect, &error))?;
            }
            fill(&self.root.join("../../fill")).map_err(|error| lost(effect, &error))?;
        }
        let words = effect.to_string();
        if self.script.fail_at == Some(self.count) {
            return Err(HostError::new(words, "scripted to fail"));
        }
        if let Some((_, why)) = self.script.fail.iter().find(|(part, _)| words.contains(part.as_str())) {
            return Err(HostError::new(words, why.clone()));
        }
        self.do_it(effect)?;
        self.machine.effects.push(words);
        self.save().map_err(|error| lost(effect, &error))?;
        self.die_if(self.script.die_after);
        Ok(())
    }

    fn check(&mut self, check: &Check, file: &str) -> Result<(), HostError> {
        if self.script.bad_file.iter().any(|part| file.contains(part.as_str())) {
            return Err(HostError::new(check.0.join(" ").replace("{}", file), "scripted to be refused"));
        }
        Ok(())
    }

    fn ensure_image(&mut self, image: &ImagePin) -> Result<(), HostError> {
        if self.has_image(image) {
            return Ok(());
        }
        if self.script.no_image.iter().any(|part| image.reference.contains(part.as_str())) {
            return Err(HostError::new(format!("docker pull {}", image.reference), "manifest unknown"));
        }
        self.machine.images.insert(image.local.clone());
        self.save().map_err(|error| HostError::new("docker pull", error.to_string()))
    }

    fn has_image(&mut self, image: &ImagePin) -> bool {
        self.machine.images.contains(&image.local)
    }

    fn load_image(&mut self, image: &ImagePin, _: &ImageFiles, _: &Layout) -> Result<(), HostError> {
        self.machine.images.insert(image.local.clone());
        self.save().map_err(|error| HostError::new("docker load", error.to_string()))
    }

    fn probe(&mut self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Route { slot, release, container, .. } => {
                let found =
                    self.container(container)?.release.as_deref() == Some(release.to_string().as_str());
                if !found {
                    return Err(format!("container `{container}` is of another release"));
                }
                self.red(&probe.subject(), Some(slot.as_str()))
            }
            Probe::Public { name, rule, slot, release, .. } => {
                let to = self.machine.routes.get(name.as_str()).cloned().unwrap_or_default();
                if to != slot.as_str() {
                    return Err(format!("the proxy sends requests to `{to}`"));
                }
                let container = self.container(&format!("{}-{slot}", rule.service))?;
                if container.release.as_deref() != Some(release.to_string().as_str()) {
                    return Err("answers from another release".to_owned());
                }
                self.red(&probe.subject(), Some(slot.as_str()))
            }
            Probe::Container { name } | Probe::Ready { name } => {
                self.container(name)?;
                self.red(&probe.subject(), name.rsplit_once('-').map(|(_, slot)| slot))
            }
        }
    }

    fn restarts(&mut self, container: &str) -> Option<u64> {
        // A script that names it has it restarted once between any two looks.
        let restarting = self.script.restarting.contains(container);
        self.looks += 1;
        restarting.then_some(self.looks)
    }

    fn has_a_door(&self) -> bool {
        true
    }

    fn elapsed(&mut self) -> Duration {
        Duration::from_millis(self.machine.clock)
    }

    fn wait(&mut self, time: Duration) {
        self.machine.clock += u64::try_from(time.as_millis()).unwrap();
        self.waits += 1;
        std::thread::sleep(Duration::from_millis(self.script.wait_ms));
        if self.script.confirm_at_wait == Some(self.waits) {
            let store = Store::new(self.root.join("../.."));
            let pending = store.pending().unwrap().unwrap();
            store.confirm(pending.id).unwrap();
        }
        if self.script.die_at_wait == Some(self.waits) {
            die();
        }
    }
}

/// At once, as `kill -9` does it.
fn die() {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
}

/// Takes every inode and every byte of the file system that holds `directory`.
fn fill(directory: &Path) -> io::Result<()> {
    let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
    fs::create_dir(directory)?;
    let mut file = fs::File::create(directory.join("bytes"))?;
    for number in 0.. {
        match fs::File::create(directory.join(number.to_string())) {
            Ok(_) => {}
            Err(error) if full(&error) => break,
            Err(error) => return Err(error),
        }
    }
    for size in [1 << 20, 4096, 1] {
        let bytes = vec![0; size];
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if full(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The disk failed under the scripted machine itself.
fn lost(effect: &Effect, error: &io::Error) -> HostError {
    HostError::new(effect.to_string(), error.to_string())
}

fn main() -> ExitCode {
    bundle::cli::main(&|store| Box::new(Scripted::new(store)))
}
