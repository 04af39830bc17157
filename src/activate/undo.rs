//! Going back: reconciling the machine to the last good generation, whatever was done of the switch.
//!
//! Not the steps backwards, but a description of where to be, so that it is right after any prefix of a switch, and
//! after any prefix of itself. It goes on after an error: half of the old generation is better than none.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::health::{Baseline, await_green};
use super::plan::{UnitChanges, hand_over, units_ahead};
use super::side::Side;
use super::step::{Effect, Step};
use super::transaction::{Activator, words};
use crate::store::journal::{Journal, Pending};
use crate::store::{Event, Outcome, Phase};

/// Nobody stops going back.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Activator<'_> {
    /// Makes the machine what it was before the pending switch. All errors at once; none means that it is so.
    pub(super) fn undo(
        &mut self,
        journal: &mut Journal,
        pending: &Pending,
        from: &Side<'_>,
        to: &Side<'_>,
        reason: &str,
    ) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        let mut note = |result: Result<(), String>| errors.extend(result.err());
        note(self.store.release_ballast().map_err(words));
        note(journal.append(pending.id, Event::Undo { reason: reason.to_owned() }).map_err(words));
        note(self.lock.phase("going back").map_err(words));
        note(self.undo_disk(from));
        self.undo_machine(pending, from, to, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        self.settle_undone(journal, pending, reason).map_err(|error| vec![error])?;
        self.set_aside();
        Ok(())
    }

    /// `current`, `/etc` and secrets: all that must be right before other programs start at boot.
    pub(super) fn undo_disk(&mut self, from: &Side<'_>) -> Result<(), String> {
        // Each is tried, whatever the one before said: containers without their secrets do not start.
        let flipped = self.store.flip_back(from.view).map_err(words);
        let linked = self.store.add_links(&from.links()).map_err(words);
        let written = from.manifest.map_or(Ok(()), |m| self.store.write_secret_files(m).map_err(words));
        flipped.and(linked).and(written)
    }

    fn undo_machine(&mut self, pending: &Pending, from: &Side<'_>, to: &Side<'_>, errors: &mut Vec<String>) {
        let slot_stays = from.slot() == to.slot() && from.same_release(to);
        if pending.phase < Some(Phase::Flip) {
            return self.undo_preparations(pending, from, to, errors);
        }
        let routes = from.routes();
        // Requests first: if the proxy still knows the backends, nobody notices the rest.
        if !slot_stays && !routes.is_empty() {
            let mut ignored = Vec::new();
            self.try_effect(&Effect::Route { routes, to: from.slot() }, &mut ignored);
        }
        let units = UnitChanges::between(to, from);
        for effect in units.before_reload() {
            self.try_effect(&effect, errors);
        }
        errors.extend(self.store.drop_links_except(&from.links()).map_err(words).err());
        for effect in units.after_stopping() {
            self.try_effect(&effect, errors);
        }
        if pending.data {
            self.undo_data(from, to, errors);
        }
        if !slot_stays {
            self.undo_slot(from, to, errors);
        }
    }

    /// Nothing has been switched: what serves is not touched, only what was put beside it is taken away.
    fn undo_preparations(
        &mut self,
        pending: &Pending,
        from: &Side<'_>,
        to: &Side<'_>,
        errors: &mut Vec<String>,
    ) {
        errors.extend(self.store.drop_links_except(&from.links()).map_err(words).err());
        if pending.phase.is_some() && units_ahead(from, to).is_some() {
            self.try_effect(&Effect::DaemonReload, errors);
        }
        if pending.data && pending.phase.is_some() {
            self.undo_data(from, to, errors);
        }
        self.stop_abandoned(from, to, errors);
    }

    /// Containers of a slot that is not `from`'s, and migrations that may have outlived whoever started them.
    fn stop_abandoned(&mut self, from: &Side<'_>, to: &Side<'_>, errors: &mut Vec<String>) {
        let mut containers = to.migrations();
        // In the same slot the services are the old ones.
        if from.slot() != to.slot() || from.manifest.is_none() {
            containers.extend(to.all_containers());
        }
        if !containers.is_empty() {
            self.try_effect(&Effect::KeepRunning { containers: containers.clone(), keep: false }, errors);
            self.try_effect(&Effect::Stop { containers }, errors);
        }
    }

    fn undo_data(&mut self, from: &Side<'_>, to: &Side<'_>, errors: &mut Vec<String>) {
        let keep: Vec<_> = from.data().into_iter().flat_map(|data| &data.services).collect();
        let new =
            to.data().into_iter().flat_map(|data| &data.services).filter(|service| !keep.contains(service));
        let containers: Vec<_> = new.map(ToString::to_string).collect();
        if !containers.is_empty() {
            self.try_effect(&Effect::Stop { containers }, errors);
        }
        if let Some(data) = from.data() {
            let up = Effect::DataUp { file: data.file.clone(), services: data.services.clone() };
            self.try_effect(&up, errors);
        }
    }

    fn undo_slot(&mut self, from: &Side<'_>, to: &Side<'_>, errors: &mut Vec<String>) {
        let services = from.services(false);
        if let (Some(file), false) = (from.slot_file(), services.is_empty()) {
            self.try_effect(&Effect::SlotUp { slot: from.slot(), file: file.clone(), services }, errors);
            let limit =
                from.manifest.map_or(Duration::ZERO, |m| Duration::from_secs(m.switching.health_seconds));
            // Red or not, it is where we go; but requests should find it ready.
            if let Err(why) = await_green(self.host, &from.slot_probes(), limit, &Baseline::default(), &NEVER)
            {
                (self.tell)(&format!("the last good generation is up, but {why}"));
            }
        }
        for effect in hand_over(to, from) {
            (self.tell)(&Step::Effect(effect.clone()).to_string());
            self.try_effect(&effect, errors);
        }
        let routes = from.routes();
        if !routes.is_empty() && from.slot() != to.slot() {
            // Requests that the abandoned release has taken may come to their end; that is no reason to be stuck.
            let seconds = from.manifest.map_or(0, |manifest| manifest.switching.drain_seconds);
            self.try_effect(&Effect::Drain { routes, slot: to.slot(), seconds }, &mut Vec::new());
        }
        self.stop_abandoned(from, to, errors);
    }

    fn settle_undone(
        &mut self,
        journal: &mut Journal,
        pending: &Pending,
        reason: &str,
    ) -> Result<(), String> {
        self.host.perform(&Effect::DisarmTrial { transaction: pending.id.0 }).map_err(words)?;
        let failed = Outcome::Failed(reason.to_owned());
        self.update_record(pending.to.generation, |record| {
            // A generation that was good once stays so: making it current again failed, not the generation.
            if record.outcome != Outcome::Good {
                record.outcome = failed;
            }
        })
        .map_err(words)?;
        let manifest =
            self.store.generation(pending.from.generation).map_err(words)?.and_then(|g| g.manifest);
        self.store.drop_secret_files_except(manifest.as_ref()).map_err(words)?;
        self.store.withdraw_confirmation().map_err(words)?;
        self.store.disarm_flip().map_err(words)?;
        self.store.clear_staging().map_err(words)?;
        journal.append(pending.id, Event::Settled { committed: false }).map_err(words)
    }
}
