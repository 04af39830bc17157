//! `bundle push`

use clap::Args;
use serde_json::json;

use super::build::keep;
use super::own_images;
use super::places::Reach;
use super::profile::{ProfileArgument, Sealed};
use super::report::{Code, Failure};
use super::{Context, activator, print, provenance, tell};
use crate::bundle::Layout;
use crate::registry::{Pushed, Repository, Tag};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// Send it there instead of to the profile's registry
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    /// Do not write down what the bundle is made of and how it was made
    #[arg(long)]
    no_provenance: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let sealed = arguments.profile.seal(context, &arguments.reach)?;
    let layout = keep(context, &sealed.bundle)?;
    let Sent { repository, pushed, with_activator } =
        send(context, &sealed, &layout, arguments.repository.as_ref(), &arguments.reach)?;
    if !arguments.no_provenance {
        let documents = provenance::documents(&arguments.profile, &sealed.bundle, &repository.to_string())
            .map_err(|error| Failure::of(Code::Refused, &error))?;
        provenance::keep(context, pushed.oci_digest, &documents)?;
    }
    let json = json!({
        "bundle": sealed.bundle.digest(),
        "manifest": pushed.oci_digest,
        "repository": repository.to_string(),
        "blobs_sent": pushed.blobs_sent,
        "activator_sent": with_activator,
    });
    print(context, json, || format!("{repository}@{}", pushed.oci_digest));
    Ok(Code::Done)
}

/// What was sent, and where to.
pub(super) struct Sent {
    pub(super) repository: Repository,
    pushed: Pushed,
    /// Whether the activator went along; it may have been there.
    with_activator: bool,
}

/// Sends a bundle to the repository that is named, or to its profile's.
pub(super) fn send(
    context: &Context<'_>,
    sealed: &Sealed,
    layout: &Layout,
    named: Option<&Repository>,
    reach: &Reach,
) -> Result<Sent, Failure> {
    let Sealed { resolved, bundle, images, .. } = sealed;
    let repository = match (named, &resolved.spec.registry) {
        (Some(named), _) => named.clone(),
        (None, Some(registry)) => {
            registry.repository.parse().map_err(|error| Failure::of(Code::Input, &error))?
        }
        (None, None) => {
            return Err(Failure::new(Code::Input, "the profile does not say where its bundle goes")
                .hint("give it a table `[registry]` with `repository = \"registry.example.com/team/app\"`"));
        }
    };
    let reach = &reach.of_profile(resolved.spec.registry.as_ref().and_then(|registry| registry.ca.as_ref()));
    let profile = &resolved.spec.name;
    let tag: Tag = profile.as_str().parse().map_err(|error| Failure::of(Code::Input, &error))?;
    // Before anything is sent: a bundle whose activator is nowhere boots no machine.
    let upload = match &resolved.spec.activator {
        Some(activator) => {
            let own = resolved.spec.registry.as_ref().and_then(|registry| registry.activator.as_ref());
            let to = own.map_or_else(|| Ok(repository.clone()), |text| text.parse());
            let to = to.map_err(|error| Failure::of(Code::Input, &error))?;
            Some(activator::find(context, activator, to, reach)?)
        }
        None => None,
    };
    // Images and activator first: what a tag names must be able to become current.
    own_images::push(context, resolved, images, reach)?;
    let with_activator = upload.as_ref().map_or(Ok(false), activator::Upload::send)?;
    if let Some(upload) = &upload {
        let how = if with_activator { "sent to" } else { "is already in" };
        tell(&format!("the activator {how} {}", upload.repository()));
    }
    let registry = context.registry(Some(repository.host()), reach)?;
    let pushed = registry.push_bundle(layout, bundle.oci_digest(), &repository, &tag);
    let pushed = pushed.map_err(|error| Failure::of(Code::Refused, &error))?;
    tell(&format!("{} blobs sent to {repository}, tagged `{tag}`", pushed.blobs_sent));
    Ok(Sent { repository, pushed, with_activator })
}
