//! What a crash left behind is settled: at boot in two halves, before Docker and after it, and at the start of every
//! command that changes something.

use super::host::Probe;
use super::plan::Plan;
use super::side::{Side, Way};
use super::step::Effect;
use super::transaction::{Activator, Begun, Report, words};
use crate::store::journal::Pending;
use crate::store::{Generation, Outcome, StoreError, View};

/// How often going back is tried before a person is asked.
const TRIES: usize = 3;

/// What recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was pending.
    Nothing,
    /// A committed switch was cleared up after.
    Finished(View, Report),
    /// The last good generation was brought back.
    WentBack {
        /// Which serves.
        serving: View,
        /// Which was abandoned.
        abandoned: View,
        /// Why.
        reason: String,
    },
}

/// Why recovery did not settle it.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Going back failed.
    #[error("going back to the last good generation failed")]
    Failed {
        /// What failed.
        errors: Vec<String>,
    },
    /// It failed too often.
    #[error("going back was tried {attempts} times and did not succeed")]
    GaveUp {
        /// How often.
        attempts: usize,
    },
    /// The disk said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const INTERRUPTED: &str = "the switch was interrupted";
const UNBEGUN: &str = "the switch was interrupted before anything was touched";

impl Activator<'_> {
    /// Settles whatever is pending. With `force` also after too many tries.
    pub fn recover(&mut self, force: bool) -> Result<Recovery, RecoverError> {
        let Some(pending) = self.store.pending()? else {
            self.abandon_unbegun()?;
            return Ok(Recovery::Nothing);
        };
        let (from, to) = self.both(&pending)?;
        let from = Side { view: pending.from, manifest: from.as_ref().and_then(|g| g.manifest.as_ref()) };
        let to = Side { view: pending.to, manifest: to.as_ref().and_then(|g| g.manifest.as_ref()) };
        let mut journal = self.store.journal()?;
        if pending.committed {
            let plan = Plan::between(&from, &to, Way::Forward);
            let (id, previous) = (pending.id, pending.previous);
            let report =
                self.close(&mut Begun { journal, id, from: &from, to: &to, plan: &plan, previous })?;
            return Ok(Recovery::Finished(to.view, report));
        }
        if pending.attempts >= TRIES && !force {
            return Err(RecoverError::GaveUp { attempts: pending.attempts });
        }
        let reason = pending.reason.clone().unwrap_or_else(|| INTERRUPTED.to_owned());
        (self.tell)(&format!("{reason}: going back to {}", from.view));
        match self.undo(&mut journal, &pending, &from, &to, &reason) {
            Ok(()) => Ok(Recovery::WentBack { serving: from.view, abandoned: to.view, reason }),
            Err(errors) => Err(RecoverError::Failed { errors }),
        }
    }

    /// The half that must be done before Docker, the firewall and the network start: `current`, `/etc`, secrets. The
    /// transaction stays pending for [`Activator::recover`] to settle.
    pub fn recover_early(&mut self) -> Result<bool, RecoverError> {
        let pending = match self.store.pending() {
            Ok(pending) => pending,
            Err(error) => {
                // What is current cannot be judged without the journal, but its containers start, and need their files.
                let written = self.write_current_secrets();
                return Err(RecoverError::Failed {
                    errors: [Some(words(error)), written.err()].into_iter().flatten().collect(),
                });
            }
        };
        match pending {
            Some(pending) if !pending.committed => {
                let (from, _) = self.both(&pending)?;
                let from =
                    Side { view: pending.from, manifest: from.as_ref().and_then(|g| g.manifest.as_ref()) };
                let moved = self.store.current()? != Some(from.view);
                self.store.release_ballast()?;
                self.undo_disk(&from).map_err(|error| RecoverError::Failed { errors: vec![error] })?;
                self.store.drop_links_except(&from.links())?;
                if moved {
                    // PID 1 has already read the abandoned units.
                    self.host
                        .perform(&Effect::DaemonReload)
                        .map_err(|error| RecoverError::Failed { errors: vec![words(error)] })?;
                }
                Ok(moved)
            }
            _ => {
                let written = self.write_current_secrets();
                written.map(|()| false).map_err(|error| RecoverError::Failed { errors: vec![error] })
            }
        }
    }

    fn write_current_secrets(&mut self) -> Result<(), String> {
        let current = self.store.current().map_err(words)?;
        let generation = self.current_generation(current).map_err(words)?;
        let manifest = generation.and_then(|generation| generation.manifest);
        manifest.map_or(Ok(()), |manifest| self.store.write_secret_files(&manifest).map_err(words))
    }

    /// After Docker has started: settles what is pending and makes sure that the current slot runs.
    pub fn recover_late(&mut self) -> Result<Recovery, RecoverError> {
        // Whatever could not be settled, what is current is brought up: it is the best there is.
        let recovery = self.recover(false);
        let Some(view) = self.store.current()? else { return recovery };
        let Some(generation) = self.current_generation(Some(view))? else { return recovery };
        let side = Side { view, manifest: generation.manifest.as_ref() };
        let mut errors = Vec::new();
        errors.extend(self.write_current_secrets().err());
        for network in side.manifest.iter().flat_map(|manifest| &manifest.networks) {
            self.try_effect(&Effect::EnsureNetwork { network: network.clone() }, &mut errors);
        }
        for probe in side.public_probes() {
            // Docker brings back what has a policy; what it did not bring back is brought up from its file.
            if self.host.probe(&probe).is_err() {
                self.bring_up(&side, &mut errors);
                break;
            }
        }
        if errors.is_empty() { recovery } else { recovery.and(Err(RecoverError::Failed { errors })) }
    }

    /// A generation that was made, and whose switch did not come as far as the journal. It can only be the last.
    fn abandon_unbegun(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.store.last_generation()? else { return Ok(()) };
        self.update_record(last, |record| {
            if record.outcome == Outcome::Pending {
                record.outcome = Outcome::Failed(UNBEGUN.to_owned());
            }
        })
    }

    fn bring_up(&mut self, side: &Side<'_>, errors: &mut Vec<String>) {
        // Docker revives what has a policy; a newer Compose must not get the chance to recreate what runs.
        if let Some(data) = side.data()
            && data
                .services
                .iter()
                .any(|s| self.host.probe(&Probe::Container { name: s.to_string() }).is_err())
        {
            let up = Effect::DataUp { file: data.file.clone(), services: data.services.clone() };
            self.try_effect(&up, errors);
        }
        for singleton in [false, true] {
            let services = side.services(singleton);
            if let (Some(file), false) = (side.slot_file(), services.is_empty()) {
                let up = Effect::SlotUp { slot: side.slot(), file: file.clone(), services };
                self.try_effect(&up, errors);
            }
        }
        let containers = side.all_containers();
        if !containers.is_empty() {
            self.try_effect(&Effect::KeepRunning { containers, keep: true }, errors);
        }
    }

    fn current_generation(&self, view: Option<View>) -> Result<Option<Generation>, StoreError> {
        match view {
            Some(view) => self.store.generation(view.generation),
            None => Ok(None),
        }
    }

    fn both(&self, pending: &Pending) -> Result<(Option<Generation>, Option<Generation>), StoreError> {
        // The abandoned one may be beyond reading; the one that is kept may not.
        let to = match self.store.generation(pending.to.generation) {
            Err(_) if !pending.committed => None,
            to => to?,
        };
        Ok((self.store.generation(pending.from.generation)?, to))
    }
}
