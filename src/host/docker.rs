//! Docker and Compose, through their command lines; the state of containers through the socket.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;

use super::command::Program;
use super::{http, images};
use crate::activate::HostError;
use crate::bundle::{ImagePin, Network};
use crate::model::ServiceName;

/// Where Docker answers.
const SOCKET: &str = "/var/run/docker.sock";
/// The longest answer about one container that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Where Docker keeps unpacked layers, which it does not sync.
const DATA_ROOT: &str = "/var/lib/docker";
/// What a large image may take over a slow line.
const PULL: Duration = Duration::from_mins(15);
/// What a database may take to come up, with crash recovery.
const DATA_WAIT_SECONDS: u32 = 180;

pub(super) fn docker<T: Into<String>>(args: impl IntoIterator<Item = T>) -> Program {
    Program::new("docker").args(args)
}

fn compose(file: &str) -> Program {
    docker(["compose", "--progress", "quiet", "-f", file])
}

/// Pulls by digest, which Docker verifies, and only then gives the local name. What has the name was verified.
pub(super) fn ensure_image(image: &ImagePin) -> Result<(), HostError> {
    if images::has(image) {
        return Ok(());
    }
    docker(["pull", "--quiet", &image.reference]).limit(PULL).run()?;
    // Its layers before its name: after a power cut whatever has the name is whole.
    sync_data_root()?;
    docker(["tag", &image.reference, &image.local]).run()?;
    sync_data_root()
}

/// A power cut must not leave empty files in an image that Docker believes to have.
pub(super) fn sync_data_root() -> Result<(), HostError> {
    let root = File::open(DATA_ROOT).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
    root.map_err(|error| HostError::new(format!("syncing `{DATA_ROOT}`"), error.to_string()))
}

pub(super) fn ensure_network(network: &Network) -> Result<(), HostError> {
    let (name, subnet) = (network.name.as_str(), network.subnet.to_string());
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{.Internal}}";
    if let Ok(there) = docker(["network", "inspect", "--format", format, name]).run() {
        let wanted = format!("{subnet} {}", network.internal);
        return if there.trim() == wanted {
            Ok(())
        } else {
            Err(HostError::new(
                format!("making the network `{name}` with {wanted}"),
                format!(
                    "there is one with {}; stop what uses it and remove it with `docker network rm {name}`",
                    there.trim()
                ),
            ))
        };
    }
    let bridge = format!("com.docker.network.bridge.name={}", network.bridge);
    let mut args = vec!["network", "create", "--driver", "bridge", "--subnet", &subnet, "--opt", &bridge];
    args.extend(["--label", "bundle.managed=true"]);
    if network.internal {
        args.push("--internal");
    }
    args.push(name);
    docker(args).run().map(drop)
}

/// `--pull never` and `--no-build`: what is started is what was verified.
pub(super) fn up(file: &str, services: &[String]) -> Result<(), HostError> {
    let args = ["up", "--detach", "--no-build", "--pull", "never", "--no-deps"];
    compose(file).args(args).args(services.iter().cloned()).run().map(drop)
}

pub(super) fn up_and_wait(file: &str, services: &[ServiceName]) -> Result<(), HostError> {
    let limit = DATA_WAIT_SECONDS.to_string();
    let args = ["up", "--detach", "--no-build", "--pull", "never", "--wait", "--wait-timeout", &limit];
    let limit = Duration::from_secs(u64::from(DATA_WAIT_SECONDS) + 60);
    compose(file).args(args).args(services.iter().map(ToString::to_string)).limit(limit).run().map(drop)
}

/// Under a name of its own, so that a second run beside one that outlived its command line is refused.
pub(super) fn run_to_end(file: &str, service: &str) -> Result<(), HostError> {
    match container_state(service) {
        Ok(state) if state.running => {
            let attempt = format!("running `{service}` to its end");
            return Err(HostError::new(
                attempt,
                "an earlier run of it has not ended; `docker logs` and wait, or `docker stop` it",
            ));
        }
        Ok(_) => drop(docker(["rm", service]).run()?),
        Err(_) => {}
    }
    let args = ["--profile", "migrations", "run", "--rm", "--no-deps", "-T", "--name", service, service];
    compose(file).args(args).limit(Duration::from_mins(30)).run().map(drop)
}

/// `docker stop` without a time of ours: each container has its own grace period from its compose file.
pub(super) fn stop(containers: &[String]) -> Result<(), HostError> {
    let there = existing(containers)?;
    if there.is_empty() {
        return Ok(());
    }
    docker(["stop"]).args(there).limit(Duration::from_mins(10)).run().map(drop)
}

pub(super) fn keep_running(containers: &[String], keep: bool) -> Result<(), HostError> {
    let there = if keep { containers.to_vec() } else { existing(containers)? };
    if there.is_empty() {
        return Ok(());
    }
    let policy = if keep { "unless-stopped" } else { "no" };
    docker(["update", "--restart", policy]).args(there).run().map(drop)
}

fn existing(containers: &[String]) -> Result<Vec<String>, HostError> {
    let mut there = Vec::new();
    for name in containers {
        match http::get_unix(SOCKET, &format!("/containers/{name}/json"), LONGEST) {
            Ok((200, _)) => there.push(name.clone()),
            Ok((404, _)) => {}
            Ok((status, _)) => {
                return Err(HostError::new(
                    format!("looking for container `{name}`"),
                    format!("Docker answers {status}"),
                ));
            }
            Err(why) => return Err(HostError::new(format!("looking for container `{name}`"), why)),
        }
    }
    Ok(there)
}

/// What Docker says about a container.
#[derive(Debug)]
pub(super) struct ContainerState {
    name: String,
    running: bool,
    restarting: bool,
    /// How often Docker has restarted it.
    pub(super) restarts: u64,
    status: String,
    health: Option<String>,
    /// The label `bundle.release`.
    pub(super) release: Option<String>,
}

/// Asked on the socket (Docker Engine API, `ContainerInspect`): health is asked several times a second, and each call of
/// the command line would cost more than all else that a switch does.
pub(super) fn container_state(name: &str) -> Result<ContainerState, String> {
    match http::get_unix(SOCKET, &format!("/containers/{name}/json"), LONGEST)? {
        (200, json) => parse_state(name, &json).ok_or_else(|| format!("Docker gave no state of `{name}`")),
        (404, _) => Err(format!("container `{name}` is not there")),
        (status, _) => Err(format!("Docker answers {status} about `{name}`")),
    }
}

fn parse_state(name: &str, json: &[u8]) -> Option<ContainerState> {
    let container: Value = serde_json::from_slice(json).ok()?;
    let state = container.get("State")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    Some(ContainerState {
        name: name.to_owned(),
        running: state.get("Running")?.as_bool()?,
        restarting: state.get("Restarting")?.as_bool()?,
        restarts: container.get("RestartCount").and_then(Value::as_u64).unwrap_or(0),
        status: text(state.get("Status"))?,
        health: text(state.pointer("/Health/Status")),
        release: text(container.pointer("/Config/Labels/bundle.release")),
    })
}

impl ContainerState {
    /// A container that is still starting by its own check is not red: its check will say.
    pub(super) fn well(&self) -> Result<(), String> {
        let Self { name, status, .. } = self;
        if self.restarting || !self.running {
            return Err(format!("container `{name}` is {status}"));
        }
        match self.health.as_deref() {
            Some("unhealthy") => Err(format!("container `{name}` is unhealthy by its own check")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_container_that_is_not_unhealthy_is_well() {
        let json = |running: bool, health: &str| {
            format!(
                r#"{{"State":{{"Running":{running},"Restarting":false,"Status":"exited","Health":{{"Status":"{health}"}}}},
                   "Config":{{"Labels":{{"bundle.release":"sha256:ab"}}}}}}"#
            )
        };
        let state = |running, health| parse_state("web-blue", json(running, health).as_bytes()).unwrap();
        assert_eq!(state(true, "healthy").release.as_deref(), Some("sha256:ab"));
        assert!(state(true, "starting").well().is_ok());
        assert!(state(true, "unhealthy").well().is_err());
        assert!(state(false, "healthy").well().unwrap_err().contains("exited"));
        assert!(parse_state("web-blue", b"{}").is_none());
    }
}
