//! `[dockerd]` → `docker/daemon.json`: Docker's own settings.
//!
//! It does not stand below `etc/`: Docker reads it at its start only, so it is laid down before Docker is installed and
//! changed later only when someone asks for that.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::format::Refused;
use super::size::Size;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, format, literal};
use crate::spec::Spec;

/// What holds for every container, in the file that the first boot lays down.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// After how much a container's log goes into a next file. Default: `"10m"`.
    log_size: Size,
    /// How many files of a container's log are kept. Default: `5`.
    log_files: u32,
    /// How many files and sockets a process in a container may have open, unless its service says otherwise (`ulimits`).
    /// Default: as many as Docker itself may.
    #[schemars(example = 65_536)]
    open_files: Option<u32>,
}

impl Default for Docker {
    fn default() -> Self {
        Self { log_size: Size::of_bytes(10 << 20), log_files: 5, open_files: None }
    }
}

/// The file's place in a view.
pub const PATH: &str = "docker/daemon.json";

impl Section for Docker {
    const KIND: &'static str = "docker";
    const TABLE: Option<&'static str> = Some("dockerd");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Docker {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let numbers =
            [("log_files", Some(self.log_files), 1, 100), ("open_files", self.open_files, 1024, 1_048_576)];
        for (key, value, least, most) in numbers {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                let message = format!("`{value}` is not between {least} and {most}");
                problems.push(literal::problem(key, message, None));
            }
        }
        if self.log_size.kib() < 64 {
            let message = format!("`{}` would keep next to nothing", self.log_size);
            problems.push(literal::problem("log_size", message, Some("write `10m`".to_owned())));
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let text = self.settings().map_err(|refused| refused.at(PATH))?;
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text).check(&[
            "dockerd",
            "--validate",
            "--config-file={}",
        ]);
        let entry = entry.bare();
        tree.insert(entry).map(drop)
    }
}

/// The file's text where the profile says nothing about it.
pub fn daemon_json() -> Result<String, RenderError> {
    Docker::default().settings().map_err(|refused| refused.at(PATH))
}

impl Docker {
    /// The file's text, for Docker 24 and later (Docker documentation, "dockerd", daemon configuration file). Every
    /// release that a profile can name has one.
    ///
    /// - `ip` alone covers only the default bridge; `default-network-opts`, known since 24, does the same for every network
    ///   made afterwards, so that a port published by mistake ends on the loopback.
    /// - `live-restore`: containers outlive a restart of Docker.
    /// - `icc`: on the default bridge, which nobody uses, containers do not see each other.
    /// - `userland-proxy`: no process for each published port; none is.
    /// - The address pool leaves the profile's subnets alone.
    fn settings(&self) -> Result<String, Refused> {
        // Docker's `k` is 1024 bytes (go-units, `RAMInBytes`).
        let log_size = format!("{}k", self.log_size.kib());
        let log_size = match self.log_size.mib() {
            mib if mib << 20 == self.log_size.bytes() => format!("{mib}m"),
            _ => log_size,
        };
        let mut settings = json!({
            "default-address-pools": [{ "base": "172.20.0.0/14", "size": 24 }],
            "default-network-opts": {
                "bridge": { "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1" }
            },
            "icc": false,
            "ip": "127.0.0.1",
            "live-restore": true,
            "log-driver": "local",
            "log-opts": { "max-file": self.log_files.to_string(), "max-size": log_size },
            "no-new-privileges": true,
            "userland-proxy": false,
        });
        if let Some(files) = self.open_files {
            settings["default-ulimits"] =
                json!({ "nofile": { "Hard": files, "Name": "nofile", "Soft": files } });
        }
        format::json::pretty(&format::json::sorted(&settings))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn renders() {
        insta::assert_snapshot!("daemon.json", Docker::default().settings().unwrap());
    }

    #[test]
    fn limits_are_written_as_docker_reads_them() {
        let docker: Docker = toml::from_str("log_size = '1g'\nlog_files = 2\nopen_files = 4096").unwrap();
        assert_eq!(docker.check(&fixture::spec()), []);
        let text = docker.settings().unwrap();
        assert!(text.contains("\"max-size\": \"1024m\"") && text.contains("\"Hard\": 4096"), "{text}");
        let wrong: Docker = toml::from_str("log_size = '1k'\nlog_files = 0\nopen_files = 1").unwrap();
        assert_eq!(wrong.check(&fixture::spec()).len(), 3);
    }
}
