//! `[redis]` → `redis/redis.conf` and the template of its `users.acl`.
//!
//! Valid for Redis 7 and 8. The server listens on every address of its container: it is reached only through the
//! internal network, and nobody gets anything from it without a user and a password.

use serde::Deserialize;

use super::format::Refused;
use super::format::redis::Conf;
use super::size::Size;
use super::{Artifact, Entry, Problem, RenderError, Section, ServiceMount, Tree, literal};
use crate::model::{SecretFile, SecretName, SecretSource, ServiceName};
use crate::spec::Spec;

/// The table `[redis]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// The stateful service that it configures.
    service: ServiceName,
    /// How much the data may take, as in `256mb`.
    maxmemory: Size,
    /// What happens at that limit.
    #[serde(default)]
    policy: Policy,
    /// Snapshots: after so many seconds, if so many keys changed. Empty: none.
    #[serde(default = "default_save")]
    save: Vec<(u32, u32)>,
    /// The secret that is the password of user `app`.
    password: SecretName,
}

/// `maxmemory-policy`, in Redis' own words.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    /// Writing fails. The only right one for a queue, hence the default.
    #[default]
    Noeviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

/// Redis' own default.
fn default_save() -> Vec<(u32, u32)> {
    vec![(3600, 1), (300, 100), (60, 10_000)]
}

/// Freeing memory in the background, so that a large key does not stop everybody.
const LAZY: [&str; 5] = [
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
];

const CONF: &str = "redis/redis.conf";
const ACL: &str = "redis/users.acl.template";
const CONF_IN_CONTAINER: &str = "/usr/local/etc/redis/redis.conf";
const ACL_IN_CONTAINER: &str = "/run/secrets/users.acl";

impl Section for Redis {
    const KIND: &'static str = "redis";
    const TABLE: Option<&'static str> = Some("redis");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Redis {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems: Vec<Problem> = literal::check_service(spec, &self.service).into_iter().collect();
        if !spec.secrets.contains_key(&self.password) {
            let message = format!("there is no secret `{}`", self.password);
            let hint = format!("add `[secrets.{}]` with `generate = \"password\"`", self.password);
            problems.push(literal::problem("password", message, Some(hint)));
        }
        if self.maxmemory.mib() > spec.droplet.memory_mib {
            let message = format!("the droplet has only {} MiB", spec.droplet.memory_mib);
            problems.push(literal::problem("maxmemory", message, None));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let service = literal::service(spec, Self::KIND, &self.service)?;
        let conf = self.conf().map_err(|refused| refused.at(CONF))?;
        let conf = tree.insert(Entry::text(Self::KIND, literal::path(CONF)?, conf))?;
        // Redis reads no comments in it (redis.io, "ACL").
        let acl = tree.insert(Entry::text(Self::KIND, literal::path(ACL)?, self.acl()).bare())?;
        let acl = tree.secret_file(SecretFile {
            path: literal::path(&format!("{}/users.acl", self.service))?,
            source: SecretSource::Template(acl),
            owner: literal::owner(service),
            link: None,
        })?;
        let mount = |source, target: &str| ServiceMount { source, target: target.to_owned() };
        tree.mount(&self.service, mount(conf.absolute(), CONF_IN_CONTAINER));
        tree.mount(&self.service, mount(acl, ACL_IN_CONTAINER));
        tree.command(&self.service, ["redis-server", CONF_IN_CONTAINER].map(str::to_owned).to_vec());
        Ok(())
    }
}

impl Redis {
    fn conf(&self) -> Result<String, Refused> {
        let mut conf = Conf::default();
        conf.comment("The container's only network is internal; every user but `default`, who may do nothing, has a password.")
            .set("bind", &["0.0.0.0"])?
            .set("protected-mode", &["yes"])?
            .set("port", &["6379"])?
            .set("aclfile", &[ACL_IN_CONTAINER])?
            .set("enable-protected-configs", &["no"])?
            .set("enable-debug-command", &["no"])?
            .set("enable-module-command", &["no"])?;
        conf.comment("What is kept, and where.").set("dir", &["/data"])?.set("databases", &["1"])?;
        if self.save.is_empty() {
            conf.set("save", &[""])?;
        }
        for (seconds, changes) in &self.save {
            conf.set("save", &[&seconds.to_string(), &changes.to_string()])?;
        }
        conf.set("appendonly", &["no"])?
            .set("shutdown-timeout", &["10"])?
            .set("shutdown-on-sigterm", &[if self.save.is_empty() { "default" } else { "save" }])?;
        conf.comment("In bytes: Redis' own `m` is a million.")
            .set("maxmemory", &[&self.maxmemory.bytes().to_string()])?
            .set("maxmemory-policy", &[self.policy.as_str()])?
            .set("maxmemory-clients", &["10%"])?
            .set("maxclients", &["1000"])?
            .set("client-output-buffer-limit", &["pubsub", "32mb", "8mb", "60"])?;
        for key in LAZY {
            conf.set(key, &["yes"])?;
        }
        conf.set("disable-thp", &["yes"])?;
        Ok(conf.finish())
    }

    /// Redis accepts no comment in an ACL file. The order counts: `resetchannels` behind `&app:*` would take it away
    /// again, and `+info` has to follow `-@dangerous` (Redis documentation, "ACL"). `resetpass`, not `nopass`: protected
    /// mode turns everybody away who is not on the loopback as long as the default user has `nopass`.
    fn acl(&self) -> String {
        format!(
            "user default off resetpass -@all\n\
             user app on #{{{{ {} | sha256 }}}} ~app:* resetchannels &app:* \
             +@read +@write +@connection +@transaction +@pubsub +@keyspace -@dangerous -@admin +info\n",
            self.password
        )
    }
}

impl Policy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Noeviction => "noeviction",
            Self::AllkeysLru => "allkeys-lru",
            Self::AllkeysLfu => "allkeys-lfu",
            Self::AllkeysRandom => "allkeys-random",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        }
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
        insta::assert_snapshot!("redis.conf", fixture::text(&tree, CONF, Slot::Blue));
        insta::assert_snapshot!("users.acl.template", fixture::text(&tree, ACL, Slot::Blue));
    }

    #[test]
    fn without_snapshots_nothing_is_saved_at_the_end_either() {
        let redis: Redis =
            toml::from_str("service = 'redis'\nmaxmemory = '64m'\nsave = []\npassword = 'p'").unwrap();
        let conf = redis.conf().unwrap();
        assert!(conf.contains("\nsave \"\"\n") && conf.contains("shutdown-on-sigterm default\n"), "{conf}");
    }

    #[test]
    fn what_the_profile_lacks_is_a_problem() {
        let spec = fixture::spec();
        let redis: Redis =
            toml::from_str("service = 'backend'\nmaxmemory = '64g'\npassword = 'nothing'").unwrap();
        let at: Vec<String> = redis.check(&spec).into_iter().flat_map(|problem| problem.at).collect();
        assert_eq!(at, ["service", "password", "maxmemory"]);
    }
}
