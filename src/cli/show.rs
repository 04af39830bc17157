//! `bundle show`

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::bundle::{Layout, Manifest, OpenedBundle, Verified};
use crate::model::{Digest, SecretOrigin};
use crate::registry::{Ref, Repository};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A profile, or a bundle: `repo:tag`, `repo@sha256:…`, `oci:PATH`, `sha256:…`
    #[arg(value_name = "PROFILE|REF")]
    what: String,
    /// Where a bundle's own digest is looked for
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let (digest, manifest) = find(context, arguments)?;
    print(context, json!({ "bundle": digest, "manifest": manifest }), || render(digest, &manifest));
    Ok(Code::Done)
}

/// A word without `:` is a profile; everything else is a reference.
fn find(context: &Context<'_>, arguments: &Arguments) -> Result<(Digest, Manifest), Failure> {
    if !arguments.what.contains(':') {
        let profile = ProfileArgument { profile: arguments.what.clone() };
        let bundle = profile.seal(context, &arguments.reach)?.bundle;
        return Ok((bundle.digest(), bundle.manifest().clone()));
    }
    let reference: Ref = arguments.what.parse().map_err(|error| Failure::of(Code::Input, &error))?;
    if let Ref::Bundle(digest) = reference {
        if let Ok(manifest) = context.store().manifest(digest) {
            return Ok((digest, manifest));
        }
        if let Ok(layout) = Layout::open(&context.layout_dir()?)
            && let Ok(opened) = Verified::<OpenedBundle>::by_bundle(&layout, digest)
        {
            return Ok((digest, opened.manifest().clone()));
        }
    }
    let directory = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Refused, format!("no temporary directory for the bundle: {error}"))
    })?;
    let repository = arguments.repository.as_ref();
    let opened = context.fetch(&reference, repository, &arguments.reach, directory.path())?;
    Ok((opened.digest(), opened.manifest().clone()))
}

fn render(digest: Digest, manifest: &Manifest) -> String {
    let mut lines = vec![
        format!("bundle   {digest}"),
        format!("profile  {} for {}", manifest.profile, manifest.domain),
        format!("release  {}", manifest.release),
        String::new(),
        "files".to_owned(),
    ];
    for entry in &manifest.artifacts {
        let slots = format!("{:?}", entry.slots).to_lowercase();
        lines.push(format!(
            "  {:<46} {slots:<6} {:>7} B  {}  {}  {}",
            entry.path.to_string(),
            entry.size,
            entry.digest.short(),
            entry.mode,
            entry.kind,
        ));
    }
    lines.push("images".to_owned());
    lines.extend(manifest.images.iter().map(|image| format!("  {}", image.reference)));
    lines.push("networks".to_owned());
    for network in &manifest.networks {
        let way_out = if network.internal { "  internal" } else { "" };
        lines.push(format!("  {:<8} {}{way_out}", network.name.to_string(), network.subnet));
    }
    lines.push("secrets".to_owned());
    for (name, origin) in &manifest.secrets {
        let origin = match origin {
            SecretOrigin::Generate(_) => "made on the machine",
            SecretOrigin::Operator => "sent by the operator: `bundle secrets set`",
            SecretOrigin::Template(_) => "put together on the machine",
        };
        lines.push(format!("  {:<24} {origin}", name.to_string()));
    }
    lines.join("\n")
}
