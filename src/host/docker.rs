//! Docker and Compose, through their command lines; what is there, and starting what was made before, through the socket.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::command::Program;
use super::{http, images};
use crate::activate::HostError;
use crate::bundle::{ImagePin, Network};
use crate::model::{REGISTRY_LOGINS, ServiceName};

/// Where Docker answers.
const SOCKET: &str = "/var/run/docker.sock";
/// The longest answer about one container that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// How long Docker may think about a question.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the start of a container may take.
const START: Duration = Duration::from_mins(1);
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
    login(&image.reference).args(["pull", "--quiet", &image.reference]).limit(PULL).run()?;
    // Its layers before its name: after a power cut whatever has the name is whole.
    sync_data_root()?;
    docker(["tag", &image.reference, &image.local]).run()?;
    sync_data_root()
}

/// Docker with the machine's own login for the image's registry, if it has one.
fn login(reference: &str) -> Program {
    let host = reference.split('/').next().unwrap_or_default();
    let directory = Path::new(REGISTRY_LOGINS).join(host);
    if directory.join("config.json").exists() {
        docker(["--config".to_owned(), directory.to_string_lossy().into_owned()])
    } else {
        docker::<String>([])
    }
}

/// A power cut must not leave empty files in an image that Docker believes to have.
pub(super) fn sync_data_root() -> Result<(), HostError> {
    let root = File::open(DATA_ROOT).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
    root.map_err(|error| HostError::new(format!("syncing `{DATA_ROOT}`"), error.to_string()))
}

pub(super) fn ensure_network(network: &Network) -> Result<(), HostError> {
    let (name, subnet) = (network.name.as_str(), network.subnet.to_string());
    if let Ok((200, json)) = get(&format!("/networks/{name}")) {
        let wanted = (subnet.clone(), network.internal);
        let there = parse_network(&json).unwrap_or_default();
        if there == wanted {
            return Ok(());
        }
        let say = |(subnet, internal): &(String, bool)| {
            format!("{subnet}{}", if *internal { ", internal" } else { "" })
        };
        return Err(HostError::new(
            format!("making the network `{name}` with {}", say(&wanted)),
            format!(
                "there is one with {}; stop what uses it and remove it with `docker network rm {name}`",
                say(&there)
            ),
        ));
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

/// A network's subnets, and whether it is internal (Docker Engine API, `NetworkInspect`).
fn parse_network(json: &[u8]) -> Option<(String, bool)> {
    let network: Value = serde_json::from_slice(json).ok()?;
    let subnets = network.pointer("/IPAM/Config")?.as_array()?;
    let subnets: Option<Vec<_>> = subnets.iter().map(|config| config.get("Subnet")?.as_str()).collect();
    Some((subnets?.join(", "), network.get("Internal")?.as_bool()?))
}

/// Starts the containers that were made from this very file, which its path tells, for it is a hash of the content. If
/// any is missing, or does not start, Compose does it all; `--pull never` and `--no-build`: what is started is what was
/// verified.
pub(super) fn up(file: &str, services: &[String]) -> Result<(), HostError> {
    let made = |name: &String| container_state(name).is_ok_and(|state| state.file.as_deref() == Some(file));
    if services.iter().all(made) && services.iter().all(|name| start(name)) {
        return Ok(());
    }
    let args = ["up", "--detach", "--no-build", "--pull", "never", "--no-deps"];
    compose(file).args(args).args(services.iter().cloned()).run().map(drop)
}

/// Starts a container, unless it runs (Docker Engine API, `ContainerStart`).
fn start(name: &str) -> bool {
    let answer = http::unix(SOCKET, "POST", &format!("/containers/{name}/start"), START, LONGEST);
    matches!(answer, Ok((204 | 304, _)))
}

/// What Docker answers to a question.
pub(super) fn get(path: &str) -> Result<(u16, Vec<u8>), String> {
    http::unix(SOCKET, "GET", path, ANSWER, LONGEST)
}

/// Has Docker remove something; gives the answer's status.
pub(super) fn delete(path: &str, limit: Duration) -> Result<u16, String> {
    http::unix(SOCKET, "DELETE", path, limit, LONGEST).map(|(status, _)| status)
}

pub(super) fn up_and_wait(file: &str, services: &[ServiceName]) -> Result<(), HostError> {
    let limit = DATA_WAIT_SECONDS.to_string();
    let args = ["up", "--detach", "--no-build", "--pull", "never", "--wait", "--wait-timeout", &limit];
    let limit = Duration::from_secs(u64::from(DATA_WAIT_SECONDS) + 60);
    compose(file).args(args).args(services.iter().map(ToString::to_string)).limit(limit).run().map(drop)
}

/// What a copy of a large database may take.
const COPY: Duration = Duration::from_hours(2);

/// Runs a command in a container that runs.
pub(super) fn run_in(
    container: &str,
    command: &[String],
    input: Option<File>,
    output: Option<File>,
) -> Result<(), HostError> {
    let interactive: &[&str] = if input.is_some() { &["--interactive"] } else { &[] };
    let program = docker(["exec"]).args(interactive.iter().copied()).args([container]);
    program.args(command.iter().cloned()).limit(COPY).connect(input, output).run().map(drop)
}

/// What running containers mount and were made from (Docker Engine API, `ContainerList`).
pub(super) fn in_use() -> Result<Vec<String>, HostError> {
    let fail = |why: String| HostError::new("asking which containers run", why);
    let (status, json) = get("/containers/json").map_err(fail)?;
    parse_in_use(&json).filter(|_| status == 200).ok_or_else(|| fail(format!("Docker answers {status}")))
}

fn parse_in_use(json: &[u8]) -> Option<Vec<String>> {
    let containers: Vec<Value> = serde_json::from_slice(json).ok()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let mut used = Vec::new();
    for container in &containers {
        used.extend(text(container.get("Image")));
        used.extend(text(container.pointer("/Labels/com.docker.compose.project.config_files")));
        let mounts = container.get("Mounts").and_then(Value::as_array);
        used.extend(mounts.into_iter().flatten().filter_map(|mount| text(mount.get("Source"))));
    }
    Some(used)
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
        match get(&format!("/containers/{name}/json")) {
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
    /// The compose file that it was made from, as Compose notes it in a label.
    file: Option<String>,
}

/// Asked on the socket (Docker Engine API, `ContainerInspect`): health is asked several times a second, and each call of
/// the command line would cost more than all else that a switch does.
pub(super) fn container_state(name: &str) -> Result<ContainerState, String> {
    match get(&format!("/containers/{name}/json"))? {
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
        file: text(container.pointer("/Config/Labels/com.docker.compose.project.config_files")),
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

    /// A container without a check of its own is ready when it runs.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.well()?;
        match self.health.as_deref() {
            Some("starting") => {
                Err(format!("container `{}` starts, and its own check has not passed yet", self.name))
            }
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
        assert!(state(true, "starting").ready().unwrap_err().contains("has not passed"));
        assert!(state(true, "healthy").ready().is_ok() && state(true, "none").ready().is_ok());
        assert!(state(false, "healthy").ready().is_err());
        assert!(state(true, "unhealthy").well().is_err());
        assert!(state(false, "healthy").well().unwrap_err().contains("exited"));
        assert!(parse_state("web-blue", b"{}").is_none());
    }

    #[test]
    fn what_a_container_was_made_from_is_in_use() {
        let json = br#"[{"Image":"bundle.local/redis:ab","Labels":{"com.docker.compose.project.config_files":"/s/data.yaml"},
            "Mounts":[{"Type":"bind","Source":"/s/redis.conf"},{"Type":"tmpfs"}]}]"#;
        assert_eq!(parse_in_use(json).unwrap(), ["bundle.local/redis:ab", "/s/data.yaml", "/s/redis.conf"]);
        assert_eq!(parse_in_use(b"{}"), None);
    }

    #[test]
    fn a_network_is_known_by_its_subnets_and_whether_it_is_internal() {
        let json = br#"{"Internal":true,"IPAM":{"Config":[{"Subnet":"10.89.0.0/24"}]}}"#;
        assert_eq!(parse_network(json), Some(("10.89.0.0/24".to_owned(), true)));
        let two =
            br#"{"Internal":false,"IPAM":{"Config":[{"Subnet":"10.89.0.0/24"},{"Subnet":"fd00::/64"}]}}"#;
        assert_eq!(parse_network(two), Some(("10.89.0.0/24, fd00::/64".to_owned(), false)));
        assert_eq!(parse_network(b"{}"), None);
    }
}
