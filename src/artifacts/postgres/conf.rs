//! The settings of `postgresql.conf` in their order, before they are text: what the profile says takes the place of what
//! we would have said.

use std::collections::BTreeMap;

use super::super::format::Refused;
use super::super::format::postgres::Conf;
use super::super::size::Size;
use super::sizes::{Parallel, Sizes, autovacuum_workers, kib};

/// What the settings are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// The server's major version.
    pub(super) major: u32,
    /// What it may use.
    pub(super) memory: Size,
    /// How many processors it may use.
    pub(super) cores: u32,
    /// Whether the droplet is one of those whose disk is small.
    pub(super) small_disk: bool,
    /// `max_connections`.
    pub(super) connections: u32,
}

type Pair = (&'static str, String);

/// Settings that belong together, and why they are as they are.
#[derive(Debug)]
struct Group {
    comment: &'static str,
    settings: Vec<Pair>,
}

fn group<const N: usize>(comment: &'static str, settings: [(&'static str, &str); N]) -> Group {
    Group { comment, settings: settings.map(|(key, value)| (key, value.to_owned())).into() }
}

/// The text of `postgresql.conf`.
pub(super) fn text(
    machine: Machine,
    locale: Option<&str>,
    own: &BTreeMap<String, String>,
) -> Result<String, Refused> {
    let mut groups = vec![access(machine.connections)];
    groups.extend(memory(machine));
    groups.extend(log_ahead(machine));
    groups.extend(processors(machine));
    groups.push(patience());
    groups.extend(logging(machine.major));
    groups.push(language(locale));
    if machine.major >= 17 {
        let comment =
            "What stands here is the bundle's; `ALTER SYSTEM` would be stronger, and seen by nobody.";
        groups.push(group(comment, [("allow_alter_system", "off")]));
    }
    let mut conf = Conf::default();
    let mut rest = own.clone();
    for Group { comment, settings } in groups {
        conf.comment(comment);
        for (key, value) in settings {
            conf.set(key, &rest.remove(key).unwrap_or(value))?;
        }
    }
    if !rest.is_empty() {
        conf.comment("From `[postgres.settings]`.");
        for (key, value) in &rest {
            conf.set(key, value)?;
        }
    }
    Ok(conf.finish())
}

fn access(connections: u32) -> Group {
    Group {
        comment: "The container's only network never leaves the machine, so there is no TLS; pg_hba.conf names who may come in.",
        settings: vec![
            ("listen_addresses", "*".to_owned()),
            ("port", "5432".to_owned()),
            ("max_connections", connections.to_string()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("ssl", "off".to_owned()),
        ],
    }
}

fn memory(machine: Machine) -> Vec<Group> {
    let sizes = Sizes::of(machine.memory, machine.connections, Parallel::of(machine.cores));
    let one = |comment, key, value: String| Group { comment, settings: vec![(key, value)] };
    let mut maintenance = one(
        "A sixteenth, at most 8 GB; of that at most 2 GB for each autovacuum worker.",
        "maintenance_work_mem",
        kib(sizes.maintenance_work_mem),
    );
    maintenance.settings.extend(sizes.autovacuum_work_mem.map(|size| ("autovacuum_work_mem", kib(size))));
    vec![
        one("Memory (PGTune, type web): a quarter of it.", "shared_buffers", kib(sizes.shared_buffers)),
        one("Three quarters.", "effective_cache_size", kib(sizes.effective_cache_size)),
        maintenance,
        one(
            "What shared_buffers leaves, over three times all connections and workers; at least 4 MB.",
            "work_mem",
            kib(sizes.work_mem),
        ),
        one(
            "PGTune: worth trying from 2 GB of shared_buffers up.",
            "huge_pages",
            if sizes.huge_pages { "try" } else { "off" }.to_owned(),
        ),
        group("PGTune: compiling costs short queries more than it gives.", [("jit", "off")]),
    ]
}

fn log_ahead(machine: Machine) -> Vec<Group> {
    let sizes = Sizes::of(machine.memory, machine.connections, Parallel::of(machine.cores));
    let (least, most) = if machine.small_disk { ("256MB", "1GB") } else { ("1GB", "4GB") };
    vec![
        Group {
            comment: "Write-ahead log (PGTune, type web): 3 % of shared_buffers, at most a segment of 16 MB. No more of it than a tenth of the disk.",
            settings: vec![
                ("wal_buffers", kib(sizes.wal_buffers)),
                ("min_wal_size", least.to_owned()),
                ("max_wal_size", most.to_owned()),
                ("checkpoint_completion_target", "0.9".to_owned()),
                ("checkpoint_timeout", "15min".to_owned()),
                // LZ4 came with 15 (release notes, "Streaming Replication and Recovery").
                ("wal_compression", if machine.major >= 15 { "lz4" } else { "on" }.to_owned()),
            ],
        },
        group(
            "The droplet's disk is an SSD (PGTune).",
            [("random_page_cost", "1.1"), ("effective_io_concurrency", "200")],
        ),
    ]
}

fn processors(machine: Machine) -> Option<Group> {
    let Parallel { workers, per_gather } = Parallel::of(machine.cores)?;
    let mut settings = vec![
        ("max_worker_processes", workers.to_string()),
        ("max_parallel_workers", workers.to_string()),
        ("max_parallel_workers_per_gather", per_gather.to_string()),
        ("max_parallel_maintenance_workers", per_gather.to_string()),
    ];
    settings.extend(autovacuum_workers(machine.cores).map(|n| ("autovacuum_max_workers", n.to_string())));
    let comment =
        "Four cores or more (PGTune): as many workers as cores, half of them for one query, at most 4.";
    Some(Group { comment, settings })
}

fn patience() -> Group {
    group(
        "A forgotten transaction, a lock or a client that went away must not hold up everybody.",
        [
            ("idle_in_transaction_session_timeout", "60s"),
            ("lock_timeout", "10s"),
            ("client_connection_check_interval", "10s"),
        ],
    )
}

fn logging(major: u32) -> [Group; 2] {
    // From 18 on a list of what is logged; before, a boolean (PostgreSQL 18 documentation, `log_connections`).
    let connections = if major >= 18 { "receipt,authentication,authorization" } else { "on" };
    let log = group(
        "To stderr, which Docker takes to the journal. Values that clients send are theirs, and stay out.",
        [
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("log_line_prefix", "%m [%p] %q%u@%d %h "),
            ("log_timezone", "UTC"),
            ("timezone", "UTC"),
            ("log_checkpoints", "on"),
            ("log_connections", connections),
            ("log_disconnections", "on"),
            ("log_lock_waits", "on"),
            ("log_statement", "ddl"),
            ("log_min_duration_statement", "500ms"),
            ("log_parameter_max_length", "0"),
            ("log_temp_files", "10MB"),
            ("log_autovacuum_min_duration", "1s"),
        ],
    );
    let statistics = group(
        "Ships with the server; `CREATE EXTENSION pg_stat_statements` shows what it counts.",
        [("shared_preload_libraries", "pg_stat_statements")],
    );
    [log, statistics]
}

/// The file that `initdb` writes these into is not the one that is read.
fn language(locale: Option<&str>) -> Group {
    let mut settings = vec![("lc_messages", "C".to_owned())];
    for key in ["lc_monetary", "lc_numeric", "lc_time"] {
        settings.extend(locale.map(|locale| (key, locale.to_owned())));
    }
    Group { comment: "The server's own messages in English, whatever the data's language is.", settings }
}
