//! `bundle boot`: what the units of a bundle call, before and after Docker.

use clap::Args;

use super::machine::{Changing, say};
use super::report::{Code, Failure};
use super::{Context, tell};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Arguments {
    /// Before firewall, network and Docker: `current`, `/etc`, secrets
    #[arg(long)]
    early: bool,
    /// After Docker: the slot
    #[arg(long)]
    late: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.early {
        let mut changing = Changing::lock(context, "bundle boot --early")?;
        let moved = changing.activator(&mut |line| tell(line)).recover_early()?;
        if moved {
            tell("an interrupted switch was taken back; its containers are settled when Docker has started");
        }
    } else {
        let mut changing = Changing::lock(context, "bundle boot --late")?;
        let recovery = changing.activator(&mut |line| tell(line)).recover_late()?;
        say(&recovery);
    }
    Ok(Code::Done)
}
