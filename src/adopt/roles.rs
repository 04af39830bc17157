//! What each service is to the bundle: state that outlives releases, a part of a release, one that must never run twice,
//! the migrations, or nothing. All of it is guessed from the Compose file, and the report says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::known::known;

/// The place of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// In `stateful`.
    State(&'static str),
    /// In each slot.
    Slot,
    /// In `singletons`, and why.
    Singleton(&'static str),
    /// `migrations`, and why.
    Migrations(&'static str),
    /// Not in the profile, and why; what to do instead.
    Out(String, Option<String>),
}

impl Role {
    pub(crate) fn is_state(&self) -> bool {
        matches!(self, Self::State(_))
    }

    pub(crate) fn is_out(&self) -> bool {
        matches!(self, Self::Out(..))
    }
}

/// Commands that prepare a database.
const MIGRATIONS: &[&str] = &[
    "alembic upgrade",
    "manage.py migrate",
    "db:migrate",
    "db:prepare",
    "db:setup",
    "artisan migrate",
    "prisma migrate",
    "prisma db push",
    "migrate deploy",
    "knex migrate",
    "typeorm migration",
    "sequelize db:migrate",
    "sequelize-cli db:migrate",
    "flyway",
    "liquibase",
    "dbmate",
    "goose ",
    "atlas migrate",
    "drizzle-kit",
    "migrate:latest",
    "migrate:deploy",
    "ecto.migrate",
    "bin/migrate",
    "migration:run",
    "db upgrade",
    "doctrine:migrations:migrate",
    " migrate",
    "migrate ",
];

/// Commands that go on serving, so that what stands before them is no run of its own.
const SERVES: &[&str] = &[
    "gunicorn",
    "uvicorn",
    "runserver",
    "daphne",
    "hypercorn",
    "puma",
    "rails s",
    "node ",
    "npm start",
    "npm run start",
    "yarn start",
    "pnpm start",
    "php-fpm",
    "apache2",
    "nginx",
    "sidekiq",
    "celery",
    "artisan serve",
    "supervisord",
    "daemon off",
    "java ",
    "server start",
    "serve",
];

/// Words of what must not run twice.
const ONCE: &[(&str, &str)] = &[
    ("beat", "a scheduler running twice does everything twice"),
    ("scheduler", "a scheduler running twice does everything twice"),
    ("schedule:work", "a scheduler running twice does everything twice"),
    ("cron", "a scheduler running twice does everything twice"),
    ("clock", "a scheduler running twice does everything twice"),
    ("poll", "two pollers take each other's updates"),
    ("bot", "two bots with one token take each other's updates"),
];

/// The words of a command.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// The role of every service. `writes` says who has a volume that it may write to.
pub(crate) fn roles(
    model: &Value,
    chosen: &BTreeSet<String>,
    writes: &BTreeSet<String>,
) -> BTreeMap<String, Role> {
    let empty = serde_json::Map::new();
    let services = model["services"].as_object().unwrap_or(&empty);
    let awaited = |name: &str| {
        services
            .values()
            .any(|other| other["depends_on"][name]["condition"] == "service_completed_successfully")
    };
    let mut roles = BTreeMap::new();
    let mut ends: Vec<(&String, bool)> = Vec::new();
    for (name, service) in services {
        let role = alone(name, service, chosen, writes.contains(name));
        let run = format!("{} {}", words(&service["entrypoint"]), words(&service["command"]));
        let migrates =
            MIGRATIONS.iter().any(|text| run.contains(text)) && !SERVES.iter().any(|text| run.contains(text));
        let never_again = service["restart"] == "no"
            || service["restart"].is_null()
            || words(&service["restart"]).starts_with("on-failure");
        let named_so = ["migrate", "migration", "migrations", "migrator"]
            .iter()
            .any(|word| name.split(['-', '_']).any(|part| part == *word));
        let one_shot = awaited(name) || (never_again && (migrates || named_so));
        if !role.is_out() && !role.is_state() && one_shot {
            ends.push((name, migrates || named_so));
        }
        roles.insert(name.clone(), role);
    }
    // What looks like migrations goes before what only ends.
    ends.sort_by_key(|(name, migrates)| (!migrates, (*name).clone()));
    for (nth, (name, migrates)) in ends.into_iter().enumerate() {
        let role = match (nth, migrates) {
            (0, true) => Role::Migrations("it looks like migrations: it runs once, to its end, before a slot starts"),
            (0, false) => Role::Migrations("others wait for its end: it runs once, to its end, before a slot starts"),
            _ => Role::Out(
                "it runs to its end, and a profile has room for one such service, `migrations`".to_owned(),
                Some("call what it does from the service in `migrations`, or run it once by hand with `docker run`".to_owned()),
            ),
        };
        roles.insert(name.clone(), role);
    }
    roles
}

fn alone(name: &str, service: &Value, chosen: &BTreeSet<String>, writes: bool) -> Role {
    let profiles: Vec<&str> =
        service["profiles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !profiles.is_empty() && !profiles.iter().any(|profile| chosen.contains(*profile)) {
        let why =
            format!("it belongs to the Compose profiles {}, which were not asked for", listed(&profiles));
        return Role::Out(why, Some(format!("import again with `--profile {}`", profiles[0])));
    }
    if !service["provider"].is_null() {
        return Role::Out("it is not a container".to_owned(), None);
    }
    if service["deploy"]["replicas"] == 0 || service["scale"] == 0 {
        return Role::Out("it has no replica".to_owned(), None);
    }
    let image = service["image"].as_str().unwrap_or_default();
    let known = known(image);
    if let Some(why) = known.needless {
        return Role::Out(why.to_owned(), None);
    }
    if known.state {
        return Role::State("its image is known to keep data");
    }
    let run = format!("{name} {} {}", words(&service["entrypoint"]), words(&service["command"]))
        .to_ascii_lowercase();
    let word =
        |text: &str| run.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').any(|word| word == text);
    if let Some((_, why)) = ONCE.iter().find(|(text, _)| word(text)) {
        return Role::Singleton(why);
    }
    if writes {
        return Role::Singleton("it writes to a volume, which two copies at once might spoil");
    }
    Role::Slot
}

/// `a`, `b` and `c` in backticks.
pub(crate) fn listed(items: &[&str]) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_service_has_a_role() {
        let model = json!({"services": {
            "db": {"image": "postgres:16"},
            "web": {"image": "app", "depends_on": {"init": {"condition": "service_completed_successfully"}},
                    "command": ["sh", "-c", "python manage.py migrate && gunicorn app"]},
            "init": {"image": "app", "command": ["prepare"]},
            "migrate": {"image": "app", "command": ["alembic", "upgrade", "head"], "restart": "no"},
            "beat": {"image": "app", "command": ["celery", "-A", "x", "beat"]},
            "wiki": {"image": "wiki"},
            "debug": {"image": "adminer", "profiles": ["dev"]},
            "proxy": {"image": "traefik:v3"},
        }});
        let roles = roles(&model, &BTreeSet::new(), &BTreeSet::from(["wiki".to_owned()]));
        assert!(roles["db"].is_state());
        assert_eq!(roles["web"], Role::Slot);
        assert!(matches!(roles["migrate"], Role::Migrations(_)));
        assert!(roles["init"].is_out() && roles["debug"].is_out() && roles["proxy"].is_out());
        assert!(matches!(roles["beat"], Role::Singleton(_)) && matches!(roles["wiki"], Role::Singleton(_)));
    }
}
