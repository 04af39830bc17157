//! `bundle status`

use serde_json::json;

use super::generations::time;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::activate::{Probe, Side};
use crate::store::certs::PLACEHOLDER;
use crate::store::journal::Pending;

pub(super) fn run(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let Some(view) = store.current()? else {
        print(context, json!({ "current": null }), || {
            "no generation yet: `bundle switch REF` makes the first".to_owned()
        });
        return Ok(Code::Done);
    };
    let generation = super::machine::generation(&store, view.generation)?;
    let pending = store.pending()?;
    let mut host = context.host(&store);
    let side = Side { view, manifest: generation.manifest.as_ref() };
    // Containers first: a route waits for what stands behind it, and by then all may be well again.
    let ask = |probe: &Probe| (probe.subject(), host.probe(probe).err());
    let mut checks: Vec<_> = side.ready_probes().iter().rev().map(ask).collect();
    checks.reverse();
    let degraded = checks.iter().any(|(_, red)| red.is_some());
    let placeholder = store.home().join("certs").join(PLACEHOLDER).exists();
    let missing = match &generation.manifest {
        Some(manifest) => store.missing_secrets(manifest)?,
        None => Vec::new(),
    };
    let json = json!({
        "current": view,
        "last_good": store.last_good()?,
        "record": generation.record,
        "pending": pending.as_ref().map(pending_json),
        "health": checks.iter().map(|(subject, red)| json!({ "subject": subject, "red": red })).collect::<Vec<_>>(),
        "degraded": degraded,
        "placeholder_certificate": placeholder,
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
        lines.push(format!("  state    {}", if degraded { "degraded" } else { "healthy" }));
        for (subject, red) in &checks {
            let word = red.as_deref().map_or_else(|| "green".to_owned(), |why| format!("red: {why}"));
            lines.push(format!("    {subject:<24} {word}"));
        }
        if let Some(pending) = &pending {
            lines.push(format!("  pending  {}", pending_words(pending)));
        }
        if placeholder {
            lines.push("  note     a self-signed placeholder certificate serves".to_owned());
        }
        for name in &missing {
            lines.push(format!("  missing  the secret `{name}`"));
        }
        lines.join("\n")
    });
    Ok(Code::Done)
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
