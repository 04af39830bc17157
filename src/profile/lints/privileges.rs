//! What a container may do to the machine.

use serde_json::Value as Json;

use super::super::service::Service;
use super::view::View;
use super::{Report, Table, error, warning};

pub(super) const LINTS: Table = &[
    error(
        "dangerous-capability",
        "with it a process leaves its container, or reads and changes what belongs to others (capabilities(7))",
        dangerous_capability,
    ),
    error(
        "host-namespace",
        "what shares the machine's namespaces sees and ends its processes: the container holds nothing back",
        host_namespace,
    ),
    error(
        "host-device",
        "a raw disk or memory device is the whole machine, past every permission",
        host_device,
    ),
    warning(
        "starts-as-root",
        "the official image starts as root and needs capabilities, which are all dropped, to become its own user",
        starts_as_root,
    ),
];

/// With each of these a root process reaches the machine (capabilities(7)).
const DANGEROUS: [&str; 12] = [
    "ALL",
    "BPF",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "NET_ADMIN",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
];

fn strings<'s>(service: &'s Service, key: &str) -> Vec<&'s str> {
    let items = service.compose.get(key).and_then(Json::as_array);
    items.into_iter().flatten().filter_map(Json::as_str).collect()
}

fn dangerous_capability(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        for asked in strings(service, "cap_add") {
            let upper = asked.to_ascii_uppercase();
            let capability = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if !DANGEROUS.contains(&capability) {
                continue;
            }
            report
                .at(
                    view.place(name, service, "cap_add"),
                    format!("services.{name}.cap_add"),
                    format!("`{asked}` lets service `{name}` out of its container"),
                )
                .help("name the one narrow capability that it needs, such as `NET_BIND_SERVICE`");
        }
    }
}

fn host_namespace(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        for key in ["cgroup", "ipc", "pid", "userns_mode", "uts"] {
            if service.compose.get(key).and_then(Json::as_str) == Some("host") {
                report
                    .at(
                        view.place(name, service, key),
                        format!("services.{name}.{key}"),
                        format!("service `{name}` would share the machine's `{key}`"),
                    )
                    .help(format!("take `{key}` out"));
            }
        }
    }
}

fn host_device(view: &View<'_>, report: &mut Report) {
    const RAW: [&str; 8] =
        ["/dev/disk", "/dev/dm-", "/dev/kmem", "/dev/loop", "/dev/mem", "/dev/nvme", "/dev/sd", "/dev/vd"];
    for (name, service) in &view.profile.services {
        for device in strings(service, "devices") {
            if RAW.iter().any(|raw| device.starts_with(raw)) {
                report
                    .at(
                        view.place(name, service, "devices"),
                        format!("services.{name}.devices"),
                        format!("`{device}` is the machine's disk or memory"),
                    )
                    .help("mount a volume instead");
            }
        }
    }
}

/// The official images that change from root to their own user, and that user's numbers (their Dockerfiles).
const STEP_DOWN: [(&str, &str); 6] = [
    ("mariadb", "999:999"),
    ("mongo", "999:999"),
    ("mysql", "999:999"),
    ("postgres", "999:999"),
    ("redis", "999:999"),
    ("valkey", "999:999"),
];

fn starts_as_root(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let said = service.user.is_some() || service.compose.contains_key("user");
        // With the capabilities that its entrypoint needs, it was meant.
        let meant = !strings(service, "cap_add").is_empty();
        let Some((image, repository)) = View::image(service).filter(|_| !said && !meant) else { continue };
        let official =
            repository == format!("docker.io/library/{image}") || repository == "docker.io/valkey/valkey";
        let Some((_, ids)) = STEP_DOWN.iter().find(|(known, _)| official && *known == image) else {
            continue;
        };
        report
            .at(
                view.place(name, service, "image"),
                format!("services.{name}"),
                format!("service `{name}` starts as root and cannot become its own user"),
            )
            .label("changes its user with capabilities that it does not have")
            .help(format!(
                "write `user = \"{ids}\"`, the image's own (its Alpine variants have other numbers)"
            ));
    }
}
