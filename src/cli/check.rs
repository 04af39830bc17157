//! `bundle check`

use clap::Args;
use serde_json::json;

use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::artifacts::KINDS;
use crate::profile::{Diagnostics, Severity, check};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let path = arguments.profile.path();
    if context.json
        && let Err(faults) = check(&arguments.profile.sources(), KINDS)
    {
        // For programs, what is wrong is the result; people read it on stderr as ever.
        print(context, report(&path, false, &faults), String::new);
        return Err(Failure::diagnostics(faults.render(false)));
    }
    let (resolved, files) = arguments.profile.judge()?;
    let mut json = report(&path, true, &resolved.warnings);
    json["profile"] = json!(resolved.spec.name);
    json["files"] = json!(files);
    print(context, json, || format!("`{path}` is right: {files} files"));
    Ok(Code::Done)
}

/// What is wrong, or worth saying, for programs.
fn report(path: &str, right: bool, faults: &Diagnostics) -> serde_json::Value {
    let findings = faults.findings();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    json!({
        "path": path,
        "right": right,
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "diagnostics": findings,
    })
}
