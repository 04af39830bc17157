//! `bundle push`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::activator::{self, Upload};
use super::build::keep;
use super::own_images::{self, Sending};
use super::places::Reach;
use super::profile::{ProfileArgument, Sealed};
use super::provenance::Documents;
use super::report::{Code, Failure};
use super::{Context, carried, print, provenance, tell};
use crate::bundle::Layout;
use crate::model::json::CanonicalJsonError;
use crate::registry::{Asked, Pushed, Registry, Repository, Tag};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// Send it there instead of to the profile's registry
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    /// Ask for every image and blob, and attach what it is made of, even if the registry has the bundle
    #[arg(long)]
    again: bool,
    /// Do not write down what the bundle is made of and how it was made
    #[arg(long)]
    no_provenance: bool,
    /// Copy the images that the bundle names along with it, so that nobody else's registry is needed
    #[arg(long)]
    with_images: bool,
    /// Write it into this OCI layout instead of to a registry, for a droplet that reaches none
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repository", "again"])]
    layout: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// How a bundle is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How<'a> {
    /// The repository, if not the profile's.
    pub(super) named: Option<&'a Repository>,
    /// Whether all is asked for, although the bundle is there.
    pub(super) again: bool,
    /// Whether the images of others are copied along.
    pub(super) with_images: bool,
    /// Whether what it is made of is attached, and of which profile that is said.
    pub(super) provenance: Option<&'a ProfileArgument>,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let sealed = arguments.profile.seal(context, &arguments.reach)?;
    if let Some(directory) = &arguments.layout {
        return to_layout(context, &sealed, directory, arguments);
    }
    let layout = keep(context, &sealed.bundle)?;
    let how = How {
        named: arguments.repository.as_ref(),
        again: arguments.again,
        with_images: arguments.with_images,
        provenance: Some(&arguments.profile).filter(|_| !arguments.no_provenance),
    };
    let Sent { repository, pushed, with_activator } = send(context, &sealed, &layout, how, &arguments.reach)?;
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

/// Writes a bundle into a directory, for `bundle switch oci:DIR`.
fn to_layout(
    context: &Context<'_>,
    sealed: &Sealed,
    directory: &Path,
    arguments: &Arguments,
) -> Result<Code, Failure> {
    let registry = sealed.resolved.spec.registry.as_ref();
    let reach = arguments.reach.of_profile(registry.and_then(|registry| registry.ca.as_ref()));
    let images = carried::write(context, sealed, directory, arguments.with_images, &reach)?;
    let json = json!({
        "bundle": sealed.bundle.digest(),
        "manifest": sealed.bundle.oci_digest(),
        "layout": directory,
        "images": images,
    });
    print(context, json, || format!("oci:{}", directory.display()));
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
    how: How<'_>,
    reach: &Reach,
) -> Result<Sent, Failure> {
    let Sealed { resolved, bundle, .. } = sealed;
    let repository = repository(sealed, how.named)?;
    let reach = &reach.of_profile(resolved.spec.registry.as_ref().and_then(|registry| registry.ca.as_ref()));
    let profile = &resolved.spec.name;
    let tag: Tag = profile.as_str().parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let registry = context.registry(Some(repository.host()), reach)?;
    let refused = |error| Failure::of(Code::Refused, &error);
    let asked = if how.again {
        Asked::default()
    } else {
        registry.ask_bundle(&repository, bundle.digest(), bundle.oci_digest(), &tag).map_err(refused)?
    };
    // Before anything is sent: a bundle whose activator is nowhere boots no machine.
    let program = program(context, sealed, &repository, asked, reach)?;
    // Images and activator first: what a tag names must be able to become current.
    let own = if asked.is_there() {
        None
    } else {
        own_images::send(
            context,
            sealed,
            &Sending { registry: &registry, repository: &repository, how },
            reach,
        )?
    };
    if how.with_images {
        carried::mirror(context, sealed, &repository, how.again, reach)?;
    }
    let with_activator = match &program {
        Program::None => false,
        Program::There => {
            tell(&format!("the activator is already in {repository}"));
            false
        }
        Program::Found(upload) => {
            let sent = upload.send()?;
            let how = if sent { "sent to" } else { "is already in" };
            tell(&format!("the activator {how} {}", upload.repository()));
            sent
        }
    };
    let pushed = registry.send_bundle(layout, bundle.oci_digest(), &repository, asked).map_err(refused)?;
    if !asked.tag {
        if let Some(profile) = how.provenance {
            let of_bundle = provenance::of_bundle(profile, sealed, &repository).map_err(unwritten)?;
            of_bundle.keep(context)?;
            attach(&registry, &repository, own.as_ref(), &of_bundle)?;
        }
        let own_tag = (!asked.bundle).then(|| (bundle.oci_digest(), Tag::of_bundle(bundle.digest())));
        let mut tags: Vec<_> = own_tag.into_iter().collect();
        match own {
            Some(own) if own.repository == repository => tags.extend(own.tags),
            Some(own) => own.client(&registry).tag(layout, &own.repository, &own.tags).map_err(refused)?,
            None => {}
        }
        registry.tag(layout, &repository, &tags).map_err(refused)?;
        // Last of all: whoever sees it there may believe in all the rest.
        registry.tag(layout, &repository, &[(bundle.oci_digest(), tag.clone())]).map_err(refused)?;
    }
    tell(&format!("{} blobs sent to {repository}, tagged `{tag}`", pushed.blobs_sent));
    Ok(Sent { repository, pushed, with_activator })
}

/// Attaches what the bundle and its own images are made of, all at once where they are in one repository.
fn attach(
    registry: &Registry,
    repository: &Repository,
    own: Option<&own_images::Sent>,
    of_bundle: &Documents,
) -> Result<(), Failure> {
    let of_images = own.map(|own| own.documents.as_slice()).unwrap_or_default();
    match own.filter(|own| own.repository != *repository) {
        None => provenance::attach(registry, repository, of_images.iter().chain([of_bundle])),
        Some(own) => {
            provenance::attach(own.client(registry), &own.repository, of_images)?;
            provenance::attach(registry, repository, [of_bundle])
        }
    }
}

/// A document that cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
pub(super) fn unwritten(error: CanonicalJsonError) -> Failure {
    Failure::of(Code::Refused, &error)
}

/// Where a bundle goes.
fn repository(sealed: &Sealed, named: Option<&Repository>) -> Result<Repository, Failure> {
    match (named, &sealed.resolved.spec.registry) {
        (Some(named), _) => Ok(named.clone()),
        (None, Some(registry)) => {
            registry.repository.parse().map_err(|error| Failure::of(Code::Input, &error))
        }
        (None, None) => Err(Failure::new(Code::Input, "the profile does not say where its bundle goes")
            .hint("give it a table `[registry]` with `repository = \"registry.example.com/team/app\"`")),
    }
}

/// The activator that goes with a bundle.
enum Program {
    /// The bundle pins none.
    None,
    /// It is in the bundle's own repository, because the bundle is.
    There,
    /// It was asked for, and if it is not there, it is here.
    Found(Box<Upload>),
}

/// Finds the activator. A repository of its own is no part of the bundle's digest, so that one is asked always.
fn program(
    context: &Context<'_>,
    sealed: &Sealed,
    repository: &Repository,
    asked: Asked,
    reach: &Reach,
) -> Result<Program, Failure> {
    let spec = &sealed.resolved.spec;
    let Some(activator) = &spec.activator else { return Ok(Program::None) };
    let own = spec.registry.as_ref().and_then(|registry| registry.activator.as_ref());
    if own.is_none() && asked.is_there() {
        return Ok(Program::There);
    }
    let to = own.map_or_else(|| Ok(repository.clone()), |text| text.parse());
    let to = to.map_err(|error| Failure::of(Code::Input, &error))?;
    activator::find(context, activator, to, reach).map(|upload| Program::Found(Box::new(upload)))
}
