//! `[certificates]` → `certificates/certificates.toml`: for which host names certificates are obtained, and from whom.
//!
//! They lie outside every generation. `bundle certs renew`, which a timer starts, reads this file and has them obtained
//! by lego, the distribution's ACME client: one program without dependencies, the same version in Debian 12, Debian 13
//! and Ubuntu 24.04. Without the table a self-signed placeholder serves until somebody puts a certificate there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Refused;
use super::format::unit::{Arg, UnitFile};
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::{OnChange, PROGRAM};
use crate::spec::Spec;

/// Certificates from an ACME authority (RFC 8555), Let's Encrypt if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// To whom the authority writes.
    #[schemars(example = &"ops@example.com")]
    email: String,
    /// The authority: `"production"` or `"staging"` of Let's Encrypt, or the https address of another one's directory.
    /// Production if nothing is said; its limits are narrow (letsencrypt.org, "Rate Limits"), so try with staging.
    #[serde(default = "production")]
    directory: String,
    /// A file, beside the profile, with the certificates of those who signed the authority's own door, in PEM. Not needed
    /// for an authority that every machine knows.
    #[schemars(example = &"acme-ca.pem")]
    ca: Option<String>,
    /// The host names; all that the machine answers to if nothing is said. Each must lead to the machine by DNS.
    #[schemars(example = ["example.com", "www.example.com"])]
    names: Option<Vec<String>>,
}

/// What the rendered file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// To whom the authority writes.
    pub email: String,
    /// The address of the authority's directory.
    pub directory: String,
    /// The file of those who signed the authority's door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The host names, one certificate each.
    pub names: Vec<String>,
}

/// The file's place in a view.
pub const PATH: &str = "certificates/certificates.toml";

const CA: &str = "certificates/ca.pem";

/// Where the ACME client listens while it proves that a name is ours; HAProxy sends the authority's question there.
pub const LISTEN: &str = "127.0.0.1:8402";

/// letsencrypt.org, "ACME Protocol" and "Staging Environment".
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

fn production() -> String {
    "production".to_owned()
}

impl Section for Certificates {
    const KIND: &'static str = "certificates";
    const TABLE: Option<&'static str> = Some("certificates");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Certificates {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"@.-_+".contains(&b);
        let parts = self.email.split_once('@');
        let good = parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
            && !self.email.starts_with('-')
            && self.email.bytes().all(plain);
        if !good {
            let hint = Some("write one address, such as `ops@example.com`".to_owned());
            let message = format!("`{}` is not an address of electronic mail", self.email);
            problems.push(literal::problem("email", message, hint));
        }
        let url = self.directory();
        let rest = url.strip_prefix("https://").unwrap_or_default();
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/[]?=&%".contains(&b))
        {
            let hint = "write `production`, `staging`, or an address that begins with `https://`".to_owned();
            let message = format!("`{}` is not the directory of an authority", self.directory);
            problems.push(literal::problem("directory", message, Some(hint)));
        }
        let hosts = spec.hosts();
        let known: Vec<&str> = hosts.iter().copied().collect();
        for (nth, name) in self.names.iter().flatten().enumerate() {
            if !hosts.contains(name.as_str()) {
                problems.push(Problem {
                    at: vec!["names".to_owned(), nth.to_string()],
                    message: format!("the machine does not answer to `{name}`"),
                    hint: Some(format!("its host names are: {}", known.join(", "))),
                });
            }
        }
        if self.names.as_ref().is_some_and(Vec::is_empty) {
            let hint = Some("leave `names` out, and it means all of them".to_owned());
            problems.push(literal::problem(
                "names",
                "there is no name to have a certificate for".to_owned(),
                hint,
            ));
        }
        if spec.routes.is_empty() {
            let message = "without a route there is nobody who could show a certificate".to_owned();
            let hint = Some("write a `[routes.NAME]`, or take `[certificates]` out".to_owned());
            problems.push(Problem { at: Vec::new(), message, hint });
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if spec.routes.is_empty() {
            return Ok(());
        }
        tree.package("lego");
        let ca = match (&self.ca, &spec.acme_ca) {
            (Some(_), Some(text)) => {
                Some(tree.insert(Entry::text(Self::KIND, literal::path(CA)?, text.clone()))?.absolute())
            }
            _ => None,
        };
        let names = match &self.names {
            Some(names) => names.clone(),
            None => spec.hosts().into_iter().map(str::to_owned).collect(),
        };
        let wanted = Wanted { email: self.email.clone(), directory: self.directory(), ca, names };
        let text = toml::to_string(&wanted).map_err(|error| Refused(error.to_string()).at(PATH))?;
        // Soon after a change, not at the timer's next turn.
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text)
            .on_change(OnChange::Restart(literal::unit("bundle-certificates.timer")?));
        tree.insert(entry).map(drop)
    }
}

impl Certificates {
    fn directory(&self) -> String {
        match self.directory.as_str() {
            "production" => PRODUCTION.to_owned(),
            "staging" => STAGING.to_owned(),
            other => other.to_owned(),
        }
    }
}

impl Wanted {
    /// Reads the rendered file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// `bundle-certificates.service`. It runs as HAProxy's user, which reads the keys in any case and owns the socket: what
/// the network answers is never looked at by root.
pub(super) fn service(unit: &mut UnitFile) -> Result<(), Refused> {
    unit.section("Unit")
        .fixed(&[
            "Description=Obtain and renew the certificates of the bundle's host names",
            "Wants=network-online.target",
            "After=network-online.target bundle-haproxy.service",
        ])
        .section("Service")
        .fixed(&["Type=oneshot", "TimeoutStartSec=900"])
        .exec("ExecStart", &[Arg::Literal(PROGRAM), Arg::Literal("certs"), Arg::Literal("renew")])?
        .fixed(&[
            "User=haproxy",
            "Group=haproxy",
            "ReadWritePaths=/var/lib/bundle/certs",
            "CapabilityBoundingSet=",
            "PrivateUsers=yes",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "IPAddressDeny=169.254.0.0/16",
            "ProcSubset=pid",
            "MemoryMax=256M",
            "TasksMax=64",
        ])
        .fixed(super::systemd::SANDBOX);
    Ok(())
}

/// `bundle-certificates.timer`. Looking costs nothing, and asking waits for the last third of a certificate's life; an
/// hour is what the limits of Let's Encrypt count failures by.
#[expect(clippy::unnecessary_wraps, reason = "what writes a unit may be refused a value")]
pub(super) fn timer(unit: &mut UnitFile) -> Result<(), Refused> {
    unit.section("Unit")
        .fixed(&["Description=Look every hour whether a certificate is due"])
        .section("Timer")
        .fixed(&["OnActiveSec=15s", "OnUnitInactiveSec=1h", "RandomizedDelaySec=30s", "AccuracySec=1s"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{fixture, haproxy};
    use super::*;
    use crate::model::Slot;

    fn problems(text: &str) -> Vec<Problem> {
        toml::from_str::<Certificates>(text).unwrap().check(&fixture::spec())
    }

    fn rendered(text: &str, ca: Option<&str>) -> Tree {
        let mut spec = fixture::spec();
        spec.acme_ca = ca.map(str::to_owned);
        let mut tree = Tree::default();
        toml::from_str::<Certificates>(text).unwrap().render(&spec, &mut tree).unwrap();
        haproxy::Proxy::default().render(&spec, &mut tree).unwrap();
        super::super::systemd::Systemd {}.render(&spec, &mut tree).unwrap();
        tree
    }

    #[test]
    fn renders() {
        let tree = rendered("email = 'ops@example.com'", None);
        let text = |path: &str| fixture::text(&tree, path, Slot::Blue);
        insta::assert_snapshot!("certificates.toml", text(PATH));
        for unit in ["bundle-certificates.service", "bundle-certificates.timer"] {
            insta::assert_snapshot!(unit, text(&format!("etc/systemd/system/{unit}")));
        }
        assert!(text(haproxy::PATH).contains("server client 127.0.0.1:8402\n"));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let tree = rendered(
            "email = 'ops@example.com'\ndirectory = 'staging'\nca = 'ca.pem'\nnames = ['bot.example.com']",
            Some("PEM\n"),
        );
        let wanted = Wanted::parse(&fixture::text(&tree, PATH, Slot::Green)).unwrap();
        assert_eq!(wanted.directory, STAGING);
        assert_eq!(wanted.names, ["bot.example.com"]);
        assert!(wanted.ca.unwrap().ends_with("/ca.pem"));
        assert_eq!(fixture::text(&tree, CA, Slot::Blue), "PEM\n");
    }

    #[test]
    fn what_cannot_be_obtained_is_said() {
        assert_eq!(problems("email = 'ops@example.com'"), []);
        for wrong in ["ops", "@example.com", "-x@example.com", "a b@example.com", "a@b"] {
            assert_eq!(problems(&format!("email = '{wrong}'"))[0].at, ["email"], "{wrong}");
        }
        for wrong in ["http://ca.example.com", "https://", "letsencrypt", "https://a b"] {
            let found = problems(&format!("email = 'a@b.c'\ndirectory = '{wrong}'"));
            assert_eq!(found[0].at, ["directory"], "{wrong}");
        }
        assert_eq!(problems("email = 'a@b.c'\nnames = ['bot.example.com', 'x.y']")[0].at, ["names", "1"]);
        assert_eq!(problems("email = 'a@b.c'\nnames = []")[0].at, ["names"]);
    }
}
