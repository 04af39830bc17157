//! `[valkey]` → `valkey/valkey.conf` and the template of its `users.acl`: the same as `[redis]`, for the other server.

use schemars::JsonSchema;
use serde::Deserialize;

use super::redis::server::{Server, Table};
use super::version::Version;
use super::{Artifact, Problem, RenderError, Section, Tree};
use crate::spec::Spec;

/// How Valkey is configured; who may do what in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Valkey(Table);

/// Valkey, whose first release was 7.2.
pub(super) const SERVER: Server = Server {
    kind: "valkey",
    name: "Valkey",
    versions: (Version::new(7, 2), 9),
    conf: "valkey/valkey.conf",
    acl: "valkey/users.acl.template",
    conf_in_container: "/etc/valkey/valkey.conf",
};

impl Section for Valkey {
    const KIND: &'static str = SERVER.kind;
    const TABLE: Option<&'static str> = Some(SERVER.kind);

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Valkey {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        self.0.check(SERVER, spec)
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        self.0.render(SERVER, spec, tree)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn it_is_redis_by_its_own_names() {
        let redis = fixture::tree();
        let tree = fixture::render_with(&fixture::spec(), "[redis]", "[valkey]");
        assert_eq!(
            fixture::text(&tree, SERVER.acl, Slot::Blue),
            fixture::text(&redis, "redis/users.acl.template", Slot::Blue)
        );
        assert_eq!(
            fixture::text(&tree, SERVER.conf, Slot::Blue),
            fixture::text(&redis, "redis/redis.conf", Slot::Blue)
        );
        let data = fixture::text(&tree, "compose/data.yaml", Slot::Blue);
        assert!(data.contains("- valkey-server\n") && data.contains("valkey-cli --user app"), "{data}");
        assert!(data.contains("target: /etc/valkey/valkey.conf"), "{data}");
    }
}
