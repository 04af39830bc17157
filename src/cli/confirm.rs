//! `bundle confirm`, and when a switch asks for it
//!
//! A connection that is open when the firewall changes stays open, so whoever started the switch may not notice that
//! nobody else gets in any more. Only a fresh connection proves that one does.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::report::{Code, Failure};
use super::{Context, print};
use crate::activate::{Host, Plan};
use crate::model::Digest;
use crate::store::journal::Pending;
use crate::store::{Phase, Store, View};

/// How long a switch by hand waits, in seconds, unless it says otherwise.
const SECONDS: u64 = 120;
/// How long the switch may take to notice the confirmation: between two looks it asks every service about its health.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only if it is this bundle that waits
    #[arg(long, value_name = "DIGEST")]
    bundle: Option<Digest>,
}

/// Whether a switch waits for a confirmation.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Asking {
    /// Go back unless `bundle confirm` is said over another connection, within this many seconds after the trial.
    /// A change of the firewall, sshd or the network waits 120 s for it anyway
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    confirm: Option<u64>,
    /// Never wait for a confirmation: there is another way into the machine
    #[arg(long, conflicts_with = "confirm")]
    confirmed: bool,
}

impl Asking {
    /// For how long this plan waits on this machine.
    pub(super) fn seconds(self, plan: &Plan, host: &dyn Host) -> Option<u64> {
        if self.confirmed || !host.has_a_door() {
            return None;
        }
        self.confirm.or_else(|| (!plan.doors.is_empty()).then_some(SECONDS))
    }

    /// The plan as it is done: with the step, if it waits.
    pub(super) fn apply(self, plan: Plan, host: &dyn Host) -> Plan {
        match self.seconds(&plan, host) {
            Some(seconds) => plan.confirmed_within(seconds),
            None => plan,
        }
    }
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    // Without the lock, which the switch holds that waits for us.
    let store = context.store();
    let waiting = waiting(&store)?;
    let bundle = store.record(waiting.to.generation)?.and_then(|record| record.bundle);
    if let Some(expected) = arguments.bundle
        && bundle != Some(expected)
    {
        let is = bundle.map_or_else(|| "the bare machine".to_owned(), |bundle| bundle.to_string());
        let message = format!("{is} waits for a confirmation, not {expected}");
        return Err(Failure::new(Code::Moved, message).hint("`bundle status` says who is switching to what"));
    }
    store.confirm(waiting.id)?;
    let to = waiting.to;
    wait_for_commit(&store, &waiting)?;
    print(context, json!({ "confirmed": to, "bundle": bundle }), || format!("{to} is confirmed"));
    Ok(Code::Done)
}

fn waiting(store: &Store) -> Result<Pending, Failure> {
    let nothing = |why: String| {
        Err(Failure::new(Code::Refused, format!("nothing waits for a confirmation: {why}"))
            .hint("`bundle status` says what is current and what is pending"))
    };
    match store.pending()? {
        None => nothing("no switch is under way".to_owned()),
        Some(pending) if pending.committed => nothing(format!("{} has committed already", pending.to)),
        Some(pending) if pending.attempts > 0 => {
            nothing(format!("{} was abandoned, {} comes back", pending.to, pending.from))
        }
        Some(pending) if pending.phase != Some(Phase::Confirm) => {
            nothing(format!("the switch to {} is not as far, or was not asked to wait", pending.to))
        }
        Some(pending) => Ok(pending),
    }
}

/// What was confirmed is not what stayed, until the switch says so.
fn wait_for_commit(store: &Store, waiting: &Pending) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match store.pending()? {
            Some(pending) if pending.id == waiting.id && !pending.committed && pending.attempts == 0 => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Some(pending) if pending.id == waiting.id && pending.committed => return Ok(()),
            _ if store.last_good()? == Some(waiting.to) => return Ok(()),
            _ => return Err(too_late(waiting.to, waiting.from)),
        }
    }
    let message = format!("{} is confirmed, but no switch has taken notice", waiting.to);
    Err(Failure::new(Code::Refused, message)
        .hint("was it interrupted? then `bundle recover` settles it, and goes back"))
}

fn too_late(to: View, from: View) -> Failure {
    Failure::new(Code::WentBack, format!("the confirmation of {to} came too late: {from} serves"))
        .hint("`bundle generations` keeps the reason")
}
