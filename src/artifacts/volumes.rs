//! `[volumes.NAME]` → a `.mount` unit for each block storage volume, and a drop-in by which Docker waits for them.
//!
//! A droplet whose volume is away boots and can be reached; Docker does not start on it, because a database that found an
//! empty directory would begin anew. A volume is never formatted: `mkfs.ext4 DEVICE`, once, is a person's decision.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Refused;
use super::format::unit::UnitFile;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::Unit;
use crate::spec::Spec;

/// Block storage volumes, each under a name of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Volumes(BTreeMap<String, Volume>);

/// One volume, and where it is mounted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Volume {
    /// The volume by a name that does not change with the order of devices, such as
    /// `"/dev/disk/by-id/scsi-0DO_Volume_data"` (DigitalOcean documentation, "Volumes").
    #[schemars(example = "/dev/disk/by-id/scsi-0DO_Volume_data")]
    device: String,
    /// Where it is mounted: below `/mnt`, `/srv` or `/opt`, without `-`. Services mount it, or what is in it, by this path.
    #[schemars(example = "/mnt/data")]
    path: String,
    /// What it is formatted with. Default: `"ext4"`.
    #[serde(default)]
    filesystem: Filesystem,
}

/// What DigitalOcean formats volumes with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Filesystem {
    #[default]
    Ext4,
    Xfs,
}

/// The drop-in's place in a view.
pub const DOCKER: &str = "etc/systemd/system/docker.service.d/bundle-volumes.conf";

impl Section for Volumes {
    const KIND: &'static str = "volumes";
    const TABLE: Option<&'static str> = Some("volumes");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Volumes {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |name: &str, key: &str, message: String, hint: &str| {
            let at = vec![name.to_owned(), key.to_owned()];
            problems.push(Problem { at, message, hint: Some(hint.to_owned()) });
        };
        for (name, Volume { device, path, .. }) in &self.0 {
            if !is_device(device) {
                let hint = "write its name below `/dev/disk/by-id/`, `by-uuid/` or `by-label/`; `/dev/sda` is whichever was first";
                problem(name, "device", format!("`{device}` does not always mean the same volume"), hint);
            }
            if !is_place(path) {
                let hint = "write a path such as `/mnt/data`: lower-case letters, digits, `_` and `.`";
                problem(name, "path", format!("`{path}` is not a place for a volume"), hint);
            }
            let within =
                |other: &Volume| path == &other.path || path.starts_with(&format!("{}/", other.path));
            if self.0.iter().any(|(other, volume)| {
                other != name && within(volume) && (path != &volume.path || other < name)
            }) {
                problem(
                    name,
                    "path",
                    format!("another volume is mounted at `{path}` or above it"),
                    "choose another path",
                );
            }
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut docker = UnitFile::default();
        docker
            .section("Unit")
            .comment("A database that found an empty directory would begin anew. A volume that goes away later stops nothing.");
        for (name, volume) in &self.0 {
            let unit = format!("{}.mount", escaped(&volume.path));
            let path = format!("etc/systemd/system/{unit}");
            let text = volume.unit(name).map_err(|refused| refused.at(&path))?;
            let wanted_by = vec![literal::unit("multi-user.target")?];
            let entry = Entry::text(Self::KIND, literal::path(&path)?, text)
                .check(&["systemd-analyze", "verify", "--recursive-errors=no", "{}"])
                .unit(Unit { wanted_by, start: true, ahead: true });
            tree.insert(entry)?;
            for (key, value) in [("Wants", &unit), ("After", &unit), ("AssertPathIsMountPoint", &volume.path)]
            {
                docker.set(key, value).map_err(|refused| refused.at(DOCKER))?;
            }
        }
        tree.insert(Entry::text(Self::KIND, literal::path(DOCKER)?, docker.finish())).map(drop)
    }
}

impl Volume {
    /// `nofail` as an fstab has it: nothing that the boot waits for waits for the volume (systemd.mount(5)).
    fn unit(&self, name: &str) -> Result<String, Refused> {
        let check = format!("systemd-fsck@{}.service", escaped(&self.device));
        let mut unit = UnitFile::default();
        unit.section("Unit")
            .set("Description", &format!("The volume {name}"))?
            .comment("The boot does not wait for it, only Docker does.")
            .fixed(&["DefaultDependencies=no", "After=local-fs-pre.target"])
            .set("Requires", &check)?
            .set("After", &check)?
            .fixed(&["Before=docker.service", "Conflicts=umount.target", "Before=umount.target"])
            .section("Mount")
            .set("What", &self.device)?
            .set("Where", &self.path)?
            .set("Type", if self.filesystem == Filesystem::Xfs { "xfs" } else { "ext4" })?
            .comment("No program and no device of the volume's counts; freed blocks go back to the storage.")
            .fixed(&["Options=noatime,nodev,nosuid,discard"]);
        Ok(unit.finish())
    }
}

/// systemd.unit(5), "String Escaping for Inclusion in Unit Names", of an absolute path.
fn escaped(path: &str) -> String {
    let mut name = String::new();
    for (nth, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if nth == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            // Writing to a String cannot fail.
            byte => drop(write!(name, "\\x{byte:02x}")),
        }
    }
    name
}

fn is_device(device: &str) -> bool {
    let name = ["by-id", "by-uuid", "by-label"]
        .iter()
        .find_map(|by| device.strip_prefix(&format!("/dev/disk/{by}/")));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    })
}

/// No part needs escaping, so that the unit's name is one that everybody can type.
fn is_place(path: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
    };
    let inside = ["/mnt/", "/srv/", "/opt/"].iter().find_map(|above| path.strip_prefix(above));
    inside.is_some_and(|inside| inside.split('/').all(part)) && path.len() <= 100
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    fn volumes(text: &str) -> Volumes {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn renders() {
        let volumes = volumes(
            "[data]\ndevice = '/dev/disk/by-id/scsi-0DO_Volume_data'\npath = '/mnt/data'\n\
             [media]\ndevice = '/dev/disk/by-label/media'\npath = '/srv/media/large'\nfilesystem = 'xfs'",
        );
        assert_eq!(volumes.check(&fixture::spec()), []);
        let mut tree = Tree::default();
        volumes.render(&fixture::spec(), &mut tree).unwrap();
        for unit in ["mnt-data.mount", "srv-media-large.mount"] {
            let path = format!("etc/systemd/system/{unit}");
            insta::assert_snapshot!(unit, fixture::text(&tree, &path, Slot::Blue));
        }
        insta::assert_snapshot!("bundle-volumes.conf", fixture::text(&tree, DOCKER, Slot::Blue));
    }

    #[test]
    fn a_name_is_escaped_as_systemd_escapes_it() {
        assert_eq!(escaped("/mnt/data"), "mnt-data");
        assert_eq!(escaped("/dev/disk/by-id/scsi-0DO_Volume_x"), "dev-disk-by\\x2did-scsi\\x2d0DO_Volume_x");
        assert_eq!(escaped("/.hidden/a b"), "\\x2ehidden-a\\x20b");
    }

    #[test]
    fn a_volume_has_one_meaning_and_one_place() {
        let volumes = volumes(
            "[a]\ndevice = '/dev/sda'\npath = '/etc'\n\
             [b]\ndevice = '/dev/disk/by-id/x'\npath = '/mnt/x'\n\
             [c]\ndevice = '/dev/disk/by-id/y'\npath = '/mnt/x'\n\
             [d]\ndevice = '/dev/disk/by-id/z'\npath = '/mnt/x/in-side'\n\
             [e]\ndevice = '/dev/disk/by-id/../../sda'\npath = '/mnt/../etc'",
        );
        let at: Vec<String> =
            volumes.check(&fixture::spec()).into_iter().map(|problem| problem.at.join(".")).collect();
        assert_eq!(at, ["a.device", "a.path", "c.path", "d.path", "d.path", "e.device", "e.path"]);
    }
}
