//! `[redis]` → `redis/redis.conf` and the template of its `users.acl`.
//!
//! The server listens on every address of its container: it is reached only through the internal network, and nobody
//! gets anything from it without a user and a password. What it shares with Valkey is in `redis/server.rs`.

pub(super) mod server;
pub(super) mod users;

use schemars::JsonSchema;
use serde::Deserialize;

use super::version::Version;
use super::{Artifact, Problem, RenderError, Section, Tree};
use crate::spec::Spec;
use server::{Server, Table};

/// How Redis is configured; who may do what in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Redis(Table);

/// Redis.
pub(super) const SERVER: Server = Server {
    kind: "redis",
    name: "Redis",
    versions: (Version::new(7, 0), 8),
    conf: "redis/redis.conf",
    acl: "redis/users.acl.template",
    conf_in_container: "/usr/local/etc/redis/redis.conf",
};

impl Section for Redis {
    const KIND: &'static str = SERVER.kind;
    const TABLE: Option<&'static str> = Some(SERVER.kind);

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Redis {
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
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("redis.conf", fixture::text(&tree, SERVER.conf, Slot::Blue));
        insta::assert_snapshot!("users.acl.template", fixture::text(&tree, SERVER.acl, Slot::Blue));
    }
}
