//! `bundle schema`

use clap::Args;

use super::report::Code;
use super::{Context, print};
use crate::artifacts::KINDS;
use crate::profile::describe::{Form, compose_keys, profile, schema};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Describe a profile with all that it extends merged in, and what is required in it
    #[arg(long)]
    merged: bool,
    /// Print `docs/profile.md`
    #[arg(long, hide = true)]
    markdown: bool,
    /// Print `docs/compose-keys.md`
    #[arg(long, hide = true)]
    compose_keys: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Code {
    let form = if arguments.merged { Form::Merged } else { Form::File };
    let json = schema(KINDS, form);
    print(context, json.clone(), || match (arguments.markdown, arguments.compose_keys) {
        (true, _) => profile(&schema(KINDS, Form::Merged)),
        (_, true) => compose_keys(),
        _ => format!("{json:#}"),
    });
    Code::Done
}
