//! `bundle status`

use clap::Args;
use serde_json::json;

use super::certs::Look;
use super::generations::time;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::activate::{Probe, Side};
use crate::model::SecretName;
use crate::store::first_boot::FirstBoot;
use crate::store::journal::Pending;
use crate::store::{Busy, Holder, Phase, Store, Waiting};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Say only what is not well, and end with 41 if anything is; while a switch is under way nothing is
    #[arg(long)]
    check: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.check { check(context) } else { show(context) }
}

/// For a timer, whose unit fails then: in the journal stands what is wrong, and `systemctl --failed` lists it.
fn check(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let Some(view) = store.current()? else { return Ok(Code::Done) };
    if store.holder()?.is_some() {
        return Ok(Code::Done);
    }
    let generation = super::machine::generation(&store, view.generation)?;
    let mut host = context.host(&store);
    let side = Side { view, manifest: generation.manifest.as_ref() };
    let mut wrong: Vec<_> = side
        .ready_probes()
        .iter()
        .filter_map(|probe| Some(format!("{} is red: {}", probe.subject(), host.probe(probe).err()?)))
        .collect();
    if let Some(pending) = store.pending()? {
        wrong.push(pending_words(&pending));
    }
    let missing = generation.manifest.as_ref().map(|manifest| store.missing_secrets(manifest)).transpose()?;
    wrong.extend(missing.into_iter().flatten().map(|name| format!("the secret `{name}` is missing")));
    // A switch that has begun meanwhile is no illness.
    if wrong.is_empty() || store.holder()?.is_some() {
        return Ok(Code::Done);
    }
    print(context, json!({ "current": view, "wrong": wrong }), || wrong.join("\n"));
    Ok(Code::Unwell)
}

fn show(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let busy = store.holder()?;
    let Some(view) = store.current()? else {
        let on_the_way = OnTheWay::of(&store)?;
        let json =
            json!({ "current": null, "on_the_way": on_the_way.json(), "busy": busy.as_ref().map(busy_json) });
        print(context, json, || {
            let mut lines = vec!["no generation yet: `bundle switch REF` makes the first".to_owned()];
            lines.extend(busy.as_ref().map(busy_line));
            lines.extend(on_the_way.lines());
            lines.join("\n")
        });
        return Ok(Code::Done);
    };
    let generation = super::machine::generation(&store, view.generation)?;
    let on_the_way = if generation.manifest.is_none() { OnTheWay::of(&store)? } else { OnTheWay::default() };
    let pending = store.pending()?;
    let mut host = context.host(&store);
    let side = Side { view, manifest: generation.manifest.as_ref() };
    // Containers first: a route waits for what stands behind it, and by then all may be well again.
    let ask = |probe: &Probe| (probe.subject(), host.probe(probe).err());
    let mut checks: Vec<_> = side.ready_probes().iter().rev().map(ask).collect();
    checks.reverse();
    let degraded = checks.iter().any(|(_, red)| red.is_some());
    let hosts = generation.manifest.as_ref().map(super::certs::names).unwrap_or_default();
    let certificates = Look::at(&store, host.as_mut(), hosts)?;
    let missing = match &generation.manifest {
        Some(manifest) => store.missing_secrets(manifest)?,
        None => Vec::new(),
    };
    let json = json!({
        "current": view,
        "last_good": store.last_good()?,
        "record": generation.record,
        "pending": pending.as_ref().map(pending_json),
        "busy": busy.as_ref().map(busy_json),
        "health": checks.iter().map(|(subject, red)| json!({ "subject": subject, "red": red })).collect::<Vec<_>>(),
        "degraded": degraded,
        "on_the_way": on_the_way.json(),
        "placeholder_certificate": certificates.is_placeholder(),
        "certificate_notes": certificates.notes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "missing_secrets": missing,
    });
    print(context, json, || {
        let record = &generation.record;
        let profile = record.profile.as_deref().unwrap_or("the bare machine");
        let mut lines = vec![format!("{view}: {profile}")];
        if let Some(bundle) = record.bundle {
            lines.push(format!("  bundle   {bundle}"));
        }
        lines.push(format!("  made     {} by {}", time(record.created), record.by));
        lines.extend(on_the_way.lines());
        if generation.manifest.is_some() {
            lines.push(format!("  state    {}", if degraded { "degraded" } else { "healthy" }));
        }
        for (subject, red) in &checks {
            let word = red.as_deref().map_or_else(|| "green".to_owned(), |why| format!("red: {why}"));
            lines.push(format!("    {subject:<24} {word}"));
        }
        lines.extend(busy.as_ref().map(busy_line));
        if let Some(pending) = &pending {
            lines.push(format!("  pending  {}", pending_words(pending)));
        }
        let notes = certificates.notes();
        lines.extend(notes.iter().map(|note| format!("  note     {}: `bundle certs`", note.what)));
        for name in &missing {
            lines.push(format!("  missing  the secret `{name}`"));
        }
        lines.join("\n")
    });
    Ok(Code::Done)
}

/// A machine on its way to its first generation.
#[derive(Default)]
struct OnTheWay {
    first_boot: Option<FirstBoot>,
    waiting: Option<Waiting>,
    missing: Vec<SecretName>,
}

impl OnTheWay {
    fn of(store: &Store) -> Result<Self, Failure> {
        let waiting = store.waiting()?;
        let missing =
            waiting.as_ref().map_or(Ok(Vec::new()), |waiting| store.still_missing(&waiting.missing))?;
        Ok(Self { first_boot: store.first_boot()?, waiting, missing })
    }

    fn json(&self) -> serde_json::Value {
        json!({ "first_boot": self.first_boot, "bundle": self.waiting.as_ref().map(|waiting| &waiting.reference), "missing_secrets": self.missing })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(FirstBoot { state, since, message }) = &self.first_boot {
            let state = state.replace('-', " ");
            lines.push(format!("  boot     {state} since {}: {message}", time(*since)));
        }
        for name in &self.missing {
            lines.push(format!("  missing  the secret `{name}`: `bundle secrets set {name}`"));
        }
        if self.waiting.is_some() {
            lines.push("  then     the machine goes on by itself".to_owned());
        }
        lines
    }
}

/// Who changes the machine right now; an object without fields if nobody can read who.
fn busy_json(Busy(holder): &Busy) -> serde_json::Value {
    holder.as_ref().map_or_else(|| json!({}), |holder| json!(holder))
}

fn busy_line(Busy(holder): &Busy) -> String {
    match holder {
        None => "  busy     another command".to_owned(),
        Some(Holder { pid, user, command, phase, since }) => {
            format!("  busy     {command} by {user}, pid {pid}, since {}: {phase}", time(*since))
        }
    }
}

fn pending_json(pending: &Pending) -> serde_json::Value {
    json!({
        "from": pending.from,
        "to": pending.to,
        "phase": pending.phase,
        "committed": pending.committed,
        "attempts": pending.attempts,
        "reason": pending.reason,
    })
}

fn pending_words(pending: &Pending) -> String {
    let Pending { from, to, .. } = pending;
    if pending.phase == Some(Phase::Confirm) && !pending.committed && pending.attempts == 0 {
        return format!(
            "the switch to {to} waits for `bundle confirm`, or was interrupted; `bundle recover` settles the latter"
        );
    }
    if pending.committed {
        format!(
            "the switch to {to} has committed and is clearing up; `bundle recover` finishes it if it was interrupted"
        )
    } else {
        format!(
            "a switch from {from} to {to} is under way or was interrupted; `bundle recover` settles the latter"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_at_work_is_named_with_where_they_are() {
        let holder = Holder {
            pid: 4711,
            user: "deploy@192.0.2.1".to_owned(),
            command: "bundle switch".to_owned(),
            phase: "stage".to_owned(),
            since: 1_700_000_000,
        };
        let busy = Busy(Some(holder));
        let line =
            "  busy     bundle switch by deploy@192.0.2.1, pid 4711, since 2023-11-14 22:13:20Z: stage";
        assert_eq!(busy_line(&busy), line);
        assert_eq!(busy_json(&busy)["phase"], "stage");
        // A program tells it from `null` even so.
        assert_eq!(busy_json(&Busy(None)), json!({}));
    }
}
