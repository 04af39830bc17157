//! What a container sees of the machine's disk, and where its data stays.

use crate::model::ServiceName;

use super::super::service::Service;
use super::super::source::Span;
use super::view::View;
use super::{Report, Table, error, warning};

pub(super) const LINTS: Table = &[
    error("docker-socket", "who can write to Docker's socket is root on the machine", docker_socket),
    error(
        "system-path",
        "a container that writes there changes the machine behind the bundle's back",
        system_path,
    ),
    warning(
        "host-path",
        "a path of the machine is in no backup of volumes, belongs to whoever made it, and differs from machine to machine",
        host_path,
    ),
    warning(
        "data-without-volume",
        "what a stateful service writes into its container is gone when the container is replaced",
        data_without_volume,
    ),
    error(
        "postgres-data-path",
        "the official image keeps its data elsewhere: the volume stays empty and the data is lost with the container",
        postgres_data_path,
    ),
];

const SOCKETS: [&str; 5] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
];

/// Directories that belong to the system, without `/run` and `/var/run`, which hold the sockets.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/bundle",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/log",
];

fn is_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every mount of a path, normal: without `.`, `..` and doubled slashes.
fn each_path(view: &View<'_>, mut see: impl FnMut(&ServiceName, Span, String)) {
    for name in view.profile.services.keys() {
        for (span, text) in view.texts(&["services", name.as_str(), "volumes"]) {
            // A volume without a target has been reported.
            let Some((source, _)) = text.split_once(':').filter(|(source, _)| source.starts_with('/')) else {
                continue;
            };
            let mut parts: Vec<&str> = Vec::new();
            for part in source.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            see(name, span, format!("/{}", parts.join("/")));
        }
    }
}

/// Whether a socket is at the path or below it.
fn has_socket(path: &str) -> bool {
    path != "/" && SOCKETS.iter().any(|socket| is_or_below(socket, path))
}

fn is_system(path: &str) -> bool {
    path == "/"
        || path == "/var"
        || path == "/var/lib"
        || SYSTEM.iter().any(|system| is_or_below(path, system))
}

fn docker_socket(view: &View<'_>, report: &mut Report) {
    each_path(view, |name, span, path| {
        if has_socket(&path) {
            report
                .at(
                    span,
                    format!("services.{name}.volumes"),
                    format!("`{path}` hands the machine to service `{name}`"),
                )
                .help("deploys, restarts and logs are this program's work: take it out");
        }
    });
}

fn system_path(view: &View<'_>, report: &mut Report) {
    each_path(view, |name, span, path| {
        if is_system(&path) {
            report
                .at(span, format!("services.{name}.volumes"), format!("`{path}` belongs to the system"))
                .help("mount a volume by name, or a directory of the service's own below `/srv`");
        }
    });
}

fn host_path(view: &View<'_>, report: &mut Report) {
    each_path(view, |name, span, path| {
        if !is_system(&path) && !has_socket(&path) {
            report
                .at(span, format!("services.{name}.volumes"), format!("`{path}` is a path of the machine"))
                .help(
                    "write a name instead, as in `\"uploads:/uploads\"`: Docker makes the volume and owns it",
                );
        }
    });
}

/// Images that keep data, and where.
const KEEP: [(&str, &str); 7] = [
    ("postgres", "/var/lib/postgresql/data"),
    ("redis", "/data"),
    ("valkey", "/data"),
    ("mysql", "/var/lib/mysql"),
    ("mariadb", "/var/lib/mysql"),
    ("mongo", "/data/db"),
    ("rabbitmq", "/var/lib/rabbitmq"),
];

fn data_without_volume(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        if !view.profile.is_stateful(name) || !service.volumes.is_empty() {
            continue;
        }
        let path = View::image(service).and_then(|(image, _)| KEEP.iter().find(|(known, _)| *known == image));
        let path = match official_postgres(service) {
            Some(18..) => "/var/lib/postgresql",
            _ => path.map_or("/data", |(_, path)| path),
        };
        report
            .at(
                service.span.clone(),
                format!("services.{name}"),
                format!("service `{name}` is stateful and has no volume"),
            )
            .help(format!("write `volumes = [\"{name}:{path}\"]`"));
    }
}

/// Until 17 the official image declares `/var/lib/postgresql/data` as a volume, from 18 on `/var/lib/postgresql`, with
/// the data in `18/docker` below it (hub.docker.com/_/postgres, "PGDATA").
fn postgres_data_path(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let Some(major) = official_postgres(service) else { continue };
        let default = if major >= 18 {
            format!("/var/lib/postgresql/{major}/docker")
        } else {
            "/var/lib/postgresql/data".to_owned()
        };
        let own = service.environment.get("PGDATA").map(String::as_str);
        let data = own.unwrap_or(&default);
        for volume in &service.volumes {
            let covers = is_or_below(data, volume.target.trim_end_matches('/'));
            // Until 17 the image's own anonymous volume lies over a mount of its parent.
            let shadowed = major < 18
                && is_or_below(data, "/var/lib/postgresql/data")
                && !is_or_below(&volume.target, "/var/lib/postgresql/data");
            if !is_or_below(&volume.target, "/var/lib/postgresql") || (covers && !shadowed) {
                continue;
            }
            let target = if major >= 18 { "/var/lib/postgresql" } else { "/var/lib/postgresql/data" };
            report
                .at(
                    view.place(name, service, "volumes"),
                    format!("services.{name}.volumes"),
                    format!(
                        "Postgres {major} keeps its data in `{data}`, not on the volume at `{}`",
                        volume.target
                    ),
                )
                .help(format!("mount it at `{target}`"));
        }
    }
}

/// The major version of a service that runs the official image.
fn official_postgres(service: &Service) -> Option<u32> {
    let image = service.image.as_ref()?.get_ref();
    if image.repository != "docker.io/library/postgres" {
        return None;
    }
    let tag = image.tag.as_deref()?;
    tag.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_what_leads_to_it_belong_to_the_system() {
        for path in ["/", "/etc", "/etc/ssl", "/var/lib/docker/volumes", "/var"] {
            assert!(is_system(path), "{path}");
        }
        for path in ["/srv/app", "/etcetera", "/home/app", "/var/www"] {
            assert!(!is_system(path), "{path}");
        }
    }

    #[test]
    fn a_directory_above_a_socket_holds_it() {
        assert!(has_socket("/var/run") && has_socket("/run/docker.sock") && has_socket("/run/podman"));
        assert!(!has_socket("/run/app") && !has_socket("/"));
    }
}
