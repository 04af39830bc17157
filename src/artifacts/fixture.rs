//! A marketplace on one droplet, for the tests of the kinds.

use std::collections::BTreeMap;

use serde_json::json;
use toml::de::DeTable;

use super::{KINDS, Tree};
use crate::model::{Digest, Generator, SecretOrigin, ServiceName, Slot, User};
use crate::spec::{
    Droplet, Hosts, Networks, OsRelease, PinnedImage, Placement, Registry, Route, Service, Spec, Switching,
    Volume,
};

/// The tables that kinds own.
pub(super) const TABLES: &str = r#"
[firewall]
ssh_from = ["203.0.113.0/24", "2001:db8::/32"]
vpc = { interface = "eth1", subnet = "10.110.0.0/20", tcp = [9100] }

[postgres]
service = "postgres"
memory = "1g"
max_connections = 100
database = "app"
user = "app"

[redis]
service = "redis"
maxmemory = '256mb'
policy = "noeviction"
password = "redis_password"

[proxy]
exempt = ["149.154.160.0/20", "91.108.4.0/22"]
"#;

/// The spec.
pub(super) fn spec() -> Spec {
    let services = [
        ("postgres", postgres()),
        ("redis", redis()),
        ("backend", backend()),
        ("worker", worker()),
        ("migrate", migrate()),
    ];
    let route = Route {
        service: name("backend"),
        host: "bot.example.com".to_owned(),
        path: "/".to_owned(),
        port: 8000,
        health: "/readyz".to_owned(),
        release_header: Some("X-Bundle-Release".to_owned()),
    };
    let secrets = [
        ("postgres_password", SecretOrigin::Generate(Generator::Password)),
        ("redis_password", SecretOrigin::Generate(Generator::Password)),
        ("telegram_bot_token", SecretOrigin::Operator),
        (
            "database_url",
            SecretOrigin::Template(
                "postgresql://app:{{ postgres_password | urlencode }}@postgres:5432/app".to_owned(),
            ),
        ),
    ];
    Spec {
        name: "production".parse().unwrap(),
        environment: "production".to_owned(),
        env_files: BTreeMap::new(),
        files: BTreeMap::new(),
        domain: "bot.example.com".to_owned(),
        registry: Some(Registry {
            repository: "registry.example.com/team/marketplace".to_owned(),
            ca: None,
            login: None,
            activator: None,
        }),
        docker_repository: None,
        droplet: Droplet {
            size: "s-2vcpu-4gb".to_owned(),
            region: "fra1".to_owned(),
            release: OsRelease::Debian13,
            memory_mib: 4096,
            vcpus: 2,
            public_interface: "eth0".to_owned(),
        },
        networks: Networks {
            data: "10.89.0.0/24".parse().unwrap(),
            blue: "10.89.1.0/24".parse().unwrap(),
            green: "10.89.2.0/24".parse().unwrap(),
        },
        services: services.map(|(key, service)| (name(key), service)).into(),
        routes: BTreeMap::from([("backend".parse().unwrap(), route)]),
        migrations: Some(name("migrate")),
        secrets: secrets.map(|(key, origin)| (key.parse().unwrap(), origin)).into(),
        switching: Switching { trial_seconds: 30, health_seconds: 60, drain_seconds: 30 },
        activator: None,
        acme_ca: None,
    }
}

/// Everything that all kinds render from [`spec`] and [`TABLES`].
pub(super) fn tree() -> Tree {
    render(&spec())
}

/// Everything that all kinds render from `spec` and [`TABLES`].
pub(super) fn render(spec: &Spec) -> Tree {
    render_with(spec, "", "")
}

/// The same, with one text of [`TABLES`] replaced by another.
pub(super) fn render_with(spec: &Spec, from: &str, to: &str) -> Tree {
    let text = if from.is_empty() { TABLES.to_owned() } else { TABLES.replace(from, to) };
    // What `Kind::parse` takes lives as long as the program.
    let text: &'static str = text.leak();
    let mut tree = Tree::new(&spec.name);
    for kind in KINDS {
        let mut document = DeTable::parse(text).unwrap().into_inner();
        let table = kind.table.and_then(|name| document.remove(name));
        let artifact = match table {
            Some(value) => (kind.parse)(value).unwrap(),
            None => match (kind.absent)() {
                Some(artifact) => artifact,
                None => continue,
            },
        };
        assert_eq!(artifact.check(spec), [], "{}", kind.name);
        artifact.render(spec, &mut tree).unwrap();
    }
    tree
}

/// A rendered file's text.
pub(super) fn text(tree: &Tree, path: &str, slot: Slot) -> String {
    let entry = tree.get(path, slot).unwrap_or_else(|| panic!("no `{path}`"));
    String::from_utf8(entry.content.clone()).unwrap()
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn image(repository: &str, tag: &str) -> PinnedImage {
    let name = repository.rsplit_once('/').map_or(repository, |(_, name)| name).parse().unwrap();
    let digest = Digest::of(repository.as_bytes());
    PinnedImage { repository: repository.to_owned(), tag: Some(tag.to_owned()), digest, name }
}

fn volume(source: &str, target: &str) -> Volume {
    Volume { source: source.to_owned(), target: target.to_owned(), read_only: false }
}

fn plain(image: PinnedImage, placement: Placement, hosts: [u16; 3], uid: u32) -> Service {
    let [data_blue, data_green, slot] = hosts;
    Service {
        image,
        placement,
        hosts: Hosts { data_blue, data_green, slot },
        user: Some(User { uid, gid: uid }),
        secrets: Vec::new(),
        environment: BTreeMap::new(),
        env_files: Vec::new(),
        volumes: Vec::new(),
        depends_on: BTreeMap::new(),
        compose: serde_json::Map::new(),
    }
}

fn postgres() -> Service {
    let image = image("docker.io/library/postgres", "16-bookworm");
    let mut service = plain(image, Placement::Data, [10, 10, 10], 999);
    service.secrets = vec!["postgres_password".parse().unwrap()];
    service.volumes = vec![volume("postgres", "/var/lib/postgresql/data")];
    service.environment = BTreeMap::from([
        ("POSTGRES_DB".to_owned(), "app".to_owned()),
        ("POSTGRES_PASSWORD_FILE".to_owned(), "/run/secrets/postgres_password".to_owned()),
        ("POSTGRES_USER".to_owned(), "app".to_owned()),
    ]);
    service.compose.insert("mem_limit".to_owned(), json!("1280m"));
    service.compose.insert("shm_size".to_owned(), json!("256m"));
    service.compose.insert("stop_grace_period".to_owned(), json!("2m"));
    let healthcheck = json!({ "test": ["CMD", "pg_isready", "-q"], "interval": "5s", "retries": 12 });
    service.compose.insert("healthcheck".to_owned(), healthcheck);
    service
}

fn redis() -> Service {
    let mut service =
        plain(image("docker.io/library/redis", "7-bookworm"), Placement::Data, [11, 11, 11], 999);
    service.volumes = vec![volume("redis", "/data")];
    service
}

fn backend() -> Service {
    let image = image("ghcr.io/example/marketplace-backend", "1.0.0");
    let mut service = plain(image, Placement::Slot, [12, 13, 12], 10001);
    service.secrets = ["database_url", "telegram_bot_token"].map(|secret| secret.parse().unwrap()).into();
    service.depends_on = BTreeMap::from([(name("migrate"), "service_completed_successfully".to_owned())]);
    service.compose.insert("read_only".to_owned(), json!(true));
    service
}

fn worker() -> Service {
    let mut service = backend();
    service.placement = Placement::SlotSingleton;
    service.hosts = Hosts { data_blue: 14, data_green: 15, slot: 14 };
    service.compose.insert("command".to_owned(), json!(["marketplace", "worker"]));
    service.depends_on = BTreeMap::from([(name("backend"), "service_started".to_owned())]);
    service
}

fn migrate() -> Service {
    let mut service = backend();
    service.hosts = Hosts { data_blue: 16, data_green: 17, slot: 16 };
    service.compose.insert("command".to_owned(), json!(["marketplace", "migrate"]));
    service.depends_on = BTreeMap::new();
    service
}
