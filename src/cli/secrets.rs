//! `bundle secrets set` and `bundle secrets list`

use std::io::{IsTerminal, Read};

use clap::Subcommand;
use serde_json::json;

use super::machine::{Changing, generation};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::activate::Effect;
use crate::bundle::Manifest;
use crate::model::{SecretName, SecretOrigin};
use crate::store::Store;
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
    let store = context.store();
    store.prepare()?;
    refuse_foreign(&store, name)?;
    let known = store.secret(name)?;
    let changed = known.as_ref() != Some(&value);
    if changed {
        // Only a change of a value can get in the way of a switch; one that is new is waited for.
        let lock = known.is_some().then(|| Changing::lock(context, "bundle secrets set")).transpose()?;
        store.set_secret(name, &value)?;
        drop(lock);
    }
    let waiting = store.waiting()?;
    let missing = waiting.as_ref().map_or(Ok(Vec::new()), |waiting| store.still_missing(&waiting.missing))?;
    let json = json!({ "secret": name, "changed": changed, "still_missing": missing });
    print(context, json, || {
        if changed { format!("`{name}` is kept") } else { format!("`{name}` is what it was") }
    });
    if changed && known.is_some() {
        tell("running containers keep the value they started with until they are replaced");
    }
    if waiting.is_some() {
        go_on(context, &store, &missing)?;
    }
    Ok(Code::Done)
}

/// A first boot that waited for this goes on after the last value.
fn go_on(context: &Context<'_>, store: &Store, missing: &[SecretName]) -> Result<(), Failure> {
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|name| format!("`{name}`")).collect();
        tell(&format!("the first boot still waits for {}", names.join(", ")));
        return Ok(());
    }
    context.host(store).perform(&Effect::ResumeFirstBoot).map_err(|error| {
        Failure::of(Code::Refused, &error)
            .hint("the value is kept; go on by hand with `systemctl start bundle-bootstrap`")
    })?;
    tell(
        "the first boot goes on; `bundle status` shows how far it is, `journalctl -fu bundle-bootstrap` every step",
    );
    Ok(())
}

/// A value that the machine makes is not the operator's to send: a database that was set up with the old one would
/// turn its clients away, and no way back would help.
fn refuse_foreign(store: &Store, name: &SecretName) -> Result<(), Failure> {
    let Some((whose, manifest)) = manifest(store)? else { return Ok(()) };
    let made = match manifest.secrets.get(name) {
        Some(SecretOrigin::Operator) => return Ok(()),
        Some(SecretOrigin::Generate(_)) => "made on the machine, once",
        Some(SecretOrigin::Template(_)) => "put together on the machine from others",
        None => {
            tell(&format!("warning: {whose} has no secret `{name}`; is a bundle to come that has?"));
            return Ok(());
        }
    };
    Err(Failure::new(Code::Refused, format!("`{name}` is not for sending: it is {made}"))
        .hint("`bundle show` says where each secret of a bundle comes from"))
}

/// The bundle that says what the machine's secrets are: the current one, or the one that is waited for.
fn manifest(store: &Store) -> Result<Option<(String, Manifest)>, Failure> {
    if let Some(view) = store.current()?
        && let Some(manifest) = generation(store, view.generation)?.manifest
    {
        return Ok(Some((format!("generation {}", view.generation), manifest)));
    }
    match store.waiting()?.and_then(|waiting| waiting.bundle) {
        Some(bundle) => Ok(Some(("the bundle to come".to_owned(), store.manifest(bundle)?))),
        None => Ok(None),
    }
}
