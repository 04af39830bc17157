//! A profile's own images, built again, against those that a bundle names.

use super::super::Context;
use super::super::own_images::Own;
use super::super::places::Reach;
use super::super::profile::Sealed;
use super::super::report::{Code, Failure};
use crate::bundle::manifest::{ImagePin, Manifest};
use crate::bundle::oci::Descriptor;
use crate::bundle::{Blob, ImageFiles, Layout, Platform};
use crate::image::build;
use crate::image::compare::{self, Comparison, Difference, Side};
use crate::model::{Digest, ImageName};
use crate::registry::Image;

/// What a bundle names under the name of one of the profile's own images: of several, the one in the profile's
/// repository. A bundle that does not name it differs from the new one, which is said of the bundle.
pub(super) fn pinned<'m>(sealed: &Sealed, theirs: &'m Manifest, name: &ImageName) -> Option<&'m ImagePin> {
    let own = sealed.resolved.spec.registry.as_ref().map(|registry| format!("{}@", registry.repository));
    let named = theirs.images.iter().filter(|pin| pin.name == *name);
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|pin| own.as_ref().is_none_or(|own| !pin.reference.starts_with(own)));
    named.first().copied()
}

/// Compares an image with the one that a bundle names, of which only what differs is fetched, and verified.
pub(super) fn compare(
    context: &Context<'_>,
    sealed: &Sealed,
    own: &Own,
    pin: &ImagePin,
    reach: &Reach,
) -> Result<Comparison, Failure> {
    if own.digest == pin.digest {
        return Ok(Comparison::Identical);
    }
    let Some(built) = own.built.as_ref().filter(|_| own.dockerfile.is_none()) else {
        let what = format!("the lock says that its Dockerfile came to {}, not to {}", own.digest, pin.digest);
        return Ok(Comparison::Content(Difference { layer: 0, path: None, what }));
    };
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let image: Image = pin.reference.parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let reach = &reach.of_profile(sealed.resolved.spec.registry.as_ref().and_then(|one| one.ca.as_ref()));
    let client = context.registry(Some(image.repository.host()), reach)?;
    let ours = Layout::open(&context.layout_dir()?).map_err(|error| refused(&error))?;
    let directory = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Refused, format!("no temporary directory for the image: {error}"))
    })?;
    let theirs = Layout::create(directory.path()).map_err(|error| refused(&error))?;
    let mut encoded = false;
    for one in &built.platforms {
        let architecture = one.architecture.clone();
        let platform = Platform { os: "linux".to_owned(), architecture, variant: None };
        let documents = client.manifest_and_config(&image, &platform).map_err(|error| refused(&error))?;
        let manifest = Digest::of(&documents.manifest);
        if manifest == one.manifest.digest {
            continue;
        }
        let files = client.pull_image(&image, manifest, &theirs).map_err(|error| refused(&error))?;
        let there = Side { layout: &theirs, image: &files };
        compare::verify(there).map_err(|error| refused(&error))?;
        let here = Side { layout: &ours, image: &files_of(one) };
        match compare::compare(here, there).map_err(|error| refused(&error))? {
            Comparison::Identical => {}
            Comparison::Encoding => encoded = true,
            other @ Comparison::Content(_) => return Ok(other),
        }
    }
    if encoded {
        return Ok(Comparison::Encoding);
    }
    let what = "its platforms are the same, the index over them is another one".to_owned();
    Ok(Comparison::Content(Difference { layer: 0, path: None, what }))
}

/// The files of an image that was built, its base's layers first.
fn files_of(platform: &build::Platform) -> ImageFiles {
    let blob = |Descriptor { media_type, digest, size }: &Descriptor| Blob {
        media_type: media_type.clone(),
        digest: *digest,
        size: *size,
    };
    let layers = platform.base.iter().chain(platform.layers.iter().map(|layer| &layer.blob));
    ImageFiles {
        manifest: blob(&platform.manifest),
        config: blob(&platform.config),
        layers: layers.map(blob).collect(),
    }
}
