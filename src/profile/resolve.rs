//! Profile + lock → `Spec`: nothing left open, everything checked against everything.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use crate::artifacts::{Artifact, RenderError, Tree};
use crate::model::{Digest, ImageName, ServiceName};
use crate::spec::{
    Base, DebianArchive, Hosts, ImageRecipe, LockedDockerfile, Networks, PackageLock, PinnedImage, Placement,
    Service, Spec,
};

use super::checks;
use super::diagnostics::Diagnostics;
use super::env_files;
use super::files;
use super::lints::{self, Allow, Seen};
use super::lock::{Lock, Pin, fits_placement};
use super::merge::merge;
use super::schema::Profile;
use super::sections;
use super::service;
use super::source::{Sources, Table};
use super::units::ImageReference;

/// A profile with nothing left open, and the artifact kinds that render it.
#[derive(Debug)]
pub struct Resolved {
    /// What all kinds see.
    pub spec: Spec,
    /// The kinds, each with its own table, in the order they render.
    pub kinds: Vec<Box<dyn Artifact>>,
    /// What is not wrong, but worth saying.
    pub warnings: Diagnostics,
    /// Images whose digest in the lock is a placeholder: with them a bundle can be built, and not deployed.
    pub placeholders: Vec<PinnedImage>,
    /// The profile's own images that we make, and how.
    pub images: BTreeMap<ImageName, ImageRecipe>,
    /// Those that a Dockerfile makes, and what it came to.
    pub dockerfiles: BTreeMap<ImageName, LockedDockerfile>,
    /// The Debian packages of those that have any, for each architecture.
    pub packages: BTreeMap<ImageName, Vec<PackageLock>>,
    /// Where these come from.
    pub debian: DebianArchive,
    /// Those of them that a service runs and nobody has built: with them a profile can be judged, and no more.
    pub unbuilt: BTreeSet<ImageName>,
    allows: Vec<Allow>,
}

impl Resolved {
    /// Renders every kind.
    pub fn render(&self) -> Result<Tree, RenderError> {
        let mut tree = Tree::new(&self.spec.name);
        for kind in &self.kinds {
            kind.render(&self.spec, &mut tree)?;
        }
        Ok(tree)
    }

    /// What the lints say of the rendered files, with what they said of the profile; an error if one of them is one.
    pub fn judge(&self, tree: &Tree) -> Result<Diagnostics, Diagnostics> {
        let mut faults = self.warnings.clone();
        lints::look_at_files(tree, &self.allows, &mut faults);
        faults.into_warnings()
    }
}

/// Reads the profile and its lock among `sources`, and resolves them.
pub fn check(sources: &Sources, kinds: &'static [crate::artifacts::Kind]) -> Result<Resolved, Diagnostics> {
    let lock = Lock::parse(sources);
    match Profile::parse(sources, kinds) {
        Ok(profile) => resolve(&profile, &lock),
        Err(mut faults) => {
            faults.extend(lock.faults().clone());
            Err(faults)
        }
    }
}

/// Resolves a profile, or says everything that is wrong with it and with the lock.
pub fn resolve(profile: &Profile, lock: &Lock) -> Result<Resolved, Diagnostics> {
    resolve_table(profile, lock, &merge(profile.sources())?)
}

/// The same, for a profile that was read from `table`.
pub(crate) fn resolve_table(
    profile: &Profile,
    lock: &Lock,
    table: &Table<'_>,
) -> Result<Resolved, Diagnostics> {
    let mut faults = profile.faults().clone();
    faults.extend(lock.faults().clone());
    checks::check(profile, &mut faults);
    let mut placeholders = Placeholders::default();
    let services = services(profile, lock, &mut placeholders, &mut faults);
    let recipes = recipes(profile, lock, &mut faults);
    let packages = packages(profile, lock, &mut faults);
    let dockerfiles = dockerfiles(profile, lock, &mut faults);
    let seen = Seen { profile, table, placeholders: &placeholders.places };
    lints::look(&seen, &mut faults);
    let mut faults = faults.into_warnings()?;
    let Some(spec) = spec(profile, lock, services) else {
        // Whatever is absent has been reported; should it ever not have been, it is said rather than built.
        faults.error_in(profile.sources().root(), "the profile is incomplete");
        return Err(faults);
    };
    let sections = sections::read(profile.kinds, table, &mut faults);
    for section in &sections {
        for problem in section.artifact.check(&spec) {
            sections::report(section, problem, table, &mut faults);
        }
    }
    let warnings = faults.into_warnings()?;
    let Placeholders { images: placeholders, unbuilt, .. } = placeholders;
    let placeholders = placeholders.into_iter().collect();
    let images = recipes;
    let debian = profile.debian.clone();
    let allows = profile.allows.clone();
    let kinds = sections.into_iter().map(|section| section.artifact).collect();
    Ok(Resolved {
        spec,
        kinds,
        warnings,
        placeholders,
        images,
        dockerfiles,
        packages,
        debian,
        unbuilt,
        allows,
    })
}

/// The images whose pin is a placeholder, and where each is named first.
#[derive(Debug, Default)]
struct Placeholders {
    images: BTreeSet<PinnedImage>,
    /// Those of the profile's own that nobody has built yet.
    unbuilt: BTreeSet<ImageName>,
    places: Vec<Spanned<ImageReference>>,
}

fn spec(profile: &Profile, lock: &Lock, services: BTreeMap<ServiceName, Service>) -> Option<Spec> {
    let [data, blue, green] = profile.networks.clone()?.map(|subnet| subnet.net);
    Some(Spec {
        name: profile.name.clone()?,
        environment: profile.environment.clone()?,
        domain: profile.domain.clone()?,
        registry: profile.registry.as_ref().map(|placed| placed.registry.clone()),
        docker_repository: profile.docker_repository.clone(),
        droplet: profile.droplet.clone()?.0,
        networks: Networks { data, blue, green },
        services,
        routes: profile.routes.iter().map(|(name, placed)| (name.clone(), placed.route.clone())).collect(),
        migrations: profile.migrations.as_ref().map(|name| name.get_ref().clone()),
        secrets: profile.secrets.iter().map(|(name, secret)| (name.clone(), secret.origin.clone())).collect(),
        env_files: env_files::resolved(profile),
        files: files::resolved(profile),
        switching: profile.switching.clone(),
        activator: lock.activator().cloned(),
        acme_ca: profile.acme_ca.clone(),
    })
}

/// The services with their pins and numbers; one that lacks either has been reported, and is left out.
fn services(
    profile: &Profile,
    lock: &Lock,
    placeholders: &mut Placeholders,
    faults: &mut Diagnostics,
) -> BTreeMap<ServiceName, Service> {
    if lock.missing {
        let command = lock_command(profile);
        faults.error_in(&profile.sources().lock_path(), "there is no lock").help(command);
    }
    let mut services = BTreeMap::new();
    for (name, service) in &profile.services {
        let image = image(profile, service, lock, placeholders, faults);
        let hosts = hosts(profile, name, service, lock, faults);
        let (Some(image), Some(hosts)) = (image, hosts) else { continue };
        let resolved = Service {
            image,
            placement: placement(profile, name),
            hosts,
            user: service.user,
            secrets: service.secrets.iter().map(|secret| secret.get_ref().clone()).collect(),
            environment: service.environment.clone(),
            env_files: service.env_files.iter().map(|name| name.get_ref().clone()).collect(),
            volumes: service.volumes.clone(),
            depends_on: service
                .depends_on
                .iter()
                .map(|(name, condition)| (name.clone(), condition.get_ref().clone()))
                .collect(),
            compose: service.compose.clone(),
        };
        services.insert(name.clone(), resolved);
    }
    services
}

/// The profile's own images, with what the lock knows of their bases.
fn recipes(profile: &Profile, lock: &Lock, faults: &mut Diagnostics) -> BTreeMap<ImageName, ImageRecipe> {
    let mut recipes = BTreeMap::new();
    for (name, image) in profile.images.iter().filter(|(_, image)| image.dockerfile.is_none()) {
        let mut recipe = image.recipe.clone();
        if let Some(base) = &image.base {
            let reference = base.get_ref();
            let digest = reference.digest.or_else(|| lock.image(reference).map(|pin| pin.digest));
            let Some(digest) = digest else {
                if !lock.missing && !lock.faults().has_errors() {
                    unpinned(profile, base, faults);
                }
                continue;
            };
            let (repository, tag) = (reference.repository.clone(), reference.tag.clone());
            recipe.base = Base::Image { repository, tag, digest };
        }
        recipes.insert(name.clone(), recipe);
    }
    recipes
}

/// The locks of the images' packages; one that is missing, or is of other packages, is reported.
fn packages(
    profile: &Profile,
    lock: &Lock,
    faults: &mut Diagnostics,
) -> BTreeMap<ImageName, Vec<PackageLock>> {
    let mut all = BTreeMap::new();
    for (name, image) in &profile.images {
        let mut asked = image.recipe.packages.clone();
        asked.sort();
        for architecture in image.recipe.architectures.iter().filter(|_| !asked.is_empty()) {
            match lock.packages(name.as_str(), architecture) {
                Some(found) if found.requested == asked => {
                    all.entry(name.clone()).or_insert_with(Vec::new).push(found.clone());
                }
                _ if lock.missing || lock.faults().has_errors() => {}
                found => {
                    let path = profile.sources().lock_path();
                    let message = match found {
                        None => format!(
                            "the packages of the image `{name}` for {architecture} are not in `{path}`"
                        ),
                        Some(_) => format!("`{path}` has other packages for the image `{name}`"),
                    };
                    faults.error(image.span.clone(), message).help(lock_command(profile));
                }
            }
        }
    }
    all
}

/// What the Dockerfiles came to; one that nobody has built is reported. Whether its sources have changed since is asked
/// where they are read.
fn dockerfiles(
    profile: &Profile,
    lock: &Lock,
    faults: &mut Diagnostics,
) -> BTreeMap<ImageName, LockedDockerfile> {
    let mut all = BTreeMap::new();
    for (name, recipe) in profile.dockerfiles() {
        if let Some(found) = lock.dockerfile(name.as_str()) {
            all.insert(name.clone(), LockedDockerfile { recipe: recipe.clone(), lock: found.clone() });
        } else if !lock.missing && !lock.faults().has_errors() {
            let message =
                format!("the image `{name}` of a Dockerfile is not in `{}`", profile.sources().lock_path());
            let span = profile.images.get(name).map(|image| image.span.clone()).unwrap_or_default();
            faults.error(span, message).label("nobody has built it").help(lock_command(profile));
        }
    }
    all
}

fn unpinned(profile: &Profile, image: &Spanned<ImageReference>, faults: &mut Diagnostics) {
    let message = format!("`{}` is not pinned in `{}`", image.get_ref(), profile.sources().lock_path());
    faults.error(image.span(), message).label("a tag can move").help(lock_command(profile));
}

fn placement(profile: &Profile, name: &ServiceName) -> Placement {
    if profile.is_stateful(name) {
        Placement::Data
    } else if profile.singletons.iter().any(|singleton| singleton.get_ref() == name) {
        Placement::SlotSingleton
    } else {
        Placement::Slot
    }
}

fn image(
    profile: &Profile,
    service: &service::Service,
    lock: &Lock,
    placeholders: &mut Placeholders,
    faults: &mut Diagnostics,
) -> Option<PinnedImage> {
    let image = service.image.as_ref()?;
    let reference = image.get_ref();
    let pinned = |digest: Digest| PinnedImage {
        repository: reference.repository.clone(),
        tag: reference.tag.clone(),
        digest,
        name: reference.name.clone(),
    };
    if reference.built {
        let own = profile.images.get(&reference.name).filter(|image| image.dockerfile.is_some());
        let locked = || own.and_then(|_| Some(lock.dockerfile(reference.name.as_str())?.digest));
        let digest = profile.sources().built(&reference.name).unwrap_or_else(|| {
            placeholders.unbuilt.insert(reference.name.clone());
            locked().unwrap_or_else(|| Digest::of(&[]))
        });
        return Some(pinned(digest));
    }
    if let Some(digest) = reference.digest {
        return Some(pinned(digest));
    }
    let Some(Pin { digest, placeholder, .. }) = lock.image(reference) else {
        // A lock that could not be read may well have it.
        if !lock.missing && !lock.faults().has_errors() {
            unpinned(profile, image, faults);
        }
        return None;
    };
    // Said once, however many services run it.
    if *placeholder && placeholders.images.insert(pinned(*digest)) {
        placeholders.places.push(image.clone());
    }
    Some(pinned(*digest))
}

fn hosts(
    profile: &Profile,
    name: &ServiceName,
    service: &service::Service,
    lock: &Lock,
    faults: &mut Diagnostics,
) -> Option<Hosts> {
    let quiet = lock.missing || lock.faults().has_errors();
    let stateful = profile.is_stateful(name);
    let Some(hosts) = lock.hosts(name) else {
        if !quiet {
            faults
                .error(
                    service.span.clone(),
                    format!("service `{name}` has no address in `{}`", profile.sources().lock_path()),
                )
                .help(lock_command(profile));
        }
        return None;
    };
    let place = lock.hosts_span(name).unwrap_or_else(|| service.span.clone());
    if !profile.stateful_known {
        return None;
    }
    if !fits_placement(hosts, stateful) {
        let (is, needs) =
            if stateful { ("stateful", "one address") } else { ("stateless", "an address for each slot") };
        faults
            .error(service.span.clone(), format!("service `{name}` is {is}, and needs {needs} on `data`"))
            .also(place, "its addresses")
            .help(lock_command(profile));
        return None;
    }
    let [data, blue, green] = profile.networks.as_ref()?;
    let mut wanted = vec![(data, hosts.data_blue), (data, hosts.data_green)];
    if !stateful {
        wanted.extend([(blue, hosts.slot), (green, hosts.slot)]);
    }
    // The last address is the broadcast's.
    let last = |prefix: u8| (1_u32 << (32 - u32::from(prefix))) - 2;
    for (subnet, number) in wanted {
        if u32::from(number) > last(subnet.net.prefix_len()) {
            let fault = faults.error(
                place,
                format!(
                    "host number {number} of `{name}` does not fit into `{}` (`{}`)",
                    subnet.net, subnet.name
                ),
            );
            fault.help("numbers are never given twice: choose a larger subnet");
            if let Some(span) = &subnet.span {
                fault.also(span.clone(), "the subnet");
            }
            return None;
        }
    }
    Some(hosts)
}

fn lock_command(profile: &Profile) -> String {
    format!("run `bundle lock {}`", profile.sources().root())
}
