//! `compose/data.yaml`, `compose/blue.yaml`, `compose/green.yaml`: the three Compose projects.
//!
//! State is apart from releases: `data` is brought up only when its inputs changed, and nothing in it changes with a
//! release. A release's services stand in `blue` or `green`, named `<service>-<slot>`. Nothing is published; every
//! service has a fixed address on networks that the activator makes. Values are spelled as Compose spells them, `$$` for
//! a dollar sign; the profile refuses a `$` that would interpolate something of the machine's environment.
//!
//! This kind renders behind the others: it mounts what they say.

mod service;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Artifact, Entry, RenderError, Section, Tree, format, literal};
use crate::model::{Digest, SecretFile, SecretSource, ServiceName, Slot};
use crate::spec::{Networks, Placement, Service, Spec};
use service::Model;

/// The kind `compose`; it has no table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {}

/// The place of the project `data` in a view.
pub const DATA: &str = "compose/data.yaml";

/// The Compose profile of the service that is run once before a slot starts; `up` leaves it alone.
pub const MIGRATIONS_PROFILE: &str = "migrations";

/// The place of a slot's project in a view.
pub fn slot_path(slot: Slot) -> &'static str {
    match slot {
        Slot::Blue => "compose/blue.yaml",
        Slot::Green => "compose/green.yaml",
    }
}

impl Section for Compose {
    const KIND: &'static str = "compose";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Compose {
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let mut data = BTreeMap::new();
        let mut slots = BTreeMap::new();
        for (name, service) in &spec.services {
            secrets(name, service, tree)?;
            let model = Model::of(spec, tree, name, service);
            match service.placement {
                Placement::Data => data.insert(name, model),
                Placement::Slot | Placement::SlotSingleton => slots.insert(name, model),
            };
        }
        if !data.is_empty() {
            let services = data.iter().map(|(name, model)| (name.to_string(), in_data(spec, name, model)));
            insert(tree, DATA, &project("data", &["data"], services.collect()))?;
        }
        let release = release(spec, &slots)?;
        for slot in Slot::BOTH {
            let services = slots
                .iter()
                .map(|(name, model)| (name_in(name, slot), in_slot(spec, name, model, slot, release)));
            insert(
                tree,
                slot_path(slot),
                &project(slot.as_str(), &["data", slot.as_str()], services.collect()),
            )?;
        }
        tree.set_release(release);
        Ok(())
    }
}

/// What every service is given that does not say otherwise: Compose's keys and values.
pub fn defaults() -> BTreeMap<&'static str, Value> {
    let memory = json!(format!("{}m", crate::spec::limits::MEMORY_MIB));
    let mut defaults = BTreeMap::from(service::hardened());
    defaults.insert("mem_limit", memory.clone());
    defaults.insert("memswap_limit", memory);
    defaults
}

/// Has the service's secrets written for it, and mounts them.
fn secrets(name: &ServiceName, service: &Service, tree: &mut Tree) -> Result<(), RenderError> {
    for secret in &service.secrets {
        let source = tree.secret_file(SecretFile {
            path: literal::path(&format!("{name}/{secret}"))?,
            source: SecretSource::Value(secret.clone()),
            owner: literal::owner(service),
            link: None,
        })?;
        tree.mount(name, super::ServiceMount { source, target: format!("/run/secrets/{secret}") });
    }
    Ok(())
}

fn insert(tree: &mut Tree, path: &str, project: &Value) -> Result<(), RenderError> {
    let yaml = format::yaml::to_string(&format::json::sorted(project)).map_err(|refused| refused.at(path))?;
    let check = ["docker", "compose", "-f", "{}", "config", "-q"];
    tree.insert(Entry::text(Compose::KIND, literal::path(path)?, yaml).check(&check)).map(drop)
}

/// What a slot service is called in a slot. Compose gives every service its name as an alias on every network; the
/// plain name on `data` would be answered by both colours.
fn name_in(name: &ServiceName, slot: Slot) -> String {
    format!("{name}-{slot}")
}

/// A whole file.
fn project(name: &str, networks: &[&str], services: Map<String, Value>) -> Value {
    let volumes: BTreeSet<String> = services.values().flat_map(service::named_volumes).collect();
    let networks: Map<String, Value> = networks
        .iter()
        .map(|&network| (network.to_owned(), json!({ "external": true, "name": network })))
        .collect();
    let mut file = Map::new();
    file.insert("name".to_owned(), name.into());
    file.insert("networks".to_owned(), networks.into());
    file.insert("services".to_owned(), services.into());
    if !volumes.is_empty() {
        let named = volumes.into_iter().map(|volume| (volume.clone(), json!({ "name": volume }))).collect();
        file.insert("volumes".to_owned(), Value::Object(named));
    }
    Value::Object(file)
}

/// A stateful service as `data` has it. No label and no variable that a release moves: it would be made anew.
fn in_data(spec: &Spec, name: &ServiceName, model: &Model) -> Value {
    let address = Networks::address(spec.networks.data, model.hosts.data_blue);
    let mut model = model.clone();
    model.label("bundle.project", "data");
    model.set("container_name", name.to_string());
    model.set("restart", "unless-stopped");
    model.set("networks", json!({ "data": { "ipv4_address": address } }));
    model.depends_on(ServiceName::to_string);
    model.finish()
}

/// A slot service as the slot's project has it. It has no restart policy: the activator gives one to what is current,
/// so that an abandoned slot never comes back by itself.
fn in_slot(spec: &Spec, name: &ServiceName, model: &Model, slot: Slot, release: Digest) -> Value {
    let on_data = match slot {
        Slot::Blue => model.hosts.data_blue,
        Slot::Green => model.hosts.data_green,
    };
    let networks = json!({
        "data": { "ipv4_address": Networks::address(spec.networks.data, on_data) },
        slot.as_str(): {
            "aliases": [name],
            "ipv4_address": Networks::address(spec.networks.of(slot), model.hosts.slot),
        },
    });
    let mut model = model.clone();
    model.label("bundle.project", slot.as_str());
    model.label("bundle.slot", slot.as_str());
    model.label("bundle.release", release.to_string());
    model.environment("BUNDLE_RELEASE", release.to_string());
    model.set("container_name", name_in(name, slot));
    model.set("restart", "no");
    model.set("networks", networks);
    if spec.migrations.as_ref() == Some(name) {
        model.set("profiles", json!([MIGRATIONS_PROFILE]));
    }
    // The migrations have ended before a slot starts; Compose refuses to depend on a service whose profile is off.
    model.independent_of(spec.migrations.as_ref());
    model.depends_on(|service| name_in(service, slot));
    model.finish()
}

/// The release: SHA-256 over the slot services' model before any slot is named, and before this value stands in it.
///
/// Addresses and networks belong to it: where they change, the slot's containers have to be made anew.
fn release(spec: &Spec, slots: &BTreeMap<&ServiceName, Model>) -> Result<Digest, RenderError> {
    let services: Map<String, Value> = slots
        .iter()
        .map(|(name, model)| {
            let hosts = model.hosts;
            let addresses = json!([hosts.data_blue, hosts.data_green, hosts.slot]);
            let singleton = model.placement == Placement::SlotSingleton;
            let model = model.clone().finish();
            (name.to_string(), json!({ "addresses": addresses, "model": model, "singleton": singleton }))
        })
        .collect();
    let Networks { data, blue, green } = &spec.networks;
    let canonical = json!({
        "migrations": spec.migrations,
        "networks": [data, blue, green],
        "services": services,
    });
    let text = format::json::ascii(&canonical).map_err(|refused| refused.at("compose"))?;
    Ok(Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture;
    use super::*;
    use crate::model::SecretOrigin;
    use crate::spec::OsRelease;

    fn release_of(spec: &Spec) -> Digest {
        fixture::render(spec).release().unwrap()
    }

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("data.yaml", fixture::text(&tree, DATA, Slot::Blue));
        insta::assert_snapshot!("blue.yaml", fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue));
        insta::assert_snapshot!("green.yaml", fixture::text(&tree, slot_path(Slot::Green), Slot::Blue));
    }

    #[test]
    fn an_older_docker_is_not_asked_for_what_it_does_not_know() {
        let rendered = |release| {
            let mut spec = fixture::spec();
            spec.droplet.release = release;
            for service in spec.services.values_mut() {
                let healthcheck = json!({ "test": ["CMD", "true"], "start_interval": "1s" });
                service.compose.insert("healthcheck".to_owned(), healthcheck);
            }
            fixture::text(&fixture::render(&spec), DATA, Slot::Blue)
        };
        assert!(rendered(OsRelease::Debian13).contains("start_interval"));
        assert!(!rendered(OsRelease::Ubuntu2404).contains("start_interval"));
    }

    #[test]
    fn a_new_image_moves_the_release_and_leaves_data_alone() {
        let (before, mut spec) = (fixture::tree(), fixture::spec());
        spec.services.get_mut("backend").unwrap().image.digest = Digest::of(b"newer");
        let after = fixture::render(&spec);
        assert_ne!(before.release(), after.release());
        assert_eq!(before.get(DATA, Slot::Blue), after.get(DATA, Slot::Blue));
    }

    #[test]
    fn a_setting_of_redis_leaves_the_slots_alone() {
        let before = fixture::tree();
        let after = fixture::render_with(&fixture::spec(), "maxmemory = '256mb'", "maxmemory = '128mb'");
        assert_eq!(before.release(), after.release());
        for slot in Slot::BOTH {
            assert_eq!(before.get(slot_path(slot), slot), after.get(slot_path(slot), slot));
        }
        assert_ne!(before.get(DATA, Slot::Blue), after.get(DATA, Slot::Blue));
    }

    #[test]
    fn whatever_a_slot_service_is_made_of_moves_the_release() {
        let before = release_of(&fixture::spec());
        let changes: [fn(&mut Spec); 5] = [
            |spec| drop(spec.services.get_mut("worker").unwrap().environment.insert("A".into(), "b".into())),
            |spec| spec.services.get_mut("backend").unwrap().hosts.slot += 40,
            |spec| spec.networks.green = "10.89.9.0/24".parse().unwrap(),
            |spec| {
                let template = SecretOrigin::Template("{{ postgres_password }}".to_owned());
                spec.secrets.insert("database_url".parse().unwrap(), template);
            },
            |spec| spec.services.get_mut("worker").unwrap().placement = Placement::Slot,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut spec = fixture::spec();
            change(&mut spec);
            assert_ne!(release_of(&spec), before, "change {number}");
        }
    }

    #[test]
    fn the_two_slots_differ_in_name_and_address_only() {
        let tree = fixture::tree();
        let blue = fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue);
        let green = fixture::text(&tree, slot_path(Slot::Green), Slot::Blue);
        let without = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.contains("ipv4_address"));
            let mut lines: Vec<String> =
                lines.map(|line| line.replace("blue", "SLOT").replace("green", "SLOT")).collect();
            lines.sort();
            lines
        };
        assert_eq!(without(&blue), without(&green));
    }

    #[test]
    fn a_dollar_is_spelled_as_compose_spells_it() {
        let mut spec = fixture::spec();
        let worker = spec.services.get_mut("worker").unwrap();
        worker.environment.insert("PRICE".into(), "5$$".into());
        let tree = fixture::render(&spec);
        let text = fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue);
        assert!(text.contains("5$$") && !text.contains("5$$$"), "{text}");
    }

    #[test]
    fn the_profile_keeps_its_own_security_options_and_labels() {
        let mut spec = fixture::spec();
        let worker = spec.services.get_mut("worker").unwrap();
        worker.compose.insert("security_opt".into(), json!(["apparmor:docker-default"]));
        worker.compose.insert("labels".into(), json!(["team=market", "flag"]));
        worker.compose.insert("cap_drop".into(), json!(["NET_RAW"]));
        let mut tree = Tree::default();
        Compose {}.render(&spec, &mut tree).unwrap();
        let model = Model::of(&spec, &tree, &"worker".parse().unwrap(), &spec.services["worker"]).finish();
        assert_eq!(model["security_opt"], json!(["apparmor:docker-default", "no-new-privileges:true"]));
        assert_eq!(model["labels"]["team"], "market");
        assert_eq!(model["labels"]["flag"], "");
        assert_eq!(model["cap_drop"], json!(["NET_RAW"]));
    }
}
