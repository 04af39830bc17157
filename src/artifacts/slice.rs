//! `etc/systemd/system/bundle-app.slice`: where all containers run.
//!
//! The firewall lets only root's processes reach the metadata service, and a container on the machine's own network may be
//! root. The slice is filtered by control group, whatever the network and the user (systemd.resource-control(5),
//! `IPAddressDeny=`). Docker puts a container there by `cgroup_parent` (Docker documentation, "dockerd", "Default cgroup
//! parent").

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::unit::UnitFile;
use super::{Artifact, Entry, RenderError, Section, Tree, literal};
use crate::model::Unit;
use crate::spec::Spec;

/// The kind `slice`; it has no table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slice {}

/// The slice's name; by it, it is below `bundle.slice` (systemd.slice(5)).
pub const NAME: &str = "bundle-app.slice";

impl Section for Slice {
    const KIND: &'static str = "slice";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Slice {
    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let mut file = UnitFile::default();
        file.section("Unit")
            .fixed(&["Description=The bundle's containers"])
            .section("Slice")
            .comment("The metadata service and everything else that is link-local (RFC 3927).")
            .fixed(&["IPAddressDeny=169.254.0.0/16"]);
        // Never started or restarted by itself: it is there with the first container, and stopping it would stop them all.
        let unit = Unit { wanted_by: vec![], start: false, ahead: true };
        let path = literal::path(&format!("etc/systemd/system/{NAME}"))?;
        let entry = Entry::text(Self::KIND, path, file.finish())
            .check(&["systemd-analyze", "verify", "--recursive-errors=no", "{}"])
            .unit(unit);
        tree.insert(entry).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!(
            NAME,
            fixture::text(&tree, &format!("etc/systemd/system/{NAME}"), Slot::Blue)
        );
    }

    #[test]
    fn every_container_runs_in_it() {
        let tree = fixture::tree();
        for path in ["compose/data.yaml", "compose/blue.yaml", "compose/green.yaml"] {
            let text = fixture::text(&tree, path, Slot::Blue);
            let (services, slices) = (text.matches("container_name:").count(), text.matches(NAME).count());
            assert_eq!(services, slices, "{path}: {text}");
        }
    }
}
