//! `docker/daemon.json`: Docker's own settings.
//!
//! It does not stand below `etc/`: Docker reads it at its start only, so it is laid down before Docker is installed and
//! changed later only when someone asks for that.

use serde::Deserialize;
use serde_json::json;

use super::format::Refused;
use super::{Artifact, Entry, RenderError, Section, Tree, format, literal};
use crate::spec::Spec;

/// The kind `docker`; it has no table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Docker {}

const PATH: &str = "docker/daemon.json";

impl Section for Docker {
    const KIND: &'static str = "docker";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Docker {
    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, daemon_json()?).check(&[
            "dockerd",
            "--validate",
            "--config-file={}",
        ]);
        let entry = entry.bare();
        tree.insert(entry).map(drop)
    }
}

/// The file's text, for Docker 24 and later (Docker documentation, "dockerd", daemon configuration file). Every
/// release that a profile can name has one.
///
/// `ip` alone covers only the default bridge; `default-network-opts` does the same for every network made afterwards,
/// so that a port published by mistake ends on the loopback. The address pool leaves the profile's subnets alone.
pub fn daemon_json() -> Result<String, RenderError> {
    settings().map_err(|refused| refused.at(PATH))
}

/// The same, for the user-data that carries it.
pub(super) fn settings() -> Result<String, Refused> {
    let settings = json!({
        "default-address-pools": [{ "base": "172.20.0.0/14", "size": 24 }],
        "default-network-opts": {
            "bridge": { "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1" }
        },
        "icc": false,
        "ip": "127.0.0.1",
        "live-restore": true,
        "log-driver": "local",
        "log-opts": { "max-file": "5", "max-size": "10m" },
        "no-new-privileges": true,
        "userland-proxy": false,
    });
    format::json::pretty(&settings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn renders() {
        insta::assert_snapshot!("daemon.json", super::daemon_json().unwrap());
    }
}
