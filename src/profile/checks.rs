//! What no table can know by itself: names that lead nowhere, circles, and sums. All of it can never be right; what only
//! may be wrong is a lint.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use crate::model::{RouteName, SecretName, ServiceName};

use super::compose_value::bytes;
use super::diagnostics::Diagnostics;
use super::env_files;
use super::files;
use super::images;
use super::read::unknown;
use super::registry;
use super::schema::{PlacedRoute, Profile};

const MIB: u64 = 1 << 20;

/// All checks between the parts of a profile.
pub(crate) fn check(profile: &Profile, faults: &mut Diagnostics) {
    placements(profile, faults);
    routes(profile, faults);
    secrets(profile, faults);
    template_circles(profile, faults);
    env_files::check(profile, faults);
    files::check(profile, faults);
    dependencies(profile, faults);
    image_names(profile, faults);
    images::check(profile, faults);
    memory(profile, faults);
}

/// Of two routes with one host and one path only one could get the requests.
fn overlaps(profile: &Profile, faults: &mut Diagnostics) {
    let mut seen: BTreeMap<(&str, &str), (&RouteName, &PlacedRoute)> = BTreeMap::new();
    for (name, placed) in &profile.routes {
        let (host, path) = (placed.route.host.as_str(), placed.route.path.as_str());
        if let Some((other, first)) = seen.get(&(host, path)) {
            faults
                .error(
                    placed.place.clone(),
                    format!("the routes `{other}` and `{name}` both get what is asked of `{host}{path}`"),
                )
                .also(first.place.clone(), format!("route `{other}`"))
                .help("tell them apart by `host = \"api.example.com\"` or `path = \"/api\"`; the longer path gets what is below it");
        } else {
            seen.insert((host, path), (name, placed));
        }
    }
}

/// Reports a service that does not exist; whether it does.
fn exists(
    profile: &Profile,
    name: &ServiceName,
    span: std::ops::Range<usize>,
    faults: &mut Diagnostics,
) -> bool {
    let known = profile.services.contains_key(name);
    if !known {
        let names: BTreeSet<&str> = profile.services.keys().map(ServiceName::as_str).collect();
        unknown(faults, span, &format!("there is no service `{name}`"), name.as_str(), &names);
    }
    known
}

fn placements(profile: &Profile, faults: &mut Diagnostics) {
    for name in &profile.stateful {
        exists(profile, name.get_ref(), name.span(), faults);
    }
    let stateful = |name: &ServiceName| profile.stateful.iter().find(|stateful| stateful.get_ref() == name);
    for name in &profile.singletons {
        exists(profile, name.get_ref(), name.span(), faults);
        if let Some(other) = stateful(name.get_ref()) {
            faults
                .error(name.span(), format!("`{}` is both stateful and a singleton", name.get_ref()))
                .also(other.span(), "stateful here")
                .help("a stateful service runs once in any case: take it out of `singletons`");
        }
    }
    for (name, service) in &profile.services {
        if let Some(slot) = ["-blue", "-green"].into_iter().find(|slot| name.as_str().ends_with(slot)) {
            faults
                .error(service.span.clone(), format!("the name of service `{name}` ends in `{slot}`"))
                .help("that is how the containers of the two slots are called: choose another name");
        }
    }
    let Some(migrations) = &profile.migrations else { return };
    let name = migrations.get_ref();
    exists(profile, name, migrations.span(), faults);
    let singleton = profile.singletons.iter().find(|singleton| singleton.get_ref() == name);
    for (other, word) in [(stateful(name), "stateful"), (singleton, "a singleton")] {
        let Some(other) = other else { continue };
        faults
            .error(migrations.span(), format!("`{name}` runs migrations, so it cannot be {word}"))
            .also(other.span(), format!("{word} here"))
            .help("migrations run once, to their end, before a slot starts");
    }
}

fn routes(profile: &Profile, faults: &mut Diagnostics) {
    overlaps(profile, faults);
    for (route, placed) in &profile.routes {
        let name = &placed.route.service;
        exists(profile, name, placed.service.clone(), faults);
        if let Some(stateful) = profile.stateful.iter().find(|stateful| stateful.get_ref() == name) {
            faults
                .error(
                    placed.service.clone(),
                    format!("route `{route}` leads to the stateful service `{name}`"),
                )
                .also(stateful.span(), "stateful here")
                .help("a route leads to a stateless service, which a switch can replace");
        }
        if let Some(migrations) =
            profile.migrations.as_ref().filter(|migrations| migrations.get_ref() == name)
        {
            faults
                .error(
                    placed.service.clone(),
                    format!("route `{route}` leads to `{name}`, which runs migrations"),
                )
                .also(migrations.span(), "named here");
        }
    }
}

fn secrets(profile: &Profile, faults: &mut Diagnostics) {
    let names: BTreeSet<&str> = profile.secrets.keys().map(SecretName::as_str).collect();
    registry::check(profile, faults);
    let from_services = profile.services.values().flat_map(|service| &service.secrets);
    let from_services = from_services.map(|name| (name.get_ref(), name.span()));
    let from_templates = profile.secrets.values().flat_map(|secret| &secret.references);
    let from_env_files = profile.env_files.values().flat_map(|placed| &placed.references);
    let from_templates = from_templates.chain(from_env_files).map(|(name, span)| (name, span.clone()));
    let from_registry = profile
        .registry
        .iter()
        .filter_map(|placed| Some((&placed.registry.login.as_ref()?.token, placed.token.clone()?)));
    for (name, span) in from_services.chain(from_templates).chain(from_registry) {
        if names.contains(name.as_str()) {
            continue;
        }
        let mut report = Diagnostics::new(&profile.sources);
        unknown(&mut report, span, &format!("there is no secret `{name}`"), name.as_str(), &names);
        faults.extend(report);
    }
}

/// Each circle of templates is reported once, at its first name in the order of the alphabet.
fn template_circles(profile: &Profile, faults: &mut Diagnostics) {
    let mut reported: BTreeSet<&SecretName> = BTreeSet::new();
    for start in profile.secrets.keys() {
        if reported.contains(start) {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut path = vec![start];
        if !leads_back(profile, start, start, &mut seen, &mut path) {
            continue;
        }
        let shown: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
        let place = |from: &SecretName, to: &SecretName| {
            let references = &profile.secrets.get(from)?.references;
            references.iter().find(|(name, _)| name == to).map(|(_, span)| span.clone())
        };
        for (nth, pair) in path.windows(2).enumerate() {
            let Some(span) = place(pair[0], pair[1]) else { continue };
            if nth == 0 {
                faults.error(span, format!("the secret `{start}` is made of itself: {}", shown.join(" -> ")));
            }
        }
        reported.extend(path);
    }
}

/// Finds a way from `at` back to `start`; `path` then is that circle.
fn leads_back<'p>(
    profile: &'p Profile,
    start: &SecretName,
    at: &SecretName,
    seen: &mut BTreeSet<&'p SecretName>,
    path: &mut Vec<&'p SecretName>,
) -> bool {
    let references = profile.secrets.get(at).map(|secret| secret.references.as_slice()).unwrap_or_default();
    for (next, _) in references {
        path.push(next);
        if next == start || (seen.insert(next) && leads_back(profile, start, next, seen, path)) {
            return true;
        }
        path.pop();
    }
    false
}

fn dependencies(profile: &Profile, faults: &mut Diagnostics) {
    let migrations = profile.migrations.as_ref().map(Spanned::get_ref);
    for (name, service) in &profile.services {
        for (other, condition) in &service.depends_on {
            if !exists(profile, other, condition.span(), faults) {
                continue;
            }
            if other == name {
                faults.error(condition.span(), format!("`{name}` depends on itself"));
            } else if profile.stateful_known && profile.is_stateful(name) != profile.is_stateful(other) {
                let fault = faults.error(condition.span(), format!("`{name}` cannot depend on `{other}`"));
                let span = profile.services.get(other).map(|service| service.span.clone());
                if profile.is_stateful(other) {
                    fault.label("stateful: it runs in a Compose project of its own").help(format!(
                        "reach it by its name on the network `data`: `{other}` is up and healthy before a slot starts"
                    ));
                } else {
                    fault
                        .label("stateless: it runs in a slot")
                        .help("what is stateful must not wait for a release: take this out");
                }
                if let Some(span) = span {
                    fault.also(span, format!("`{other}`"));
                }
            } else if migrations == Some(other) {
                faults
                    .error(condition.span(), format!("`{name}` need not depend on `{other}`"))
                    .help("migrations have run to their end before a slot starts: take this out");
            }
        }
    }
    dependency_circles(profile, faults);
}

/// Compose refuses a circle, but only on the droplet.
fn dependency_circles(profile: &Profile, faults: &mut Diagnostics) {
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for start in profile.services.keys() {
        let mut chain: Vec<&ServiceName> = Vec::new();
        circle(profile, start, &mut chain, &mut done, faults);
    }
}

fn circle<'p>(
    profile: &'p Profile,
    at: &'p ServiceName,
    chain: &mut Vec<&'p ServiceName>,
    done: &mut BTreeSet<&'p ServiceName>,
    faults: &mut Diagnostics,
) {
    if done.contains(at) {
        return;
    }
    chain.push(at);
    for (next, condition) in profile.services.get(at).into_iter().flat_map(|service| &service.depends_on) {
        if profile.is_stateful(at) != profile.is_stateful(next) {
            continue;
        }
        match chain.iter().position(|name| *name == next) {
            Some(start) if next != at => {
                let mut names: Vec<&str> = chain[start..].iter().map(|name| name.as_str()).collect();
                names.push(next.as_str());
                faults.error(
                    condition.span(),
                    format!("these services wait for each other: {}", names.join(" -> ")),
                );
            }
            Some(_) => {}
            None => circle(profile, next, chain, done, faults),
        }
    }
    chain.pop();
    done.insert(at);
}

/// On the machine an image is called `bundle.local/NAME`: two repositories of one name could not be told apart by eye.
fn image_names(profile: &Profile, faults: &mut Diagnostics) {
    let images: Vec<_> = profile.services.values().filter_map(|service| service.image.as_ref()).collect();
    for (nth, image) in images.iter().enumerate() {
        let twin = images[..nth].iter().find(|other| {
            other.get_ref().name == image.get_ref().name
                && other.get_ref().repository != image.get_ref().repository
        });
        if let Some(twin) = twin {
            faults
                .error(image.span(), format!("two repositories end in `{}`", image.get_ref().name))
                .also(twin.span(), "the other one")
                .help(format!(
                    "on the machine both would be `bundle.local/{}`: rename one",
                    image.get_ref().name
                ));
        }
    }
}

/// The limits are promises that the droplet must be able to keep.
fn memory(profile: &Profile, faults: &mut Diagnostics) {
    for (name, service) in &profile.services {
        let swap = service.compose.get("memswap_limit").and_then(bytes);
        if let (Some(memory), Some(swap)) = (service.memory, swap)
            && swap < memory
        {
            faults
                .error(
                    service.span.clone(),
                    format!("the `memswap_limit` of service `{name}` is below its `mem_limit`"),
                )
                .help("it counts memory and swap together: write the same for both, and there is no swap");
        }
    }
    let Some((droplet, span)) = &profile.droplet else { return };
    cpus(profile, droplet.vcpus, faults);
    let memory = profile.services.values().map(|service| service.memory.unwrap_or_default());
    let sum = memory.fold(0, u64::saturating_add);
    let has = droplet.memory_mib.saturating_mul(MIB);
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    if sum > has {
        faults
            .error(
                span.clone(),
                format!("the services may use {} MiB, and the droplet has {}", mib(sum), mib(has)),
            )
            .label(format!("{} MiB", mib(has)))
            .help("lower some `mem_limit`, or take a larger size");
    }
}

/// Docker starts no container that asks for more CPUs than the machine has.
fn cpus(profile: &Profile, vcpus: u32, faults: &mut Diagnostics) {
    for (name, service) in &profile.services {
        let asked = service.compose.get("cpus").and_then(serde_json::Value::as_str);
        if let Some(asked) =
            asked.filter(|asked| asked.parse().is_ok_and(|cpus: f64| cpus > f64::from(vcpus)))
        {
            faults
                .error(
                    service.span.clone(),
                    format!("service `{name}` asks for {asked} CPUs, and the droplet has {vcpus}"),
                )
                .help("lower its `cpus`, or take a larger size");
        }
    }
}
