//! `bundle plan`

use clap::Args;
use serde_json::json;

use super::confirm::Asking;
use super::machine::generation;
use super::places::Reach;
use super::report::{Code, Failure};
use super::switch::nothing;
use super::{Context, print};
use crate::activate::plan::{Change, choose_slot};
use crate::activate::prepare::look_first;
use crate::activate::{Plan, Refusal, Side, Way};
use crate::bundle::Manifest;
use crate::model::{Digest, GenerationNumber, Slot};
use crate::registry::{Ref, Repository};
use crate::store::{Store, View};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
}

/// What a switch goes to.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// `repo:tag`, `repo@sha256:…`, `oci:PATH`, or a bundle's own `sha256:…`
    #[arg(required_unless_present = "generation", conflicts_with = "generation")]
    pub(super) reference: Option<Ref>,
    /// A generation of this machine
    #[arg(long, value_name = "N")]
    pub(super) generation: Option<GenerationNumber>,
    /// Where a bundle's own digest is looked for
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) repository: Option<Repository>,
    #[command(flatten)]
    pub(super) reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let store = context.store();
    let (number, manifest, way) = target(context, &store, &arguments.target)?;
    let view = store.current()?.unwrap_or(View::BARE);
    let current = match store.current()? {
        Some(view) => generation(&store, view.generation)?.manifest,
        None => None,
    };
    let from = Side { view, manifest: current.as_ref() };
    let to = aim(&from, number, manifest.as_ref());
    let plan = Plan::between(&from, &to, way);
    if from.view.generation == to.view.generation {
        return Ok(nothing(context, from.view));
    }
    let reasons: Vec<_> = look_first(&store, &to, way)?;
    let words: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    let digest = plan.digest();
    let asks = !plan.doors.is_empty();
    let plan = if asks { Asking::default().apply(plan, context.host(&store).as_ref()) } else { plan };
    let json = json!({
        "plan": plan,
        "digest": digest,
        "needs_confirmation": plan.confirmation_seconds() > 0,
        "refused": words,
    });
    print(context, json, || render(&plan, digest));
    // Whoever plans wants to know what `switch` would say first.
    if reasons.is_empty() { Ok(Code::Done) } else { Err(Refusal { reasons }.into()) }
}

/// The target in the slot that suits it.
pub(super) fn aim<'a>(from: &Side<'_>, number: GenerationNumber, manifest: Option<&'a Manifest>) -> Side<'a> {
    let to = Side::new(number, Slot::Blue, manifest);
    let slot = choose_slot(from, to);
    Side { view: View { slot, ..to.view }, ..to }
}

/// The target's number and manifest, and whether the machine has been there. A reference is fetched to a place that is gone afterwards: a plan leaves nothing.
fn target(
    context: &Context<'_>,
    store: &Store,
    target: &Target,
) -> Result<(GenerationNumber, Option<Manifest>, Way), Failure> {
    if let Some(number) = target.generation {
        let known = generation(store, number)?;
        return Ok((number, known.manifest, Way::to(&known.record.outcome)));
    }
    let next = store.records()?.last().map_or(GenerationNumber(1), |record| record.generation.next());
    let Some(reference) = &target.reference else {
        return Err(Failure::new(Code::Input, "there is nothing to plan for: name a bundle or a generation"));
    };
    if let Ref::Bundle(digest) = reference
        && let Ok(manifest) = store.manifest(*digest)
    {
        return Ok((next, Some(manifest), Way::Forward));
    }
    let directory = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Refused, format!("no temporary directory for the bundle: {error}"))
    })?;
    let opened = context.fetch(reference, target.repository.as_ref(), &target.reach, directory.path())?;
    Ok((next, Some(opened.manifest().clone()), Way::Forward))
}

fn render(plan: &Plan, digest: Digest) -> String {
    let mut lines = vec![format!("{} → {}", plan.from, plan.to)];
    for file in &plan.files {
        let sign = match file.change {
            Change::Added => '+',
            Change::Changed => '~',
            Change::Removed => '-',
        };
        lines.push(format!("  {sign} {}", file.path));
    }
    if plan.slot_stays {
        lines.push(format!("  = the services in {} stay", plan.to.slot));
    }
    lines.push(String::new());
    lines.extend(plan.steps.iter().map(|(_, step)| format!("  {step}")));
    lines.extend(plan.closing.iter().map(|step| format!("  {step}")));
    lines.push(String::new());
    if plan.confirmation_seconds() > 0 {
        let doors = plan.doors.join("`, `");
        lines.push(format!(
            "`{doors}` could shut you out: `switch` waits for `bundle confirm` over another connection, or goes back"
        ));
        lines.push(String::new());
    }
    lines.push(format!("plan {digest}"));
    lines.join("\n")
}
