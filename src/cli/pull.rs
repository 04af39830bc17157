//! `bundle pull`

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::registry::{Ref, Repository};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `repo:tag`, `repo@sha256:…`, `oci:PATH`, or a bundle's own `sha256:…`
    reference: Ref,
    /// Where a bundle's own digest is looked for
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let directory = context.layout_dir()?;
    let repository = arguments.repository.as_ref();
    let opened = context.fetch(&arguments.reference, repository, &arguments.reach, &directory)?;
    let json = json!({ "bundle": opened.digest(), "manifest": opened.oci_digest(), "layout": directory });
    print(context, json, || opened.digest().to_string());
    Ok(Code::Done)
}
