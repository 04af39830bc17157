//! Images that a Dockerfile makes: nothing is built here. The lock says what they came to, if their sources are still the
//! same; their blobs are in the builder's cache, or with the registry.

use std::collections::BTreeMap;

use super::super::Context;
use super::super::places::Reach;
use super::super::report::{Code, Failure};
use super::Own;
use crate::bundle::Layout;
use crate::image::{self, Built, context, foreign};
use crate::model::{Digest, ImageName};
use crate::profile::Resolved;
use crate::registry::{Image, Registry, Repository};
use crate::spec::{DockerfileRecipe, LockedDockerfile};

/// What an image is built from.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Inputs {
    /// Of the archive.
    pub(in crate::cli) context: Digest,
    /// Of everything.
    pub(in crate::cli) all: Digest,
}

/// Reads the files of a recipe's context: they, and the digests that stand for them.
pub(in crate::cli) fn prepare(recipe: &DockerfileRecipe) -> Result<(image::Context, Inputs), Failure> {
    let input = |error: &dyn std::error::Error| Failure::of(Code::Input, error);
    let files = image::Context::gather(recipe).map_err(|error| input(&error))?;
    let context = files.digest().map_err(|error| input(&error))?;
    let all = context::inputs(recipe, context).map_err(|error| input(&error))?;
    Ok((files, Inputs { context, all }))
}

pub(in crate::cli) fn refused(error: &dyn std::error::Error) -> Failure {
    Failure::of(Code::Refused, error)
}

/// What the lock says of an image, if it is still made of the same.
pub(super) fn locked(layout: &Layout, name: &ImageName, locked: &LockedDockerfile) -> Result<Own, Failure> {
    let LockedDockerfile { recipe, lock } = locked;
    let read = prepare(recipe);
    let (_, inputs) = read
        .map_err(|failure| failure.within(format!("what the image `{name}` is built from cannot be read")))?;
    if inputs.all != lock.inputs {
        return Err(Failure::new(Code::Input, format!("the image `{name}` is not what the lock says"))
            .because("its Dockerfile, its context or what is said of them has changed since it was locked")
            .hint("run `bundle lock PROFILE` where Docker is: that builds it again")
            .hint(format!(
                "if nobody meant a change, look for what lies about in `{}`, and leave it out with `exclude`",
                recipe.context.from.display()
            )));
    }
    // Without its documents here it may still be in the registry, and whether it is matters to those who send it only.
    let built = foreign::describe(layout, lock.digest, &recipe.architectures).ok();
    Ok(Own { digest: lock.digest, built, mounts: BTreeMap::new(), dockerfile: Some(locked.clone()) })
}

/// Sees that an image that is not here is in the repository that it would be sent to.
pub(super) fn must_be_there(
    client: &Registry,
    repository: &Repository,
    name: &ImageName,
    digest: Digest,
) -> Result<(), Failure> {
    if client.has_image(repository, digest).map_err(|error| refused(&error))? {
        return Ok(());
    }
    let message = format!("the image `{name}` ({digest}) is neither in the cache here nor in {repository}");
    Err(Failure::new(Code::Refused, message)
        .hint("`bundle push` sends it from the machine on which `bundle lock` has built it")
        .hint(format!("or build it again here: `bundle lock PROFILE --update {name}`")))
}

/// The image's documents and layers: from the cache, or fetched into it from the profile's registry.
pub(in crate::cli) fn here(
    context: &Context<'_>,
    resolved: &Resolved,
    name: &ImageName,
    own: &Own,
    reach: &Reach,
) -> Result<Built, Failure> {
    let layout = Layout::create(&context.layout_dir()?).map_err(|error| refused(&error))?;
    let Some(LockedDockerfile { recipe, .. }) = &own.dockerfile else {
        return own.built.clone().ok_or_else(|| Failure::new(Code::Refused, "the image was not built"));
    };
    let whole = |built: &Built| {
        let mut layers = built.platforms.iter().flat_map(|one| &one.layers);
        layers.all(|layer| layout.has_file(layer.blob.digest, layer.blob.size))
    };
    if let Some(built) = own.built.as_ref().filter(|built| whole(built)) {
        return Ok(built.clone());
    }
    let hint = format!("build it again: `bundle lock PROFILE --update {name}`");
    let Some(registry) = &resolved.spec.registry else {
        let message = format!("the image `{name}` ({}) is not in the cache here", own.digest);
        return Err(Failure::new(Code::Refused, message).hint(hint));
    };
    let repository: Repository =
        registry.repository.parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let client = context.registry(Some(repository.host()), &reach.of_profile(registry.ca.as_ref()))?;
    must_be_there(&client, &repository, name, own.digest)?;
    let image = Image { repository, tag: None, digest: Some(own.digest) };
    client.pull_image(&image, own.digest, &layout).map_err(|error| refused(&error))?;
    let built = foreign::describe(&layout, own.digest, &recipe.architectures);
    // Of an index only what a droplet runs is fetched.
    built.ok().filter(whole).ok_or_else(|| {
        let message = format!("not all of the image `{name}` ({}) is in the cache here", own.digest);
        Failure::new(Code::Refused, message).hint(hint)
    })
}
