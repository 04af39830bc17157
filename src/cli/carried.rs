//! A bundle with all that it needs in one directory: written by the builder for a droplet that reaches no registry, and
//! taken there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::own_images::Own;
use super::places::Reach;
use super::profile::Sealed;
use super::receive::Taking;
use super::report::{Code, Failure};
use super::{Context, activator, own_images, tell};
use crate::activate::Host;
use crate::bundle::activator::{ActivatorArtifact, EMPTY, activator_tag};
use crate::bundle::image::{Document, Leads};
use crate::bundle::oci::{Descriptor, MANIFEST_TYPE, MAX_MANIFEST};
use crate::bundle::parcel::{self, Taker as _};
use crate::bundle::{ImagePin, Layout, LayoutError, Manifest};
use crate::model::Digest;
use crate::registry::{Image, Ref, Repository, Shipment};
use crate::spec::Activator;
use crate::store::Store;

/// Writes a bundle and its activator into a layout, and its images if that is wanted.
pub(super) fn write(
    context: &Context<'_>,
    sealed: &Sealed,
    directory: &Path,
    with_images: bool,
    reach: &Reach,
) -> Result<usize, Failure> {
    let Sealed { resolved, bundle, images, .. } = sealed;
    let to = Layout::create(directory).map_err(refused)?;
    let entries = to.entries().map_err(refused)?;
    if entries.iter().any(|entry| entry.is_bundle() && entry.manifest != bundle.oci_digest()) {
        let message = format!("`{}` holds another bundle", directory.display());
        return Err(Failure::new(Code::Input, message).hint("name a directory that is not there yet"));
    }
    if let Some(activator) = &resolved.spec.activator {
        put_activator(context, activator, &to)?;
    }
    let wanted = if with_images { bundle.manifest().images.as_slice() } else { &[] };
    for pin in wanted {
        let own = images.values().find(|own| own.digest == pin.digest);
        put_image(context, own, pin, &to, reach)?;
    }
    // Last: where the bundle is, all else is.
    to.add(bundle).map_err(refused)?;
    Ok(wanted.len())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
fn refused(error: LayoutError) -> Failure {
    Failure::of(Code::Refused, &error)
}

fn put_activator(context: &Context<'_>, activator: &Activator, to: &Layout) -> Result<(), Failure> {
    let Activator { digest, size } = *activator;
    let program = activator::program(context, activator)?.ok_or_else(|| {
        Failure::new(Code::Refused, format!("the program of the activator {digest} is not on this machine"))
            .hint("run `bundle lock PROFILE --activator PATH` with that program, or with another one")
    })?;
    let lost = |error: std::io::Error| {
        Failure::new(Code::Refused, format!("`{}` cannot be read: {error}", program.display()))
    };
    let mut file = File::open(&program).map_err(lost)?;
    let (mut incoming, mut buffer) = (to.incoming(digest, size).map_err(refused)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(lost)? {
            0 => break,
            read => drop(incoming.write(&buffer[..read]).map_err(refused)?),
        }
    }
    let found = incoming.finish().map_err(refused)?;
    if found != digest {
        let path = program;
        return Err(refused(LayoutError::Corrupt { path, digest, found }));
    }
    // Named by a manifest, so that no tool takes it for garbage.
    let artifact = ActivatorArtifact::of(digest, size).map_err(|error| Failure::of(Code::Refused, &error))?;
    for bytes in [EMPTY, &artifact.manifest] {
        to.write_blob(bytes).map_err(refused)?;
    }
    to.enter_image(&Descriptor::of(MANIFEST_TYPE, &artifact.manifest), &activator_tag(digest))
        .map_err(refused)
}

/// What an image's digest leads to on a droplet: from the builder's cache if it is the profile's own, the rest from its
/// registry, each blob by its digest. Of an index that is the index itself, so that the digest stays, and one manifest: a
/// layout may lack the others (image-spec, `image-layout.md`, "Blobs": "MAY be missing referenced blobs"), and neither
/// `bundle switch` nor `skopeo copy` without `--all` asks for them. A registry may refuse such an index; see
/// [`mirror`].
fn put_image(
    context: &Context<'_>,
    own: Option<&Own>,
    pin: &ImagePin,
    to: &Layout,
    reach: &Reach,
) -> Result<(), Failure> {
    let image: Image = pin.reference.parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let mut from = Some(image.repository);
    // One that was built elsewhere is in the registry like those of others.
    if let Some(own) = own.filter(|own| own.built.is_some()) {
        let cache = Layout::open(&context.layout_dir()?).map_err(refused)?;
        copy(&cache, to, pin.digest)?;
        // Layers of a base that never came here; what a Dockerfile made has no base that is known, and may have been
        // cleared away.
        from = from.filter(|_| own.dockerfile.is_some()).or_else(|| own.mounts.values().next().cloned());
    }
    if let Some(repository) = from {
        let registry = context.registry(Some(repository.host()), reach)?;
        let image = Image { repository, tag: None, digest: Some(pin.digest) };
        let pulled = registry.pull_image(&image, pin.digest, to);
        pulled.map_err(|error| Failure::of(Code::Refused, &error))?;
    }
    let bytes = to.read_blob(pin.digest, MAX_MANIFEST).map_err(refused)?;
    let (Leads::Blobs(kind, _) | Leads::Manifests(kind, _)) =
        Leads::of(&bytes).map_err(|error| Failure::of(Code::Refused, &error))?;
    to.enter_image(&Descriptor::of(&kind, &bytes), own_images::tag(pin.digest)?.as_str()).map_err(refused)?;
    tell(&format!("{} is in `{}`", pin.reference, to.root().display()));
    Ok(())
}

/// Copies of an image what the one layout has and a droplet needs.
fn copy(from: &Layout, to: &Layout, digest: Digest) -> Result<(), Failure> {
    let wrong = |error| Failure::of(Code::Refused, &error);
    let bytes = from.read_blob(digest, MAX_MANIFEST).map_err(refused)?;
    to.write_blob(&bytes).map_err(refused)?;
    match Document::parse(&bytes).map_err(wrong)? {
        Document::Index(manifest) => copy(from, to, manifest.digest),
        Document::Image(files) => {
            let blobs = [&files.config].into_iter().chain(&files.layers);
            blobs
                .filter(|blob| from.has_file(blob.digest, blob.size))
                .try_for_each(|blob| to.copy_blob(from, blob.digest, blob.size).map_err(refused))
        }
    }
}

/// Has the host load those of a bundle's images that it does not have and that lie in the layout which the bundle came
/// in. What the layout does not have is left to the registry.
pub(super) fn load(
    host: &mut dyn Host,
    store: &Store,
    reference: &Ref,
    manifest: &Manifest,
) -> Result<(), Failure> {
    let Ref::Layout(path) = reference else { return Ok(()) };
    let layout = Layout::open(path).map_err(refused)?;
    let mut taking = Taking { host, store, taken: 0 };
    for pin in &manifest.images {
        if !layout.blob_path(pin.digest).exists() || taking.host.has_image(pin) {
            continue;
        }
        let files = parcel::whole(&layout, pin.digest).map_err(|error| Failure::of(Code::Refused, &error))?;
        let bytes = files.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let loaded = taking.room(pin, bytes).and_then(|()| taking.take(pin, &files, &layout));
        loaded.map_err(|why| Failure::new(Code::Refused, why))?;
    }
    Ok(())
}

/// Copies those of a bundle's images that others have published into the bundle's own repository, for every platform.
pub(super) fn mirror(
    context: &Context<'_>,
    sealed: &Sealed,
    repository: &Repository,
    again: bool,
    reach: &Reach,
) -> Result<(), Failure> {
    let through = Layout::create(&context.cache()?.join("images")).map_err(refused)?;
    for pin in &sealed.bundle.manifest().images {
        let image: Image = pin.reference.parse().map_err(|error| Failure::of(Code::Input, &error))?;
        if image.repository == *repository {
            continue;
        }
        let registry = context.registry_of(&[image.repository.host(), repository.host()], reach)?;
        let (digest, tag) = (pin.digest, own_images::tag(pin.digest)?);
        let (layout, tag, mounts) = (&through, &tag, &BTreeMap::new());
        let shipment = Shipment { layout, digest, repository, tag, mounts, again };
        let pushed = registry.mirror_image(&image.repository, shipment);
        let pushed = pushed.map_err(|error| Failure::of(Code::Refused, &error))?;
        tell(&format!(
            "{}: {} blobs sent to {repository} ({} bytes), {} mounted",
            image.repository, pushed.blobs_sent, pushed.bytes_sent, pushed.blobs_mounted
        ));
    }
    Ok(())
}
