//! The keys of a Compose service and of a Compose file: which are typed and checked, which are carried over untouched,
//! and which are not the profile's to say. `service` reads by this table, and the schema and `docs/compose-keys.md` are
//! made from it. Source: Compose specification, `spec.md` "Services top-level element" and its JSON schema
//! (`compose-spec.json`, definition `service`).

/// What the value of a typed key looks like.
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
    /// A whole number between these.
    Range(i64, i64),
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
    /// A list of strings and whole numbers.
    Scalars,
    /// A string or a list of strings.
    Words,
    /// An address or a list of such.
    Addresses,
    /// A path with options, or a list of such.
    Tmpfs,
    /// A table or a list of `KEY=VALUE`.
    Pairs,
    /// The same, of kernel settings that a container has for itself.
    Sysctls,
    /// A table of names and addresses, or a list of `NAME:ADDRESS`.
    ExtraHosts,
    /// A list of capabilities.
    Capabilities,
    /// A list of devices, in the short syntax or the long one.
    Devices,
    /// The table `healthcheck`.
    Healthcheck,
    /// The table `ulimits`.
    Ulimits,
}

/// Keys that become fields of the specification; `service` reads each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifted {
    /// `image`
    Image,
    /// `user`
    User,
    /// `secrets`
    Secrets,
    /// `env_file`
    EnvFiles,
    /// `environment`
    Environment,
    /// `volumes`
    Volumes,
    /// `depends_on`
    Dependencies,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Checked, and handed to Compose as it is.
    Typed(Shape),
    /// Checked, and a part of the specification.
    Lifted(Lifted),
    /// Handed to Compose as it is, whatever it is.
    Carried,
    /// Refused; `about` says what to write instead.
    Refused,
}

/// A key of a Compose service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) treatment: Treatment,
    /// A value, in TOML, for the keys that are checked.
    pub(crate) example: &'static str,
    /// What it is for; of a refused key, what to write instead.
    pub(crate) about: &'static str,
}

const fn typed(name: &'static str, shape: Shape, example: &'static str, about: &'static str) -> Key {
    Key { name, treatment: Treatment::Typed(shape), example, about }
}

const fn lifted(name: &'static str, lifted: Lifted, example: &'static str, about: &'static str) -> Key {
    Key { name, treatment: Treatment::Lifted(lifted), example, about }
}

const fn carried(name: &'static str, about: &'static str) -> Key {
    Key { name, treatment: Treatment::Carried, example: "", about }
}

const fn refused(name: &'static str, about: &'static str) -> Key {
    Key { name, treatment: Treatment::Refused, example: "", about }
}

/// All keys of a service, by name.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    typed("annotations", Shape::Pairs, "{ \"com.example.team\" = \"a\" }", "metadata for the runtime, `KEY = \"VALUE\"`"),
    carried("attach", "whether `docker compose up` in the foreground shows its output"),
    carried("blkio_config", "limits and weights for reading and writing block devices"),
    refused("build", "a droplet builds nothing: name a published image in `image`, and `bundle lock` pins it"),
    typed("cap_add", Shape::Capabilities, "[\"NET_BIND_SERVICE\"]", "capabilities that it gets back (capabilities(7)), such as `[\"NET_BIND_SERVICE\"]`"),
    typed("cap_drop", Shape::Capabilities, "[\"ALL\"]", "capabilities that are taken away; `[\"ALL\"]` unless the profile says otherwise"),
    carried("cgroup", "the cgroup namespace that it joins"),
    carried("cgroup_parent", "the cgroup below which its own stands"),
    typed("command", Shape::Words, "[\"python3\", \"-m\", \"marketplace\", \"web\"]", "the program's arguments, instead of the image's `CMD`"),
    refused("configs", "configuration files come from their own tables, such as `[redis]`, and are mounted by content"),
    refused("container_name", "containers are named by project and service; other services reach it by the service's name"),
    carried("cpu_count", "Windows only"),
    carried("cpu_percent", "Windows only"),
    carried("cpu_period", "the period of the CPU quota, in microseconds"),
    carried("cpu_quota", "the CPU time in each period, in microseconds"),
    carried("cpu_rt_period", "the period of the real-time scheduler"),
    carried("cpu_rt_runtime", "the real-time scheduler's share of each period"),
    typed("cpu_shares", Shape::Number(0), "512", "its weight where CPUs are short; others have 1024"),
    typed("cpus", Shape::Decimal, "\"0.5\"", "how many CPUs it may use, such as `0.5`"),
    typed("cpuset", Shape::Text, "\"0-1\"", "the CPUs that it may run on, such as `0-1`"),
    carried("credential_spec", "Windows only"),
    lifted("depends_on", Lifted::Dependencies, "{ migrate = { condition = \"service_completed_successfully\" } }", "services that are started before it, with what is waited for"),
    refused("deploy", "write `mem_limit`, `cpus`, `pids_limit` and `mem_reservation` instead of `deploy.resources`; restarts and replicas belong to the switch"),
    refused("develop", "leave it out: it is for a developer's machine"),
    carried("device_cgroup_rules", "devices that it may open, as cgroup rules"),
    typed("devices", Shape::Devices, "[\"/dev/fuse\"]", "devices of the droplet that it sees, such as `[\"/dev/fuse\"]`"),
    typed("dns", Shape::Addresses, "[\"10.110.0.2\"]", "name servers instead of Docker's"),
    typed("dns_opt", Shape::Strings, "[\"ndots:1\"]", "options of its resolver (resolv.conf(5))"),
    typed("dns_search", Shape::Words, "[\"internal\"]", "domains in which its resolver looks for short names"),
    typed("domainname", Shape::Text, "\"example.com\"", "its NIS domain name"),
    typed("entrypoint", Shape::Words, "[\"/usr/bin/app\"]", "the program, instead of the image's `ENTRYPOINT`"),
    lifted("env_file", Lifted::EnvFiles, "[\"backend.env\"]", "files of variables, by their names in `[env_files]`"),
    lifted("environment", Lifted::Environment, "{ PORT = 8000 }", "its environment; nothing secret, for `docker inspect` shows it"),
    typed("expose", Shape::Scalars, "[8000]", "ports that it says it listens on; a note only"),
    refused("extends", "write `extends` at the top of the profile: whole profiles are laid over one another"),
    refused("external_links", "services reach each other by name on the network `data`"),
    typed("extra_hosts", Shape::ExtraHosts, "{ \"db.internal\" = \"10.110.0.5\" }", "names that it finds in its `/etc/hosts`, such as `{ \"db.internal\" = \"10.110.0.5\" }`"),
    carried("gpus", "GPUs that it may use"),
    typed("group_add", Shape::Scalars, "[\"1000\"]", "further groups of its user, by name or number"),
    typed("healthcheck", Shape::Healthcheck, "{ test = [\"CMD\", \"app\", \"health\"], interval = \"10s\" }", "how Docker asks whether it is healthy; the switch waits for it"),
    typed("hostname", Shape::Text, "\"app\"", "its host name; the container's ID otherwise"),
    lifted("image", Lifted::Image, "\"ghcr.io/team/app:1.0.0\"", "the image with its tag; `bundle.lock` pins the digest"),
    typed("init", Shape::Flag, "true", "a small init that passes on signals and reaps processes; `true` unless the profile says otherwise"),
    carried("ipc", "the IPC namespace that it joins"),
    carried("isolation", "Windows only"),
    refused("label_file", "write the labels in `labels`"),
    typed("labels", Shape::Pairs, "{ team = \"a\" }", "metadata of the container; `bundle.*` and `com.docker.compose.*` are taken"),
    refused("links", "services reach each other by name, without links"),
    refused("logging", "leave it out: the droplet keeps every container's log within the same limits"),
    refused("mac_address", "leave it out: addresses come from `bundle.lock`"),
    typed("mem_limit", Shape::Size, "\"512m\"", "how much memory it may use; at the limit a process in it is killed"),
    typed("mem_reservation", Shape::Size, "\"256m\"", "how much memory it keeps where memory is short"),
    typed("mem_swappiness", Shape::Range(0, 100), "0", "how readily its memory is swapped out"),
    typed("memswap_limit", Shape::Size, "\"512m\"", "memory and swap together; equal to `mem_limit`: no swap"),
    refused("models", "leave it out: a droplet runs containers only"),
    refused("network_mode", "leave it out: a service stands on `data`, and a stateless one on its slot's network too"),
    refused("networks", "leave it out: a service stands on `data`, and a stateless one on its slot's network too"),
    typed("oom_kill_disable", Shape::Flag, "false", "whether the kernel spares it where memory is short"),
    typed("oom_score_adj", Shape::Range(-1000, 1000), "-500", "how readily the kernel kills it where memory is short"),
    carried("pid", "the PID namespace that it joins"),
    typed("pids_limit", Shape::Number(1), "256", "how many processes and threads it may have"),
    typed("platform", Shape::Text, "\"linux/amd64\"", "the platform of its image, such as `linux/amd64`"),
    refused("ports", "nothing is published past the firewall: write a `[routes.NAME]` with `service` and `port`"),
    refused("post_start", "write a service that is named by `migrations`, or do it in the image's entrypoint"),
    refused("pre_stop", "handle `stop_signal` in the program, and give it time with `stop_grace_period`"),
    refused("privileged", "name what it needs in `cap_add` or `devices`"),
    refused("profiles", "leave it out: write another profile that `extends` this one"),
    refused("provider", "leave it out: a droplet runs containers only"),
    refused("pull_policy", "leave it out: images are pulled by digest and verified before anything is started"),
    refused("pull_refresh_after", "leave it out: images are pulled by digest and verified before anything is started"),
    typed("read_only", Shape::Flag, "true", "whether its root file system is read-only"),
    refused("restart", "leave it out: the activator restarts what is current, and nothing else"),
    carried("runtime", "the OCI runtime that runs it"),
    refused("scale", "leave it out: a service has one container in each slot"),
    lifted("secrets", Lifted::Secrets, "[\"database_url\"]", "the secrets that it reads, as files `/run/secrets/NAME` owned by its `user`"),
    refused("security_opt", "leave it out: `no-new-privileges` is always set, and the default profiles stay on"),
    typed("shm_size", Shape::Size, "\"256m\"", "the size of `/dev/shm`; Docker's default is 64 MiB"),
    typed("stdin_open", Shape::Flag, "false", "whether its standard input stays open"),
    typed("stop_grace_period", Shape::Time, "\"30s\"", "how long it may take to stop before it is killed"),
    typed("stop_signal", Shape::Signal, "\"SIGINT\"", "the signal that asks it to stop; the image's, or `SIGTERM`"),
    carried("storage_opt", "options of the storage driver"),
    typed("sysctls", Shape::Sysctls, "{ \"net.core.somaxconn\" = 4096 }", "kernel settings of its own namespaces, `net.*` mostly"),
    typed("tmpfs", Shape::Tmpfs, "[\"/tmp:size=64m,mode=1777,noexec,nosuid,nodev\"]", "directories in memory, with mount options"),
    typed("tty", Shape::Flag, "false", "whether it has a terminal"),
    typed("ulimits", Shape::Ulimits, "{ nofile = { soft = 65536, hard = 65536 } }", "resource limits (setrlimit(2)): a number, or `{ soft = …, hard = … }`"),
    refused("use_api_socket", "leave it out: who holds Docker's socket owns the machine"),
    lifted("user", Lifted::User, "\"10001:10001\"", "the user that it runs as; `UID:GID` where it reads secrets"),
    carried("userns_mode", "the user namespace that it joins"),
    carried("uts", "the UTS namespace that it joins"),
    lifted("volumes", Lifted::Volumes, "[\"redis:/data\"]", "volumes and directories of the droplet, in Compose's short syntax"),
    refused("volumes_from", "name the same volume in `volumes` of both services"),
    typed("working_dir", Shape::Path, "\"/app\"", "the directory in which it starts"),
];

/// The keys of `healthcheck`, with what they are for.
pub(crate) const HEALTHCHECK: &[(&str, Shape, &str)] = &[
    ("disable", Shape::Flag, "whether the image's own check is switched off"),
    ("interval", Shape::Time, "the time between two checks"),
    ("retries", Shape::Number(1), "how many failures in a row make it unhealthy"),
    ("start_interval", Shape::Time, "the time between two checks during `start_period`"),
    ("start_period", Shape::Time, "how long failures do not count after the start"),
    ("test", Shape::Words, "the command: `[\"CMD\", …]`, `[\"CMD-SHELL\", \"…\"]` or `[\"NONE\"]`"),
    ("timeout", Shape::Time, "how long one check may take"),
];

/// The other elements of a Compose file, and what stands for them in a profile.
pub(crate) const ELEMENTS: &[(&str, &str)] = &[
    (
        "configs",
        "configuration files come from their own tables, such as `[redis]`, and are mounted by content",
    ),
    ("include", "write `extends` at the top of the profile"),
    ("models", "a droplet runs containers only"),
    ("name", "the projects are called `data`, `blue` and `green`; the profile is called after its file"),
    ("networks", "there are three, `data`, `blue` and `green`; `[networks]` says their subnets"),
    ("secrets", "`[secrets.NAME]`: names and rules, never values or files"),
    ("services", "`[services.NAME]`, with the keys below"),
    ("version", "Compose ignores it; leave it out"),
    ("volumes", "a volume is made where a service names it in `volumes`, with Docker's default driver"),
    ("x-*", "at the top of a profile nothing is an extension; in a service it is carried"),
];

/// The typed keys with their shapes, by name.
pub(crate) fn shapes() -> impl Iterator<Item = (&'static str, Shape)> {
    KEYS.iter().filter_map(|key| match key.treatment {
        Treatment::Typed(shape) => Some((key.name, shape)),
        _ => None,
    })
}

/// The keys that are carried over whatever they are, by name.
pub(crate) fn carried_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(|key| key.treatment == Treatment::Carried).map(|key| key.name)
}

/// What to write instead of `key`, if it is refused.
pub(crate) fn refusal(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|known| known.name == key && known.treatment == Treatment::Refused).map(|key| key.about)
}

/// Whether `key` is carried over untouched.
pub(crate) fn is_carried(key: &str) -> bool {
    carried_keys().any(|known| known == key) || key.starts_with("x-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `properties` of the definition `service`, and the top-level ones.
    const SPECIFICATION: &str = include_str!("compose_keys/compose-spec.txt");

    fn listed(section: &str) -> Vec<&'static str> {
        let (_, rest) = SPECIFICATION.split_once(&format!("[{section}]\n")).unwrap();
        rest.lines().take_while(|line| !line.is_empty()).collect()
    }

    #[test]
    fn every_key_of_the_specification_has_one_treatment_and_no_other_has() {
        let ours: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(ours, listed("service"));
        let ours: Vec<&str> = HEALTHCHECK.iter().map(|(name, ..)| *name).collect();
        assert_eq!(ours, listed("healthcheck"));
        let ours: Vec<&str> = ELEMENTS.iter().map(|(name, _)| *name).filter(|name| *name != "x-*").collect();
        assert_eq!(ours, listed("top"));
    }

    #[test]
    fn every_key_says_what_it_is_for() {
        for key in KEYS {
            assert!(key.about.len() > 10 || key.about == "Windows only", "{}", key.name);
            let checked = matches!(key.treatment, Treatment::Typed(_) | Treatment::Lifted(_));
            assert_eq!(checked, !key.example.is_empty(), "{}", key.name);
        }
    }
}
