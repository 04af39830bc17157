//! `bundle secrets set` and `bundle secrets list`

use std::io::{IsTerminal, Read};

use clap::Subcommand;
use serde_json::json;

use super::machine::{Changing, generation};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::model::{SecretName, SecretOrigin};
use crate::store::secrets::SecretValue;

/// The longest value that is taken, in bytes.
pub(super) const LONGEST: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Keep a value, read from stdin, for the next switch
    Set {
        /// The secret's name, as in the profile
        name: SecretName,
    },
    /// List the secrets of which this machine keeps a value, by name
    List,
}

pub(super) fn run(context: &Context<'_>, command: &Command) -> Result<Code, Failure> {
    match command {
        Command::Set { name } => set(context, name),
        Command::List => list(context),
    }
}

/// Names, never values.
fn list(context: &Context<'_>) -> Result<Code, Failure> {
    let names = context.store().secret_names()?;
    let text = || names.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    print(context, json!({ "secrets": names }), text);
    Ok(Code::Done)
}

fn set(context: &Context<'_>, name: &SecretName) -> Result<Code, Failure> {
    if std::io::stdin().is_terminal() {
        tell(&format!("type the value of `{name}`, then a line break and Ctrl-D"));
    }
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST + 1).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::new(Code::Input, format!("the value of `{name}` cannot be read: {error}"))
    })?;
    let value = SecretValue::new(&text);
    if value.expose().is_empty() || text.len() as u64 > LONGEST {
        let what = if text.len() as u64 > LONGEST { "longer than 64 KiB" } else { "empty" };
        let message = format!("the value of `{name}` on stdin is {what}");
        return Err(Failure::new(Code::Input, message).hint(format!(
            "for example `printf %s \"$TOKEN\" | bundle secrets set {name}`; at most 64 KiB"
        )));
    }
    let changing = Changing::lock(context, "bundle secrets set")?;
    refuse_foreign(&changing, name)?;
    let known = changing.store.secret(name)?;
    changing.store.set_secret(name, &value)?;
    let changed = known.as_ref() != Some(&value);
    print(context, json!({ "secret": name, "changed": changed }), || {
        if changed { format!("`{name}` is kept") } else { format!("`{name}` is what it was") }
    });
    if changed && known.is_some() {
        tell("running containers keep the value they started with until they are replaced");
    }
    Ok(Code::Done)
}

/// A value that the machine makes is not the operator's to send: a database that was set up with the old one would
/// turn its clients away, and no way back would help.
fn refuse_foreign(changing: &Changing, name: &SecretName) -> Result<(), Failure> {
    let Some(view) = changing.store.current()? else { return Ok(()) };
    let Some(manifest) = generation(&changing.store, view.generation)?.manifest else { return Ok(()) };
    let made = match manifest.secrets.get(name) {
        Some(SecretOrigin::Operator) => return Ok(()),
        Some(SecretOrigin::Generate(_)) => "made on the machine, once",
        Some(SecretOrigin::Template(_)) => "put together on the machine from others",
        None => {
            tell(&format!(
                "warning: generation {} has no secret `{name}`; is a bundle to come that has?",
                view.generation
            ));
            return Ok(());
        }
    };
    Err(Failure::new(Code::Refused, format!("`{name}` is not for sending: it is {made}"))
        .hint("`bundle show` says where each secret of a bundle comes from"))
}
