//! `[sshd]` → `etc/ssh/sshd_config.d/00-bundle.conf`: who may log in, and how.
//!
//! The first value that sshd reads counts (`sshd_config(5)`), hence `00-`: cloud-init's `50-cloud-init.conf` comes later and
//! cannot open what this file closes. Sources: CIS Debian Linux Benchmark, "Configure SSH Server"; Mozilla's OpenSSH
//! guidelines; lynis SSH-7408.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Refused;
use super::format::settings::Settings;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::OnChange;
use crate::spec::{OsRelease, Spec};

/// Who logs in over SSH, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sshd {
    /// Whether the bundle says anything about sshd. Default: `true`.
    enabled: bool,
    /// Whether root may log in: `"prohibit-password"` (with a key), `"forced-commands-only"` or `"no"`. Default:
    /// `"prohibit-password"`, because `bundle deploy` logs in as root unless it is given another user.
    permit_root: PermitRoot,
    /// Groups whose members may log in; empty: everybody with a key. They must exist on the machine. Default: empty.
    #[schemars(example = ["ssh-users"])]
    allow_groups: Vec<String>,
    /// Forwarding of TCP ports: `"no"`, or `"local"` for tunnels to a database or to HAProxy's statistics. Default: `"no"`.
    tcp_forwarding: Forwarding,
    /// Keys that may be tried in one connection; an agent with more keys than that needs `IdentitiesOnly`. Default: `3`.
    max_auth_tries: u32,
    /// Sessions over one connection, as `bundle deploy` shares one. Default: `4`.
    max_sessions: u32,
    /// The least size of an RSA key, in bits. Default: `2048`, which is what `ssh-keygen` made until OpenSSH 8.0; a key that is
    /// too small is locked out without a word.
    rsa_bits: u32,
    /// Networks that are never made to wait after failed logins, such as a monitoring probe's. Only where OpenSSH makes
    /// anybody wait, which it does since 9.8. Default: none.
    #[schemars(with = "Vec<String>", example = ["192.0.2.0/24"])]
    penalty_exempt: Vec<IpNet>,
}

/// `PermitRootLogin`, in sshd's own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum PermitRoot {
    #[default]
    ProhibitPassword,
    ForcedCommandsOnly,
    No,
}

/// `AllowTcpForwarding`, in sshd's own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Forwarding {
    #[default]
    No,
    Local,
}

impl Default for Sshd {
    fn default() -> Self {
        Self {
            enabled: true,
            permit_root: PermitRoot::default(),
            allow_groups: Vec::new(),
            tcp_forwarding: Forwarding::default(),
            max_auth_tries: 3,
            max_sessions: 4,
            rsa_bits: 2048,
            penalty_exempt: Vec::new(),
        }
    }
}

/// The file's place in a view.
pub const PATH: &str = "etc/ssh/sshd_config.d/00-bundle.conf";

impl Section for Sshd {
    const KIND: &'static str = "sshd";
    const TABLE: Option<&'static str> = Some("sshd");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Sshd {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, value, least, most) in [
            ("max_auth_tries", self.max_auth_tries, 1, 20),
            ("max_sessions", self.max_sessions, 1, 100),
            ("rsa_bits", self.rsa_bits, 1024, 16_384),
        ] {
            if !(least..=most).contains(&value) {
                let message = format!("`{value}` is not between {least} and {most}");
                problems.push(literal::problem(key, message, None));
            }
        }
        for (nth, group) in self.allow_groups.iter().enumerate() {
            if !is_group(group) {
                let at = vec!["allow_groups".to_owned(), nth.to_string()];
                let hint = Some("write a name such as `sshusers`, without patterns".to_owned());
                problems.push(Problem { at, message: format!("`{group}` is not the name of a group"), hint });
            }
        }
        if !self.penalty_exempt.is_empty() && !has_penalties(spec.droplet.release) {
            let message = "the release's OpenSSH is older than 9.8 and makes nobody wait".to_owned();
            problems.push(literal::problem("penalty_exempt", message, Some("leave it out".to_owned())));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled {
            return Ok(());
        }
        let text = self.text(spec.droplet.release).map_err(|refused| refused.at(PATH))?;
        // A started sshd has its directory; where it starts with the first connection, nobody may have made it yet.
        let judge = "mkdir -p /run/sshd && exec sshd -t -f \"$1\"";
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text)
            .check(&["sh", "-c", judge, "sh", "{}"])
            .on_change(OnChange::Reload(literal::unit("ssh.service")?));
        tree.insert(entry).map(drop)
    }
}

/// `useradd(8)`: what names of groups Debian makes.
fn is_group(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// OpenSSH 9.8 release notes: `PerSourcePenalties`.
fn has_penalties(release: OsRelease) -> bool {
    release == OsRelease::Debian13
}

impl Sshd {
    fn text(&self, release: OsRelease) -> Result<String, Refused> {
        let mut conf = Settings::spaced();
        conf.comment("Keys only (CIS; Mozilla).")
            .set(
                "PermitRootLogin",
                match self.permit_root {
                    PermitRoot::ProhibitPassword => "prohibit-password",
                    PermitRoot::ForcedCommandsOnly => "forced-commands-only",
                    PermitRoot::No => "no",
                },
            )?
            .set("AuthenticationMethods", "publickey")?
            .set("PasswordAuthentication", "no")?
            .set("KbdInteractiveAuthentication", "no")?
            .set("PermitEmptyPasswords", "no")?
            .set("HostbasedAuthentication", "no")?;
        if !self.allow_groups.is_empty() {
            conf.set("AllowGroups", &self.allow_groups.join(" "))?;
        }
        conf.comment("Few tries, little time (CIS).")
            .set("MaxAuthTries", &self.max_auth_tries.to_string())?
            .set("MaxSessions", &self.max_sessions.to_string())?
            .set("MaxStartups", "10:30:60")?
            .set("LoginGraceTime", "30")?;
        if !self.penalty_exempt.is_empty() {
            let networks: Vec<_> = self.penalty_exempt.iter().map(|net| net.trunc().to_string()).collect();
            conf.set("PerSourcePenaltyExemptList", &networks.join(","))?;
        }
        conf.comment(
            "A connection that is lost is noticed after ten minutes, by messages inside the encryption.",
        )
        .set("ClientAliveInterval", "300")?
        .set("ClientAliveCountMax", "2")?
        .set("TCPKeepAlive", "no")?
        .comment("Nothing but a shell and files (lynis SSH-7408).")
        .set("X11Forwarding", "no")?
        .set("AllowAgentForwarding", "no")?
        .set("AllowTcpForwarding", if self.tcp_forwarding == Forwarding::Local { "local" } else { "no" })?
        .set("AllowStreamLocalForwarding", "no")?
        .set("PermitTunnel", "no")?
        .set("GatewayPorts", "no")?
        .set("PermitUserEnvironment", "no")?
        .set("PermitUserRC", "no")?
        .set("Compression", "no")?
        .comment("With the fingerprint of the key that was used (Mozilla).")
        .set("LogLevel", "VERBOSE")?
        .comment("Mozilla, \"modern\"; the first exchange, where there is one, resists quantum computers.");
        // OpenSSH 9.9 release notes.
        let first = if release == OsRelease::Debian13 { "mlkem768x25519-sha256," } else { "" };
        let exchange = "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org";
        conf.set("KexAlgorithms", &format!("{first}{exchange}"))?
            .set("Ciphers", "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com")?
            .set("MACs", "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com")?
            .set(
                "HostKeyAlgorithms",
                "ssh-ed25519,ssh-ed25519-cert-v01@openssh.com,rsa-sha2-512,rsa-sha2-512-cert-v01@openssh.com",
            )?
            .set("RequiredRSASize", &self.rsa_bits.to_string())?;
        Ok(conf.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        insta::assert_snapshot!("00-bundle.conf", fixture::text(&fixture::tree(), PATH, Slot::Blue));
    }

    #[test]
    fn an_older_openssh_is_not_asked_for_what_it_does_not_know() {
        for release in [OsRelease::Debian12, OsRelease::Ubuntu2404] {
            let text = Sshd::default().text(release).unwrap();
            assert!(text.contains("KexAlgorithms sntrup761") && !text.contains("mlkem"), "{text}");
            let mut spec = fixture::spec();
            spec.droplet.release = release;
            let sshd: Sshd = toml::from_str("penalty_exempt = ['192.0.2.0/24']").unwrap();
            assert_eq!(sshd.check(&spec).len(), 1);
        }
    }

    #[test]
    fn what_could_shut_everybody_out_is_said() {
        let text = "allow_groups = ['ops', 'a b', '*']\nmax_auth_tries = 0\nrsa_bits = 99999";
        let sshd: Sshd = toml::from_str(text).unwrap();
        let at: Vec<String> =
            sshd.check(&fixture::spec()).into_iter().map(|problem| problem.at.join(".")).collect();
        assert_eq!(at, ["max_auth_tries", "rsa_bits", "allow_groups.1", "allow_groups.2"]);
    }

    #[test]
    fn a_profile_may_leave_sshd_alone() {
        let sshd: Sshd = toml::from_str("enabled = false").unwrap();
        let mut tree = Tree::default();
        sshd.render(&fixture::spec(), &mut tree).unwrap();
        assert_eq!(tree.entries().count(), 0);
    }

    #[test]
    fn groups_are_named_only_if_the_profile_names_some() {
        let named: Sshd = toml::from_str("allow_groups = ['ops', 'deploy']\npermit_root = 'no'").unwrap();
        let text = named.text(OsRelease::Debian13).unwrap();
        assert!(
            text.contains("\nAllowGroups ops deploy\n") && text.contains("PermitRootLogin no\n"),
            "{text}"
        );
        assert!(!Sshd::default().text(OsRelease::Debian13).unwrap().contains("AllowGroups"));
    }
}
