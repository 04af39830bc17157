//! `bundle recover`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::machine::{Changing, say};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::activate::recover::Recovery;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Try again although it was tried too often
    #[arg(long)]
    force: bool,
    /// Only if this transaction is the pending one; waits for whoever holds the lock
    #[arg(long, hide = true, value_name = "N")]
    transaction: Option<u64>,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let mut changing = match arguments.transaction {
        Some(number) => match wait_for(context, number)? {
            Some(changing) => changing,
            None => return Ok(Code::Done),
        },
        None => Changing::lock(context, "bundle recover")?,
    };
    let recovery = changing.activator(&mut |line| tell(line)).recover(arguments.force)?;
    say(&recovery);
    let (word, code) = match &recovery {
        Recovery::Nothing => ("nothing", Code::NothingToChange),
        Recovery::Finished(_, report) if !report.warnings.is_empty() => ("unfinished", Code::Stuck),
        Recovery::Finished(..) => ("finished", Code::Done),
        Recovery::WentBack { .. } => ("went_back", Code::Done),
    };
    let json = json!({ "recovery": word, "current": changing.store.current()? });
    print(context, json, || match &recovery {
        Recovery::Nothing => "nothing is pending".to_owned(),
        Recovery::Finished(view, _) => format!("{view} is committed"),
        Recovery::WentBack { serving, .. } => format!("{serving} serves"),
    });
    Ok(code)
}

/// For the dead man's timer: the switch that armed it may still be at work, and is then given time to settle itself.
fn wait_for(context: &Context<'_>, number: u64) -> Result<Option<Changing>, Failure> {
    // Long enough for any migration; PID 1 asks only once.
    for _ in 0..24 * 3600 {
        match context.store().pending()? {
            Some(pending) if pending.id.0 == number => {}
            _ => return Ok(None),
        }
        match Changing::lock(context, "bundle recover") {
            Err(failure) if failure.code() == Code::Busy => std::thread::sleep(Duration::from_secs(1)),
            Ok(changing) => {
                // It may have settled while we waited for the lock.
                let still = changing.store.pending()?.is_some_and(|pending| pending.id.0 == number);
                return Ok(still.then_some(changing));
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::new(Code::Busy, format!("transaction {number} is still at work after a day")))
}
