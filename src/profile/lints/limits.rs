//! Memory, CPU and processes: what one service may take from all others.

use super::super::compose_value::bytes;
use super::super::units::Bytes;
use super::view::View;
use super::{Report, Table, warning};

const MIB: u64 = 1 << 20;

pub(super) const LINTS: Table = &[
    warning(
        "no-memory-limit",
        "one leak would take the memory of all others, and the kernel would end whichever process is the largest",
        no_memory_limit,
    ),
    warning(
        "no-cpu-limit",
        "one busy loop would slow down every other service, the health checks among them",
        no_cpu_limit,
    ),
    warning(
        "no-process-limit",
        "a service that forks without end takes the process table of the whole machine",
        no_process_limit,
    ),
    warning(
        "memory-during-switch",
        "both slots run at once while a switch is under way: the kernel would end processes in the middle of it",
        during_switch,
    ),
    warning(
        "memory-reserve",
        "the system, Docker, the proxy and the page cache need a fifth of the memory; without it everything swaps or stalls",
        reserve,
    ),
    warning(
        "oom-kill-disabled",
        "a container that has reached its limit then hangs instead of being started again",
        oom_kill_disabled,
    ),
    warning(
        "cache-fills-its-container",
        "a snapshot is written by a fork that may copy every page: it needs room beside the data (redis.io, \"Persistence\")",
        cache_fills,
    ),
];

fn no_memory_limit(view: &View<'_>, report: &mut Report) {
    for (name, service) in view.profile.services.iter().filter(|(_, service)| service.memory.is_none()) {
        report
            .at(
                service.span.clone(),
                format!("services.{name}"),
                format!("service `{name}` has no `mem_limit`"),
            )
            .help("without one it can take the memory of all others, such as `mem_limit = \"512m\"`");
    }
}

fn no_cpu_limit(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let others = ["cpus", "cpu_quota", "cpuset"];
        if others.iter().all(|key| !service.compose.contains_key(*key)) {
            report
                .at(
                    service.span.clone(),
                    format!("services.{name}"),
                    format!("service `{name}` has no `cpus`"),
                )
                .help("without it one busy loop slows down all others: `cpus = \"1.0\"`");
        }
    }
}

fn no_process_limit(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        if !service.compose.contains_key("pids_limit") {
            report
                .at(
                    service.span.clone(),
                    format!("services.{name}"),
                    format!("service `{name}` has no `pids_limit`"),
                )
                .help("without it a fork without end takes the whole machine: `pids_limit = 256`");
        }
    }
}

/// What the services may use: as a sum, and at the worst moment of a switch.
fn sums(view: &View<'_>) -> (u64, u64) {
    let (mut always, mut slot, mut once) = (0_u64, 0_u64, 0_u64);
    for (name, service) in &view.profile.services {
        let sum = if view.is_migration(name) {
            &mut once
        } else if view.profile.is_stateful(name) || view.is_singleton(name) {
            &mut always
        } else {
            &mut slot
        };
        *sum = sum.saturating_add(service.memory.unwrap_or_default());
    }
    let add = |more: u64| always.saturating_add(slot).saturating_add(more);
    // While a switch is under way the new slot, or before it its migrations, stands beside the old one.
    (add(once), add(slot.max(once)))
}

fn during_switch(view: &View<'_>, report: &mut Report) {
    let Some((droplet, span)) = &view.profile.droplet else { return };
    let has = droplet.memory_mib.saturating_mul(MIB);
    let (sum, peak) = sums(view);
    if sum <= has && peak > has {
        report
            .at(
                span.clone(),
                "droplet",
                format!(
                    "with both slots up the services may use {} MiB, and the droplet has {}",
                    peak.div_ceil(MIB),
                    has / MIB
                ),
            )
            .label(format!("{} MiB", has / MIB))
            .help("lower the `mem_limit` of stateless services, which run twice during a switch, or take a larger size");
    }
}

fn reserve(view: &View<'_>, report: &mut Report) {
    let Some((droplet, span)) = &view.profile.droplet else { return };
    let has = droplet.memory_mib.saturating_mul(MIB);
    let (_, peak) = sums(view);
    let most = has / 5 * 4;
    if peak > most && peak <= has {
        report
            .at(
                span.clone(),
                "droplet",
                format!(
                    "the services may use {} of {} MiB, more than four fifths",
                    peak.div_ceil(MIB),
                    has / MIB
                ),
            )
            .help("the system itself, Docker and the proxy need the rest: lower some `mem_limit`, or take a larger size");
    }
}

fn oom_kill_disabled(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        if service.compose.get("oom_kill_disable").and_then(serde_json::Value::as_bool) == Some(true) {
            report
                .at(
                    view.place(name, service, "oom_kill_disable"),
                    format!("services.{name}.oom_kill_disable"),
                    format!("service `{name}` would hang at its memory limit"),
                )
                .help("take `oom_kill_disable` out: what is ended is started again");
        }
    }
}

fn cache_fills(view: &View<'_>, report: &mut Report) {
    for table in ["redis", "valkey"] {
        let Some((span, text)) = view.text(&[table, "maxmemory"]) else { continue };
        let limit = view
            .text(&[table, "service"])
            .and_then(|(_, name)| view.profile.services.get(name))
            .and_then(|service| service.compose.get("mem_limit"))
            .and_then(bytes);
        if let (Ok(Bytes(data)), Some(limit)) = (text.parse(), limit)
            && data > limit / 4 * 3
        {
            report
                .at(
                    span,
                    format!("{table}.maxmemory"),
                    format!(
                        "`{table}.maxmemory` is more than three quarters of its service's {} MiB",
                        limit / MIB
                    ),
                )
                .help("leave room for the fork that writes a snapshot: 60 % is a good measure");
        }
    }
}
