//! `bundle check`

use clap::Args;
use serde_json::json;

use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let (resolved, bundle) = arguments.profile.seal()?;
    let files = bundle.manifest().artifacts.len();
    let warnings = resolved.warnings.iter().count();
    let json = json!({ "profile": resolved.spec.name, "files": files, "warnings": warnings });
    print(context, json, || format!("`{}` is right: {files} files", arguments.profile.path()));
    Ok(Code::Done)
}
