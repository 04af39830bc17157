//! Building the images of Dockerfiles, by whoever has Docker; what they came to is locked for everybody else.

use std::cell::RefCell;

use super::super::cache::SCRATCH;
use super::super::own_images::dockerfile::{prepare, refused};
use super::super::report::{Code, Failure};
use super::super::{Context, tell};
use crate::bundle::Layout;
use crate::bundle::oci::MAX_MANIFEST;
use crate::host::{BuildOrder, Buildx, BuildxError};
use crate::image::{Built, foreign};
use crate::model::Digest;
use crate::profile::{Lock, Profile};
use crate::spec::{DockerfileLock, DockerfileRecipe};

/// Builds where the lock has nothing or other sources, and where `update` says so.
pub(super) fn build(
    context: &Context<'_>,
    update: Option<&[String]>,
    profile: &Profile,
    lock: &mut Lock,
    changes: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut buildx = None;
    for (name, recipe) in profile.dockerfiles() {
        let within = |failure: Failure| failure.within(format!("the image `{name}` cannot be built"));
        let (files, inputs) = prepare(recipe).map_err(within)?;
        let renew =
            update.is_some_and(|names| names.is_empty() || names.iter().any(|one| one == name.as_str()));
        if !renew && lock.dockerfile(name.as_str()).is_some_and(|known| known.inputs == inputs.all) {
            continue;
        }
        let buildx = match &mut buildx {
            Some(found) => found,
            none => none.insert(Buildx::find().map_err(|error| within(failed(&error)))?),
        };
        tell(&format!("building the image {name} with {}; this may take minutes", buildx.versions));
        let digest = one(context, buildx, recipe, &files, inputs.context, renew).map_err(within)?;
        let built = DockerfileLock { inputs: inputs.all, digest, builder: buildx.versions.clone() };
        if lock.dockerfile(name.as_str()) != Some(&built) {
            changes.push(format!("{name} {digest}"));
            lock.set_dockerfile(name.as_str(), built);
        }
    }
    Ok(())
}

/// Builds one image into the builder's cache.
fn one(
    context: &Context<'_>,
    buildx: &Buildx,
    recipe: &DockerfileRecipe,
    files: &crate::image::Context,
    expected: Digest,
    renew: bool,
) -> Result<Digest, Failure> {
    let cache = Layout::create(&context.layout_dir()?).map_err(|error| refused(&error))?;
    // In the cache, for an image may be larger than a temporary file system.
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(context.cache()?);
    let scratch = scratch.map_err(|error| {
        Failure::new(Code::Refused, format!("no directory for what is built can be made: {error}"))
    })?;
    let into = scratch.path().join("layout");
    let order = BuildOrder {
        dockerfile: &recipe.inside,
        target: recipe.target.as_deref(),
        args: &recipe.args,
        platforms: &recipe.architectures,
        renew,
        into: &into,
    };
    // Docker complains of an archive without an end; what was wrong with it only we know.
    let unread = RefCell::new(None);
    let built = buildx.build(&order, |out| {
        let sent = files.write(out);
        match &sent {
            Ok(digest) if *digest != expected => {
                *unread.borrow_mut() = Some("its files changed while it was built".to_owned());
            }
            // Whoever takes no more has a reason of its own.
            Err(error) if error.kind() == std::io::ErrorKind::Other => {
                *unread.borrow_mut() = Some(error.to_string());
            }
            _ => {}
        }
        sent.map(drop)
    });
    if let Some(reason) = unread.into_inner() {
        return Err(Failure::new(Code::Input, reason).hint("run it again when nobody writes there"));
    }
    built.map_err(|error| failed(&error))?;
    let made = Layout::open(&into).map_err(|error| {
        refused(&error)
            .hint("buildx before 0.10 writes no layout: take a newer one, as `docker-buildx` or from Docker")
    })?;
    let built = foreign::take(&made, &cache, &recipe.architectures).map_err(|error| refused(&error))?;
    if !buildx.known && !rewritten(&cache, &built) {
        tell(
            "note: this BuildKit does not say its version, nor that it rewrote the times of files: the image may be another \
             one when somebody builds it again",
        );
    }
    Ok(built.root.digest)
}

/// Whether BuildKit has noted in a manifest that the times in a layer are rewritten (its `exporter/containerimage`).
fn rewritten(layout: &Layout, built: &Built) -> bool {
    built.platforms.iter().all(|one| {
        let manifest = layout.read_blob(one.manifest.digest, MAX_MANIFEST).unwrap_or_default();
        one.layers.is_empty()
            || memchr::memmem::find(&manifest, b"\"buildkit/rewritten-timestamp\"").is_some()
    })
}

/// Why nothing was built, and what to do about it.
fn failed(error: &BuildxError) -> Failure {
    let failure = Failure::of(Code::Refused, error);
    match error {
        BuildxError::NoDocker => failure.hint(
            "a Dockerfile is built by Docker: install it with its plugin (`apt-get install docker.io docker-buildx`), or run \
             `bundle lock` where it is; everybody else needs the lock alone",
        ),
        BuildxError::NoBuildx(_) => failure.hint("install the plugin: `apt-get install docker-buildx`"),
        BuildxError::NoDaemon(_) => failure.hint(
            "start Docker (`systemctl start docker`), and see that you may use it (`docker info`); `docker buildx ls` lists \
             the builders, `docker buildx use NAME` chooses one",
        ),
        BuildxError::NoExport => failure
            .hint("`{\"features\": {\"containerd-snapshotter\": true}}` in /etc/docker/daemon.json and a restart of Docker turn it on")
            .hint("or take a builder of its own: `docker buildx create --use`"),
        BuildxError::TooOld(_) => failure.hint("take a newer builder: `docker buildx create --use`, or a newer Docker"),
        BuildxError::Failed(_) => failure,
    }
}
