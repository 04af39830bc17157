//! Stand-ins for the artifact kinds whose tables the profiles have: the profile reader is what is tested here, and it
//! takes whatever kinds it is handed.

use bundle::artifacts::{Artifact, Kind, Problem, RenderError, Section, Tree};
use bundle::spec::Spec;
use schemars::JsonSchema;
use serde::Deserialize;

/// The tables of the shipped profiles.
pub(crate) const KINDS: &[Kind] =
    &[Kind::of::<Firewall>(), Kind::of::<Postgres>(), Kind::of::<Redis>(), Kind::of::<Proxy>()];

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
pub(crate) struct Firewall {
    #[schemars(with = "Vec<String>")]
    ssh_from: Vec<ipnet::IpNet>,
    #[serde(default)]
    public_tcp: Vec<u16>,
    vpc: Option<Vpc>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
pub(crate) struct Vpc {
    interface: String,
    tcp: Vec<u16>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
pub(crate) struct Postgres {
    service: String,
    memory: String,
    max_connections: u32,
    database: String,
    user: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "most is only read")]
pub(crate) struct Redis {
    service: String,
    maxmemory: String,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    save: Vec<(u32, u32)>,
    password: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    #[default]
    Noeviction,
    AllkeysLru,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxy {
    min_tls: String,
    requests_per_minute: u32,
    #[schemars(with = "Vec<String>")]
    exempt: Vec<ipnet::IpNet>,
}

macro_rules! sections {
    ($($kind:ident, $table:literal, $absent:expr;)*) => {$(
        impl Section for $kind {
            const KIND: &'static str = $table;
            const TABLE: Option<&'static str> = Some($table);

            fn absent() -> Option<Self> {
                $absent
            }
        }
    )*};
}

sections! {
    Firewall, "firewall", None;
    Postgres, "postgres", None;
    Redis, "redis", None;
    Proxy, "proxy", Some(Self::default());
}

impl Artifact for Firewall {
    fn render(&self, _spec: &Spec, _tree: &mut Tree) -> Result<(), RenderError> {
        Ok(())
    }
}

impl Artifact for Postgres {
    fn render(&self, _spec: &Spec, _tree: &mut Tree) -> Result<(), RenderError> {
        Ok(())
    }
}

impl Artifact for Proxy {
    fn render(&self, _spec: &Spec, _tree: &mut Tree) -> Result<(), RenderError> {
        Ok(())
    }
}

impl Artifact for Redis {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let missing = !spec.services.contains_key(self.service.as_str());
        let problem = || Problem {
            at: vec!["service".to_owned()],
            message: format!("there is no service `{}`", self.service),
            hint: Some("name a stateful service".to_owned()),
        };
        missing.then(problem).into_iter().collect()
    }

    fn render(&self, _spec: &Spec, _tree: &mut Tree) -> Result<(), RenderError> {
        Ok(())
    }
}
