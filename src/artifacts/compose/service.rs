//! One service's model while it is put together: the profile's keys, our defaults, the mounts.

use serde_json::{Map, Value, json};

use crate::model::{SecretName, SecretOrigin, ServiceName};
use crate::spec::{Hosts, Placement, Service, Spec, limits};

use super::super::{Tree, env_files, slice};

/// A service in Compose's terms, before it is known where it runs.
#[derive(Debug, Clone)]
pub(super) struct Model {
    keys: Map<String, Value>,
    depends_on: Vec<(ServiceName, String)>,
    pub(super) hosts: Hosts,
    pub(super) placement: Placement,
}

impl Model {
    /// What the profile says, what the other kinds say, and our defaults where neither does.
    pub(super) fn of(spec: &Spec, tree: &Tree, name: &ServiceName, service: &Service) -> Self {
        let mut keys = service.compose.clone();
        // Equal to the memory: no swap, which would only make a slow service of a full one.
        let memory =
            keys.get("mem_limit").cloned().unwrap_or_else(|| json!(format!("{}m", limits::MEMORY_MIB)));
        keys.entry("mem_limit").or_insert_with(|| memory.clone());
        keys.entry("memswap_limit").or_insert(memory);
        let mut default = |key: &str, value: Value| {
            keys.entry(key).or_insert(value);
        };
        for (key, value) in tree.suggestions_for(name) {
            default(key, value.clone());
        }
        // Docker takes either `cpus` or these.
        let own_quota = ["cpu_quota", "cpu_period"].iter().any(|key| service.compose.contains_key(*key));
        for (key, value) in hardened().into_iter().filter(|(key, _)| *key != "cpus" || !own_quota) {
            default(key, value);
        }
        // No metadata service, not even for root on the machine's own network.
        default("cgroup_parent", json!(slice::NAME));
        if let Some(command) = tree.command_of(name) {
            default("command", json!(command));
        }
        let depends_on = service.depends_on.iter().map(|(name, condition)| (name.clone(), condition.clone()));
        let mut model = Self {
            keys,
            depends_on: depends_on.collect(),
            hosts: service.hosts,
            placement: service.placement,
        };
        model.set("image", service.image.local());
        // Verified and tagged by the activator; Compose has nothing to fetch.
        model.set("pull_policy", "never");
        if let Some(user) = service.user {
            model.set("user", format!("{}:{}", user.uid, user.gid));
        }
        if spec.docker_repository.is_none() && !spec.droplet.release.knows_start_interval() {
            model.without_start_interval();
        }
        model.no_new_privileges();
        model.labels_as_map();
        model.set("environment", json!(service.environment));
        // Compose lets `environment` win over a file of variables.
        let files = service.env_files.iter().filter_map(|file| spec.env_files.get(file));
        let said: Vec<&String> =
            service.environment.keys().chain(files.flat_map(|file| file.values.keys())).collect();
        for (key, value) in tree.variables_for(name).filter(|(key, _)| !said.contains(key)) {
            model.environment(key, value.as_str());
        }
        model.environment("BUNDLE_ENVIRONMENT", spec.environment.replace('$', "$$"));
        model.env_files(service);
        model.rules(spec, tree, name, service);
        let volumes = volumes(tree, name, service);
        if !volumes.is_empty() {
            model.set("volumes", json!(volumes));
        }
        model
    }

    /// Sets a key.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.keys.insert(key.to_owned(), value.into());
    }

    /// Sets a label.
    pub(super) fn label(&mut self, key: &str, value: impl Into<Value>) {
        self.entry_of("labels", key, value.into());
    }

    /// Sets a variable.
    pub(super) fn environment(&mut self, key: &str, value: impl Into<Value>) {
        self.entry_of("environment", key, value.into());
    }

    /// Forgets that it depends on this service.
    pub(super) fn independent_of(&mut self, service: Option<&ServiceName>) {
        self.depends_on.retain(|(name, _)| Some(name) != service);
    }

    /// Names what it depends on, as they are called where it runs.
    pub(super) fn depends_on(&mut self, named: impl Fn(&ServiceName) -> String) {
        let services: Map<String, Value> = std::mem::take(&mut self.depends_on)
            .into_iter()
            .map(|(name, condition)| (named(&name), json!({ "condition": condition })))
            .collect();
        if !services.is_empty() {
            self.set("depends_on", services);
        }
    }

    /// The service. What it depends on and nobody has named yet stands under its own name.
    pub(super) fn finish(mut self) -> Value {
        if !self.depends_on.is_empty() {
            self.depends_on(ServiceName::to_string);
        }
        Value::Object(self.keys)
    }

    fn entry_of(&mut self, map: &str, key: &str, value: Value) {
        let entry = self.keys.entry(map).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        if let Some(entries) = entry.as_object_mut() {
            entries.insert(key.to_owned(), value);
        }
    }

    /// The profile was warned: health is then asked for the first time after a whole `interval`.
    fn without_start_interval(&mut self) {
        if let Some(healthcheck) = self.keys.get_mut("healthcheck").and_then(Value::as_object_mut) {
            healthcheck.remove("start_interval");
        }
    }

    /// Adds `no-new-privileges:true` to `security_opt`, unless the profile speaks of it.
    fn no_new_privileges(&mut self) {
        let options = self.keys.entry("security_opt").or_insert_with(|| json!([]));
        if let Some(options) = options.as_array_mut() {
            let said =
                |option: &Value| option.as_str().is_some_and(|text| text.starts_with("no-new-privileges"));
            if !options.iter().any(said) {
                options.push(json!("no-new-privileges:true"));
            }
        }
    }

    /// Where Compose finds the variables when it makes the container. Not `required`: Compose is asked whether the file is
    /// sound before the activator has written them, which it does before it starts anything.
    fn env_files(&mut self, service: &Service) {
        let file = |name: &String| json!({ "path": env_files::path(name), "required": false });
        if !service.env_files.is_empty() {
            self.set("env_file", json!(service.env_files.iter().map(file).collect::<Vec<_>>()));
        }
    }

    /// Compose takes labels as a list of `key=value` too; ours go into a map.
    fn labels_as_map(&mut self) {
        let Some(Value::Array(labels)) = self.keys.get("labels") else { return };
        let labels: Map<String, Value> = labels
            .iter()
            .filter_map(Value::as_str)
            .map(|label| label.split_once('=').unwrap_or((label, "")))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        self.set("labels", labels);
    }

    /// A label for every template behind the service's secret files. Their paths never change; without it neither
    /// Compose nor the release would see that a template did. (A new *value* is another matter, and no part of a
    /// bundle.)
    fn rules(&mut self, spec: &Spec, tree: &Tree, name: &ServiceName, service: &Service) {
        let template = |secret: &SecretName| match spec.secrets.get(secret) {
            Some(SecretOrigin::Template(text)) => Some(crate::model::Digest::of(text.as_bytes()).to_string()),
            _ => None,
        };
        for secret in &service.secrets {
            if let Some(digest) = template(secret) {
                self.label(&format!("bundle.template.{secret}"), digest);
            }
        }
        let mounts = tree.mounts(name);
        for file in tree.secret_files() {
            let read = service.env_files.iter().any(|name| env_files::path(name) == file.absolute());
            let mounted = read || mounts.iter().any(|mount| mount.source == file.absolute());
            if let (true, crate::model::SecretSource::Template(path)) = (mounted, &file.source) {
                self.label(&format!("bundle.template.{}", file.path.name()), path.hash().to_string());
            }
        }
    }
}

/// What every service gets that neither its profile nor the kind that configures it says. No capability but the named
/// ones, limits for processors and processes (memory has its own), a reaper of orphans, no core dumps, and time to end.
///
/// Logs go to the journal: it outlives the container, which every release replaces, and forgets by age. `docker logs` reads
/// them from there. A journal that is slow loses lines rather than stop the service (Docker documentation, "Journald
/// logging driver", "Configure the delivery mode of log messages").
pub(super) fn hardened() -> [(&'static str, Value); 7] {
    [
        ("cap_drop", json!(["ALL"])),
        ("cpus", json!(limits::CPUS)),
        ("init", json!(true)),
        (
            "logging",
            json!({
                "driver": "journald",
                "options": { "max-buffer-size": "4m", "mode": "non-blocking", "tag": "{{.Name}}" },
            }),
        ),
        ("pids_limit", json!(limits::PIDS)),
        ("stop_grace_period", json!("30s")),
        ("ulimits", json!({ "core": 0 })),
    ]
}

/// The profile's volumes and the bundle's mounts, in long syntax. `create_host_path` is off: Docker would make a missing
/// file into an empty directory.
fn volumes(tree: &Tree, name: &ServiceName, service: &Service) -> Vec<Value> {
    let bind = |source: &str, target: &str, read_only: bool| {
        json!({
            "bind": { "create_host_path": false },
            "read_only": read_only,
            "source": source,
            "target": target,
            "type": "bind",
        })
    };
    let declared = service.volumes.iter().map(|volume| {
        if volume.is_named() {
            let (source, target) = (&volume.source, &volume.target);
            json!({ "read_only": volume.read_only, "source": source, "target": target, "type": "volume" })
        } else {
            bind(&volume.source, &volume.target, volume.read_only)
        }
    });
    let mounts = tree.mounts(name);
    declared.chain(mounts.iter().map(|mount| bind(&mount.source, &mount.target, true))).collect()
}

/// The named volumes that a finished service uses.
pub(super) fn named_volumes(service: &Value) -> Vec<String> {
    let volumes = service["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    let named = volumes.iter().filter(|volume| volume["type"] == "volume");
    named.filter_map(|volume| volume["source"].as_str().map(str::to_owned)).collect()
}
