//! What a switch does differently on a fresh machine: where a secret is missing it waits, and goes on when it comes.

use serde_json::json;

use super::machine::{Changing, now};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::activate::{Side, Way};
use crate::model::{Digest, SecretName};
use crate::registry::Ref;
use crate::store::{Login, Outcome, Store, View, Waiting};

/// Whether the machine has had a generation of its own: then whoever made it decides what comes next.
pub(super) fn is_over(store: &Store) -> Result<bool, Failure> {
    let good = |record: &crate::store::Record| {
        record.generation != View::BARE.generation && record.outcome == Outcome::Good
    };
    Ok(store.records()?.iter().any(good))
}

/// The token that opens the registry, if there is one and nobody has sent it.
pub(super) fn token(store: &Store) -> Result<Option<Vec<SecretName>>, Failure> {
    match store.registry_login()? {
        Login::Missing(name) => Ok(Some(vec![name])),
        Login::None | Login::File(_) => Ok(None),
    }
}

/// Does meanwhile what needs no secret: images come, files are judged. What is wrong is said now and again by the switch.
pub(super) fn prepare(changing: &mut Changing, to: &Side<'_>) {
    let mut progress = |line: &str| tell(line);
    let mut activator = changing.activator(&mut progress);
    match activator.look_closely(to, Way::Forward, now()) {
        Ok(reasons) => reasons.iter().for_each(|reason| tell(&format!("warning: {reason}"))),
        Err(error) => tell(&format!("warning: {error}")),
    }
}

/// Leaves the machine waiting. `secrets set` looks at this after it has kept a value, and goes on after the last.
pub(super) fn wait(
    context: &Context<'_>,
    changing: &Changing,
    reference: &Ref,
    bundle: Option<Digest>,
    missing: Vec<SecretName>,
) -> Result<Code, Failure> {
    let waiting = Waiting { reference: reference.to_string(), bundle, missing, since: now() };
    changing.store.set_waiting(&waiting)?;
    changing.store.clear_staging()?;
    print(context, json!({ "current": View::BARE, "waiting_for": waiting.missing }), || {
        let sent: Vec<_> =
            waiting.missing.iter().map(|name| format!("`bundle secrets set {name}`")).collect();
        format!("waiting for secrets: {}; after the last one the machine goes on by itself", sent.join(", "))
    });
    // One that came between the look and the line above has found nobody waiting.
    if changing.store.still_missing(&waiting.missing)?.is_empty() {
        return Ok(Code::Refused);
    }
    Ok(Code::Waiting)
}
