//! `bundle switch` and `bundle rollback`

use clap::Args;
use serde_json::json;

use super::confirm::Asking;
use super::hand_over::{Source, hand_over};
use super::machine::{Changing, expect, generation, now, warn, who};
use super::plan::{Target, aim};
use super::report::{Code, Failure};
use super::{Context, carried, first_boot, print, tell};
use crate::activate::prepare::{Reason, look_first};
use crate::activate::{Plan, Refusal, Side, Way};
use crate::bundle::Manifest;
use crate::model::{Digest, GenerationNumber};
use crate::registry::Ref;
use crate::store::{Generation, Outcome, Record, View};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Refuse unless this bundle is current
    #[arg(long, value_name = "DIGEST")]
    expect_current: Option<Digest>,
    #[command(flatten)]
    conditions: Conditions,
    /// As the first boot calls it: do nothing if the machine has a generation of its own, and wait for secrets
    #[arg(long, hide = true, requires = "reference")]
    first_boot: bool,
}

/// Under which conditions the machine is switched, whatever the target.
#[derive(Debug, Clone, Copy, Default, Args)]
struct Conditions {
    /// Refuse unless the plan is this one, as `bundle plan` printed it
    #[arg(long, value_name = "DIGEST")]
    expect_plan: Option<Digest>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// Refuse unless this bundle is current
    #[arg(long, value_name = "DIGEST")]
    expect_current: Option<Digest>,
}

/// Where a switch goes, once its bundle is known.
struct Goal<'a> {
    number: GenerationNumber,
    bundle: Option<Digest>,
    manifest: Option<&'a Manifest>,
    /// The record to make, if the generation is new.
    new: Option<Record>,
    /// What `rollback` will go to from there; `None` leaves what its record says.
    previous: Option<GenerationNumber>,
    conditions: Conditions,
    way: Way,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let mut changing = Changing::settled(context, "bundle switch")?;
    let (view, current) = changing.current()?;
    expect(&current, arguments.expect_current)?;
    if arguments.first_boot && first_boot::is_over(&changing.store)? {
        return Ok(nothing(context, view));
    }
    match (&arguments.target.reference, arguments.target.generation) {
        (_, Some(number)) => {
            let goal = generation(&changing.store, number)?;
            let previous = Some(view.generation);
            return_to(context, &mut changing, view, &current, &goal, previous, arguments.conditions)
        }
        (Some(reference), None) => to_reference(context, &mut changing, view, &current, reference, arguments),
        (None, None) => {
            Err(Failure::new(Code::Input, "there is nothing to switch to: name a bundle or a generation"))
        }
    }
}

pub(super) fn rollback(context: &Context<'_>, arguments: &RollbackArguments) -> Result<Code, Failure> {
    let mut changing = Changing::settled(context, "bundle rollback")?;
    let (view, current) = changing.current()?;
    expect(&current, arguments.expect_current)?;
    let previous = match current.record.previous {
        Some(number) if number != View::BARE.generation => number,
        _ => {
            let message =
                format!("there is no earlier generation to go back to from generation {}", view.generation);
            return Err(Failure::new(Code::Refused, message)
                .hint("`bundle switch --generation 0` takes everything down, if that is what you want"));
        }
    };
    let goal = generation(&changing.store, previous)?;
    // The goal's own record keeps naming what was good before it: two rollbacks go back two generations.
    return_to(context, &mut changing, view, &current, &goal, None, Conditions::default())
}

fn return_to(
    context: &Context<'_>,
    changing: &mut Changing,
    view: View,
    current: &Generation,
    goal: &Generation,
    previous: Option<GenerationNumber>,
    conditions: Conditions,
) -> Result<Code, Failure> {
    let number = goal.record.generation;
    if number == view.generation {
        return Ok(nothing(context, view));
    }
    if let Outcome::Failed(reason) = &goal.record.outcome {
        tell(&format!("warning: generation {number} failed when it was activated: {reason}"));
    }
    let manifest = goal.manifest.as_ref();
    let way = Way::to(&goal.record.outcome);
    let goal = Goal { number, bundle: goal.record.bundle, manifest, new: None, previous, conditions, way };
    go(context, changing, view, current, &goal)
}

fn to_reference(
    context: &Context<'_>,
    changing: &mut Changing,
    view: View,
    current: &Generation,
    reference: &Ref,
    arguments: &Arguments,
) -> Result<Code, Failure> {
    if arguments.first_boot
        && let Some(missing) = first_boot::token(&changing.store)?
    {
        return first_boot::wait(context, changing, reference, None, missing);
    }
    changing.lock.phase("stage")?;
    let staging = changing.store.staging()?;
    let Target { repository, reach, .. } = &arguments.target;
    let opened = context.fetch(reference, repository.as_ref(), reach, &staging)?;
    if current.record.bundle == Some(opened.digest()) {
        changing.store.clear_staging()?;
        return Ok(nothing(context, view));
    }
    let manifest = opened.manifest();
    if let Some(pin) = &manifest.activator {
        hand_over(context, changing, pin, &Source { reference, repository: repository.as_ref(), reach })?;
    }
    let number = changing.store.next_generation()?;
    let from = Side { view, manifest: current.manifest.as_ref() };
    let to = aim(&from, number, Some(manifest));
    let reasons = look_first(&changing.store, &to, Way::Forward)?;
    if arguments.first_boot
        && let [Reason::MissingSecrets(missing)] = reasons.as_slice()
    {
        changing.store.install(&opened).map_err(|error| Failure::of(Code::Refused, &error))?;
        first_boot::prepare(changing, &to);
        // One that has come meanwhile has found nobody waiting.
        let missing = changing.store.still_missing(missing)?;
        if !missing.is_empty() {
            return first_boot::wait(context, changing, reference, Some(opened.digest()), missing);
        }
    } else {
        refuse(reasons)?;
    }
    carried::load(changing.host.as_mut(), &changing.store, reference, manifest)?;
    changing.store.install(&opened).map_err(|error| Failure::of(Code::Refused, &error))?;
    let record = Record {
        schema: Record::SCHEMA,
        generation: number,
        bundle: Some(opened.digest()),
        profile: Some(manifest.profile.to_string()),
        source: arguments.target.reference.as_ref().map_or_else(String::new, ToString::to_string),
        by: who(),
        created: now(),
        outcome: Outcome::Pending,
        previous: Some(view.generation),
    };
    let goal = Goal {
        number,
        bundle: Some(opened.digest()),
        way: Way::Forward,
        manifest: Some(manifest),
        new: Some(record),
        previous: Some(view.generation),
        conditions: arguments.conditions,
    };
    go(context, changing, view, current, &goal)
}

/// Looks closely, makes the generation if it is new, and switches.
fn go(
    context: &Context<'_>,
    changing: &mut Changing,
    view: View,
    current: &Generation,
    goal: &Goal<'_>,
) -> Result<Code, Failure> {
    let from = Side { view, manifest: current.manifest.as_ref() };
    let to = aim(&from, goal.number, goal.manifest);
    changing.lock.phase("prepare")?;
    let began = std::time::Instant::now();
    let mut progress = |line: &str| tell(&format!("{:>6.1} s  {line}", began.elapsed().as_secs_f64()));
    let mut activator = changing.activator(&mut progress);
    let mut reasons = look_first(activator.store, &to, goal.way)?;
    reasons.extend(activator.look_closely(&to, goal.way, now())?);
    refuse(reasons)?;
    let plan = Plan::between(&from, &to, goal.way);
    if let Some(expected) = goal.conditions.expect_plan
        && expected != plan.digest()
    {
        let message = format!("the plan is now {}, not {expected}", plan.digest());
        return Err(Failure::new(Code::Moved, message).hint("look at `bundle plan` again"));
    }
    let plan = goal.conditions.asking.apply(plan, activator.host);
    activator.store.clear_waiting()?;
    if let Some(record) = &goal.new {
        activator.store.create_generation(record, goal.manifest)?;
    }
    let report = activator.switch(&from, &to, &plan, goal.previous)?;
    warn(&report);
    // Nothing is read any more: what has been done is not to be reported as refused because the disk fails now.
    let json =
        json!({ "current": to.view, "bundle": goal.bundle, "from": view, "warnings": report.warnings });
    print(context, json, || format!("{} is current", to.view));
    Ok(Code::Done)
}

fn refuse(reasons: Vec<Reason>) -> Result<(), Failure> {
    if reasons.is_empty() { Ok(()) } else { Err(Refusal { reasons }.into()) }
}

pub(super) fn nothing(context: &Context<'_>, view: View) -> Code {
    print(context, json!({ "current": view, "changed": false }), || format!("{view} is current already"));
    Code::NothingToChange
}
