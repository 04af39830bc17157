//! The words of a profile that no artifact kind owns: a struct for each table, whose doc comments are what editors and
//! `docs/profile.md` show. Nothing is read into these structs; that every key read is described here, and no other, is
//! held by a test beside `describe`.
#![expect(dead_code, reason = "described, not read")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::model::{ImageName, RouteName, SecretName, ServiceName};

/// What a machine should be. `services` and the tables of the artifact kinds are added by `describe`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// The profiles that this one is laid over, by their paths, relative to this file. Of several the later one is laid
    /// over the earlier. Tables merge, everything else replaces, arrays too.
    #[serde(default)]
    #[schemars(schema_with = "extends", example = &"base.toml", example = ["base.toml", "frankfurt.toml"])]
    extends: Option<String>,
    /// What the profile is called: in the first line of every file, in the list of generations, as the tag in the
    /// registry. Its file's name if nothing is said.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_.-]{0,62}$"), example = &"shop")]
    name: Option<String>,
    /// What this deployment is for. Services get it as `BUNDLE_ENVIRONMENT`.
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,63}$"), example = &"production")]
    environment: String,
    /// The host name under which clients reach the machine (RFC 1123), in lower case.
    #[schemars(regex(pattern = r"^[a-z0-9.-]{1,253}$"), example = &"bot.example.com")]
    domain: String,
    registry: Option<Registry>,
    docker: Option<Docker>,
    droplet: Droplet,
    networks: Option<Networks>,
    /// The services that keep data: a project of their own, which no release touches. The others are stateless and
    /// stand in a slot, blue or green.
    #[serde(default)]
    #[schemars(example = ["postgres", "redis"])]
    stateful: Vec<ServiceName>,
    /// The stateless services that must never run twice: the old one is gone before the new one starts.
    #[serde(default)]
    #[schemars(example = ["worker"])]
    singletons: Vec<ServiceName>,
    /// The stateless service that is run to its end before a slot starts.
    #[schemars(example = &"migrate")]
    migrations: Option<ServiceName>,
    /// What the proxy forwards to, by name.
    #[serde(default)]
    routes: BTreeMap<RouteName, Route>,
    /// The secrets by name. An empty table is a secret that the operator sends with `bundle secrets set NAME`.
    #[serde(default)]
    secrets: BTreeMap<SecretName, Secret>,
    /// Files of variables by name, for services that read their configuration from the environment only. They are put
    /// together on the droplet and belong to root alone. A name that is an absolute path is also where people find the
    /// file.
    #[serde(default)]
    env_files: BTreeMap<String, EnvFile>,
    /// Files of the project that travel in the bundle: `SERVICE:/path` is mounted into that service, a path below `/etc`
    /// lies on the droplet itself.
    #[serde(default)]
    files: BTreeMap<String, File>,
    /// What the profile knows and means: findings of lints that are not said again. `bundle lint --list` shows them all.
    #[serde(default)]
    #[schemars(example = known())]
    allow: Vec<Allow>,
    switch: Option<Switch>,
    /// The project's own images, by name.
    #[serde(default)]
    images: BTreeMap<ImageName, super::image_words::Image>,
    debian: Option<super::image_words::Debian>,
}

fn known() -> serde_json::Value {
    serde_json::json!([{ "lint": "open-firewall", "reason": "it stands behind the provider's" }])
}

/// A file of variables.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnvFile {
    /// The variables. A value may name secrets, as `{{ name }}`, `{{ name | urlencode }}` and `{{ name | sha256 }}`.
    #[schemars(schema_with = "variables", example = debug())]
    values: BTreeMap<String, String>,
    /// Why the secrets in it may be variables, which `docker inspect` shows; needed where a value names one.
    #[schemars(example = &"the program reads nothing but its environment")]
    allow_env: Option<String>,
}

fn variables(_: &mut SchemaGenerator) -> Schema {
    super::services::pairs().try_into().unwrap_or_default()
}

fn debug() -> serde_json::Value {
    serde_json::json!({ "DEBUG": "false" })
}

/// A file, or a directory of files.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// The file or directory, relative to the file that says it. Either this or `content`.
    #[schemars(example = &"conf/app.conf")]
    source: Option<String>,
    /// The text itself.
    #[schemars(example = &"workers = 4\n")]
    content: Option<String>,
    /// Whether it may be run.
    #[serde(default)]
    executable: bool,
}

/// An exception.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Allow {
    /// The lint.
    #[schemars(example = &"open-firewall")]
    lint: String,
    /// What it is about, with everything below it. Without it: the whole profile.
    #[schemars(example = &"services.redis")]
    at: Option<String>,
    /// Why it is right here, for whoever reads it in a year.
    #[schemars(example = &"it stands behind the provider's")]
    reason: String,
}

fn extends(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
}

/// Where bundles and images are kept, and how a machine gets in.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Registry {
    /// The repository of the bundle: host and path, without scheme, tag or digest.
    #[schemars(example = &"registry.example.com/team/app")]
    repository: String,
    /// The repository of the activator, readable without a login. Without it: `repository`.
    #[schemars(example = &"ghcr.io/team/bundle")]
    activator: Option<String>,
    /// A file of certificates in PEM that a machine trusts for this registry, relative to the file that says it.
    #[schemars(example = &"registry-ca.pem")]
    ca: Option<String>,
    /// The user of the registry; goes with `token`.
    #[schemars(example = &"deploy")]
    user: Option<String>,
    /// The secret that is the user's password; goes with `user`.
    #[schemars(example = &"registry_token")]
    token: Option<SecretName>,
}

/// Where Docker comes from.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Docker {
    repository: DockerRepository,
}

/// A package repository to take Docker from, instead of the distribution's; needed on Debian 12.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct DockerRepository {
    /// Its address.
    #[schemars(regex(pattern = "^https?://"), example = &"https://download.docker.com/linux/debian")]
    url: String,
    /// The file of its armoured public key, relative to the file that says it.
    #[schemars(example = &"docker.asc")]
    key: String,
}

/// The droplet that the bundle is for.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Droplet {
    /// Its size, by slug; memory and CPUs are read from it.
    #[schemars(regex(pattern = r"^[a-z0-9_]+-[a-z0-9_-]+$"), example = &"s-2vcpu-4gb")]
    size: String,
    /// Its region, by slug.
    #[schemars(regex(pattern = "^[a-z0-9]+$"), example = &"fra1")]
    region: String,
    image: Image,
    /// The interface that the public reaches.
    #[serde(default = "eth0")]
    #[schemars(regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$"))]
    public_interface: String,
}

fn eth0() -> String {
    "eth0".to_owned()
}

/// Its image, by slug: the release that everything is written for.
#[derive(JsonSchema)]
enum Image {
    #[serde(rename = "debian-12-x64")]
    Debian12,
    #[serde(rename = "debian-13-x64")]
    Debian13,
    #[serde(rename = "ubuntu-24-04-x64")]
    Ubuntu2404,
}

/// The subnets of the machine's own networks: private IPv4 (RFC 1918), /16 to /28, apart from each other and from
/// `172.20.0.0/14`, from which Docker takes subnets for networks that nobody declared.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Networks {
    /// Between the services; no way out.
    #[schemars(regex(pattern = SUBNET))]
    data: String,
    /// Of the blue slot.
    #[schemars(regex(pattern = SUBNET))]
    blue: String,
    /// Of the green slot.
    #[schemars(regex(pattern = SUBNET))]
    green: String,
}

const SUBNET: &str = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$";

impl Default for Networks {
    fn default() -> Self {
        let [data, blue, green] = ["10.89.0.0/24", "10.89.1.0/24", "10.89.2.0/24"].map(str::to_owned);
        Self { data, blue, green }
    }
}

/// Requests that the proxy forwards to a service.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Route {
    /// The stateless service that answers.
    #[schemars(example = &"backend")]
    service: ServiceName,
    /// Its port inside the container.
    #[schemars(range(min = 1), example = 8000)]
    port: u16,
    /// The path that answers 200 when the service is ready.
    #[schemars(regex(pattern = "^/[^ \"'#\\\\]*$"), example = &"/readyz")]
    health: String,
    /// The header of that answer which names the release, if there is one: it is then held against the bundle's.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]+$"), example = &"X-Bundle-Release")]
    release_header: Option<String>,
    /// The host name whose requests it gets. Without it: the profile's `domain`.
    #[schemars(regex(pattern = r"^[a-z0-9.-]{1,253}$"), example = &"api.example.com")]
    host: Option<String>,
    /// The path below which it gets requests, in whole segments. The longest one that fits wins.
    #[serde(default = "slash")]
    #[schemars(regex(pattern = "^/[A-Za-z0-9/._~@:+=,-]*$"), example = &"/api")]
    path: String,
}

fn slash() -> String {
    "/".to_owned()
}

/// A secret: how its value comes to be on the machine. The value itself never stands in a profile or a bundle.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Secret {
    generate: Option<Generate>,
    /// The value is put together on the machine from other secrets: `{{ name }}`, `{{ name | urlencode }}`,
    /// `{{ name | sha256 }}`.
    #[schemars(example = &"postgresql://app:{{ postgres_password | urlencode }}@postgres:5432/app")]
    template: Option<String>,
}

/// The value is made on the machine, once.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Generate {
    Password,
}

/// The times that a switch takes: whole seconds, up to 24 h, such as `30s` or `1m30s`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Switch {
    /// How long the last good generation stands by after the flip.
    #[schemars(regex(pattern = DURATION))]
    trial: String,
    /// How long a new slot may take to become ready.
    #[schemars(regex(pattern = DURATION))]
    health: String,
    /// How long requests under way may take on the old slot.
    #[schemars(regex(pattern = DURATION))]
    drain: String,
}

/// As the reader takes durations, `units::Duration`.
pub(super) const DURATION: &str = "^([0-9]+(h|m|s|ms|us))+$";

impl Default for Switch {
    fn default() -> Self {
        let [trial, health, drain] = ["30s", "60s", "30s"].map(str::to_owned);
        Self { trial, health, drain }
    }
}
