//! The merged table → `Profile`: every table known, every value of the right type.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use crate::artifacts::Kind;
use crate::model::{
    Generator, ImageName, ProfileName, RouteName, SecretName, SecretOrigin, ServiceName, Template,
};
use crate::spec::{
    DebianArchive, DockerRepository, DockerfileRecipe, Droplet, ImageRecipe, Route, Switching,
};

use super::diagnostics::Diagnostics;
use super::droplet::{self, Subnet};
use super::env_files::{self, PlacedEnvFile};
use super::files::{self, PlacedFile};
use super::images::{self, PlacedImage};
use super::lints::{self, Allow};
use super::merge::merge;
use super::read::{Fields, as_table, key_text, parse, unknown, wrong_type};
use super::registry::{self, PlacedRegistry};
use super::sections;
use super::service::{self, Service};
use super::source::{Sources, Span, Table};
use super::units::{Duration, ImageReference, is_host_name};

/// A profile, merged and typed. It may carry faults: what could not be read is absent in it, and
/// [`resolve`](super::resolve()) reports that together with what it finds itself, so that all is said at once.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) sources: Sources,
    pub(crate) kinds: &'static [Kind],
    pub(crate) faults: Diagnostics,
    pub(crate) name: Option<ProfileName>,
    pub(crate) environment: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) registry: Option<PlacedRegistry>,
    pub(crate) docker_repository: Option<DockerRepository>,
    pub(crate) droplet: Option<(Droplet, Span)>,
    pub(crate) networks: Option<[Subnet; 3]>,
    pub(crate) stateful: Vec<Spanned<ServiceName>>,
    /// Whether `stateful` could be read: if not, nothing is said about who is.
    pub(crate) stateful_known: bool,
    pub(crate) singletons: Vec<Spanned<ServiceName>>,
    pub(crate) migrations: Option<Spanned<ServiceName>>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    pub(crate) routes: BTreeMap<RouteName, PlacedRoute>,
    pub(crate) secrets: BTreeMap<SecretName, Secret>,
    pub(crate) env_files: BTreeMap<String, PlacedEnvFile>,
    pub(crate) files: BTreeMap<String, PlacedFile>,
    pub(crate) images: BTreeMap<ImageName, PlacedImage>,
    pub(crate) debian: DebianArchive,
    pub(crate) switching: Switching,
    pub(crate) acme_ca: Option<String>,
    /// What the profile says it knows.
    pub(crate) allows: Vec<Allow>,
}

/// A route and its places.
#[derive(Debug, Clone)]
pub(crate) struct PlacedRoute {
    /// Where its service is named.
    pub(crate) service: Span,
    /// What says which requests it gets: its `path`, its `host`, or its name if it has neither.
    pub(crate) place: Span,
    pub(crate) route: Route,
}

/// A secret as the profile declares it.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    /// The place of its name.
    pub(crate) span: Span,
    pub(crate) origin: SecretOrigin,
    /// Each secret that its template names, and where.
    pub(crate) references: Vec<(SecretName, Span)>,
}

impl Profile {
    /// Merges and reads a profile. An error means that there is nothing to read: a file is missing or is not TOML.
    pub fn parse(sources: &Sources, kinds: &'static [Kind]) -> Result<Self, Diagnostics> {
        Ok(Self::of_table(sources, kinds, &merge(sources)?))
    }

    /// Reads the merged table.
    pub(crate) fn of_table(sources: &Sources, kinds: &'static [Kind], table: &Table<'_>) -> Self {
        let mut faults = Diagnostics::new(sources);
        let mut profile = Self::read(sources, kinds, table, &mut faults);
        sections::read(kinds, table, &mut faults);
        profile.faults = faults;
        profile
    }

    fn read(sources: &Sources, kinds: &'static [Kind], table: &Table<'_>, faults: &mut Diagnostics) -> Self {
        let mut top = Fields::new("the profile", table, faults);
        let name = match top.get("name") {
            Some(_) => top.parsed("name").map(Spanned::into_inner),
            None => profile_name(sources, top.faults),
        };
        for (key, example) in [
            ("environment", "`environment = \"production\"`"),
            ("domain", "`domain = \"bot.example.com\"`"),
            ("droplet", "a table `[droplet]` with `size`, `region` and `image`"),
            ("services", "a table `[services.NAME]` for each service"),
        ] {
            top.require(key, None, example);
        }
        let environment = top.string("environment").and_then(|text| environment(top.faults, text));
        let domain = top.string("domain").and_then(|text| domain(top.faults, text));
        let place = |key: &str| table.get_key_value(key).map_or(0..0, |(key, _)| key.span());
        let registry =
            top.table("registry").and_then(|table| registry::read(table, place("registry"), top.faults));
        let docker = top.table("docker");
        let docker_repository = docker.and_then(|table| registry::docker(table, place("docker"), top.faults));
        let place = table.get("droplet").map_or(0..0, Spanned::span);
        let droplet = top.table("droplet").and_then(|table| droplet::droplet(table, place, top.faults));
        if let Some((droplet, _)) = &droplet
            && docker.is_none()
        {
            registry::needs_docker(droplet.release, table, top.faults);
        }
        let networks = top.table("networks");
        let networks = droplet::networks(networks, top.faults);
        let stateful = top.list("stateful");
        let stateful_known = !table.contains_key("stateful")
            || table.get("stateful").is_some_and(|value| value.get_ref().is_array());
        let singletons = top.list("singletons");
        let migrations = top.parsed("migrations");
        let mut services: BTreeMap<ServiceName, Service> = each(&mut top, "services", service::read);
        go_to_registry(&mut services, registry.as_ref());
        let routes: BTreeMap<RouteName, Option<PlacedRoute>> =
            each(&mut top, "routes", |name, span, table, faults| {
                route(name, span, table, domain.as_deref().unwrap_or_default(), faults)
            });
        let routes = routes.into_iter().filter_map(|(name, route)| Some((name, route?))).collect();
        let secrets = each(&mut top, "secrets", secret);
        let env_files = each::<String, _>(&mut top, "env_files", env_files::read);
        let files = each::<String, _>(&mut top, "files", files::read);
        let files = files.into_iter().filter_map(|(name, file)| Some((name, file?))).collect();
        let images: BTreeMap<ImageName, _> = each(&mut top, "images", images::read);
        let images = images.into_iter().filter_map(|(name, image)| Some((name, image?))).collect();
        let debian = top.table("debian");
        let debian = images::debian(debian, top.faults);
        let allows = lints::read(&mut top);
        let switching = switching(top.table("switch"), top.faults);
        let acme_ca = registry::acme_ca(table, top.faults);
        let tables: Vec<&str> = kinds.iter().filter_map(|kind| kind.table).collect();
        top.finish_with("key or table", &tables);
        Self {
            sources: sources.clone(),
            kinds,
            faults: Diagnostics::new(sources),
            name,
            environment,
            domain,
            registry,
            docker_repository,
            droplet,
            networks,
            stateful,
            stateful_known,
            singletons,
            migrations,
            services,
            routes,
            secrets,
            env_files,
            files,
            images,
            debian,
            switching,
            acme_ca,
            allows,
        }
    }

    /// What is wrong with it by itself, if anything is.
    pub fn faults(&self) -> &Diagnostics {
        &self.faults
    }

    /// The texts that it was read from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The images of registries that services run and images are built on, each once.
    pub fn images(&self) -> BTreeSet<ImageReference> {
        let run = self.services.values().filter_map(|service| service.image.as_ref());
        let below = self.images.values().filter_map(|image| image.base.as_ref());
        let all = run.chain(below).map(Spanned::get_ref);
        all.filter(|reference| !reference.built).cloned().collect()
    }

    /// The Debian packages of each of the profile's own images.
    pub fn packages(&self) -> impl Iterator<Item = (&ImageName, &ImageRecipe)> {
        let recipes = self.images.iter().map(|(name, image)| (name, &image.recipe));
        recipes.filter(|(_, recipe)| !recipe.packages.is_empty())
    }

    /// Those of the profile's own images that a Dockerfile makes.
    pub fn dockerfiles(&self) -> impl Iterator<Item = (&ImageName, &DockerfileRecipe)> {
        let placed = self.images.iter().filter_map(|(name, image)| Some((name, image.dockerfile.as_ref()?)));
        placed.map(|(name, dockerfile)| (name, &dockerfile.recipe))
    }

    /// Where packages come from.
    pub fn debian(&self) -> &DebianArchive {
        &self.debian
    }

    /// The services by name, and whether each is stateful: what [`Lock::allocate`](super::Lock::allocate) asks.
    pub fn placements(&self) -> impl Iterator<Item = (&ServiceName, bool)> {
        self.services.keys().map(|name| (name, self.is_stateful(name)))
    }

    pub(crate) fn is_stateful(&self, name: &ServiceName) -> bool {
        self.stateful.iter().any(|stateful| stateful.get_ref() == name)
    }
}

/// The profile's own images go where its bundle goes.
fn go_to_registry(services: &mut BTreeMap<ServiceName, Service>, registry: Option<&PlacedRegistry>) {
    let Some(placed) = registry else { return };
    for image in services.values_mut().filter_map(|service| service.image.as_mut()) {
        if image.get_ref().built {
            image.get_mut().repository.clone_from(&placed.registry.repository);
        }
    }
}

/// Far more than a droplet runs; what searches through services and secrets relies on a bound.
const MOST_ENTRIES: usize = 200;

/// Reads the tables below `key`, each by `read`, under their names.
fn each<N, T>(
    top: &mut Fields<'_, '_>,
    key: &'static str,
    read: impl Fn(&str, Span, &Table<'_>, &mut Diagnostics) -> T,
) -> BTreeMap<N, T>
where
    N: std::str::FromStr + Ord,
    N::Err: std::fmt::Display,
{
    let mut all = BTreeMap::new();
    let Some(table) = top.table(key) else { return all };
    if let Some((name, _)) = table.iter().nth(MOST_ENTRIES) {
        top.faults.error(name.span(), format!("`{key}` has more than {MOST_ENTRIES} entries"));
        return all;
    }
    for (name, value) in table {
        let text = Spanned::new(name.span(), name.get_ref().to_string());
        let parsed = parse::<N>(top.faults, &text);
        let Some(table) = as_table(top.faults, &format!("`{key}.{}`", key_text(text.get_ref())), value)
        else {
            continue;
        };
        let item = read(text.get_ref(), name.span(), table, top.faults);
        all.extend(parsed.map(|name| (name.into_inner(), item)));
    }
    all
}

/// Far more than a configuration file has.
const MOST_REFERENCES: usize = 100;

fn profile_name(sources: &Sources, faults: &mut Diagnostics) -> Option<ProfileName> {
    let file = sources.root().rsplit('/').next().unwrap_or_default();
    match file.strip_suffix(".toml").unwrap_or(file).parse() {
        Ok(name) => Some(name),
        Err(error) => {
            faults
                .error_in(sources.root(), format!("{error}"))
                .help("a profile is named after its file, unless it has a `name = \"…\"`");
            None
        }
    }
}

fn environment(faults: &mut Diagnostics, text: Spanned<String>) -> Option<String> {
    let name = text.get_ref();
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !good {
        faults
            .error(text.span(), format!("`{name}` is not the name of an environment"))
            .help("write lower-case letters, digits, `-` and `_`, such as `production`");
    }
    good.then(|| text.into_inner())
}

fn domain(faults: &mut Diagnostics, text: Spanned<String>) -> Option<String> {
    let good = is_host_name(text.get_ref());
    if !good {
        faults.error(text.span(), format!("`{}` is not a host name", text.get_ref())).help(
            "write it in lower case, without scheme, port or path, such as `bot.example.com` (RFC 1123)",
        );
    }
    good.then(|| text.into_inner())
}

/// Reads a route; without `host` it is the profile's domain's.
fn route(
    name: &str,
    span: Span,
    table: &Table<'_>,
    domain: &str,
    faults: &mut Diagnostics,
) -> Option<PlacedRoute> {
    let mut fields = Fields::new(format!("`routes.{}`", key_text(name)), table, faults);
    for (key, example) in [
        ("service", "the name of a stateless service"),
        ("port", "the port inside the container, such as `port = 8000`"),
        ("health", "the path that answers 200 when the service is ready, such as `health = \"/readyz\"`"),
    ] {
        fields.require(key, Some(span.clone()), example);
    }
    let service = fields.parsed::<ServiceName>("service");
    let port = fields.integer("port").and_then(|port| {
        let number = u16::try_from(*port.get_ref()).ok().filter(|number| *number > 0);
        if number.is_none() {
            fields.faults.error(port.span(), format!("`{}` is not a port: write 1 to 65535", port.get_ref()));
        }
        number
    });
    let health = fields.string("health").and_then(|path| {
        let text = path.get_ref();
        let good =
            text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\'#".contains(&b));
        if !good {
            fields
                .faults
                .error(path.span(), format!("`{text}` is not the path of a health check"))
                .help("it begins with `/` and has no space, quote, backslash or `#`, such as `/readyz`");
        }
        good.then(|| path.into_inner())
    });
    let release_header = fields.string("release_header").and_then(|header| {
        // The token of RFC 9110 §5.6.2, without what would need quoting in a configuration file.
        let text = header.get_ref();
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !good {
            fields.faults.error(header.span(), format!("`{text}` is not the name of a header"));
        }
        good.then(|| header.into_inner())
    });
    let host = fields.string("host");
    let path = fields.string("path");
    fields.finish();
    let place = path.as_ref().or(host.as_ref()).map_or(span, Spanned::span);
    let host = match host {
        Some(text) => self::domain(faults, text)?,
        None => domain.to_owned(),
    };
    let path = match path {
        Some(text) => route_path(faults, &text)?,
        None => "/".to_owned(),
    };
    let service = service?;
    let span = service.span();
    let route =
        Route { service: service.into_inner(), host, path, port: port?, health: health?, release_header };
    Some(PlacedRoute { service: span, place, route })
}

/// The path below which a route gets requests, in whole segments and without a slash at the end.
fn route_path(faults: &mut Diagnostics, path: &Spanned<String>) -> Option<String> {
    let text = path.get_ref();
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    // The characters of RFC 3986 that stand for themselves in a path, without those that a configuration file would
    // have to quote. What a client may write in two ways cannot decide where its request goes.
    let segment = |segment: &str| {
        !["", ".", ".."].contains(&segment)
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~@:+=,".contains(&b))
    };
    let good = text == "/"
        || (text.len() <= 200 && trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment)));
    if !good {
        faults.error(path.span(), format!("`{text}` is not the path of a route")).help(
            "it begins with `/`, and its segments have letters, digits and `-._~@:+=,`, such as `/api`; \
             everything below it belongs to the route",
        );
        return None;
    }
    // The machine asks for health there, and the certificate authority for its proof.
    if [".bundle", ".well-known/acme-challenge"].iter().any(|taken| {
        let taken = format!("/{taken}");
        trimmed == taken || trimmed.starts_with(&format!("{taken}/"))
    }) {
        faults.error(path.span(), format!("`{text}` is not a route's to have: the machine uses it itself"));
        return None;
    }
    Some(if text == "/" { text.clone() } else { trimmed.to_owned() })
}

fn secret(name: &str, span: Span, table: &Table<'_>, faults: &mut Diagnostics) -> Secret {
    let mut fields = Fields::new(format!("`secrets.{}`", key_text(name)), table, faults);
    let generate = fields.string("generate");
    let template = fields.string("template");
    fields.finish();
    let mut secret = Secret { span, origin: SecretOrigin::Operator, references: Vec::new() };
    if let (Some(generate), Some(template)) = (&generate, &template) {
        faults
            .error(template.span(), format!("secret `{name}` has both `generate` and `template`"))
            .also(generate.span(), "generated here")
            .help("a value is generated, or put together from other secrets, or sent by the operator");
    }
    if let Some(generate) = &generate {
        secret.origin = SecretOrigin::Generate(Generator::Password);
        if generate.get_ref() != "password" {
            let message = format!("`{}` is not something that can be generated", generate.get_ref());
            unknown(faults, generate.span(), &message, generate.get_ref(), &BTreeSet::from(["password"]));
        }
    }
    if let Some(template) = template {
        match Template::parse(template.get_ref()) {
            Ok(parsed) => {
                if parsed.references().count() > MOST_REFERENCES {
                    faults.error(
                        template.span(),
                        format!("the template of `{name}` names more than {MOST_REFERENCES} secrets"),
                    );
                }
                for (name, at) in parsed.references().take(MOST_REFERENCES) {
                    let place = faults.sources().inside(&template.span(), template.get_ref(), at);
                    secret.references.push((name.clone(), place));
                }
            }
            Err(error) => {
                let place = faults.sources().inside(&template.span(), template.get_ref(), error.at.clone());
                faults
                    .error(place, error.to_string())
                    .help("a template has `{{ name }}`, `{{ name | urlencode }}` and `{{ name | sha256 }}`");
            }
        }
        secret.origin = SecretOrigin::Template(template.into_inner());
    }
    secret
}

/// Defaults: long enough to see a crash loop, short enough that nobody goes away.
fn switching(table: Option<&Table<'_>>, faults: &mut Diagnostics) -> Switching {
    let empty = Table::new();
    let mut fields = Fields::new("`switch`", table.unwrap_or(&empty), faults);
    let mut seconds = |key: &'static str, default: u64, least: u64| {
        let Some(value) = fields.get(key) else { return default };
        let Some(text) = value.get_ref().as_str() else {
            wrong_type(fields.faults, &format!("`switch.{key}`"), value, "a duration such as `\"30s\"`");
            return default;
        };
        let text = Spanned::new(value.span(), text.to_owned());
        let Some(duration) = parse::<Duration>(fields.faults, &text) else { return default };
        let micros = duration.get_ref().micros;
        let seconds = micros / 1_000_000;
        if micros % 1_000_000 != 0 || !(least..=86_400).contains(&seconds) {
            fields
                .faults
                .error(text.span(), format!("`switch.{key}` must be whole seconds, from {least} s to 24 h"));
            return default;
        }
        seconds
    };
    let switching = Switching {
        trial_seconds: seconds("trial", 30, 1),
        health_seconds: seconds("health", 60, 1),
        drain_seconds: seconds("drain", 30, 0),
    };
    fields.finish();
    switching
}
