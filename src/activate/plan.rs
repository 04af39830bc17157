//! What a switch will do: computed from two generations before anything is touched, printed by `bundle plan`, done by
//! `bundle switch`. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::side::{Side, Way};
use super::step::{Effect, Step, UnitVerb};
use crate::model::{Digest, OnChange, Slot, UnitName};
use crate::store::{Phase, View};

/// The steps from one generation to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the machine is.
    pub from: View,
    /// Where it goes.
    pub to: View,
    /// Whether the stateless services are the same, so that their containers stay.
    pub slot_stays: bool,
    /// The changed files, by path.
    pub files: Vec<FileChange>,
    /// Those of them that may shut the operator out: they ask for a confirmation over a fresh connection.
    pub doors: Vec<String>,
    /// Up to the trial, each in its phase.
    pub steps: Vec<(Phase, Step)>,
    /// After the trial.
    pub closing: Vec<Step>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path in the view.
    pub path: String,
    /// How.
    pub change: Change,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The machine does not have it.
    Added,
    /// Its content or mode is another.
    Changed,
    /// The target does not have it.
    Removed,
}

/// How the machine is reached: below these paths of a view lie the firewall, sshd and the network.
const DOORS: &[&str] = &["nftables/", "etc/ssh/", "etc/netplan/", "etc/network/", "etc/systemd/network/"];

/// The slot in which a target runs: the same if the release stays, else the idle one. The first is blue.
pub fn choose_slot(from: &Side<'_>, to: Side<'_>) -> Slot {
    let stay = Side { view: View { slot: from.slot(), ..to.view }, ..to };
    if from.manifest.is_none() {
        Slot::Blue
    } else if stay.same_release(from) {
        from.slot()
    } else {
        from.slot().other()
    }
}

impl Plan {
    /// The plan from `from` to `to`.
    pub fn between(from: &Side<'_>, to: &Side<'_>, way: Way) -> Self {
        let slot_stays = from.slot() == to.slot() && to.same_release(from);
        let units = UnitChanges::between(from, to);
        let mut steps = Vec::new();
        data(from, to, &mut steps);
        if !slot_stays {
            slot_up(to, way, &mut steps);
        }
        steps.push((Phase::Arm, Step::AddLinks));
        steps.push((Phase::Flip, Step::Flip));
        let mut reconcile: Vec<_> = units.before_reload().into_iter().map(Step::Effect).collect();
        reconcile.push(Step::DropLinks);
        reconcile.extend(units.after_stopping().into_iter().map(Step::Effect));
        if !slot_stays {
            reconcile.extend(hand_over(from, to).into_iter().map(Step::Effect));
        }
        steps.extend(reconcile.into_iter().map(|step| (Phase::Reconcile, step)));
        let seconds = to.manifest.map_or(0, |manifest| manifest.switching.trial_seconds);
        steps.push((Phase::Trial, Step::Trial { seconds }));
        let files = file_changes(from, to);
        Self {
            from: from.view,
            to: to.view,
            slot_stays,
            doors: doors(from, &files, way),
            files,
            steps,
            closing: closing(from, to, slot_stays),
        }
    }

    /// The same, but waiting for a confirmation at the end. Not part of the plan's digest: it is about who looks on.
    #[must_use]
    pub fn confirmed_within(mut self, seconds: u64) -> Self {
        self.steps.push((Phase::Confirm, Step::AwaitConfirmation { seconds }));
        self
    }

    /// How long it waits for a confirmation, in seconds.
    pub fn confirmation_seconds(&self) -> u64 {
        let seconds = self.steps.iter().map(|(_, step)| match step {
            Step::AwaitConfirmation { seconds } => *seconds,
            _ => 0,
        });
        seconds.sum()
    }

    /// Whether the project `data` is brought up, so that going back must do so too.
    pub fn touches_data(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Effect(Effect::DataUp { .. })))
    }

    /// The plan's own digest: `switch --expect-plan` does exactly this plan or nothing.
    pub fn digest(&self) -> Digest {
        // Serialising a plain tree of strings and numbers cannot fail.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

fn data(from: &Side<'_>, to: &Side<'_>, steps: &mut Vec<(Phase, Step)>) {
    steps.extend(units_ahead(from, to).map(|effect| (Phase::Data, Step::Effect(effect))));
    if to.manifest.is_some_and(|manifest| !manifest.secret_files.is_empty()) {
        steps.push((Phase::Data, Step::WriteSecrets));
    }
    for network in to.manifest.iter().flat_map(|manifest| &manifest.networks) {
        steps.push((Phase::Data, Step::Effect(Effect::EnsureNetwork { network: network.clone() })));
    }
    // Not even asked to stay as it is: a newer Compose may compute another hash and recreate the database.
    if let Some(data) = to.data()
        && from.data().map(|data| &data.file) != Some(&data.file)
    {
        let up = Effect::DataUp { file: data.file.clone(), services: data.services.clone() };
        steps.push((Phase::Data, Step::Effect(up)));
    }
}

/// Units that containers need and systemd does not have in this form yet.
pub(super) fn units_ahead(from: &Side<'_>, to: &Side<'_>) -> Option<Effect> {
    let old = from.files();
    let (mut files, mut start) = (Vec::new(), Vec::new());
    for entry in to.manifest.iter().flat_map(|manifest| manifest.view(Slot::Blue)) {
        let Some(unit) = entry.unit.as_ref().filter(|unit| unit.ahead) else { continue };
        let path = entry.store_path();
        if old.get(entry.path.as_str()).is_some_and(|old| old.contains(&path)) {
            continue;
        }
        files.push(path);
        start.extend(entry.path.name().parse::<UnitName>().ok().filter(|_| unit.start));
    }
    (!files.is_empty()).then_some(Effect::UnitsAhead { files, start })
}

fn slot_up(to: &Side<'_>, way: Way, steps: &mut Vec<(Phase, Step)>) {
    let (Some(manifest), Some(file)) = (to.manifest, to.slot_file()) else { return };
    let slot = to.slot();
    if let (Some(service), Way::Forward) = (&manifest.projects.migrations, way) {
        let migrate = Effect::Migrate { slot, file: file.clone(), service: service.clone() };
        steps.push((Phase::Migrate, Step::Effect(migrate)));
    }
    let services = to.services(false);
    if !services.is_empty() {
        steps.push((Phase::Slot, Step::Effect(Effect::SlotUp { slot, file: file.clone(), services })));
        steps.push((Phase::Slot, Step::AwaitSlot { slot }));
    }
}

/// From one slot to the other: requests, then singletons (the old one is gone before the new one starts), then who
/// comes back after a crash.
pub(super) fn hand_over(from: &Side<'_>, to: &Side<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    let routes = to.routes();
    if !routes.is_empty() {
        effects.push(Effect::Route { routes, to: to.slot() });
    }
    let old = from.all_containers();
    if !old.is_empty() {
        effects.push(Effect::KeepRunning { containers: old, keep: false });
    }
    let singletons = from.containers(&from.services(true));
    if !singletons.is_empty() {
        effects.push(Effect::Stop { containers: singletons });
    }
    let services = to.services(true);
    if let (Some(file), false) = (to.slot_file(), services.is_empty()) {
        effects.push(Effect::SlotUp { slot: to.slot(), file: file.clone(), services });
    }
    let new = to.all_containers();
    if !new.is_empty() {
        effects.push(Effect::KeepRunning { containers: new, keep: true });
    }
    effects
}

fn closing(from: &Side<'_>, to: &Side<'_>, slot_stays: bool) -> Vec<Step> {
    let mut closing = vec![Step::Commit];
    let old = from.containers(&from.services(false));
    if !slot_stays && from.slot() != to.slot() && !old.is_empty() {
        let seconds = from.manifest.map_or(0, |manifest| manifest.switching.drain_seconds);
        let routes = from.routes();
        // Without routes the target has no proxy that could be asked.
        if !routes.is_empty() && !to.routes().is_empty() {
            closing.push(Step::Effect(Effect::Drain { routes, slot: from.slot(), seconds }));
        }
        closing.push(Step::Effect(Effect::Stop { containers: old }));
    }
    let keeps: BTreeSet<_> = to.data().into_iter().flat_map(|data| &data.services).collect();
    let gone: Vec<_> =
        from.data().into_iter().flat_map(|data| &data.services).filter(|s| !keeps.contains(s)).collect();
    if !gone.is_empty() {
        let containers = gone.into_iter().map(ToString::to_string).collect();
        closing.push(Step::Effect(Effect::Stop { containers }));
    }
    closing
}

fn file_changes(from: &Side<'_>, to: &Side<'_>) -> Vec<FileChange> {
    let (old, new) = (from.files(), to.files());
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter_map(|path| {
            let change = match (old.get(path), new.get(path)) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                (a, b) if a == b => return None,
                _ => Change::Changed,
            };
            Some(FileChange { path: (*path).to_owned(), change })
        })
        .collect()
}

/// What asks for a confirmation. Not on the bare machine, which nobody has lost yet; and not on the way to a
/// generation that was good here, through whose door somebody came to leave it: whoever goes back from a door that is
/// shut must not be asked to come through it.
fn doors(from: &Side<'_>, files: &[FileChange], way: Way) -> Vec<String> {
    if from.manifest.is_none() || way == Way::Back {
        return Vec::new();
    }
    let doors = files.iter().filter(|file| DOORS.iter().any(|door| file.path.starts_with(door)));
    doors.map(|file| file.path.clone()).collect()
}

/// What changes about systemd units, as `systemctl` verbs.
pub(super) struct UnitChanges {
    stop: Vec<UnitName>,
    daemon_reload: bool,
    ground: bool,
    act: Vec<(UnitVerb, UnitName)>,
}

impl UnitChanges {
    pub(super) fn between(from: &Side<'_>, to: &Side<'_>) -> Self {
        let (old, new) = (from.files(), to.files());
        let changed = |path: &str| old.get(path) != new.get(path);
        let (old_links, new_links) = (from.links(), to.links());

        let mut stop: Vec<UnitName> =
            started_units(from).into_iter().filter(|u| !started_units(to).contains(u)).collect();
        let masked =
            |unit: &UnitName| from.manifest.is_some_and(|manifest| manifest.masks.contains_key(unit));
        let masks = to.manifest.iter().flat_map(|manifest| &manifest.masks);
        stop.extend(masks.filter(|(unit, mask)| mask.stop && !masked(unit)).map(|(unit, _)| unit.clone()));

        let units_changed =
            old.keys().chain(new.keys()).any(|path| path.starts_with("etc/systemd/system/") && changed(path));
        let mut act: Vec<(UnitVerb, UnitName)> = Vec::new();
        for entry in to.manifest.iter().flat_map(|manifest| manifest.view(Slot::Blue)) {
            let path = entry.path.as_str();
            if !changed(path) {
                continue;
            }
            if entry.unit.as_ref().is_some_and(|unit| unit.start)
                && let Ok(unit) = entry.path.name().parse::<UnitName>()
            {
                let known = started_units(from).contains(&unit);
                want(&mut act, if known { UnitVerb::Restart } else { UnitVerb::Start }, &unit);
            }
            for asked in &entry.on_change {
                match asked {
                    OnChange::Reload(unit) => want(&mut act, UnitVerb::Reload, unit),
                    OnChange::Restart(unit) => want(&mut act, UnitVerb::Restart, unit),
                }
            }
        }
        let ground = from.manifest.is_some() && to.manifest.is_none();
        Self { stop, daemon_reload: units_changed || old_links != new_links, ground, act }
    }

    /// Before `daemon-reload`: what goes is stopped by its old definition.
    pub(super) fn before_reload(&self) -> Vec<Effect> {
        self.stop.iter().map(|unit| Effect::Unit { verb: UnitVerb::Stop, unit: unit.clone() }).collect()
    }

    /// `daemon-reload` if any unit changed, and what changed files ask for.
    pub(super) fn after_stopping(&self) -> Vec<Effect> {
        let reload = self.daemon_reload.then_some(Effect::DaemonReload);
        let act = self.act.iter().map(|(verb, unit)| Effect::Unit { verb: *verb, unit: unit.clone() });
        // A stopped firewall leaves its table, so that nothing opens meanwhile.
        let ground = self.ground.then_some(Effect::Ground);
        reload.into_iter().chain(act).chain(ground).collect()
    }
}

fn started_units(side: &Side<'_>) -> BTreeSet<UnitName> {
    side.manifest
        .iter()
        .flat_map(|manifest| manifest.view(Slot::Blue))
        .filter(|entry| entry.unit.as_ref().is_some_and(|unit| unit.start))
        .filter_map(|entry| entry.path.name().parse().ok())
        .collect()
}

/// One verb per unit: starting makes a restart pointless, and a restart makes a reload pointless.
fn want(act: &mut Vec<(UnitVerb, UnitName)>, verb: UnitVerb, unit: &UnitName) {
    let rank = |verb| match verb {
        UnitVerb::Stop | UnitVerb::Reload => 0,
        UnitVerb::Restart => 1,
        UnitVerb::Start => 2,
    };
    match act.iter_mut().find(|(_, known)| known == unit) {
        Some((known, _)) if rank(*known) >= rank(verb) => {}
        Some((known, _)) => *known = verb,
        None => act.push((verb, unit.clone())),
    }
}
