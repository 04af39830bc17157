//! `bundle lint`

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::profile::{Diagnostics, Severity, lints};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Arguments {
    /// `production` for `profiles/production.toml`, or a path
    #[arg(value_name = "PROFILE")]
    profile: Option<String>,
    /// List every lint, with its level and its reason
    #[arg(long)]
    list: bool,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let Some(profile) = &arguments.profile else {
        list(context);
        return Ok(Code::Done);
    };
    let profile = ProfileArgument { profile: profile.clone() };
    let resolved = profile.resolve()?;
    let tree = resolved.render().map_err(|error| Failure::of(Code::Input, &error))?;
    let found = resolved.judge(&tree).map_err(|faults| Failure::diagnostics(faults.render(false)))?;
    let json = json!({ "profile": resolved.spec.name, "found": found_json(&found) });
    print(context, json, || {
        if found.is_empty() {
            format!("`{}`: no lint finds anything", profile.path())
        } else {
            found.render(false)
        }
    });
    Ok(Code::Done)
}

fn found_json(found: &Diagnostics) -> Vec<Value> {
    let one = |item| {
        json!({
            "lint": crate::profile::Diagnostic::lint(item),
            "level": word(item.severity()),
            "place": found.place(item),
            "message": item.message(),
            "hints": item.hints(),
        })
    };
    found.iter().map(one).collect()
}

fn list(context: &Context<'_>) {
    let lints = lints();
    let json: Vec<Value> = lints
        .iter()
        .map(|lint| json!({ "name": lint.name, "level": word(lint.level), "reason": lint.reason }))
        .collect();
    print(context, json!({ "lints": json }), || {
        let widest = lints.iter().map(|lint| lint.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for lint in &lints {
            // Writing to a String cannot fail.
            let _ok = writeln!(text, "{:widest$}  {:7}  {}", lint.name, word(lint.level), lint.reason);
        }
        text
    });
}

fn word(level: Severity) -> &'static str {
    match level {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
