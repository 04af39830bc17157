//! A switch as a transaction: begin, forward, commit; or back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::health::{Baseline, await_green, watch};
use super::host::{Host, Probe};
use super::plan::Plan;
use super::side::Side;
use super::step::{Effect, Step};
use crate::model::GenerationNumber;
use crate::store::journal::{Journal, Pending};
use crate::store::{Event, Lock, Outcome, Phase, Store, StoreError, TransactionId, View};

/// Everything a change of the machine needs. Holding one means holding the lock.
pub struct Activator<'a> {
    /// The disk.
    pub store: &'a Store,
    /// The machine.
    pub host: &'a mut dyn Host,
    /// The lock, whose holder says how far it is.
    pub lock: &'a mut Lock,
    /// Where progress goes.
    pub tell: &'a mut dyn FnMut(&str),
    /// Set when the operator wants to stop: a switch then goes back. Going back itself is not stopped.
    pub stop: &'a AtomicBool,
}

/// What a switch says that was stopped.
const STOPPED: &str = "it was stopped by a signal";

impl std::fmt::Debug for Activator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activator")
            .field("store", &self.store)
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

/// How a switch can end badly.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It failed after work had begun; the last good generation serves.
    #[error("{reason}")]
    WentBack {
        /// Why it failed.
        reason: String,
        /// What serves now.
        serving: View,
    },
    /// Going back failed too.
    #[error("{reason}")]
    Stuck {
        /// Why it failed.
        reason: String,
        /// What failed on the way back.
        errors: Vec<String>,
    },
    /// The new generation serves and is committed, or would be if the disk had not failed; clearing up did not end.
    #[error("{serving} serves, but the disk failed while that was recorded: {reason}")]
    Unfinished {
        /// What serves now.
        serving: View,
        /// What the disk said.
        reason: String,
    },
    /// The disk said no before work had begun.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A switch that has been begun: its lines in the journal, and what they are about.
pub(super) struct Begun<'a> {
    pub(super) journal: Journal,
    pub(super) id: TransactionId,
    pub(super) from: &'a Side<'a>,
    pub(super) to: &'a Side<'a>,
    pub(super) plan: &'a Plan,
    /// What `rollback` will go to from the new generation; `None` leaves what its record says.
    pub(super) previous: Option<GenerationNumber>,
}

/// What a switch leaves to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Things that did not go well and do not undo the switch. With any, the transaction stays pending, committed.
    pub warnings: Vec<String>,
}

impl Activator<'_> {
    /// Does `plan`. Returns when the new generation is committed, or when the old one serves again.
    ///
    /// `previous` is what `rollback` will go to from the new generation; `None` leaves what its record says.
    pub fn switch(
        &mut self,
        from: &Side<'_>,
        to: &Side<'_>,
        plan: &Plan,
        previous: Option<GenerationNumber>,
    ) -> Result<Report, SwitchError> {
        let baseline = Baseline::of(self.host, from);
        for red in baseline.red() {
            (self.tell)(&format!("already red, so it cannot fail this switch: {red}"));
        }
        let mut journal = self.store.journal()?;
        let id = journal.begin(from.view, to.view, plan.touches_data(), previous)?;
        let mut begun = Begun { journal, id, from, to, plan, previous };
        match self.forward(&mut begun, &baseline) {
            Ok(()) => self.commit(&mut begun),
            Err(reason) => self.go_back(&mut begun, reason),
        }
    }

    fn forward(&mut self, begun: &mut Begun<'_>, baseline: &Baseline) -> Result<(), String> {
        let mut announced = None;
        for (phase, step) in &begun.plan.steps {
            if announced != Some(*phase) {
                if *phase == Phase::Confirm {
                    // Before the journal asks for one: from there on any that is found is an answer.
                    self.store.withdraw_confirmation().map_err(words)?;
                }
                begun.journal.append(begun.id, Event::Intent { phase: *phase }).map_err(words)?;
                self.lock.phase(format!("{phase:?}").to_lowercase()).map_err(words)?;
                announced = Some(*phase);
                if *phase == Phase::Arm {
                    self.arm(begun).map_err(words)?;
                }
            }
            (self.tell)(&step.to_string());
            self.step(step, begun, baseline)?;
            if self.stop.load(Ordering::SeqCst) {
                return Err(STOPPED.to_owned());
            }
        }
        Ok(())
    }

    /// The links for both directions, and PID 1's promise to call us if we do not come back.
    fn arm(&mut self, begun: &Begun<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let Begun { id, from, to, .. } = begun;
        self.store.arm_flip(to.view, from.view)?;
        let switching = to.manifest.or(from.manifest).map(|manifest| manifest.switching);
        // Longer than every wait that may follow: it is for a process that died or hangs, not for a slow one.
        let seconds = switching
            .map_or(120, |s| s.trial_seconds + 2 * s.health_seconds + s.drain_seconds + 120)
            + begun.plan.confirmation_seconds();
        self.host.perform(&Effect::ArmTrial { transaction: id.0, seconds })?;
        Ok(())
    }

    fn step(&mut self, step: &Step, begun: &Begun<'_>, baseline: &Baseline) -> Result<(), String> {
        let to = begun.to;
        let health = to.manifest.map_or(Duration::ZERO, |m| Duration::from_secs(m.switching.health_seconds));
        match step {
            Step::Effect(effect) => self.host.perform(effect).map_err(words),
            Step::WriteSecrets => match to.manifest {
                Some(manifest) => self.store.write_secret_files(manifest).map_err(words),
                None => Ok(()),
            },
            Step::AwaitSlot { .. } => await_green(self.host, &to.slot_probes(), health, baseline, self.stop),
            Step::AddLinks => self.store.add_links(&to.links()).map_err(words),
            Step::Flip => self.store.flip_forward().map_err(words),
            Step::DropLinks => self.store.drop_links_except(&to.links()).map_err(words),
            Step::Trial { seconds } => {
                await_green(self.host, &to.ready_probes(), health, baseline, self.stop)?;
                let stopped = self.stop;
                let trial = Duration::from_secs(*seconds);
                watch(self.host, &to.public_probes(), trial, baseline, || stopped.load(Ordering::SeqCst))
            }
            Step::AwaitConfirmation { seconds } => {
                let limit = Duration::from_secs(*seconds);
                self.await_confirmation(begun.id, &to.public_probes(), limit, baseline)
            }
            Step::Commit => Ok(()),
        }
    }

    /// Watches on until the operator says that the new generation may stay, or the time is up.
    fn await_confirmation(
        &mut self,
        id: TransactionId,
        probes: &[Probe],
        limit: Duration,
        baseline: &Baseline,
    ) -> Result<(), String> {
        let seconds = limit.as_secs();
        (self.tell)(&format!(
            "waiting for confirmation: say `bundle confirm` over another connection within {seconds} s"
        ));
        let (store, stop) = (self.store, self.stop);
        // One that cannot be read is asked for again until the time is up.
        let confirmed = || store.is_confirmed(id).unwrap_or(false);
        watch(self.host, probes, limit, baseline, || stop.load(Ordering::SeqCst) || confirmed())?;
        if stop.load(Ordering::SeqCst) || confirmed() {
            // The caller says that it was stopped.
            return Ok(());
        }
        Err(format!("it was not confirmed within {seconds} s"))
    }

    fn commit(&mut self, begun: &mut Begun<'_>) -> Result<Report, SwitchError> {
        // From this record on the new generation is the last good one: recovery finishes what follows.
        if let Err(error) = begun.journal.append(begun.id, Event::Commit) {
            return match self.store.pending() {
                Ok(Some(pending)) if !pending.committed => self.go_back(begun, words(error)),
                // It is written, and nobody knows whether it is on the disk: promise nothing, touch nothing.
                _ => Err(SwitchError::Unfinished { serving: begun.to.view, reason: words(error) }),
            };
        }
        self.close(begun)
            .map_err(|error| SwitchError::Unfinished { serving: begun.to.view, reason: words(error) })
    }

    /// What remains after a commit. A container that does not stop is worth a warning, not a way back.
    pub(super) fn close(&mut self, begun: &mut Begun<'_>) -> Result<Report, StoreError> {
        let (id, to, plan, previous) = (begun.id, begun.to, begun.plan, begun.previous);
        let mut report = Report::default();
        self.store.release_ballast()?;
        self.update_record(to.view.generation, |record| {
            record.outcome = Outcome::Good;
            record.previous = previous.or(record.previous);
        })?;
        self.store.set_last_good(to.view)?;
        // From now on it is this generation's own activator that goes back.
        if let Some(pin) = to.manifest.and_then(|manifest| manifest.activator) {
            self.store.call_activator(pin.digest)?;
        }
        (self.tell)(&format!("committed               {}", to.view));
        self.try_effect(&Effect::DisarmTrial { transaction: id.0 }, &mut report.warnings);
        for step in plan.closing.iter().filter(|step| **step != Step::Commit) {
            (self.tell)(&step.to_string());
            if let Err(why) = self.step(step, begun, &Baseline::default()) {
                report.warnings.push(why);
            }
        }
        if let Err(error) = self.store.drop_secret_files_except(to.manifest) {
            report.warnings.push(words(error));
        }
        self.store.withdraw_confirmation()?;
        self.store.disarm_flip()?;
        self.store.clear_staging()?;
        // Otherwise it stays pending, and the next command tries again: nothing else would ever stop what still runs.
        if report.warnings.is_empty() {
            begun.journal.append(id, Event::Settled { committed: true })?;
            self.set_aside();
        }
        Ok(report)
    }

    /// Space for the next way back, which may be asked for on a disk that is full by then.
    pub(super) fn set_aside(&mut self) {
        if self.store.ensure_ballast().is_err() {
            (self.tell)("warning: no space could be set aside for going back: the disk is full");
        }
    }

    fn go_back(&mut self, begun: &mut Begun<'_>, reason: String) -> Result<Report, SwitchError> {
        let Begun { journal, id, from, to, plan, .. } = begun;
        // What a failing program printed may hold a value of ours.
        let reason = self.store.redact(to.manifest, reason);
        (self.tell)(&format!("failed: {reason}"));
        (self.tell)(&format!("going back to           {}", from.view));
        let written = self.store.pending().ok().flatten().filter(|pending| pending.id == *id);
        // A journal that cannot be read says nothing about how far it came: then everything is looked at.
        let pending = written.unwrap_or(Pending {
            id: *id,
            from: from.view,
            to: to.view,
            data: plan.touches_data(),
            previous: None,
            phase: Some(Phase::Trial),
            committed: false,
            attempts: 0,
            reason: None,
        });
        match self.undo(journal, &pending, from, to, &reason) {
            Ok(()) => Err(SwitchError::WentBack { reason, serving: from.view }),
            Err(errors) => Err(SwitchError::Stuck { reason, errors }),
        }
    }

    pub(super) fn try_effect(&mut self, effect: &Effect, errors: &mut Vec<String>) {
        if let Err(error) = self.host.perform(effect) {
            errors.push(words(error));
        }
    }

    pub(super) fn update_record(
        &self,
        number: GenerationNumber,
        change: impl FnOnce(&mut crate::store::Record),
    ) -> Result<(), StoreError> {
        let Some(mut record) = self.store.record(number)? else { return Ok(()) };
        let before = record.clone();
        change(&mut record);
        if record == before { Ok(()) } else { self.store.write_record(&record) }
    }
}

/// An error and all its causes on one line.
pub(super) fn words(error: impl Into<Box<dyn std::error::Error>>) -> String {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
