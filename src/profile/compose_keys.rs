//! The keys of a Compose service: which the schema models and how, which it carries over untouched, and which are not the
//! profile's to say. Source: Compose specification, `spec.md` "Services top-level element" and its JSON schema
//! (`compose-spec.json`, definition `service`).

/// What the value of a modelled key looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// An absolute path.
    Path,
    /// A boolean.
    Flag,
    /// A whole number, at least this.
    Number(i64),
    /// A decimal number, as a number or a string. Carried as a string: a bundle has no floats.
    Decimal,
    /// `512m`.
    Size,
    /// `1m30s`.
    Time,
    /// `SIGINT`.
    Signal,
    /// A list of strings.
    Strings,
    /// A string or a list of strings.
    Words,
    /// A path with options, or a list of such.
    Tmpfs,
    /// A table or a list of `KEY=VALUE`.
    Pairs,
    /// The table `healthcheck`.
    Healthcheck,
    /// The table `ulimits`.
    Ulimits,
}

/// Modelled keys that go to Compose as they are once they have been checked. Keys that become fields of the
/// specification (`image`, `user`, `secrets`, `environment`, `volumes`, `depends_on`) are read in `service`.
pub(crate) const MODELLED: &[(&str, Shape)] = &[
    ("cap_add", Shape::Strings),
    ("cap_drop", Shape::Strings),
    ("command", Shape::Words),
    ("cpus", Shape::Decimal),
    ("entrypoint", Shape::Words),
    ("healthcheck", Shape::Healthcheck),
    ("init", Shape::Flag),
    ("labels", Shape::Pairs),
    ("mem_limit", Shape::Size),
    ("memswap_limit", Shape::Size),
    ("pids_limit", Shape::Number(1)),
    ("read_only", Shape::Flag),
    ("shm_size", Shape::Size),
    ("stop_grace_period", Shape::Time),
    ("stop_signal", Shape::Signal),
    ("sysctls", Shape::Pairs),
    ("tmpfs", Shape::Tmpfs),
    ("ulimits", Shape::Ulimits),
    ("working_dir", Shape::Path),
];

/// The keys of `healthcheck`.
pub(crate) const HEALTHCHECK: &[(&str, Shape)] = &[
    ("disable", Shape::Flag),
    ("interval", Shape::Time),
    ("retries", Shape::Number(1)),
    ("start_interval", Shape::Time),
    ("start_period", Shape::Time),
    ("test", Shape::Words),
    ("timeout", Shape::Time),
];

/// Keys of the specification that are carried over untouched, and `x-*`.
pub(crate) const CARRIED: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "cgroup",
    "cgroup_parent",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpuset",
    "credential_spec",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "expose",
    "extra_hosts",
    "gpus",
    "group_add",
    "hostname",
    "ipc",
    "isolation",
    "mem_reservation",
    "mem_swappiness",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "platform",
    "runtime",
    "stdin_open",
    "storage_opt",
    "tty",
    "userns_mode",
    "uts",
];

/// Keys of the specification that are refused, each with what to write instead.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    ("build", "a droplet builds nothing: name a published image in `image`, and `bundle lock` pins it"),
    (
        "configs",
        "configuration files come from their own tables, such as `[redis]`, and are mounted by content",
    ),
    (
        "container_name",
        "containers are named by project and service; other services reach it by the service's name",
    ),
    (
        "deploy",
        "write `mem_limit`, `cpus` and `pids_limit` for limits; restarts and replicas belong to the switch",
    ),
    ("develop", "leave it out: it is for a developer's machine"),
    ("extends", "write `extends` at the top of the profile: whole profiles are laid over one another"),
    ("external_links", "services reach each other by name on the network `data`"),
    ("label_file", "write the labels in `labels`"),
    ("links", "services reach each other by name, without links"),
    ("logging", "leave it out: the droplet keeps every container's log within the same limits"),
    ("mac_address", "leave it out: addresses come from `bundle.lock`"),
    ("models", "leave it out: a droplet runs containers only"),
    (
        "network_mode",
        "leave it out: a service stands on `data`, and a stateless one on its slot's network too",
    ),
    ("networks", "leave it out: a service stands on `data`, and a stateless one on its slot's network too"),
    ("ports", "nothing is published past the firewall: write a `[routes.NAME]` with `service` and `port`"),
    ("post_start", "write a service that is named by `migrations`, or do it in the image's entrypoint"),
    ("pre_stop", "handle `stop_signal` in the program, and give it time with `stop_grace_period`"),
    ("privileged", "name what it needs in `cap_add` or `devices`"),
    ("profiles", "leave it out: write another profile that `extends` this one"),
    ("provider", "leave it out: a droplet runs containers only"),
    ("pull_policy", "leave it out: images are pulled by digest and verified before anything is started"),
    ("restart", "leave it out: the activator restarts what is current, and nothing else"),
    ("scale", "leave it out: a service has one container in each slot"),
    ("security_opt", "leave it out: `no-new-privileges` is always set, and the default profiles stay on"),
    ("use_api_socket", "leave it out: who holds Docker's socket owns the machine"),
    ("volumes_from", "name the same volume in `volumes` of both services"),
];

/// What to write instead of `key`, if it is refused.
pub(crate) fn refused(key: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == key).map(|(_, hint)| *hint)
}

/// Whether `key` is carried over untouched.
pub(crate) fn carried(key: &str) -> bool {
    CARRIED.contains(&key) || key.starts_with("x-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_two_lists() {
        let lifted = ["image", "user", "secrets", "environment", "env_file", "volumes", "depends_on"];
        let mut all: Vec<&str> = lifted.to_vec();
        all.extend(MODELLED.iter().map(|(key, _)| *key));
        all.extend(CARRIED);
        all.extend(REFUSED.iter().map(|(key, _)| *key));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
