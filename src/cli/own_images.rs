//! The profile's own images: built before its bundle is sealed, because the bundle names them by digest.

pub(super) mod dockerfile;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

use super::places::Reach;
use super::profile::Sealed;
use super::provenance::Documents;
use super::push::{How, unwritten};
use super::report::{Code, Failure};
use super::{Context, cache, provenance, tell};
use crate::bundle::image::Document;
use crate::bundle::oci::{MAX_CONFIG, MAX_MANIFEST};
use crate::bundle::{Layout, Platform};
use crate::debian::{self, Cache, DebianError, Http, Sources};
use crate::image::{Actions, BaseImage, Builder, Built, Entry, Parts};
use crate::model::{Digest, ImageName};
use crate::profile::Resolved;
use crate::registry::{Image, Registry, Repository, Shipment, Tag};
use crate::spec::{Base, DebianArchive, ImageRecipe, LockedDockerfile, PackageLock, Past};

/// An image of the profile's own, and where the layers are that are not here.
#[derive(Debug)]
pub(super) struct Own {
    /// By which the bundle names it.
    pub(super) digest: Digest,
    /// What was built; `None` if a Dockerfile makes it and it was built elsewhere.
    pub(super) built: Option<Built>,
    /// The Dockerfile that makes it, if one does.
    pub(super) dockerfile: Option<LockedDockerfile>,
    /// The repositories of the base's layers, by digest.
    pub(super) mounts: BTreeMap<Digest, Repository>,
}

/// Builds images by name into the builder's cache.
pub(super) fn build(
    context: &Context<'_>,
    resolved: &Resolved,
    names: &BTreeSet<ImageName>,
    reach: &Reach,
) -> Result<BTreeMap<ImageName, Own>, Failure> {
    let layout =
        Layout::create(&context.layout_dir()?).map_err(|error| Failure::of(Code::Refused, &error))?;
    cache::tidy(&context.cache()?);
    let actions = Actions::at(&context.cache()?.join("actions")).noting(SystemTime::now());
    let builder = Builder { layout: &layout, actions: &actions, threads: threads() };
    let mut all = BTreeMap::new();
    for name in names {
        if let Some(locked) = resolved.dockerfiles.get(name) {
            all.insert(name.clone(), dockerfile::locked(&layout, name, locked)?);
            continue;
        }
        let Some(recipe) = resolved.images.get(name) else { continue };
        let packages = resolved.packages.get(name).map(Vec::as_slice).unwrap_or_default();
        let (built, mounts) = one(context, &builder, recipe, packages, reach)
            .map_err(|failure| failure.within(format!("the image `{name}` cannot be built")))?;
        let digest = built.root.digest;
        let (layers, written) =
            (built.platforms.iter().map(|one| one.layers.len()).sum::<usize>(), built.written);
        if written > 0 {
            tell(&format!("image {name} {digest}: {written} of {layers} layers written"));
        }
        all.insert(name.clone(), Own { digest, built: Some(built), dockerfile: None, mounts });
    }
    Ok(all)
}

/// How many threads compress: as many as there are processors for us.
fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn one(
    context: &Context<'_>,
    builder: &Builder<'_>,
    recipe: &ImageRecipe,
    packages: &[PackageLock],
    reach: &Reach,
) -> Result<(Built, BTreeMap<Digest, Repository>), Failure> {
    let mut mounts = BTreeMap::new();
    let mut parts = Vec::new();
    for architecture in &recipe.architectures {
        let platform = Platform { os: "linux".to_owned(), architecture: architecture.clone(), variant: None };
        let base = match &recipe.base {
            Base::Scratch | Base::Rootfs { .. } => None,
            Base::Image { repository, digest, .. } => {
                let repository: Repository =
                    repository.parse().map_err(|error| Failure::of(Code::Input, &error))?;
                let base = of_registry(context, &repository, *digest, &platform, reach)?;
                mounts.extend(base.layers.iter().map(|layer| (layer.digest, repository.clone())));
                Some(base)
            }
            Base::Layout { path, tag } => Some(of_layout(path, tag.as_deref(), &platform, builder.layout)?),
        };
        let lock = packages.iter().find(|lock| lock.architecture == *architecture);
        let mut one = Parts { base, ..Parts::default() };
        if let Some(lock) = lock {
            let known = builder.known(recipe, &format!("{lock:?}"));
            let known = known.map_err(|error| Failure::of(Code::Input, &error))?;
            if !known.is_built() {
                one.packages = entries(context, recipe, lock)?;
            }
            one.known = Some(known);
            debs(context)?.used(lock, SystemTime::now());
        }
        parts.push((architecture.clone(), one));
    }
    let built = builder.build(recipe, parts).map_err(|error| Failure::of(Code::Input, &error))?;
    Ok((built, mounts))
}

/// The layers of a recipe's packages, which are fetched if the cache has not got them.
fn entries(
    context: &Context<'_>,
    recipe: &ImageRecipe,
    lock: &PackageLock,
) -> Result<Vec<Vec<Entry>>, Failure> {
    let cache = debs(context)?;
    if lock.packages.iter().any(|package| !cache.has(package.digest, package.size)) {
        let (http, past) = (Http::new().map_err(|error| failed(&error))?, Past::default());
        let fetched = debian::fetch(lock, &http, &cache, &past).map_err(|error| failed(&error))?;
        let from = match fetched.past {
            0 => String::new(),
            some => format!(", {some} of them from {}, because the mirror has dropped them", past.url),
        };
        tell(&format!("{} of {} packages fetched{from}", fetched.all, lock.packages.len()));
    }
    let options = debian::Options {
        exclude: &recipe.exclude,
        accept_scripts: &recipe.accept_scripts,
        users: &recipe.users,
        threads: threads().get(),
    };
    debian::layers(lock, &cache, &options).map_err(|error| failed(&error))
}

/// What stands in the way of packages, and what to do about it.
pub(super) fn failed(error: &DebianError) -> Failure {
    let failure = Failure::of(Code::Refused, error);
    match error {
        DebianError::Scripts(_) => failure.hint(
            "leave the package out, or name it in the image's `accept_scripts` if what its scripts do is not missed there",
        ),
        DebianError::Gone { .. } | DebianError::Dropped { .. } => failure.hint(
            "a mirror drops a package when a newer one comes: take today's with `bundle lock PROFILE --update IMAGE`, or name a \
             time in `[debian]`, such as `snapshot = \"20261101T000000Z\"`, before you lock",
        ),
        _ => failure,
    }
}

/// Where packages are kept.
pub(super) fn debs(context: &Context<'_>) -> Result<Cache, Failure> {
    Cache::open(&context.cache()?.join("debs")).map_err(|error| Failure::of(Code::Refused, &error))
}

/// Where packages come from, as a profile says.
pub(super) fn sources(archive: &DebianArchive, architecture: &str) -> Sources {
    let DebianArchive { suite, mirror, security, snapshot, components, keyring } = archive;
    let sources = Sources::debian(suite, Some(mirror), Some(security), snapshot.as_deref(), architecture);
    let keyring = keyring.clone().unwrap_or_else(|| sources.keyring.clone());
    Sources { components: components.clone(), keyring, ..sources }
}

/// The documents of a base in a registry; they are kept in the builder's cache, being named by their digests.
fn of_registry(
    context: &Context<'_>,
    repository: &Repository,
    digest: Digest,
    platform: &Platform,
    reach: &Reach,
) -> Result<BaseImage, Failure> {
    let layout =
        Layout::create(&context.layout_dir()?).map_err(|error| Failure::of(Code::Refused, &error))?;
    if let Ok(base) = documents(&layout, digest, platform) {
        return Ok(base);
    }
    let image: Image =
        format!("{repository}@{digest}").parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let registry = context.registry(Some(repository.host()), reach)?;
    let found =
        registry.manifest_and_config(&image, platform).map_err(|error| Failure::of(Code::Refused, &error))?;
    for bytes in found.index.iter().chain([&found.manifest, &found.config]) {
        layout.write_blob(bytes).map_err(|error| Failure::of(Code::Refused, &error))?;
    }
    documents(&layout, digest, platform)
}

/// What a digest leads to for a platform, without layers.
fn documents(layout: &Layout, digest: Digest, platform: &Platform) -> Result<BaseImage, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::new(Code::Input, error.to_string());
    let read = |digest| layout.read_blob(digest, MAX_MANIFEST).map_err(|error| refused(&error));
    let parse = |bytes: &[u8]| Document::parse_for(bytes, platform).map_err(|error| refused(&error));
    let mut document = parse(&read(digest)?)?;
    if let Document::Index(manifest) = &document {
        document = parse(&read(manifest.digest)?)?;
    }
    let Document::Image(files) = document else {
        return Err(Failure::new(Code::Input, format!("{digest} is an index that leads to an index")));
    };
    let config = layout.read_blob(files.config.digest, MAX_CONFIG).map_err(|error| refused(&error))?;
    BaseImage::new(&files, &config, &platform.architecture).map_err(|error| refused(&error))
}

/// A base in a layout on disk. Its layers are copied into the builder's cache, from which an image is pushed.
fn of_layout(
    path: &Path,
    tag: Option<&str>,
    platform: &Platform,
    into: &Layout,
) -> Result<BaseImage, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::new(Code::Input, error.to_string());
    let layout = Layout::open(path).map_err(|error| refused(&error))?;
    let mut entries = layout.entries().map_err(|error| refused(&error))?;
    entries.retain(|entry| tag.is_none_or(|tag| entry.name.as_deref() == Some(tag)));
    let [entry] = entries.as_slice() else {
        let message = match tag {
            Some(tag) => format!("`{}` has no image, or several, with the tag `{tag}`", path.display()),
            None => format!("`{}` has {} images", path.display(), entries.len()),
        };
        return Err(Failure::new(Code::Input, message).hint("name one as `layout:DIRECTORY:TAG`"));
    };
    let base = documents(&layout, entry.manifest, platform)?;
    for layer in &base.layers {
        into.copy_blob(&layout, layer.digest, layer.size).map_err(|error| refused(&error))?;
    }
    Ok(base)
}

/// Where images are sent, and how.
pub(super) struct Sending<'a> {
    /// The client for the bundle's repository.
    pub(super) registry: &'a Registry,
    /// The bundle's repository.
    pub(super) repository: &'a Repository,
    /// What was asked for.
    pub(super) how: How<'a>,
}

/// The profile's own images, all there but for their tags and what they are made of.
pub(super) struct Sent {
    /// The repository by which the bundle names them.
    pub(super) repository: Repository,
    /// The client for it, if that is not the bundle's own.
    client: Option<Registry>,
    /// What they are made of.
    pub(super) documents: Vec<Documents>,
    /// The tags that they do not have yet.
    pub(super) tags: Vec<(Digest, Tag)>,
}

/// Sends the images to the profile's repository; nothing if there are none.
pub(super) fn send(
    context: &Context<'_>,
    sealed: &Sealed,
    sending: &Sending<'_>,
    reach: &Reach,
) -> Result<Option<Sent>, Failure> {
    let Sealed { resolved, images, .. } = sealed;
    let Some(registry) = resolved.spec.registry.as_ref().filter(|_| !images.is_empty()) else {
        return Ok(None);
    };
    let How { provenance, again, .. } = sending.how;
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let layout = Layout::create(&context.layout_dir()?).map_err(|error| refused(&error))?;
    let repository: Repository =
        registry.repository.parse().map_err(|error| Failure::of(Code::Input, &error))?;
    let client = if repository.host() == sending.repository.host() {
        None
    } else {
        Some(context.registry(Some(repository.host()), reach)?)
    };
    let mut sent = Sent { repository, client, documents: Vec::new(), tags: Vec::new() };
    for (name, own) in images {
        let (digest, repository) = (own.digest, &sent.repository);
        let Some(built) = &own.built else {
            dockerfile::must_be_there(sent.client(sending.registry), repository, name, digest)?;
            tell(&format!("image {name} is already in {repository}"));
            continue;
        };
        let tag = tag(digest)?;
        let image = Shipment { layout: &layout, digest, repository, tag: &tag, mounts: &own.mounts, again };
        let pushed = sent.client(sending.registry).send_image(image).map_err(|error| refused(&error))?;
        tell(&format!(
            "image {name}: {} blobs sent to {repository} ({} bytes), {} mounted",
            pushed.blobs_sent, pushed.bytes_sent, pushed.blobs_mounted
        ));
        if !pushed.tag_moved && !again {
            continue;
        }
        if let Some(profile) = provenance {
            let documents = provenance::of_image(profile, resolved, (name, own, built), repository);
            let documents = documents.map_err(unwritten)?;
            documents.keep(context)?;
            sent.documents.push(documents);
        }
        sent.tags.push((digest, tag));
    }
    Ok(Some(sent))
}

impl Sent {
    /// The client for the images, where `other` is that for the bundle.
    pub(super) fn client<'a>(&'a self, other: &'a Registry) -> &'a Registry {
        self.client.as_ref().unwrap_or(other)
    }
}

/// The tag that keeps a registry from collecting an image, which otherwise only its digest names.
pub(super) fn tag(digest: Digest) -> Result<Tag, Failure> {
    format!("image-{}", digest.hex()).parse().map_err(|error| Failure::of(Code::Input, &error))
}
