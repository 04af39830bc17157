//! The manifest: the one document that the build side and the droplet share.
//!
//! Its canonical bytes (RFC 8785, integers only) are the OCI config blob, and their SHA-256 is the bundle's digest. So
//! every field is sorted or a list in a fixed order, and nothing in it depends on how layers are compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::model::{
    Check, Digest, Dump, ImageName, Mask, Mode, NetworkName, OnChange, ProfileName, RouteName, SecretFile,
    SecretName, SecretOrigin, ServiceName, Slot, Slots, StorePath, TreePath, Unit, UnitName,
};

/// What a machine is to be, in the words of the activator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of this document: [`Manifest::SCHEMA`].
    pub schema: u32,
    /// The profile that it was built from.
    pub profile: ProfileName,
    /// The stateless half: unchanged, the slot stays. Containers carry it as a label and as `BUNDLE_RELEASE`.
    pub release: Digest,
    /// Every file, sorted by path and slot.
    pub artifacts: Vec<ArtifactEntry>,
    /// Every image, sorted by local name.
    pub images: Vec<ImagePin>,
    /// The container networks, sorted by name.
    pub networks: Vec<Network>,
    /// The Compose projects.
    pub projects: Projects,
    /// The distribution's units that ours replace.
    pub masks: BTreeMap<UnitName, Mask>,
    /// What HAProxy forwards.
    pub routes: BTreeMap<RouteName, RouteRule>,
    /// Where each secret comes from.
    pub secrets: BTreeMap<SecretName, SecretOrigin>,
    /// The files in the secrets' ramfs, sorted by path.
    pub secret_files: Vec<SecretFile>,
    /// The host name for which the placeholder certificate is made.
    pub domain: String,
    /// How a switch behaves.
    pub switching: Switching,
    /// What is copied from time to time; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Backups>,
    /// The program that is to activate it; `None`: whichever the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activator: Option<ActivatorPin>,
}

impl Manifest {
    /// The format of this document.
    pub const SCHEMA: u32 = 1;

    /// The host names that the machine answers to: its domain, and those of its routes.
    pub fn hosts(&self) -> BTreeSet<&str> {
        let routes = self.routes.values().filter_map(|route| route.host.as_deref());
        routes.chain([self.domain.as_str()]).collect()
    }

    /// The entry at `path` in the view of `slot`.
    pub fn artifact(&self, path: &str, slot: Slot) -> Option<&ArtifactEntry> {
        self.artifacts.iter().find(|entry| entry.path.as_str() == path && entry.slots.has(slot))
    }

    /// The entries of the view of `slot`.
    pub fn view(&self, slot: Slot) -> impl Iterator<Item = &ArtifactEntry> {
        self.artifacts.iter().filter(move |entry| entry.slots.has(slot))
    }
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactEntry {
    /// The kind that made it, for people.
    pub kind: String,
    /// Its place in a generation's view; below `etc/` also in `/etc`.
    pub path: TreePath,
    /// The views that it stands in.
    pub slots: Slots,
    /// Its mode.
    pub mode: Mode,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// How it is judged before anything is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// What has to happen when it changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_change: Vec<OnChange>,
    /// If it is a systemd unit: what to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl ArtifactEntry {
    /// Where it lives on the machine.
    pub fn store_path(&self) -> StorePath {
        StorePath::of(self.path.name(), self.mode, self.digest)
    }
}

/// One image that must be on the machine before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// `bundle.local/<name>:<hex>`, which compose files say.
    pub local: String,
    /// `repository@sha256:…`, which is pulled.
    pub reference: String,
    /// The name in `local`.
    pub name: ImageName,
    /// The digest in `reference`.
    pub digest: Digest,
}

/// Copies of the services' data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// For how many days a copy is kept, and longer if it is the last.
    pub keep_days: u32,
    /// How each is made.
    pub dumps: Vec<Dump>,
}

/// The activator's program, a blob beside the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivatorPin {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A container network that the activator makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `data`, `blue`, `green`.
    pub name: NetworkName,
    /// Its subnet; the first address is the host's.
    pub subnet: Ipv4Net,
    /// Without a way out.
    pub internal: bool,
    /// The name of its bridge interface, which the firewall may name.
    pub bridge: String,
}

/// The Compose projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projects {
    /// The stateful services; `None`: the profile has none.
    pub data: Option<Project>,
    /// The services of a slot, by the name the profile gives them. In the slot's project each is `<name>-<slot>`.
    pub slot: BTreeMap<ServiceName, SlotService>,
    /// The blue project's file.
    pub blue: StorePath,
    /// The green project's file.
    pub green: StorePath,
    /// The service of the slot that is run once, to its end, before the slot starts.
    pub migrations: Option<ServiceName>,
}

impl Projects {
    /// The file of the slot's project.
    pub fn file(&self, slot: Slot) -> &StorePath {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

/// The project `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its compose file.
    pub file: StorePath,
    /// Its services; the containers have the same names.
    pub services: Vec<ServiceName>,
}

/// A service of the slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotService {
    /// Must never run twice at once.
    pub singleton: bool,
}

/// An HTTP service behind the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// The slot service that answers.
    pub service: ServiceName,
    /// The host name whose requests it gets, if it is not the manifest's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// Its readiness path.
    pub health: String,
    /// The answer's header that carries the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_header: Option<String>,
    /// Its address in the blue slot.
    pub blue: Ipv4Addr,
    /// Its address in the green slot.
    pub green: Ipv4Addr,
}

impl RouteRule {
    /// The service's address in this slot.
    pub fn address(&self, slot: Slot) -> Ipv4Addr {
        match slot {
            Slot::Blue => self.blue,
            Slot::Green => self.green,
        }
    }
}

/// How a switch behaves; all in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switching {
    /// How long the last good generation stands by after the flip.
    pub trial_seconds: u64,
    /// How long a new slot may take to become ready.
    pub health_seconds: u64,
    /// How long requests under way may take on the old slot before it is stopped.
    pub drain_seconds: u64,
}
