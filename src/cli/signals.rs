//! Signals while a machine is being changed. A lost connection must not end a switch in the middle, and whoever presses
//! Ctrl-C wants to be back where they were, not nowhere.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::flag;

use super::report::{Code, Failure};

/// From now on SIGHUP is ignored, and SIGTSTP, which would stop us with the lock in our hands; and the first SIGINT or SIGTERM sets the flag; the second one ends the process, and
/// what it leaves is settled by `bundle recover` or by PID 1's timer.
pub(super) fn listen() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let ignored = Arc::new(AtomicBool::new(false));
    let ignoring = [SIGHUP, SIGTSTP]
        .into_iter()
        .try_for_each(|signal| flag::register(signal, ignored.clone()).map(drop));
    let registered = ignoring.and_then(|()| {
        [SIGINT, SIGTERM].into_iter().try_for_each(|signal| {
            // In this order: the first signal finds the flag unset and sets it, the second finds it set.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
            flag::register(signal, stop.clone()).map(drop)
        })
    });
    registered.map_err(|error| Failure::new(Code::Refused, format!("signals cannot be handled: {error}")))?;
    Ok(stop)
}
