//! What a machine should be, with nothing left open: the result of resolving a profile against its lock, and the only
//! thing that renderers see. Plain data; making one is the business of `profile`.

mod dockerfile;
mod image;
mod packages;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use dockerfile::{DockerfileLock, DockerfileRecipe, LockedDockerfile};
pub use packages::{IndexPin, PackageLock, PackagePin, Past};

use crate::model::{
    Digest, ImageName, ProfileName, RouteName, SecretName, SecretOrigin, ServiceName, Slot, Template, User,
};

pub use image::{
    Base, Copy, DEBIAN_MIRROR, DEBIAN_SECURITY, DEBIAN_SNAPSHOT, DebianArchive, ImageConfig, ImageDirectory,
    ImageLink, ImageRecipe, ImageUser, ModeRule, Owner,
};

/// Everything that the artifact kinds share. What only one kind knows (Redis' memory, say) stays in that kind's table.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The profile's name.
    pub name: ProfileName,
    /// `development`, `staging`, `production` …: what the services are told in `BUNDLE_ENVIRONMENT`.
    pub environment: String,
    /// The host name under which the public reaches the machine.
    pub domain: String,
    /// Where the bundle travels, if the profile says so.
    pub registry: Option<Registry>,
    /// Docker's own package repository, if Docker does not come from the distribution.
    pub docker_repository: Option<DockerRepository>,
    /// The machine itself.
    pub droplet: Droplet,
    /// The three container networks.
    pub networks: Networks,
    /// The services, stateful and stateless.
    pub services: BTreeMap<ServiceName, Service>,
    /// What HAProxy forwards, and how health is asked.
    pub routes: BTreeMap<RouteName, Route>,
    /// The slot service that is run once, to its end, before a slot starts.
    pub migrations: Option<ServiceName>,
    /// Every secret, by name. No values.
    pub secrets: BTreeMap<SecretName, SecretOrigin>,
    /// The files of variables, by name; one that is an absolute path is also found there.
    pub env_files: BTreeMap<String, EnvFile>,
    /// Files of the project that travel in the bundle, by the name that the profile gives them.
    pub files: BTreeMap<String, ProjectFile>,
    /// How a switch behaves.
    pub switching: Switching,
    /// The program that activates the bundle on a fresh droplet, if the lock pins one.
    pub activator: Option<Activator>,
    /// The certificates, in PEM, of the authorities that signed the certificate authority's own door, if `[certificates]`
    /// names a file of them.
    pub acme_ca: Option<String>,
}

impl Spec {
    /// The host names that the machine answers to: its domain, and those of its routes.
    pub fn hosts(&self) -> BTreeSet<&str> {
        let routes = self.routes.values().map(|route| route.host.as_str());
        routes.chain([self.domain.as_str()]).collect()
    }
}

/// The registry through which the bundle reaches its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Where the bundle is pushed to: `registry.example.com/team/app`, without tag.
    pub repository: String,
    /// The certificates of the authorities that signed the registry's, in PEM; `None` if every machine knows them.
    pub ca: Option<String>,
    /// What machines show to the registry; `None` if everybody may read.
    pub login: Option<Login>,
    /// Where the activator lies, which fresh machines fetch before they have any secret, if it is not `repository`.
    pub activator: Option<String>,
}

impl Registry {
    /// Where the activator lies: everybody may read it there.
    pub fn activator_repository(&self) -> &str {
        self.activator.as_deref().unwrap_or(&self.repository)
    }
}

/// Who a machine is to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The secret that is the password or token; the operator sends it.
    pub token: SecretName,
}

/// A package repository as Docker publishes them (Docker documentation, "Install Docker Engine").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerRepository {
    /// Where it is: `https://download.docker.com/linux/debian`.
    pub url: String,
    /// The key that signs it, armoured.
    pub key: String,
}

/// The activator binary, as the lock pins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activator {
    /// SHA-256 of the binary.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The droplet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Droplet {
    /// DigitalOcean's size slug, such as `s-2vcpu-4gb`.
    pub size: String,
    /// Region slug, such as `fra1`.
    pub region: String,
    /// The distribution release that it boots.
    pub release: OsRelease,
    /// Memory in MiB, from the size.
    pub memory_mib: u64,
    /// Virtual CPUs, from the size.
    pub vcpus: u32,
    /// The interface that faces the Internet; `eth0` on a droplet.
    pub public_interface: String,
}

/// The distribution releases whose package versions the renderers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OsRelease {
    /// Debian 12, bookworm. Its own Compose is the first version, so that Docker comes from Docker.
    #[serde(rename = "debian-12-x64")]
    Debian12,
    /// Debian 13, trixie.
    #[serde(rename = "debian-13-x64")]
    Debian13,
    /// Ubuntu 24.04, noble.
    #[serde(rename = "ubuntu-24-04-x64")]
    Ubuntu2404,
}

impl OsRelease {
    /// Whether the Docker that the distribution was released with knows a health check's `start_interval`: it came with
    /// Docker 25, and Compose refuses the key where Docker is older.
    pub fn knows_start_interval(self) -> bool {
        self == Self::Debian13
    }

    /// The name that package repositories have for it.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
            Self::Ubuntu2404 => "noble",
        }
    }
}

/// The subnets of the container networks. They lie outside the pools that `daemon.json` gives to Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    /// Where the stateful services are reached; internal, no way out.
    pub data: Ipv4Net,
    /// The blue slot's own.
    pub blue: Ipv4Net,
    /// The green slot's own.
    pub green: Ipv4Net,
}

impl Networks {
    /// The slot's own network.
    pub fn of(&self, slot: Slot) -> Ipv4Net {
        match slot {
            Slot::Blue => self.blue,
            Slot::Green => self.green,
        }
    }

    /// The address with this host number in `net`. The resolver has checked that it fits.
    pub fn address(net: Ipv4Net, host: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(net.network()) + u32::from(host))
    }
}

/// One container's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What it runs.
    pub image: PinnedImage,
    /// Where it runs.
    pub placement: Placement,
    /// Host numbers from the lock, never reused. A stateful service has one; a slot service has one on its slot's
    /// network (`slot`) and, because both colours stand on `data` at once, one for each colour there.
    pub hosts: Hosts,
    /// `user`, numeric, as containers and secret files need it.
    pub user: Option<User>,
    /// Secrets that it reads as files under `/run/secrets/<name>`.
    pub secrets: Vec<SecretName>,
    /// `environment`.
    pub environment: BTreeMap<String, String>,
    /// `env_file`: names in [`Spec::env_files`].
    pub env_files: Vec<String>,
    /// `volumes`.
    pub volumes: Vec<Volume>,
    /// `depends_on`, with Compose's conditions. Only services of the same placement.
    pub depends_on: BTreeMap<ServiceName, String>,
    /// Every other Compose key, checked where the schema models it, carried over untouched where it does not.
    pub compose: serde_json::Map<String, serde_json::Value>,
}

/// A file of variables, put together on the droplet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// The values by variable, with the secrets that they name.
    pub values: BTreeMap<String, Template>,
}

/// What a service may take of the machine where its profile does not say.
pub mod limits {
    /// `mem_limit`, in MiB.
    pub const MEMORY_MIB: u64 = 512;
    /// `cpus`.
    pub const CPUS: &str = "1.0";
    /// `pids_limit`.
    pub const PIDS: u32 = 256;
}

/// Fixed host numbers in the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// On `data`: the stateful service, or the blue copy of a slot service.
    pub data_blue: u16,
    /// On `data`: the green copy. Equal to `data_blue` for a stateful service.
    pub data_green: u16,
    /// On the slot's own network; the same number on both.
    pub slot: u16,
}

/// Where a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In the project `data`: never replaced by a release.
    Data,
    /// In `blue` and `green`, side by side for a moment.
    Slot,
    /// In `blue` and `green`, but never in both at once (a long-polling bot, a scheduler).
    SlotSingleton,
}

/// An image with the digest that its tag meant when the lock was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedImage {
    /// `docker.io/library/postgres`: host and repository.
    pub repository: String,
    /// The tag that was resolved, for people.
    pub tag: Option<String>,
    /// The digest of the index or manifest.
    pub digest: Digest,
    /// `postgres`: the last part of the repository.
    pub name: ImageName,
}

impl PinnedImage {
    /// `repository@sha256:…`: what is pulled.
    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// `bundle.local/NAME:<hex>`: what compose files say. Such a name survives `docker image prune`, and a moved tag
    /// cannot lie.
    pub fn local(&self) -> String {
        format!("bundle.local/{}:{}", self.name, self.digest.hex())
    }
}

/// A mount declared by the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name of a volume, or an absolute host path.
    pub source: String,
    /// Where the container sees it.
    pub target: String,
    /// `:ro`.
    pub read_only: bool,
}

impl Volume {
    /// Whether the source is a named volume rather than a host path.
    pub fn is_named(&self) -> bool {
        !self.source.starts_with('/')
    }
}

/// A file of the project, or a directory of files, and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// The service into which it is mounted; `None`: it stands on the droplet itself, below `/etc`.
    pub service: Option<ServiceName>,
    /// The absolute path at which it is seen.
    pub target: String,
    /// The bytes, by path below `target`; the empty path is `target` itself.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Whether everybody may run it.
    pub executable: bool,
}

/// One HTTP service behind the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The slot service that answers.
    pub service: ServiceName,
    /// The host name whose requests it gets, in lower case.
    pub host: String,
    /// The path below which it gets them: `/`, or whole segments without a slash at the end, as in `/api`.
    pub path: String,
    /// Its port inside the container.
    pub port: u16,
    /// Its readiness path: 200 means ready.
    pub health: String,
    /// The answer's header that carries `BUNDLE_RELEASE`, if it has one.
    pub release_header: Option<String>,
}

/// How a switch behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switching {
    /// How long the last good generation stands by after the flip, in seconds.
    pub trial_seconds: u64,
    /// How long a new slot may take to become ready, in seconds.
    pub health_seconds: u64,
    /// How long requests under way may take on the old slot before it is stopped, in seconds.
    pub drain_seconds: u64,
}
