//! What the build side tells the droplet about a file or a secret. The manifest is made of these; the activator knows
//! nothing else, and has never heard of Redis.

use serde::{Deserialize, Serialize};

use super::{SecretName, ServiceName, Slot, StorePath, TreePath, UnitName};

/// The views that an entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slots {
    /// Both.
    Both,
    /// Only the blue one.
    Blue,
    /// Only the green one.
    Green,
}

impl Slots {
    /// Whether a view of `slot` has it.
    pub fn has(self, slot: Slot) -> bool {
        matches!((self, slot), (Self::Both, _) | (Self::Blue, Slot::Blue) | (Self::Green, Slot::Green))
    }
}

impl From<Slot> for Slots {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Blue => Self::Blue,
            Slot::Green => Self::Green,
        }
    }
}

/// A command that exits 0 when a file is right. `{}` in an argument stands for the file's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Check(pub Vec<String>);

/// What a changed file asks of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// `systemctl reload`.
    Reload(UnitName),
    /// `systemctl restart`.
    Restart(UnitName),
}

/// What the activator does with a systemd unit besides linking it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Targets that want it: `[Install] WantedBy=`. We write the `.wants` links ourselves.
    pub wanted_by: Vec<UnitName>,
    /// Whether a switch starts it when it is new, and restarts it when its file changed.
    pub start: bool,
    /// Whether systemd must know it before any container starts: a slice that they run in, a volume that they use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
}

/// A unit of the distribution that one of ours replaces: it is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Whether it is stopped when it is masked. `nftables.service` is not: it would flush every ruleset on its way out,
    /// Docker's too.
    pub stop: bool,
}

/// A copy of a service's data that the machine makes and keeps for a while. Both commands run in the service's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// The service; the file is named after it.
    pub service: ServiceName,
    /// Writes the copy to its standard output.
    pub write: Vec<String>,
    /// Reads it from its standard input and ends with 0 if it is whole.
    pub check: Vec<String>,
    /// How the file's name ends, without the dot.
    pub suffix: String,
}

/// A file that is written into the secrets' ramfs on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Below `/run/bundle/secrets/`: `<consumer>/<file>`.
    pub path: TreePath,
    /// What stands in it.
    pub source: SecretSource,
    /// Its owner; the mode is always 0400.
    pub owner: User,
    /// An absolute path where a link leads to it, for people and programs that look there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl SecretFile {
    /// Where the ramfs is mounted.
    pub const DIRECTORY: &'static str = "/run/bundle/secrets";

    /// Whether a link to a secret file may stand at this absolute path: below a directory of `/opt` or `/srv`, where
    /// programs keep their own things, and without a hidden part.
    pub fn may_link(path: &str) -> bool {
        let plain = |part: &str| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let below = ["/opt/", "/srv/"].iter().find_map(|root| path.strip_prefix(root));
        below.is_some_and(|path| path.contains('/') && path.len() <= 200 && path.split('/').all(plain))
    }

    /// The file's absolute path on the machine.
    pub fn absolute(&self) -> String {
        format!("{}/{}", Self::DIRECTORY, self.path)
    }
}

/// What units, timers and people call on the machine. The first boot puts a file there; once a generation that names its
/// own activator has committed, it is a link to that.
pub const PROGRAM: &str = "/usr/local/bin/bundle";

/// Where the machine's own logins to registries lie, one directory for each host: what `docker --config` takes. In the
/// secrets' ramfs, under a name that no service can have.
pub const REGISTRY_LOGINS: &str = "/run/bundle/secrets/.registry";

/// What stands in a secret file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// The value of one secret, nothing around it.
    Value(SecretName),
    /// A template of the bundle, with `{{ name | filter }}` filled in.
    Template(StorePath),
}

/// Numeric user and group of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretOrigin {
    /// Made once on the machine: 32 random bytes in base64url.
    Generate(Generator),
    /// Sent by the operator with `bundle secrets set`.
    Operator,
    /// Put together on the machine from other secrets: `{{ name | filter }}`.
    Template(String),
}

/// What can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// 256 random bits, 43 characters of base64url.
    Password,
}
