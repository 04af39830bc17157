//! One service, key by key.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::Table;
use super::import::Import;
use super::known::{Known, known};
use super::ledger::{Path, path};
use super::roles::Role;
use super::secrets::secret_name;
use super::{report, words};

/// Keys that stay behind, and why.
const LEFT: &[(&str, &str)] = &[
    ("container_name", "containers are called by project and service; the service's own name is its address"),
    ("develop", "it is for a developer's machine"),
    ("links", "services reach each other by name without links"),
    ("external_links", "containers of other projects are not on the droplet's networks"),
    ("logging", "the droplet keeps every container's log within the same limits"),
    ("mac_address", "addresses come from `bundle.lock`"),
    ("networks", "all services stand on `data`, stateless ones on their slot's network too"),
    ("profiles", "it was asked for, and is a part of the profile"),
    ("pull_policy", "images are pulled by digest and verified before anything starts"),
    ("restart", "the activator restarts what is current, and nothing else"),
    ("scale", "a service has one container in each slot"),
    ("security_opt", "`no-new-privileges` is always set, and Docker's default profiles stay on"),
    ("env_file", "Compose has read it: its variables stand in `environment`, or are secrets"),
];

/// A service while its table is being put together.
pub(super) struct Draft<'m> {
    /// As the Compose file calls it.
    pub(super) old: &'m str,
    /// As the profile calls it.
    pub(super) name: String,
    pub(super) model: &'m Value,
    pub(super) image: String,
    pub(super) known: Known,
    pub(super) table: Table,
    pub(super) environment: Table,
    /// Values for its env file, each with where it comes from.
    pub(super) sealed: BTreeMap<String, (String, Path)>,
    /// Secrets that it reads as files.
    pub(super) mounted: Vec<(String, Path)>,
    /// As whom it runs, in numbers, if that is known.
    pub(super) user: Option<String>,
}

impl Draft<'_> {
    pub(super) fn at<const N: usize>(&self, keys: [&str; N]) -> Path {
        let mut at = path(["services", self.old]);
        at.extend(keys.iter().map(|&key| key.to_owned()));
        at
    }
}

impl Import<'_> {
    /// Turns a service into the tables of the profile.
    pub(super) fn service(&mut self, old: &str) {
        let model = self.model["services"][old].clone();
        let name = self.names.get(old).cloned().unwrap_or_default();
        let image = self.image(old, &name, &model);
        let mut draft = Draft {
            old,
            table: Table::new(&["services", &name]),
            environment: Table::new(&["services", &name, "environment"]),
            known: known(&image),
            user: numeric_user(&model["user"]),
            name,
            model: &model,
            image,
            sealed: BTreeMap::new(),
            mounted: Vec::new(),
        };
        let image_at = draft.at(["image"]);
        draft.table.set("image", draft.image.clone()).from(image_at);
        self.environment(&mut draft);
        self.command(&mut draft);
        for (key, value) in model.as_object().into_iter().flatten() {
            self.key(&mut draft, key, value);
        }
        let (volumes, tmpfs) = self.mounts(old, &draft.name.clone());
        list(&mut draft.table, "volumes", volumes);
        self.tmpfs(&mut draft, tmpfs);
        self.configs(&mut draft);
        self.secret_files(&mut draft);
        self.user(&mut draft);
        self.harden(&mut draft);
        self.door(old);
        let tables = self.tables(draft);
        self.services.insert(old.to_owned(), tables);
    }

    fn tables(&mut self, mut draft: Draft<'_>) -> Vec<Table> {
        let mut tables = Vec::new();
        let order = [
            "image",
            "entrypoint",
            "command",
            "user",
            "env_file",
            "secrets",
            "volumes",
            "tmpfs",
            "depends_on",
        ];
        draft
            .table
            .entries
            .sort_by_key(|entry| order.iter().position(|key| *key == entry.key).unwrap_or(order.len()));
        let inner: Vec<usize> = (0..draft.table.entries.len())
            .filter(|nth| {
                let entry = &draft.table.entries[*nth];
                ["healthcheck", "labels"].contains(&entry.key.as_str())
                    && entry.value.as_object().is_some_and(|object| object.len() > 1)
            })
            .collect();
        let mut subtables = Vec::new();
        for nth in inner.into_iter().rev() {
            let entry = draft.table.entries.remove(nth);
            let mut table = Table::new(&["services", &draft.name, &entry.key]);
            for (key, value) in entry.value.as_object().into_iter().flatten() {
                let origin = entry.origins.first().cloned().unwrap_or_default();
                let mut origin = origin;
                origin.push(key.clone());
                table.set(key, value.clone()).from(origin);
            }
            subtables.push(table);
        }
        tables.push(draft.table);
        if !draft.environment.entries.is_empty() || !draft.environment.comment.is_empty() {
            tables.push(draft.environment);
        }
        tables.extend(subtables);
        if !draft.sealed.is_empty() {
            let file = format!("{}.env", draft.name);
            let mut head = Table::new(&["env_files", &file]);
            head.set("allow_env", "the Compose file gives them in the environment");
            let mut values = Table::new(&["env_files", &file, "values"]);
            for (key, (text, origin)) in draft.sealed {
                values.set(&key, text).from(origin);
            }
            tables.extend([head, values]);
        }
        tables
    }

    /// The image, or the name under which a built one has to be published.
    fn image(&mut self, old: &str, name: &str, model: &Value) -> String {
        let at = |key: &str| path(["services", old, key]);
        let mut image = model["image"].as_str().unwrap_or_default().to_owned();
        if !model["build"].is_null() {
            self.ledger.left(
                at("build"),
                "a droplet builds nothing",
                Some("build the image, push it, and `bundle lock` pins it"),
            );
            let host = image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
            if !host {
                let project = secret_name(self.project.model["name"].as_str().unwrap_or("app"));
                let tag = image.rsplit_once(':').map_or("1.0.0", |(_, tag)| tag).to_owned();
                image = format!(
                    "registry.example.com/{project}/{name}:{}",
                    if tag.contains('/') { "1.0.0" } else { &tag }
                );
            }
            self.ledger.todo(format!(
                "`{old}` is built from source: choose where its image is published, write that name as its `image` (now `{image}`), then `docker compose build {old}`, tag, push"
            ));
            self.ledger.changed(
                at("image"),
                "the name under which the built image has to be published",
                None,
            );
        } else if image.is_empty() {
            self.ledger.todo(format!("`{old}` has neither an image nor a build section: write its `image`"));
            image = format!("registry.example.com/app/{name}:1.0.0");
        } else {
            self.ledger.changed(
                at("image"),
                "pinned by digest in `bundle.lock`, and called `bundle.local/…` on the droplet",
                None,
            );
        }
        let last = image.rsplit('/').next().unwrap_or_default();
        if !last.contains([':', '@']) {
            image.push_str(":latest");
        }
        if image.ends_with(":latest") {
            self.ledger.todo(format!("`{image}` has no version: `bundle lock` pins what it is on that day; a tag with a version says what that was"));
        }
        image
    }

    fn key(&mut self, draft: &mut Draft<'_>, key: &str, value: &Value) {
        if [
            "image",
            "build",
            "environment",
            "command",
            "entrypoint",
            "volumes",
            "tmpfs",
            "configs",
            "secrets",
            "user",
        ]
        .contains(&key)
        {
            return;
        }
        let at = draft.at([key]);
        if value.is_null() {
            return;
        }
        if self.is_ours(draft, key, value) {
            self.ledger.carried(at);
            return;
        }
        if let Some((_, why)) = LEFT.iter().find(|(name, _)| *name == key) {
            self.ledger.left(at, *why, None);
            if key == "security_opt" {
                self.ledger.todo(format!(
                    "`{}` says `security_opt`: look whether it runs under Docker's default profiles",
                    draft.old
                ));
            }
            return;
        }
        match key {
            "ports" => {}
            "depends_on" => self.depends_on(draft, value),
            "deploy" => self.deploy(draft, value),
            "healthcheck" => self.healthcheck(draft, value),
            "labels" => self.labels(draft, value),
            "cap_add" | "cap_drop" if value.as_array().is_some_and(Vec::is_empty) => {}
            "cap_add" => {}
            "privileged" if *value == false => self.ledger.carried(at),
            "privileged" => {
                self.ledger.left(
                    at,
                    "a privileged container owns the machine",
                    Some("name what it needs in `cap_add` or `devices`"),
                );
                self.ledger.todo(format!(
                    "`{}` is privileged: find out what it needs, and name it in `cap_add` or `devices`",
                    draft.old
                ));
            }
            "network_mode" => {
                self.ledger.left(
                    at,
                    "a service stands on `data`, and a stateless one on its slot's network too",
                    None,
                );
                self.ledger.todo(format!("`{}` runs with `network_mode: {}`: it has its own address now, and others reach it by name", draft.old, report::plain(value)));
            }
            _ if self.secrets.flows_into(value) => {
                self.ledger.left(
                    at,
                    "a secret would stand in clear in the bundle",
                    Some("give it as a file or in the environment"),
                );
                self.ledger.todo(format!("`{key}` of `{}` has a secret in it, and was left out", draft.old));
            }
            "mem_limit" | "memswap_limit" | "shm_size" | "mem_reservation" => {
                draft.table.set(key, size(value)).from(at.clone());
                self.ledger.carried(at);
            }
            _ => {
                draft.table.set(key, without_floats(value)).from(at.clone());
                self.ledger.carried(at);
            }
        }
    }

    /// Whether the bundle says the very same of this key.
    pub(super) fn is_ours(&self, draft: &Draft<'_>, key: &str, value: &Value) -> bool {
        let state = self.roles.get(draft.old).is_some_and(Role::is_state);
        match key {
            "restart" => value == if state { "unless-stopped" } else { "no" },
            "security_opt" => *value == json!(["no-new-privileges:true"]),
            "pull_policy" => value == "never",
            _ => false,
        }
    }

    fn healthcheck(&mut self, draft: &mut Draft<'_>, value: &Value) {
        let at = draft.at(["healthcheck"]);
        if value["test"].is_null() && value["disable"] != true {
            self.ledger.left(at, "it has no test: the image's own, if it has one, goes on as it is", None);
            return;
        }
        let mut check = without_floats(value);
        if self.secrets.in_words(&value["test"]) {
            let mut test_at = at.clone();
            test_at.push("test".to_owned());
            if let Some((test, named)) = words::test(&self.secrets, &value["test"]) {
                self.ledger.changed(test_at.clone(), "a shell takes the secret from the environment", None);
                check["test"] = test;
                self.expose(draft, named, &test_at);
            }
            for (key, _) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != "test") {
                let mut at = at.clone();
                at.push(key.clone());
                self.ledger.carried(at);
            }
        } else {
            self.ledger.carried(at.clone());
        }
        draft.table.set("healthcheck", check).from(at);
    }

    /// Labels of proxies that are not there become routes; the others are carried.
    fn labels(&mut self, draft: &mut Draft<'_>, value: &Value) {
        let mut kept = Map::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            let at = draft.at(["labels", key]);
            let lead = key.split(['.', '_']).next().unwrap_or_default();
            if ["traefik", "caddy"].contains(&lead) {
                self.ledger.left(at, "it speaks to a proxy that is not there: see `[routes]`", None);
            } else if key.starts_with("com.centurylinklabs.watchtower")
                || key.starts_with("bundle.")
                || key.starts_with("com.docker.compose.")
            {
                self.ledger.left(at, "it speaks to a program that is not there", None);
            } else if self.secrets.flows_into(value) {
                self.ledger.left(at, "a secret would stand in clear in the bundle", None);
            } else {
                self.ledger.carried(at);
                kept.insert(key.clone(), value.clone());
            }
        }
        if !kept.is_empty() {
            let at = draft.at(["labels"]);
            draft.table.set("labels", kept).from(at);
        }
    }

    fn depends_on(&mut self, draft: &mut Draft<'_>, value: &Value) {
        let mine = self.roles.get(draft.old).cloned().unwrap_or(Role::Slot);
        let mut table = Map::new();
        for (other, how) in value.as_object().into_iter().flatten() {
            let at = draft.at(["depends_on", other]);
            let role = self.roles.get(other).cloned().unwrap_or_else(|| Role::Out(String::new(), None));
            if role.is_out() {
                self.ledger.left(at, format!("`{other}` is not in the profile"), None);
            } else if matches!(role, Role::Migrations(_)) {
                self.ledger.left(at, "migrations have run to their end before a slot starts", None);
            } else if role.is_state() && !mine.is_state() {
                self.ledger.left(at, "what is stateful is up and healthy before a slot starts", None);
            } else if mine.is_state() && !role.is_state() {
                self.ledger.left(at, "what is stateful does not wait for a release", None);
            } else {
                let condition = how["condition"].as_str().unwrap_or("service_started");
                table.insert(self.names[other.as_str()].clone(), json!({ "condition": condition }));
                let renamed = self.names[other.as_str()] != *other || !mine.is_state();
                if renamed {
                    for slot in ["blue", "green"] {
                        let called = format!("{}-{slot}", self.names[other.as_str()]);
                        let called = draft.at(["depends_on", &called]);
                        self.ledger.added(called, "the other service as it is called in the slot", None);
                    }
                    self.ledger.changed(at.clone(), "as it is called in the slot", None);
                } else {
                    self.ledger.carried(at.clone());
                }
                for (key, usual) in [("required", true), ("restart", false)] {
                    if !how[key].is_null() && how[key] != usual {
                        let mut at = at.clone();
                        at.push(key.to_owned());
                        self.ledger.left(at, "a profile says the condition only", None);
                    }
                }
            }
        }
        if !table.is_empty() {
            let started = table.values().all(|how| how["condition"] == "service_started");
            let value =
                if started { table.keys().cloned().collect::<Vec<_>>().into() } else { Value::Object(table) };
            let at = draft.at(["depends_on"]);
            draft.table.set("depends_on", value).from(at);
        }
    }

    /// Limits are carried as Compose's older keys; the rest is for a swarm.
    fn deploy(&mut self, draft: &mut Draft<'_>, value: &Value) {
        let limits = &value["resources"]["limits"];
        for (from, to) in [("memory", "mem_limit"), ("cpus", "cpus"), ("pids", "pids_limit")] {
            if limits[from].is_null() || draft.table.has(to) || !draft.model[to].is_null() {
                continue;
            }
            let at = draft.at(["deploy", "resources", "limits", from]);
            self.ledger.changed(at.clone(), format!("it stands in `{to}`"), None);
            self.ledger.added(draft.at([to]), "from `deploy.resources.limits`", None);
            let carried = if to == "mem_limit" { size(&limits[from]) } else { without_floats(&limits[from]) };
            draft.table.set(to, carried).from(at);
        }
        if !value["resources"]["reservations"].is_null() {
            self.ledger.left(
                draft.at(["deploy", "resources", "reservations"]),
                "a droplet has no other to choose from",
                None,
            );
        }
        if value["replicas"].as_u64().is_some_and(|count| count > 1) {
            self.ledger.left(
                draft.at(["deploy", "replicas"]),
                "a service has one container in each slot",
                Some("use a larger droplet, or more of them"),
            );
            self.ledger.todo(format!(
                "`{}` had {} replicas, and has one: look whether it keeps up, or give it more processes",
                draft.old, value["replicas"]
            ));
        }
        self.ledger.left(draft.at(["deploy"]), "restarts, replicas and placement belong to the switch", None);
    }

    fn tmpfs(&mut self, draft: &mut Draft<'_>, mut items: Vec<(String, Path)>) {
        let at = draft.at(["tmpfs"]);
        let declared: Vec<String> = match &draft.model["tmpfs"] {
            Value::String(text) => vec![text.clone()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if items.is_empty() {
            if !declared.is_empty() {
                self.ledger.carried(at.clone());
            }
        } else {
            self.ledger.changed(at.clone(), "with the mounts of type `tmpfs`", None);
        }
        items.splice(0..0, declared.into_iter().map(|item| (item, at.clone())));
        list(&mut draft.table, "tmpfs", items);
    }
}

impl Draft<'_> {
    pub(super) fn mount(&mut self, name: String, at: Path) {
        if !self.mounted.iter().any(|(known, _)| *known == name) {
            self.mounted.push((name, at));
        }
    }
}

/// `UID:GID` of a user that is in numbers, or whose name means the same in most images.
fn numeric_user(user: &Value) -> Option<String> {
    let user = user.as_str()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match user.split_once(':') {
        Some((uid, gid)) if digits(uid) && digits(gid) => Some(user.to_owned()),
        None if digits(user) => Some(format!("{user}:{user}")),
        _ => {
            let name = user.split(':').next().unwrap_or_default();
            let known =
                [("root", "0:0"), ("node", "1000:1000"), ("www-data", "33:33"), ("nobody", "65534:65534")];
            known.iter().find(|(known, _)| *known == name).map(|(_, numbers)| (*numbers).to_owned())
        }
    }
}

/// A list whose items each know where they come from.
fn list(table: &mut Table, key: &str, items: Vec<(String, Path)>) {
    if items.is_empty() {
        return;
    }
    let (values, origins): (Vec<String>, Vec<Path>) = items.into_iter().unzip();
    table.set(key, values).origins = origins;
}

/// Bytes as people write them.
fn size(value: &Value) -> Value {
    let bytes = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match bytes {
        Some(bytes) if bytes > 0 && bytes % (1 << 30) == 0 => format!("{}g", bytes >> 30).into(),
        Some(bytes) if bytes > 0 && bytes % (1 << 20) == 0 => format!("{}m", bytes >> 20).into(),
        _ => value.clone(),
    }
}

/// A bundle has no floats: they are carried as text. There is no `null` either.
fn without_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) if !(number.is_i64() || number.is_u64()) => number.to_string().into(),
        Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(without_floats).collect(),
        Value::Object(object) => Value::Object(
            object
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_floats(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}
