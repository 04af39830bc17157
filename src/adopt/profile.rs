//! The two texts of a new profile: what is production's own, and what every environment would share.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{Document, Table};
use super::import::Import;
use super::roles::Role;
use super::settle;

const PROFILE: &str = r#"# What is production's own.

extends = "base.toml"
environment = "production"
# The host name under which the public reaches the machine.
domain = "app.example.com"

[registry]
# Where the bundle is pushed to, beside the images.
repository = "registry.example.com/team/app"

[droplet]
size = "s-1vcpu-1gb"
region = "fra1"
image = "debian-13-x64"

[firewall]
# Documentation addresses (RFC 5737): put those in from which you administer.
ssh_from = ["203.0.113.0/24"]
"#;

const BASE: &str = r#"# What every environment shares. Not a profile by itself: `production.toml` extends it.

[services.web]
# Your own image. `bundle.lock` has a placeholder for its digest until `bundle lock production --update`.
image = "registry.example.com/team/app:1.0.0"
mem_limit = "256m"
cpus = "1.0"
pids_limit = 256

[routes.web]
service = "web"
port = 8000
# A path that answers 200 as soon as the service is ready.
health = "/"
"#;

/// A small profile that builds at once: its files, by name beside each other.
pub fn starter() -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([
        ("base.toml".to_owned(), BASE.to_owned()),
        ("production.toml".to_owned(), PROFILE.to_owned()),
    ]);
    let (lock, _) = settle::check(BASE, PROFILE, &[]);
    files.insert("bundle.lock".to_owned(), lock);
    files
}

/// Bytes that a service may use which does not say; images that need more say so.
const DEFAULT: f64 = 512.0 * 1_048_576.0;

/// Droplet sizes that are enough for a sum of memory, in MiB, and a number of CPUs.
const SIZES: &[(u64, u64, &str)] = &[
    (2048, 1, "s-1vcpu-2gb"),
    (4096, 2, "s-2vcpu-4gb"),
    (8192, 4, "s-4vcpu-8gb"),
    (16384, 8, "s-8vcpu-16gb"),
    (32768, 8, "g-8vcpu-32gb"),
    (65536, 16, "g-16vcpu-64gb"),
    (131_072, 32, "g-32vcpu-128gb"),
];

/// The base and the profile of an import.
pub(super) fn documents(import: &mut Import<'_>) -> (Document, Document) {
    let (route_tables, domain) = import.routes();
    let base = base(import, route_tables);
    let profile = profile(import, &domain);
    (base, profile)
}

fn base(import: &mut Import<'_>, routes: Vec<Table>) -> Document {
    let mut top = Table::new(&[]);
    let named = |want: fn(&Role) -> bool| -> Vec<(String, String)> {
        let some = import.roles.iter().filter(|(_, role)| want(role));
        some.map(|(old, _)| (import.names[old].clone(), old.clone())).collect()
    };
    if import.roles.values().all(Role::is_out) {
        import.ledger.todo("no service of the project has a place in a profile (`IMPORT.md` says why of each): write a `[services.NAME]` yourself".to_owned());
    }
    let states = named(Role::is_state);
    if !states.is_empty() {
        let entry = top.set("stateful", states.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        entry.note("They keep data: a release never touches them.");
    }
    let singletons = named(|role| matches!(role, Role::Singleton(_)));
    if !singletons.is_empty() {
        let entry =
            top.set("singletons", singletons.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        entry.note("Never two at once: the old one stops before the new one starts.");
    }
    let migrations = named(|role| matches!(role, Role::Migrations(_)));
    if let Some((name, _)) = migrations.first() {
        top.set("migrations", name.clone()).note("Run once, to its end, before a slot starts.");
    }
    let mut tables = vec![top];
    for state in [true, false] {
        let mut first = true;
        let olds: Vec<String> = import.services.keys().cloned().collect();
        for old in olds {
            if import.roles.get(&old).is_some_and(Role::is_state) != state {
                continue;
            }
            let mut own = import.services.remove(&old).unwrap_or_default();
            if let (true, Some(table)) = (first, own.first_mut()) {
                table.heading = Some(if state { "State" } else { "The application" }.to_owned());
                first = false;
            }
            tables.extend(own);
        }
    }
    let section = |heading: &str, mut some: Vec<Table>, tables: &mut Vec<Table>| {
        if let Some(table) = some.first_mut() {
            table.heading = Some(heading.to_owned());
        }
        tables.extend(some);
    };
    section("What the public reaches", routes, &mut tables);
    section(
        "Files of the project that travel in the bundle",
        std::mem::take(&mut import.files).into_values().collect(),
        &mut tables,
    );
    section("Secrets: names and rules, never values", secrets(import), &mut tables);
    let files = import.project.files.join("`, `");
    let head = vec![
        format!(
            "What every environment shares. Made by `bundle init` from `{files}`; IMPORT.md says what became of"
        ),
        "each of its keys. From here on this is the file to change.".to_owned(),
    ];
    Document { head, tables }
}

fn secrets(import: &mut Import<'_>) -> Vec<Table> {
    let mut tables = Vec::new();
    for (name, secret) in &import.secrets.all {
        let mut table = Table::new(&["secrets", name]);
        if let Some(template) = &secret.template {
            table.set("template", template.clone());
        } else {
            let from = if secret.from.is_empty() { "the operator".to_owned() } else { secret.from.clone() };
            table.comment.push(format!("From {from}: `bundle secrets set {name}`."));
            if let Some(url) = name
                .contains("url")
                .then_some("It is put in as it is: a value with `@`, `/` or `:` in it breaks an address.")
            {
                table.comment.push(url.to_owned());
            }
        }
        tables.push(table);
    }
    tables
}

fn profile(import: &mut Import<'_>, domain: &str) -> Document {
    let mut top = Table::new(&[]);
    top.set("extends", "base.toml");
    top.set("environment", "production");
    top.set("domain", domain);
    let mut registry = Table::new(&["registry"]);
    let project = super::secrets::secret_name(import.project.model["name"].as_str().unwrap_or("app"));
    registry
        .set(
            "repository",
            format!("registry.example.com/team/{}", project.replace('_', "-").trim_end_matches(['-', '.'])),
        )
        .note("Where the bundle is pushed to, beside the images.");
    let mut droplet = Table::new(&["droplet"]);
    droplet.set("size", size(import));
    droplet.set("region", "fra1");
    droplet.set("image", "debian-13-x64");
    let mut firewall = Table::new(&["firewall"]);
    firewall
        .set("ssh_from", json!(["203.0.113.0/24"]))
        .note("Documentation addresses (RFC 5737): put those in from which you administer.");
    import.ledger.todo("write the addresses from which you administer as `ssh_from` in `production.toml`: those there are for documentation".to_owned());
    import.ledger.todo("write your own registry as `repository` in `production.toml`".to_owned());
    let tables = vec![top, registry, droplet, firewall];
    let head = vec!["What is production's own.".to_owned()];
    Document { head, tables }
}

/// The smallest size that has the memory and the CPUs of all limits, with stateless services twice.
fn size(import: &Import<'_>) -> &'static str {
    let (mut memory, mut cpus) = (0_u64, 0_f64);
    for (old, role) in &import.roles {
        if role.is_out() {
            continue;
        }
        let service = &import.model["services"][old.as_str()];
        let limits = &service["deploy"]["resources"]["limits"];
        let number = |value: &Value| match value {
            Value::Number(number) => number.as_f64().unwrap_or_default(),
            Value::String(text) => text.parse().unwrap_or_default(),
            _ => 0.0,
        };
        let limit = number(&service["mem_limit"]).max(number(&limits["memory"]));
        // The bundle's own default where there is none.
        let limit = if limit > 0.0 { limit } else { DEFAULT };
        let twice = if matches!(role, Role::Slot) { 2.0 } else { 1.0 };
        // Beyond 2^53 a float is not exact, and no droplet is near it.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of limits in MiB, never negative"
        )]
        let mib = (limit.clamp(0.0, 1e15) * twice / 1_048_576.0) as u64;
        memory = memory.saturating_add(mib);
        cpus = cpus.max(number(&service["cpus"])).max(number(&limits["cpus"]));
    }
    // Room for the system and for what has no limit.
    let memory = memory.saturating_add(1024);
    let fits = |(mib, vcpus, _): &&(u64, u64, &str)| {
        *mib >= memory && f64::from(u32::try_from(*vcpus).unwrap_or(1)) >= cpus
    };
    SIZES.iter().skip(1).find(fits).or(SIZES.last()).map_or("s-2vcpu-4gb", |(_, _, slug)| slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_is_right() {
        let files = starter();
        let (lock, faults) = settle::check(&files["base.toml"], &files["production.toml"], &[]);
        assert_eq!(faults.map(|faults| faults.to_string()), None);
        assert_eq!(lock, files["bundle.lock"]);
    }
}
