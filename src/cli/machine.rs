//! What the commands share that change a machine: the lock, recovery first, an activator.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use super::report::{Code, Failure};
use super::{Context, signals, tell};
use crate::activate::recover::Recovery;
use crate::activate::transaction::Report;
use crate::activate::{Activator, Host};
use crate::model::{Digest, GenerationNumber};
use crate::store::{Generation, Holder, Lock, Store, View};

/// A machine that this process may change.
pub(super) struct Changing {
    pub(super) store: Store,
    pub(super) host: Box<dyn Host>,
    pub(super) lock: Lock,
    stop: Arc<AtomicBool>,
}

/// Who runs this command, as far as the environment says.
pub(super) fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    match std::env::var("SSH_CONNECTION").ok().as_deref().and_then(|from| from.split(' ').next()) {
        Some(from) if !from.is_empty() => format!("{user}@{from}"),
        _ => user,
    }
}

/// Seconds since 1970; before that, 0.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Changing {
    /// Takes the lock. Says who has it when somebody has.
    pub(super) fn lock(context: &Context<'_>, command: &str) -> Result<Self, Failure> {
        let store = context.store();
        store.prepare()?;
        let holder = Holder {
            pid: std::process::id(),
            user: who(),
            command: command.to_owned(),
            phase: "start".to_owned(),
            since: now(),
        };
        let lock = store.lock(holder)?;
        let host = context.host(&store);
        Ok(Self { store, host, lock, stop: signals::listen()? })
    }

    /// Takes the lock and settles what an interrupted switch left.
    pub(super) fn settled(context: &Context<'_>, command: &str) -> Result<Self, Failure> {
        let mut changing = Self::lock(context, command)?;
        let recovery = changing.activator(&mut |line| tell(line)).recover(false)?;
        say(&recovery);
        changing.store.ensure_bare_generation(&who(), now())?;
        Ok(changing)
    }

    pub(super) fn activator<'a>(&'a mut self, tell: &'a mut dyn FnMut(&str)) -> Activator<'a> {
        Activator {
            store: &self.store,
            host: self.host.as_mut(),
            lock: &mut self.lock,
            tell,
            stop: &self.stop,
        }
    }

    /// The current generation and its view.
    pub(super) fn current(&self) -> Result<(View, Generation), Failure> {
        let view = self.store.current()?.unwrap_or(View::BARE);
        Ok((view, generation(&self.store, view.generation)?))
    }
}

/// A generation of this machine, or words about those that there are.
pub(super) fn generation(store: &Store, number: GenerationNumber) -> Result<Generation, Failure> {
    store.generation(number)?.ok_or_else(|| {
        let message = format!("this machine has no generation {number}");
        Failure::new(Code::Refused, message).hint("`bundle generations` lists those it has")
    })
}

/// Refuses when the current bundle is not the one that the operator looked at.
pub(super) fn expect(current: &Generation, expected: Option<Digest>) -> Result<(), Failure> {
    match expected {
        Some(expected) if current.record.bundle != Some(expected) => {
            let is = current
                .record
                .bundle
                .map_or_else(|| "the bare machine".to_owned(), |digest| digest.to_string());
            let by = &current.record.by;
            let message =
                format!("{is} is current, not {expected}: generation {} by {by}", current.record.generation);
            Err(Failure::new(Code::Moved, message)
                .hint("look at `bundle plan` again, then say so with the new digest"))
        }
        _ => Ok(()),
    }
}

/// Says what did not go well after a commit.
pub(super) fn warn(report: &Report) {
    report.warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    if !report.warnings.is_empty() {
        tell(
            "clearing up has not ended: the next command that changes something tries again, or `bundle recover`",
        );
    }
}

/// Says what recovery did, if it did something.
pub(super) fn say(recovery: &Recovery) {
    match recovery {
        Recovery::Nothing => {}
        Recovery::Finished(view, report) => {
            tell(&format!("an interrupted switch had committed: {view}; cleared up after it"));
            warn(report);
        }
        Recovery::WentBack { serving, abandoned, reason } => {
            tell(&format!("{reason}: {abandoned} was abandoned, {serving} serves"));
        }
    }
}
