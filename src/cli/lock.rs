//! `bundle lock`

mod dockerfiles;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, activator, print, tell};
use crate::artifacts::KINDS;
use crate::model::Digest;
use crate::profile::{ImageReference, Lock, Pin, Profile};
use crate::registry::Image;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// Ask again for these images, or for all; without it only for those that have no pin
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    /// Pin this program as the activator that fresh droplets fetch
    #[arg(long, value_name = "PATH")]
    activator: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let sources = arguments.profile.sources();
    let faulty = |faults: &crate::profile::Diagnostics| Failure::diagnostics(faults.render(false));
    let profile = Profile::parse(&sources, KINDS).map_err(|faults| faulty(&faults))?;
    let mut lock = Lock::parse(&sources);
    for faults in [profile.faults(), lock.faults()] {
        if faults.has_errors() {
            return Err(faulty(faults));
        }
    }
    let mut pinned = Vec::new();
    pin_images(context, arguments, &profile, &mut lock, &mut pinned)?;
    packages::choose(context, arguments.update.as_deref(), &profile, &mut lock, &mut pinned)?;
    dockerfiles::build(context, arguments.update.as_deref(), &profile, &mut lock, &mut pinned)?;
    if !lock.allocate(profile.placements()) {
        return Err(Failure::new(Code::Input, "there are no more addresses to give")
            .hint("entries of services that are gone for good may be taken out of `bundle.lock` by hand"));
    }
    if let Some(path) = &arguments.activator {
        let activator = activator::keep(context, path)?;
        pinned.push(format!("activator {}", activator.digest));
        lock.set_activator(activator);
    }
    let path = sources.lock_path();
    let text = lock.write();
    let changed = sources.text(&path) != Some(text.as_str());
    if changed {
        write_beside(Path::new(&path), &text)?;
    }
    print(context, json!({ "lock": path, "changed": changed, "pinned": pinned }), || {
        let mut lines = pinned.clone();
        lines.push(format!("`{path}` {}", if changed { "is written" } else { "is what it was" }));
        lines.join("\n")
    });
    Ok(if changed { Code::Done } else { Code::NothingToChange })
}

fn pin_images(
    context: &Context<'_>,
    arguments: &Arguments,
    profile: &Profile,
    lock: &mut Lock,
    changes: &mut Vec<String>,
) -> Result<(), Failure> {
    let asked = |reference: &str, name: &str| match &arguments.update {
        None => false,
        Some(names) => names.is_empty() || names.iter().any(|one| one == reference || one == name),
    };
    let own = profile.packages().map(|(name, _)| name.as_str());
    let own: Vec<_> = own.chain(profile.dockerfiles().map(|(name, _)| name.as_str())).collect();
    for name in arguments.update.iter().flatten() {
        let named = |image: &ImageReference| image.to_string() == *name || image.name.as_str() == name;
        if !profile.images().iter().any(named) && !own.contains(&name.as_str()) {
            let images = profile.images();
            let known = images.iter().map(|image| image.name.as_str()).chain(own.iter().copied());
            let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
            let message = format!("the profile has no image `{name}`; it has {}", known.join(", "));
            return Err(Failure::new(Code::Input, message));
        }
    }
    let mut failed: Option<Failure> = None;
    for reference in profile.images() {
        let text = reference.to_string();
        let known = lock.image(&reference).cloned();
        if reference.digest.is_some() || (known.is_some() && !asked(&text, reference.name.as_str())) {
            continue;
        }
        let image: Image = text.parse().map_err(|error| Failure::of(Code::Input, &error))?;
        let registry = context.registry(Some(image.repository.host()), &arguments.reach)?;
        let resolved = registry.resolve_tag(&image).and_then(|digest| {
            // Asked only about what is new: registries count how often a manifest is fetched, and not how often a tag is.
            let known = known.as_ref().filter(|pin| pin.digest == digest && !pin.placeholder);
            match known {
                Some(_) => Ok(None),
                None => Ok(Some((digest, registry.platform_manifest(&image, digest)?))),
            }
        });
        match resolved {
            Ok(None) => {}
            Ok(Some((digest, manifest))) => {
                changes.push(format!("{text} {digest}{}", before(known.as_ref(), manifest)));
                lock.pin(&reference, Pin { digest, manifest, placeholder: false });
            }
            Err(error) => {
                let failure = Failure::of(Code::Refused, &error);
                // Every image that is not to be had is named, not only the first.
                if let Some(first) = failed.replace(failure) {
                    tell(&first.render());
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What an image was, and whether droplets have to care.
fn before(known: Option<&Pin>, manifest: Option<Digest>) -> String {
    match known {
        None => String::new(),
        Some(Pin { digest, manifest: Some(was), .. }) if manifest == Some(*was) => {
            format!(" (was {digest}; for droplets it is the same image)")
        }
        Some(Pin { digest, .. }) => format!(" (was {digest})"),
    }
}

/// Nothing half-written: beside, then renamed.
fn write_beside(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("lock.new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        Failure::new(Code::Refused, format!("`{}` cannot be written: {error}", path.display()))
    })
}
