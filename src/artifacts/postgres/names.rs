//! The names that `[postgres.settings]` may not have, and those that a server may be too old or too new for.

/// Settings that are not the profile's, each with the reason (PostgreSQL documentation, chapter 20).
const OWNED: &[(&str, &str)] = &[
    ("config_file", "the files are mounted from the bundle"),
    ("data_directory", "it is the volume's place: the image's `PGDATA`"),
    ("external_pid_file", "the container has one process, and Docker knows it"),
    ("fsync", "a loss of power would cost the database"),
    ("full_page_writes", "a loss of power would cost the database"),
    ("hba_file", "the files are mounted from the bundle"),
    ("ident_file", "nobody is let in by the name of a system user"),
    ("include", "settings stand in the profile, where their names are looked at"),
    ("include_dir", "settings stand in the profile, where their names are looked at"),
    ("include_if_exists", "settings stand in the profile, where their names are looked at"),
    ("listen_addresses", "who reaches it is decided by the network `data` and pg_hba.conf"),
    ("log_destination", "Docker takes what is written to stderr, and keeps it in the journal"),
    ("log_directory", "Docker takes what is written to stderr, and keeps it in the journal"),
    ("log_filename", "Docker takes what is written to stderr, and keeps it in the journal"),
    ("logging_collector", "Docker takes what is written to stderr, and keeps it in the journal"),
    ("max_connections", "write `max_connections` in `[postgres]`: the sizes depend on it"),
    ("password_encryption", "passwords are kept as SCRAM verifiers and in no other form"),
    ("port", "health checks and the secrets' addresses say 5432"),
    ("ssl", "the network `data` never leaves the machine"),
    ("unix_socket_directories", "the image's entrypoint and health checks look there"),
];

/// Settings by the version that brought them (PostgreSQL release notes 15 to 18).
const SINCE: &[(u32, &[&str])] = &[
    (
        15,
        &[
            "allow_in_place_tablespaces",
            "archive_library",
            "log_startup_progress_interval",
            "recovery_prefetch",
            "stats_fetch_consistency",
            "wal_decode_buffer_size",
        ],
    ),
    (
        16,
        &[
            "createrole_self_grant",
            "debug_io_direct",
            "debug_logical_replication_streaming",
            "debug_parallel_query",
            "enable_presorted_aggregate",
            "gss_accept_delegation",
            "icu_validation_level",
            "max_parallel_apply_workers_per_subscription",
            "reserved_connections",
            "scram_iterations",
            "send_abort_for_crash",
            "send_abort_for_kill",
            "vacuum_buffer_usage_limit",
        ],
    ),
    (
        17,
        &[
            "allow_alter_system",
            "commit_timestamp_buffers",
            "enable_group_by_reordering",
            "event_triggers",
            "io_combine_limit",
            "max_notify_queue_pages",
            "multixact_member_buffers",
            "multixact_offset_buffers",
            "notify_buffers",
            "serializable_buffers",
            "subtransaction_buffers",
            "summarize_wal",
            "sync_replication_slots",
            "synchronized_standby_slots",
            "trace_connection_negotiation",
            "transaction_buffers",
            "transaction_timeout",
            "wal_summary_keep_time",
        ],
    ),
    (
        18,
        &[
            "autovacuum_vacuum_max_threshold",
            "autovacuum_worker_slots",
            "enable_distinct_reordering",
            "enable_self_join_elimination",
            "extension_control_path",
            "file_copy_method",
            "idle_replication_slot_timeout",
            "io_max_combine_limit",
            "io_max_concurrency",
            "io_method",
            "io_workers",
            "log_lock_failures",
            "max_active_replication_origins",
            "md5_password_warnings",
            "oauth_validator_libraries",
            "ssl_groups",
            "ssl_tls13_ciphers",
            "track_cost_delay_timing",
            "vacuum_max_eager_freeze_failure_rate",
            "vacuum_truncate",
        ],
    ),
];

/// Settings by the version that no longer has them (the same release notes).
const UNTIL: &[(u32, &[&str])] = &[
    (15, &["stats_temp_directory"]),
    (16, &["force_parallel_mode", "promote_trigger_file", "vacuum_defer_cleanup_age"]),
    (17, &["db_user_namespace", "old_snapshot_threshold", "trace_recovery_messages"]),
];

/// What is wrong with a setting of this name on a server of this version, if anything: what, and what to do.
pub(super) fn fault(name: &str, major: u32) -> Option<(String, String)> {
    if !is_name(name) {
        let message = format!("`{name}` is not the name of a setting");
        return Some((message, "lower-case letters, digits and `_`, such as `work_mem`".to_owned()));
    }
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some((format!("`{name}` is not the profile's to say: {reason}"), "take it out".to_owned()));
    }
    if name.starts_with("ssl_") {
        let message =
            format!("`{name}` has no effect: `ssl` is off, for the network `data` never leaves the machine");
        return Some((message, "take it out".to_owned()));
    }
    let listed = |names: &[&str]| names.contains(&name);
    if let Some((since, _)) = SINCE.iter().find(|(since, names)| major < *since && listed(names)) {
        let message = format!("`{name}` came with PostgreSQL {since}, and this is {major}");
        return Some((message, "take it out, or say `version` if the image has another one".to_owned()));
    }
    let (until, _) = UNTIL.iter().find(|(until, names)| major >= *until && listed(names))?;
    let message = format!("`{name}` went with PostgreSQL {until}, and this is {major}");
    Some((message, "take it out: the server would not start".to_owned()))
}

/// `work_mem`, or `extension.setting`.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.len() <= 63 && name.split('.').count() <= 2 && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_refused_with_its_reason() {
        for (name, major, word) in [
            ("port", 16, "5432"),
            ("fsync", 16, "power"),
            ("ssl_cert_file", 16, "`ssl` is off"),
            ("Work_Mem", 16, "not the name"),
            ("a.b.c", 16, "not the name"),
            ("x = 1\ny", 16, "not the name"),
            ("io_method", 17, "came with PostgreSQL 18"),
            ("transaction_timeout", 16, "came with PostgreSQL 17"),
            ("old_snapshot_threshold", 17, "went with PostgreSQL 17"),
        ] {
            let (message, _) = fault(name, major).unwrap_or_else(|| panic!("{name} passes"));
            assert!(message.contains(word), "{name}: {message}");
        }
        for (name, major) in [
            ("work_mem", 14),
            ("io_method", 18),
            ("old_snapshot_threshold", 16),
            ("pg_stat_statements.track", 16),
        ] {
            assert_eq!(fault(name, major), None, "{name}");
        }
    }
}
