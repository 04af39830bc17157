//! Memory, CPU and processes: what one service may take from all others.

use super::super::compose_value::bytes;
use super::super::units::Bytes;
use super::view::View;
use super::{Report, Table, warning};
use crate::spec::limits;

const MIB: u64 = 1 << 20;

pub(super) const LINTS: Table = &[
    warning(
        "no-limits",
        "what it gets without (512 MiB, one processor, 256 processes) is a guess: too little ends it, too much takes from all others",
        no_limits,
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

fn no_limits(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let has = |key: &str| service.compose.contains_key(key);
        let limits = [
            ("mem_limit", format!("\"{}m\"", limits::MEMORY_MIB), service.memory.is_some()),
            ("cpus", format!("\"{}\"", limits::CPUS), has("cpus") || has("cpu_quota") || has("cpuset")),
            ("pids_limit", limits::PIDS.to_string(), has("pids_limit")),
        ];
        let missing: Vec<_> = limits.iter().filter(|(.., said)| !said).collect();
        if missing.is_empty() {
            continue;
        }
        let keys: Vec<String> = missing.iter().map(|(key, ..)| format!("`{key}`")).collect();
        let lines: Vec<String> = missing.iter().map(|(key, value, _)| format!("`{key} = {value}`")).collect();
        report
            .at(
                service.span.clone(),
                format!("services.{name}"),
                format!("service `{name}` has no {}", keys.join(", no ")),
            )
            .help(format!("it gets {}: write what it needs", lines.join(", ")));
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
        *sum = sum.saturating_add(service.memory.unwrap_or(limits::MEMORY_MIB * MIB));
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
