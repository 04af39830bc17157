//! `[sysctl]` → `etc/sysctl.d/90-bundle.conf`: the kernel's settings.
//!
//! The last file by name counts (`sysctl.d(5)`). A key that the kernel does not have is a line in the log and no fault. What
//! a file no longer says stays as it is until the next boot.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::Refused;
use super::format::settings::Settings;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::{OnChange, Slot};
use crate::spec::Spec;

/// The kernel's settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sysctl {
    /// Whether the bundle sets the kernel's hardening settings. Default: `true`.
    enabled: bool,
    /// Keys of the bundle's own list that are left as the distribution has them. Default: none.
    leave: Vec<String>,
    /// Further keys, or other values, as in `"net.core.somaxconn" = 8192`. Default: none.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    set: BTreeMap<String, Value>,
}

/// A value: a number, or several as a text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Text(String),
}

impl Default for Sysctl {
    fn default() -> Self {
        Self { enabled: true, leave: Vec::new(), set: BTreeMap::new() }
    }
}

/// The file's place in a view.
pub const PATH: &str = "etc/sysctl.d/90-bundle.conf";

/// What belongs together, and why.
struct Group {
    why: &'static str,
    /// Only where a Redis or Valkey runs.
    redis: bool,
    keys: &'static [(&'static str, &'static str)],
}

const NETWORK: Group = Group {
    why: "Packets that lie about their way (CIS Debian 3.3; dev-sec os-hardening). rp_filter is loose: a reserved address \
          and a private network may answer by another way than they were asked.",
    redis: false,
    keys: &[
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.default.rp_filter", "2"),
        ("net.ipv4.conf.all.accept_redirects", "0"),
        ("net.ipv4.conf.default.accept_redirects", "0"),
        ("net.ipv4.conf.all.secure_redirects", "0"),
        ("net.ipv4.conf.default.secure_redirects", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv4.conf.all.accept_source_route", "0"),
        ("net.ipv4.conf.default.accept_source_route", "0"),
        ("net.ipv6.conf.all.accept_redirects", "0"),
        ("net.ipv6.conf.default.accept_redirects", "0"),
        ("net.ipv6.conf.all.accept_source_route", "0"),
        ("net.ipv6.conf.default.accept_source_route", "0"),
        ("net.ipv4.conf.all.log_martians", "1"),
        ("net.ipv4.conf.default.log_martians", "1"),
        ("net.ipv4.icmp_echo_ignore_broadcasts", "1"),
        ("net.ipv4.icmp_ignore_bogus_error_responses", "1"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_rfc1337", "1"),
    ],
};

const FORWARDING: Group = Group {
    why: "Containers are behind this machine (Docker documentation, \"Packet filtering and firewalls\"); the firewall says what is \
          forwarded. IPv6 is not: no container network has it.",
    redis: false,
    keys: &[("net.ipv4.ip_forward", "1")],
};

const QUEUES: Group = Group {
    why: "A burst of new connections waits and is not dropped; Redis asks for 511 (redis.io, \"Administration\").",
    redis: false,
    keys: &[("net.core.somaxconn", "4096"), ("net.ipv4.tcp_max_syn_backlog", "4096")],
};

const KERNEL: Group = Group {
    why: "What an intruder asks the kernel for (NixOS hardened.nix; dev-sec os-hardening; lynis KRNL-6000).",
    redis: false,
    keys: &[
        ("net.core.bpf_jit_harden", "2"),
        ("kernel.unprivileged_bpf_disabled", "1"),
        ("kernel.kptr_restrict", "2"),
        ("kernel.dmesg_restrict", "1"),
        ("kernel.yama.ptrace_scope", "1"),
        ("kernel.sysrq", "0"),
        ("kernel.core_uses_pid", "1"),
        ("kernel.kexec_load_disabled", "1"),
        ("kernel.perf_event_paranoid", "3"),
        ("kernel.randomize_va_space", "2"),
        ("fs.suid_dumpable", "0"),
        ("fs.protected_hardlinks", "1"),
        ("fs.protected_symlinks", "1"),
        ("fs.protected_fifos", "2"),
        ("fs.protected_regular", "2"),
        ("dev.tty.ldisc_autoload", "0"),
        ("vm.mmap_min_addr", "65536"),
    ],
};

const MEMORY: Group = Group {
    why: "Swap is for what nobody uses, not for a database (PostgreSQL wiki, \"Tuning Your PostgreSQL Server\").",
    redis: false,
    keys: &[("vm.swappiness", "10")],
};

const OVERCOMMIT: Group = Group {
    why: "A snapshot is written by a fork (redis.io, \"Administration\"). Every container has a limit of its own.",
    redis: true,
    keys: &[("vm.overcommit_memory", "1")],
};

/// Keys that would break the machine, each with what would break.
const HARMFUL: &[(&str, &str)] = &[
    ("user.max_user_namespaces", "units with `PrivateUsers=` would not start"),
    ("kernel.modules_disabled", "what Docker and nftables load later would be missing"),
    (
        "net.ipv6.conf.all.disable_ipv6",
        "programs that listen on `[::]` would not start; the firewall covers IPv6",
    ),
    ("net.ipv4.ip_forward", "containers would be cut off"),
];

impl Section for Sysctl {
    const KIND: &'static str = "sysctl";
    const TABLE: Option<&'static str> = Some("sysctl");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Sysctl {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let ours: Vec<&str> = GROUPS.iter().flat_map(|group| group.keys).map(|(key, _)| *key).collect();
        for (nth, key) in self.leave.iter().enumerate() {
            if !ours.contains(&key.as_str()) {
                let message = format!("`{key}` is not among the keys that the bundle sets");
                let hint = Some("docs/hardening.md lists them".to_owned());
                problems.push(Problem { at: vec!["leave".to_owned(), nth.to_string()], message, hint });
            }
        }
        for (key, value) in &self.set {
            let at = || vec!["set".to_owned(), key.clone()];
            if !is_key(key) {
                let hint = Some("write it with dots, as in `\"net.core.somaxconn\"`".to_owned());
                let message = format!("`{key}` is not the name of a kernel setting");
                problems.push(Problem { at: at(), message, hint });
            }
            if let Some((_, why)) = HARMFUL.iter().find(|(harmful, _)| harmful == key) {
                problems.push(Problem {
                    at: at(),
                    message: why.to_string(),
                    hint: Some("leave it out".to_owned()),
                });
            }
            if value.text().is_empty() {
                problems.push(Problem { at: at(), message: "the value is empty".to_owned(), hint: None });
            }
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled && self.set.is_empty() {
            return Ok(());
        }
        let redis = ["redis/redis.conf", "valkey/valkey.conf"];
        let redis = redis.iter().any(|path| tree.get(path, Slot::Blue).is_some());
        let text = self.text(redis).map_err(|refused| refused.at(PATH))?;
        let unit = literal::unit("systemd-sysctl.service")?;
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text).on_change(OnChange::Restart(unit));
        tree.insert(entry).map(drop)
    }
}

const GROUPS: &[&Group] = &[&NETWORK, &FORWARDING, &QUEUES, &KERNEL, &MEMORY, &OVERCOMMIT];

impl Sysctl {
    fn text(&self, redis: bool) -> Result<String, Refused> {
        let mut conf = Settings::equals();
        if self.enabled {
            for group in GROUPS.iter().filter(|group| redis || !group.redis) {
                let said =
                    |key: &str| self.leave.iter().any(|left| left == key) || self.set.contains_key(key);
                let keys: Vec<_> = group.keys.iter().filter(|(key, _)| !said(key)).collect();
                if !keys.is_empty() {
                    conf.comment(group.why);
                }
                for (key, value) in keys {
                    conf.set(key, value)?;
                }
            }
        }
        if !self.set.is_empty() {
            conf.comment("As the profile says.");
        }
        for (key, value) in &self.set {
            conf.set(key, &value.text())?;
        }
        Ok(conf.finish())
    }
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A path below `/proc/sys` with dots: no wildcard, no `-` in front, which would hide a failure.
fn is_key(key: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    key.contains('.') && !key.starts_with('-') && key.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn renders() {
        insta::assert_snapshot!("90-bundle.conf", fixture::text(&fixture::tree(), PATH, Slot::Blue));
    }

    #[test]
    fn the_profile_has_the_last_word() {
        let text = "leave = ['kernel.sysrq']\nset = { 'vm.swappiness' = 1, 'net.ipv4.tcp_rmem' = '4096 131072 6291456' }";
        let sysctl: Sysctl = toml::from_str(text).unwrap();
        assert_eq!(sysctl.check(&fixture::spec()), []);
        let text = sysctl.text(false).unwrap();
        assert!(!text.contains("kernel.sysrq") && !text.contains("overcommit"), "{text}");
        assert_eq!(text.matches("vm.swappiness").count(), 1);
        assert!(
            text.contains("vm.swappiness = 1\n") && text.contains("tcp_rmem = 4096 131072 6291456\n"),
            "{text}"
        );
    }

    #[test]
    fn each_key_stands_once_and_what_breaks_the_machine_is_refused() {
        let keys: Vec<&str> = GROUPS.iter().flat_map(|group| group.keys).map(|(key, _)| *key).collect();
        let once: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(once.len(), keys.len());
        let text = "leave = ['vm.nothing']\nset = { 'kernel.modules_disabled' = 1, 'kernel/sysrq' = 1, '-a.b' = 1, 'a.*' = 1 }";
        let sysctl: Sysctl = toml::from_str(text).unwrap();
        let at: Vec<String> =
            sysctl.check(&fixture::spec()).into_iter().map(|problem| problem.at.join(" ")).collect();
        assert_eq!(at, ["leave 0", "set -a.b", "set a.*", "set kernel.modules_disabled", "set kernel/sysrq"]);
    }
}
