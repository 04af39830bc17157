//! `bundle image`

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::ProfileArgument;
use super::report::{Code, Failure};
use super::{Context, own_images, print};
use crate::bundle::Layout;
use crate::image::Built;
use crate::model::ImageName;
use crate::registry::Tag;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// The name that it has in the profile
    #[arg(value_name = "NAME")]
    name: String,
    /// Write it into this OCI layout too
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    /// Its tag in that layout; its name, if nothing is said
    #[arg(long, value_name = "TAG", requires = "layout")]
    tag: Option<Tag>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let resolved = arguments.profile.resolve()?;
    let unknown = || {
        let known = resolved.images.keys().chain(resolved.dockerfiles.keys());
        let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
        let failure = Failure::new(Code::Input, format!("the profile makes no image `{}`", arguments.name));
        if known.is_empty() { failure } else { failure.hint(format!("it makes {}", known.join(", "))) }
    };
    let name: ImageName = arguments.name.parse().map_err(|_| unknown())?;
    let images = own_images::build(context, &resolved, &BTreeSet::from([name.clone()]), &arguments.reach)?;
    let own = images.get(&name).ok_or_else(unknown)?;
    let mut built = own.built.clone();
    if let Some(directory) = &arguments.layout {
        let tag = arguments.tag.as_ref().map_or(name.as_str(), Tag::as_str);
        let whole = own_images::dockerfile::here(context, &resolved, &name, own, &arguments.reach)?;
        export(context, own, &whole, directory, tag)?;
        built = Some(whole);
    }
    let platforms = built.iter().flat_map(|built| &built.platforms);
    let json = json!({
        "image": name,
        "digest": own.digest,
        "platforms": platforms.map(|one| json!({
            "architecture": one.architecture,
            "manifest": one.manifest.digest,
            "config": one.config.digest,
            "layers": one.layers.iter().map(|layer| &layer.blob).collect::<Vec<_>>(),
            "base_layers": one.base,
        })).collect::<Vec<_>>(),
        "layers_written": built.as_ref().map_or(0, |built| built.written),
    });
    print(context, json, || own.digest.to_string());
    Ok(Code::Done)
}

/// Copies an image into another layout; layers of a base that are nowhere on this machine stay where they are.
fn export(
    context: &Context<'_>,
    own: &own_images::Own,
    built: &Built,
    directory: &std::path::Path,
    tag: &str,
) -> Result<(), Failure> {
    let refused = |error: crate::bundle::LayoutError| Failure::of(Code::Refused, &error);
    let from = Layout::open(&context.layout_dir()?).map_err(refused)?;
    let to = Layout::create(directory).map_err(refused)?;
    if let Some(away) =
        built.platforms.iter().flat_map(|one| &one.base).find(|layer| own.mounts.contains_key(&layer.digest))
    {
        let message = format!("the base's layer {} is in its registry and not here", away.digest);
        return Err(Failure::new(Code::Input, message).hint("`bundle push --with-images` sends it along"));
    }
    for platform in &built.platforms {
        let layers = platform.layers.iter().map(|layer| &layer.blob).chain(&platform.base);
        for blob in layers.chain([&platform.config, &platform.manifest]) {
            to.copy_blob(&from, blob.digest, blob.size).map_err(refused)?;
        }
    }
    to.copy_blob(&from, built.root.digest, built.root.size).map_err(refused)?;
    to.enter_image(&built.root, tag).map_err(refused)
}
