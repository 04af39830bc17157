//! `bundle unpack`

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::bundle::oci::MAX_CONFIG;
use crate::bundle::{ImageFiles, Layout, Platform};
use crate::image::BaseImage;
use crate::image::unpack::{self, Limits, UnpackError, Unpacked};
use crate::registry::Image;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `repo:tag`, `repo@sha256:…`, or an OCI layout: `oci:PATH` or `oci:PATH:TAG`
    #[arg(value_name = "IMAGE")]
    image: What,
    /// A directory that is not there yet, or is empty
    #[arg(value_name = "DIR")]
    into: PathBuf,
    /// Which image of an index, such as `linux/arm64`, if not the droplets'
    #[arg(long)]
    platform: Option<Platform>,
    #[command(flatten)]
    reach: Reach,
}

/// What is to be unpacked.
#[derive(Debug, Clone)]
enum What {
    Image(Image),
    Layout(PathBuf, Option<String>),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("oci:") else {
            return text.parse().map(Self::Image).map_err(|error| format!("{error}"));
        };
        // As skopeo reads it: a tag has no slash in it.
        match path.rsplit_once(':') {
            Some((path, tag)) if !path.is_empty() && !tag.is_empty() && !tag.contains('/') => {
                Ok(Self::Layout(path.into(), Some(tag.to_owned())))
            }
            _ if path.is_empty() => Err("`oci:` is followed by the path of an OCI image layout".to_owned()),
            _ => Ok(Self::Layout(path.into(), None)),
        }
    }
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let (layout, image) = find(context, arguments)?;
    if let Some(platform) = &arguments.platform {
        is_for(&layout, &image, platform)?;
    }
    let done = unpack::unpack(&layout, &image, &arguments.into, Limits::default())
        .map_err(|error| failure(&error))?;
    for note in notes(&done) {
        tell(&format!("note: {note}"));
    }
    let json = json!({
        "image": image.manifest.digest,
        "directory": arguments.into,
        "layers": done.layers,
        "members": done.members,
        "bytes": done.bytes,
        "owners_not_kept": done.owners,
        "capabilities_not_kept": done.capabilities,
        "attributes_not_kept": done.attributes,
    });
    print(context, json, || image.manifest.digest.to_string());
    Ok(Code::Done)
}

fn find(context: &Context<'_>, arguments: &Arguments) -> Result<(Layout, ImageFiles), Failure> {
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let platform = &arguments.platform.clone().unwrap_or_else(Platform::droplet);
    match &arguments.image {
        What::Layout(path, tag) => {
            let layout = Layout::open(path).map_err(|error| refused(&error))?;
            let image =
                unpack::find_for(&layout, tag.as_deref(), platform).map_err(|error| failure(&error))?;
            Ok((layout, image))
        }
        What::Image(image) => {
            let layout = Layout::create(&context.layout_dir()?).map_err(|error| refused(&error))?;
            let registry = context.registry(Some(image.repository.host()), &arguments.reach)?;
            let digest = registry.resolve_tag(image).map_err(|error| refused(&error))?;
            let files = registry.pull_image_for(image, digest, platform, &layout);
            let files = files.map_err(|error| refused(&error))?;
            Ok((layout, files))
        }
    }
}

/// Whoever names a platform gets no other one, also where there is no index to choose from.
fn is_for(layout: &Layout, image: &ImageFiles, platform: &Platform) -> Result<(), Failure> {
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let config = layout.read_blob(image.config.digest, MAX_CONFIG).map_err(|error| refused(&error))?;
    BaseImage::new(image, &config, &platform.architecture).map(drop).map_err(|error| refused(&error))
}

fn failure(error: &UnpackError) -> Failure {
    let failure = Failure::of(Code::Refused, error);
    match error {
        UnpackError::Taken(_) => failure.hint("name a directory that is not there yet"),
        UnpackError::NotOne { .. } => failure.hint("name one of them: `oci:PATH:TAG`"),
        _ => failure,
    }
}

fn notes(done: &Unpacked) -> Vec<String> {
    let said = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    [
        said(done.owners, "members belong to you now: only root can give them their owners"),
        said(done.capabilities, "files have no capabilities now: only root can give them"),
        said(
            done.attributes,
            "extended attributes were left out; of those, images keep `security.capability` alone",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
