//! `[postgres]` → `postgres/postgresql.conf` and `postgres/pg_hba.conf`, and what the image needs to run hardened.
//!
//! For PostgreSQL 14 to 18, by the image's tag; no setting is newer than the server. There is no TLS: the only way to the
//! server is the network `data`, which is internal to the machine, and certificates would be one more thing to renew that
//! protects from nobody.

mod conf;
mod names;
mod sizes;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::format::Refused;
use super::format::postgres::Conf;
use super::size::Size;
use super::version::Version;
use super::{Artifact, Entry, Problem, RenderError, Section, ServiceMount, Tree, literal};
use crate::model::{Dump, SecretName, ServiceName};
use crate::spec::{Placement, Service, Spec};

/// How PostgreSQL is configured: sized from memory and CPUs, reached by one user in one database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The stateful service that it configures.
    #[schemars(example = &"postgres")]
    service: ServiceName,
    /// What the server may use of the droplet's memory, as in `1g`. Default: four fifths of the service's `mem_limit`,
    /// so that connections and the page cache have room beside it.
    memory: Option<Size>,
    /// The server's major version, 14 to 18. Default: what the image's tag says; where that says nothing, settings are
    /// written that every one of them understands.
    version: Option<Version>,
    /// How many clients at once. Default: 100.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 10_000))]
    max_connections: u32,
    /// The database that clients reach.
    #[schemars(example = &"app")]
    database: String,
    /// The user that reaches it.
    #[schemars(example = &"app")]
    user: String,
    /// The secret that is the user's password when the database is made. Default: what the service's `environment` says
    /// (`POSTGRES_PASSWORD_FILE`).
    #[schemars(example = &"postgres_password")]
    password: Option<SecretName>,
    /// Further pairs of database and user that may come in, each by password. Default: none.
    #[serde(default)]
    #[schemars(example = reports())]
    access: Vec<Access>,
    /// The locale of a new database's data, as in `de_DE.UTF-8`: how text is sorted, numbers and dates are written. Set
    /// when the database is made, once. Default: the image's.
    #[schemars(example = &"de_DE.UTF-8")]
    locale: Option<String>,
    /// Further settings of `postgresql.conf`, by name. They win over ours; those on which others rely are refused.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    settings: BTreeMap<String, Setting>,
}

/// For the schema.
fn reports() -> serde_json::Value {
    json!([{ "database": "reports", "user": "reader" }])
}

/// A database and who reaches it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Access {
    /// The database.
    #[schemars(example = &"reports")]
    database: String,
    /// The user.
    #[schemars(example = &"reader")]
    user: String,
}

/// The value of a setting. PostgreSQL reads numbers, units and booleans from a text as well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, a number or a boolean")]
enum Setting {
    /// `on` or `off`.
    Flag(bool),
    /// A number in the setting's own unit.
    Whole(i64),
    /// A number with a fraction.
    Decimal(f64),
    /// Everything else, as in `"64MB"`.
    Text(String),
    /// The settings of an extension: `pg_stat_statements.track = "all"`.
    Extension(BTreeMap<String, Setting>),
}

impl Setting {
    fn collect(&self, name: &str, all: &mut BTreeMap<String, String>) {
        let text = match self {
            Self::Flag(on) => if *on { "on" } else { "off" }.to_owned(),
            Self::Whole(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Extension(settings) => {
                for (key, value) in settings {
                    value.collect(&format!("{name}.{key}"), all);
                }
                return;
            }
        };
        all.insert(name.to_owned(), text);
    }
}

fn default_connections() -> u32 {
    100
}

const CONF: &str = "postgres/postgresql.conf";
const HBA: &str = "postgres/pg_hba.conf";
const CONF_IN_CONTAINER: &str = "/etc/postgresql/postgresql.conf";
const HBA_IN_CONTAINER: &str = "/etc/postgresql/pg_hba.conf";

/// Below this, `shared_buffers` and the connections do not fit, and `PGTune` does not try.
const LEAST_MEMORY_MIB: u64 = 256;
/// The versions whose settings are known.
const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;
/// DigitalOcean's droplets up to this have disks of 10 to 35 GB.
const SMALL_DROPLET_MIB: u64 = 1024;

impl Section for Postgres {
    const KIND: &'static str = "postgres";
    const TABLE: Option<&'static str> = Some("postgres");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Postgres {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems: Vec<Problem> = literal::check_service(spec, &self.service).into_iter().collect();
        let service = spec.services.get(&self.service);
        problems.extend(service.and_then(|service| self.check_memory(spec, service)));
        if let Some(service) = service.filter(|service| service.placement == Placement::Data) {
            problems.extend(self.check_volume(service));
            let major = self.major(service);
            if !MAJORS.contains(&major) {
                let message = format!("PostgreSQL {major} is not one of 14 to 18, whose settings are known");
                let hint =
                    "take an image of one of these, or write as `version` the one that it is compatible with";
                problems.push(literal::problem("version", message, Some(hint.to_owned())));
            }
            problems.extend(self.own().keys().filter_map(|name| {
                let (message, hint) = names::fault(name, major)?;
                let at = std::iter::once("settings").chain(name.split('.')).map(str::to_owned).collect();
                Some(Problem { at, message, hint: Some(hint) })
            }));
        }
        problems.extend(self.check_words(spec));
        if !(1..=10_000).contains(&self.max_connections) {
            let message = format!("{} connections are not between 1 and 10000", self.max_connections);
            problems.push(literal::problem("max_connections", message, None));
        }
        if let Some(locale) = self.locale.as_ref().filter(|locale| !is_locale(locale)) {
            let message = format!("`{locale}` is not the name of a locale");
            let hint = Some("as in `C.UTF-8` or `en_US.utf8`; the image must have it".to_owned());
            problems.push(literal::problem("locale", message, hint));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let service = literal::service(spec, Self::KIND, &self.service)?;
        let conf = self.conf(spec, service).map_err(|refused| refused.at(CONF))?;
        let hba = self.hba(spec).map_err(|refused| refused.at(HBA))?;
        for (path, content, target) in [(CONF, conf, CONF_IN_CONTAINER), (HBA, hba, HBA_IN_CONTAINER)] {
            let store = tree.insert(Entry::text(Self::KIND, literal::path(path)?, content))?;
            let mount = ServiceMount { source: store.absolute(), target: target.to_owned() };
            tree.mount(&self.service, mount);
        }
        let command = [
            "postgres",
            "-c",
            "config_file=/etc/postgresql/postgresql.conf",
            "-c",
            "hba_file=/etc/postgresql/pg_hba.conf",
        ];
        tree.command(&self.service, command.map(str::to_owned).to_vec());
        if let Some(password) = &self.password {
            let file = literal::reads(tree, &self.service, service, password)?;
            tree.variable(&self.service, "POSTGRES_PASSWORD_FILE", &file);
        }
        tree.dump(self.dump());
        self.container(service, tree);
        Ok(())
    }
}

impl Postgres {
    /// A copy in `pg_dump`'s own format, which `pg_restore` reads (postgresql.org, "SQL Dump"). The password comes from where
    /// the image's entrypoint has it from, and goes through the environment of this one command.
    fn dump(&self) -> Dump {
        let script = "PGPASSWORD=$(cat \"$POSTGRES_PASSWORD_FILE\") && export PGPASSWORD && \
                      exec pg_dump --format=custom --no-password --username=\"$1\" --dbname=\"$2\"";
        let write = ["sh", "-c", script, "sh", &self.user, &self.database];
        Dump {
            service: self.service.clone(),
            write: write.map(str::to_owned).to_vec(),
            check: ["pg_restore", "--list"].map(str::to_owned).to_vec(),
            suffix: "dump".to_owned(),
        }
    }

    /// The profile's own settings, by their full names.
    fn own(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        self.settings.iter().for_each(|(name, value)| value.collect(name, &mut all));
        all
    }

    /// The server's major version; the oldest one where nobody says.
    fn major(&self, service: &Service) -> u32 {
        let version = self.version.or_else(|| Version::of(&service.image));
        version.map_or(*MAJORS.start(), |version| version.major)
    }

    /// What neither file could carry.
    fn check_words(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let at = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        let mut name = |keys: &[&str], name: &str| {
            let refused = Conf::default().host(name, name, spec.networks.data, "reject").err();
            let hint = Some("it has no quotes, and does not begin with `/`, `+` or `@`".to_owned());
            problems.extend(refused.map(|refused| Problem { at: at(keys), message: refused.0, hint }));
        };
        name(&["database"], &self.database);
        name(&["user"], &self.user);
        for (nth, access) in self.access.iter().enumerate() {
            name(&["access", &nth.to_string(), "database"], &access.database);
            name(&["access", &nth.to_string(), "user"], &access.user);
        }
        let secret = self.password.as_ref();
        problems.extend(secret.and_then(|secret| literal::check_secret(spec, at(&["password"]), secret)));
        for (key, value) in self.own() {
            let refused = Conf::default().set("a", &value).err();
            let keys: Vec<&str> = std::iter::once("settings").chain(key.split('.')).collect();
            problems.extend(refused.map(|refused| Problem { at: at(&keys), message: refused.0, hint: None }));
        }
        problems
    }

    fn memory(&self, service: &Service) -> Size {
        let rest = || Size::of_bytes(literal::memory_limit(service) / 5 * 4);
        self.memory.unwrap_or_else(rest)
    }

    fn check_memory(&self, spec: &Spec, service: &Service) -> Option<Problem> {
        let (memory, limit) = (self.memory(service), literal::memory_limit(service));
        if memory.mib() < LEAST_MEMORY_MIB || memory.mib() > spec.droplet.memory_mib {
            let message = format!(
                "PostgreSQL's memory is {memory}, not between {LEAST_MEMORY_MIB}m and the droplet's {}m",
                spec.droplet.memory_mib
            );
            return Some(literal::problem("memory", message, None));
        }
        (memory.bytes() > limit).then(|| {
            let limit = Size::of_bytes(limit);
            let message = format!("PostgreSQL would use {memory}, and its container may use {limit}");
            let hint = format!(
                "leave `memory` out, which takes four fifths of `services.{}.mem_limit`, or raise that",
                self.service
            );
            literal::problem("memory", message, Some(hint))
        })
    }

    /// Where no volume holds the data, Docker makes an anonymous one, and a new container begins with an empty database
    /// (docker-library/postgres: from 18 on the data is at `/var/lib/postgresql/18/docker`).
    fn check_volume(&self, service: &Service) -> Option<Problem> {
        if service.image.name.as_str() != "postgres" {
            return None;
        }
        let major = self.major(service);
        let default = match major {
            18.. => format!("/var/lib/postgresql/{major}/docker"),
            _ => "/var/lib/postgresql/data".to_owned(),
        };
        let data = service.environment.get("PGDATA").unwrap_or(&default);
        let holds = |target: &str| {
            let target = target.trim_end_matches('/');
            data.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        (!service.volumes.iter().any(|volume| holds(&volume.target))).then(|| {
            let message =
                format!("no volume of `{}` holds `{data}`, where PostgreSQL keeps the data", self.service);
            let target = if major >= 18 { "/var/lib/postgresql" } else { default.as_str() };
            literal::problem("service", message, Some(format!("write `volumes = [\"postgres:{target}\"]`")))
        })
    }

    fn conf(&self, spec: &Spec, service: &Service) -> Result<String, Refused> {
        let machine = conf::Machine {
            major: self.major(service),
            memory: self.memory(service),
            cores: literal::processors(spec, service),
            small_disk: spec.droplet.memory_mib <= SMALL_DROPLET_MIB,
            connections: self.max_connections,
        };
        conf::text(machine, self.locale.as_deref(), &self.own())
    }

    /// The socket asks for a password too. That suits the official image: its entrypoint sets the database up over the
    /// socket of a temporary server, with this file, as `POSTGRES_USER` and with `PGPASSWORD` from the password that
    /// it was given. `peer` would not: the operating system's user and the database's have different names.
    /// `pg_isready` needs no login at all.
    fn hba(&self, spec: &Spec) -> Result<String, Refused> {
        let loopback = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 32);
        let mut conf = Conf::default();
        conf.comment("Inside the container: the image's entrypoint, health checks, an operator's psql.")
            .fixed("local all all scram-sha-256")
            .host(&self.database, &self.user, loopback, "scram-sha-256")?;
        conf.comment("The services, on the network `data`.");
        let first = (self.database.as_str(), self.user.as_str());
        let further = self.access.iter().map(|access| (access.database.as_str(), access.user.as_str()));
        for (database, user) in std::iter::once(first).chain(further) {
            conf.host(database, user, spec.networks.data, "scram-sha-256")?;
        }
        conf.comment("Nobody else.").fixed("host all all all reject");
        Ok(conf.finish())
    }

    /// What the official image needs to run with a read-only root and without any capability, where the profile does
    /// not say it itself (docker-library/postgres, `docker-entrypoint.sh`).
    fn container(&self, service: &Service, tree: &mut Tree) {
        let name = &self.service;
        let run = service.user.map_or_else(String::new, |user| format!("uid={},gid={},", user.uid, user.gid));
        tree.suggest(name, "read_only", json!(true));
        tree.suggest(
            name,
            "tmpfs",
            json!([
                format!("/var/run/postgresql:{run}mode=3777"),
                "/tmp:size=64m,mode=1777,noexec,nosuid,nodev"
            ]),
        );
        // Parallel queries share memory; Docker's default of 64 MiB is soon too little (hub.docker.com/_/postgres).
        tree.suggest(name, "shm_size", json!("256m"));
        // The fast shutdown; SIGTERM would wait for every client (PostgreSQL documentation, "Shutting Down the Server").
        tree.suggest(name, "stop_signal", json!("SIGINT"));
        tree.suggest(name, "stop_grace_period", json!("120s"));
        // Over TCP: the temporary server that prepares a new database listens on its socket only, and is not ready.
        let user = format!("--username={}", dollars(&self.user));
        let database = format!("--dbname={}", dollars(&self.database));
        let test = ["CMD", "pg_isready", "--quiet", "--host=127.0.0.1", &user, &database];
        tree.suggest(
            name,
            "healthcheck",
            json!({
                "interval": "10s",
                "retries": 6,
                "start_interval": "1s",
                "start_period": "60s",
                "test": test,
                "timeout": "5s",
            }),
        );
        tree.variable(name, "POSTGRES_DB", &dollars(&self.database));
        tree.variable(name, "POSTGRES_USER", &dollars(&self.user));
        // Checksums are the default from 18 on; before, a broken disk would be noticed by nobody.
        let mut arguments = "--data-checksums".to_owned();
        if let Some(locale) = &self.locale {
            arguments.push_str(" --encoding=UTF8 --locale=");
            arguments.push_str(locale);
        }
        tree.variable(name, "POSTGRES_INITDB_ARGS", &arguments);
    }
}

/// As Compose spells a dollar sign.
fn dollars(text: &str) -> String {
    text.replace('$', "$$")
}

fn is_locale(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.@-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    fn at(toml: &str, spec: &Spec) -> Vec<Vec<String>> {
        let postgres: Postgres = toml::from_str(toml).unwrap();
        postgres.check(spec).into_iter().map(|problem| problem.at).collect()
    }

    fn tagged(tag: &str) -> Spec {
        let mut spec = fixture::spec();
        spec.services.get_mut("postgres").unwrap().image.tag = Some(tag.to_owned());
        spec
    }

    fn conf_of(spec: &Spec, more: &str) -> String {
        let postgres: Postgres =
            toml::from_str(&format!("service = 'postgres'\ndatabase = 'app'\nuser = 'app'\n{more}")).unwrap();
        postgres.conf(spec, &spec.services["postgres"]).unwrap()
    }

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("postgresql.conf", fixture::text(&tree, CONF, Slot::Blue));
        insta::assert_snapshot!("pg_hba.conf", fixture::text(&tree, HBA, Slot::Blue));
    }

    #[test]
    fn too_little_memory_and_a_slot_service_are_problems() {
        let text = "service = 'backend'\nmemory = '64m'\nmax_connections = 0\ndatabase = 'app'\nuser = 'app'";
        assert_eq!(at(text, &fixture::spec()), [["service"], ["memory"], ["max_connections"]]);
    }

    #[test]
    fn no_setting_is_newer_than_the_server() {
        for (tag, present, absent) in [
            ("14-alpine", "wal_compression = 'on'", "allow_alter_system"),
            ("15.3", "wal_compression = 'lz4'", "allow_alter_system"),
            ("latest", "wal_compression = 'on'", "allow_alter_system"),
            ("17", "allow_alter_system = 'off'", "receipt"),
            ("18", "log_connections = 'receipt,authentication,authorization'", "log_connections = 'on'"),
        ] {
            let text = conf_of(&tagged(tag), "");
            assert!(text.contains(present) && !text.contains(absent), "{tag}: {text}");
        }
    }

    #[test]
    fn sizes_follow_the_containers_limits() {
        let mut spec = fixture::spec();
        spec.droplet.vcpus = 8;
        let service = spec.services.get_mut("postgres").unwrap();
        service.compose.insert("mem_limit".to_owned(), json!("1280m"));
        let text = conf_of(&spec, "");
        assert!(
            text.contains("shared_buffers = '256MB'") && !text.contains("max_worker_processes"),
            "{text}"
        );
        spec.services.get_mut("postgres").unwrap().compose.insert("cpus".to_owned(), json!("3.5"));
        assert!(conf_of(&spec, "").contains("max_worker_processes = '4'"));
        spec.droplet.memory_mib = 1024;
        assert!(conf_of(&spec, "").contains("max_wal_size = '1GB'"));
    }

    #[test]
    fn what_the_profile_sets_takes_the_place_of_ours() {
        let text = conf_of(
            &fixture::spec(),
            "[settings]\njit = true\nwork_mem = '8MB'\nauth_delay.milliseconds = 5\n\"a.b\" = 1.5",
        );
        assert_eq!(text.matches("\njit = ").count(), 1, "{text}");
        assert!(text.contains("\njit = 'on'\n") && text.contains("\nwork_mem = '8MB'\n"), "{text}");
        assert!(text.contains("a.b = '1.5'\nauth_delay.milliseconds = '5'\n"), "{text}");
    }

    #[test]
    fn a_setting_that_is_not_the_profiles_is_refused_at_its_place() {
        let base = "service = 'postgres'\ndatabase = 'app'\nuser = 'app'\n";
        let spec = tagged("16");
        let refused =
            at(&format!("{base}[settings]\nport = 1\nio_method = 'worker'\nwork_mem = '8MB'"), &spec);
        assert_eq!(refused, [["settings", "io_method"], ["settings", "port"]]);
        assert_eq!(at(base, &tagged("13")), [["version"]]);
        assert_eq!(at(&format!("{base}locale = 'a b'"), &spec), [["locale"]]);
        assert_eq!(at(&format!("{base}memory = '2g'"), &spec), [["memory"]]);
    }

    #[test]
    fn what_no_file_could_carry_is_refused_at_its_place() {
        let text = "service = 'postgres'\ndatabase = '/app'\nuser = 'a\"b'\npassword = 'nothing'\n\
                    access = [{ database = 'x', user = '@y' }]\n[settings]\nwork_mem = \"8MB\\nfsync = off\"";
        let expected: [&[&str]; 5] =
            [&["database"], &["user"], &["access", "0", "user"], &["password"], &["settings", "work_mem"]];
        assert_eq!(at(text, &tagged("16")), expected);
    }

    #[test]
    fn a_password_needs_no_more_than_its_name() {
        let tree = fixture::render_with(
            &fixture::spec(),
            "user = \"app\"\n",
            "user = \"app\"\npassword = \"redis_password\"\n",
        );
        let data = fixture::text(&tree, "compose/data.yaml", Slot::Blue);
        let (_, postgres) = data.split_once("container_name: postgres").unwrap();
        let (postgres, _) = postgres.split_once("container_name: redis").unwrap();
        assert!(postgres.contains("target: /run/secrets/redis_password"), "{data}");
        // The profile's own variable stays.
        assert!(postgres.contains("POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password"), "{data}");
    }

    #[test]
    fn data_that_no_volume_holds_is_a_problem() {
        let base = "service = 'postgres'\ndatabase = 'app'\nuser = 'app'\n";
        assert_eq!(at(base, &tagged("18-bookworm")), [["service"]]);
        let mut spec = tagged("18-bookworm");
        spec.services.get_mut("postgres").unwrap().volumes[0].target = "/var/lib/postgresql".to_owned();
        assert_eq!(at(base, &spec), [[""; 0]; 0]);
    }
}
