//! What Redis and Valkey share: one table, one configuration, users. Which server it is decides names, places, and what it
//! understands (Redis 7.0 to 8; Valkey 7.2, which is Redis 7.2 by another name, to 9).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::format::Refused;
use super::super::format::redis::Conf;
use super::super::size::Size;
use super::super::version::Version;
use super::super::{Entry, Problem, RenderError, ServiceMount, Tree, literal};
use super::users::{self, Line, User};
use crate::model::{SecretFile, SecretName, SecretSource, ServiceName};
use crate::spec::{Placement, Service, Spec};

/// The table `[redis]` or `[valkey]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::artifacts) struct Table {
    /// The stateful service that it configures.
    #[schemars(example = &"redis")]
    service: ServiceName,
    /// The server's version, as in `7.2`. Default: what the image's tag says; where that says nothing, options are
    /// written that every version understands.
    version: Option<Version>,
    /// How much the data may take, as in `256mb`. At most six tenths of the service's `mem_limit` with snapshots, for a
    /// snapshot is written by a copy of the process, and nine tenths without.
    maxmemory: Size,
    /// What happens at that limit, in the server's own words (`maxmemory-policy`). Default: `noeviction`, the only right
    /// one for a queue.
    #[serde(default)]
    policy: Policy,
    /// Snapshots: after so many seconds, if so many keys changed. Empty: none, and what is in memory is lost with the
    /// process. Default: `[[3600, 1], [300, 100], [60, 10000]]`.
    #[serde(default = "default_save")]
    save: Vec<(u32, u32)>,
    /// The secret that is the password of user `app`, who reads and writes the keys that begin with `prefix`. Needed
    /// unless `users` has an `app` of its own.
    #[schemars(example = &"redis_password")]
    password: Option<SecretName>,
    /// What the keys and channels of `app` begin with; empty: it may use all. Default: `app:`.
    #[serde(default = "default_prefix")]
    prefix: String,
    /// The secret that is the password of user `monitor`, who sees numbers and no keys. Default: there is no such user.
    #[schemars(example = &"redis_monitor_password")]
    monitor: Option<SecretName>,
    /// The secret that is the password of user `ops`, who may do everything but load modules and change what is
    /// protected. Default: there is no such user.
    #[schemars(example = &"redis_ops_password")]
    ops: Option<SecretName>,
    /// Further users, by name. One called `app`, `monitor` or `ops` takes the place of ours.
    #[serde(default)]
    users: BTreeMap<String, User>,
}

/// `maxmemory-policy`, in the server's own words.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    /// Writing fails.
    #[default]
    Noeviction,
    /// The keys that were not used for longest go.
    AllkeysLru,
    /// The keys that are used least go.
    AllkeysLfu,
    /// Any keys go.
    AllkeysRandom,
    /// Of the keys that expire, those that were not used for longest go.
    VolatileLru,
    /// Of the keys that expire, those that are used least go.
    VolatileLfu,
    /// Any of the keys that expire go.
    VolatileRandom,
    /// The keys that expire first go first.
    VolatileTtl,
}

/// The servers' own default.
fn default_save() -> Vec<(u32, u32)> {
    vec![(3600, 1), (300, 100), (60, 10_000)]
}

fn default_prefix() -> String {
    "app:".to_owned()
}

/// Freeing memory in the background, so that a large key does not stop everybody.
const LAZY: [&str; 5] = [
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
];

/// Where the container sees the users.
const ACL_IN_CONTAINER: &str = "/run/secrets/users.acl";

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::artifacts) struct Server {
    /// The kind, and the beginning of its programs' and files' names.
    pub(in crate::artifacts) kind: &'static str,
    /// For people.
    pub(in crate::artifacts) name: &'static str,
    /// The first version that is known, and the last one's major.
    pub(in crate::artifacts) versions: (Version, u32),
    /// The configuration's path in the bundle.
    pub(in crate::artifacts) conf: &'static str,
    /// The users' path in the bundle.
    pub(in crate::artifacts) acl: &'static str,
    /// Where the container sees the configuration.
    pub(in crate::artifacts) conf_in_container: &'static str,
}

impl Table {
    /// What is wrong between the table and the rest of the profile.
    pub(in crate::artifacts) fn check(&self, server: Server, spec: &Spec) -> Vec<Problem> {
        let mut problems: Vec<Problem> = literal::check_service(spec, &self.service).into_iter().collect();
        self.check_passwords(server, spec, &mut problems);
        self.check_users(&mut problems);
        if !self.prefix.is_empty() && !users::is_pattern(&self.prefix) {
            let message = format!("`{}` is not the beginning of a key: it has no spaces", self.prefix);
            problems.push(literal::problem("prefix", message, None));
        }
        if self.maxmemory.mib() > spec.droplet.memory_mib {
            let message = format!("the droplet has only {} MiB", spec.droplet.memory_mib);
            problems.push(literal::problem("maxmemory", message, None));
        } else if let Some(service) = self.placed(spec) {
            problems.extend(self.check_memory(service));
        }
        if let Some(service) = self.placed(spec) {
            let (version, (first, last)) = (self.version(server, service), server.versions);
            if version < first || version.major > last {
                let message = format!("{} {version} is not one of {first} to {last}", server.name);
                let hint =
                    "take an image of one of these, or write as `version` the one that it is compatible with";
                problems.push(literal::problem("version", message, Some(hint.to_owned())));
            }
        }
        problems
    }

    fn placed<'s>(&self, spec: &'s Spec) -> Option<&'s Service> {
        spec.services.get(&self.service).filter(|service| service.placement == Placement::Data)
    }

    fn check_passwords(&self, server: Server, spec: &Spec, problems: &mut Vec<Problem>) {
        if self.password.is_none() && !self.users.contains_key("app") {
            let hint = format!("write `password`, the name of a secret, or `[{}.users.app]`", server.kind);
            problems.push(literal::problem("service", "user `app` has no password".to_owned(), Some(hint)));
        }
        let named = [("password", &self.password), ("monitor", &self.monitor), ("ops", &self.ops)];
        let named =
            named.into_iter().filter_map(|(key, secret)| Some((vec![key.to_owned()], secret.as_ref()?)));
        let own = self
            .users
            .iter()
            .map(|(name, user)| (["users", name, "password"].map(str::to_owned).to_vec(), user.password()));
        let missing = named.chain(own).filter_map(|(at, secret)| literal::check_secret(spec, at, secret));
        problems.extend(missing);
    }

    fn check_users(&self, problems: &mut Vec<Problem>) {
        for (name, user) in &self.users {
            if !users::is_name(name) {
                let message = format!("`{name}` is not the name of a user");
                let hint = Some("letters, digits, `_`, `-` and `.`; `default` is always off".to_owned());
                problems.push(Problem { at: vec!["users".to_owned(), name.clone()], message, hint });
            }
            problems.extend(user.faults().into_iter().map(|(key, message)| Problem {
                at: ["users", name, key].map(str::to_owned).to_vec(),
                message,
                hint: None,
            }));
        }
    }

    /// A snapshot is written by a fork, which may come to touch every page (redis.io, "Persistence").
    fn check_memory(&self, service: &Service) -> Option<Problem> {
        let limit = literal::memory_limit(service);
        let tenths = if self.save.is_empty() { 9 } else { 6 };
        let most = limit / 10 * tenths;
        (self.maxmemory.bytes() > most).then(|| {
            let message = format!(
                "`maxmemory` is {}, more than {tenths} tenths of the {} that the container may use",
                self.maxmemory,
                Size::of_bytes(limit)
            );
            let needed = (self.maxmemory.bytes() / tenths * 10).div_ceil(64 << 20) * 64;
            let hint =
                format!("write `mem_limit = \"{needed}m\"` in `[services.{}]`, or lower it", self.service);
            literal::problem("maxmemory", message, Some(hint))
        })
    }

    /// The server's version; the oldest one where nobody says.
    fn version(&self, server: Server, service: &Service) -> Version {
        self.version.or_else(|| Version::of(&service.image)).map_or(server.versions.0, |version| {
            // A tag of `7` moves with 7.4, and may have stood at any of them.
            if version.minor == 0 && version.major == server.versions.0.major {
                server.versions.0
            } else {
                version
            }
        })
    }

    /// Adds the files, and tells the service what it needs.
    pub(in crate::artifacts) fn render(
        &self,
        server: Server,
        spec: &Spec,
        tree: &mut Tree,
    ) -> Result<(), RenderError> {
        let service = literal::service(spec, server.kind, &self.service)?;
        let conf =
            self.conf(server, self.version(server, service)).map_err(|refused| refused.at(server.conf))?;
        let conf = tree.insert(Entry::text(server.kind, literal::path(server.conf)?, conf))?;
        let acl = users::template(&self.lines()).map_err(|refused| refused.at(server.acl))?;
        // The servers read no comments in it (redis.io, "ACL").
        let acl = tree.insert(Entry::text(server.kind, literal::path(server.acl)?, acl).bare())?;
        let acl = tree.secret_file(SecretFile {
            path: literal::path(&format!("{}/users.acl", self.service))?,
            source: SecretSource::Template(acl),
            owner: literal::owner(service),
            link: None,
        })?;
        let mount = |source, target: &str| ServiceMount { source, target: target.to_owned() };
        tree.mount(&self.service, mount(conf.absolute(), server.conf_in_container));
        tree.mount(&self.service, mount(acl, ACL_IN_CONTAINER));
        let program = format!("{}-server", server.kind);
        tree.command(&self.service, vec![program, server.conf_in_container.to_owned()]);
        self.container(server, service, tree)
    }

    /// Those of ours that the profile gives a password and does not replace, then its own.
    fn lines(&self) -> Vec<Line> {
        let ours = [
            self.password.as_ref().map(|password| users::application(password, &self.prefix)),
            self.monitor.as_ref().map(users::monitor),
            self.ops.as_ref().map(users::operator),
        ];
        let own: BTreeSet<&str> = self.users.keys().map(String::as_str).collect();
        let ours = ours.into_iter().flatten().filter(|line| !own.contains(line.name.as_str()));
        ours.chain(users::own(&self.users)).collect()
    }

    fn conf(&self, server: Server, version: Version) -> Result<String, Refused> {
        let mut conf = Conf::default();
        conf.comment("The container's only network is internal; every user but `default`, who may do nothing, has a password.")
            .set("bind", &["0.0.0.0"])?
            .set("protected-mode", &["yes"])?
            .set("port", &["6379"])?
            .set("tcp-keepalive", &["300"])?
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
            .set("stop-writes-on-bgsave-error", &["yes"])?
            .set("rdbchecksum", &["yes"])?
            .set("shutdown-timeout", &["10"])?
            .set("shutdown-on-sigterm", &[if self.save.is_empty() { "default" } else { "save" }])?;
        conf.comment("In bytes: the server's own `m` is a million.")
            .set("maxmemory", &[&self.maxmemory.bytes().to_string()])?
            .set("maxmemory-policy", &[self.policy.as_str()])?
            .set("maxmemory-clients", &["10%"])?
            .set("maxclients", &["1000"])?
            .set("client-output-buffer-limit", &["pubsub", "32mb", "8mb", "60"])?;
        for key in LAZY {
            conf.set(key, &["yes"])?;
        }
        conf.set("disable-thp", &["yes"])?;
        conf.comment(
            "What was slow and what stood still, for the user `monitor` to read: microseconds, milliseconds.",
        )
        .set("slowlog-log-slower-than", &["10000"])?
        .set("latency-monitor-threshold", &["100"])?;
        // Values of keys stay out of logs and crash reports: both servers have it since 8.0.
        if version >= Version::new(8, 0) {
            conf.set("hide-user-data-from-log", &["yes"])?;
        }
        if server.kind == "valkey" && version >= Version::new(8, 1) {
            conf.set("log-timestamp-format", &["iso8601"])?;
        }
        Ok(conf.finish())
    }

    /// What the official images need to run with a read-only root and without any capability, where the profile does not
    /// say it itself.
    fn container(&self, server: Server, service: &Service, tree: &mut Tree) -> Result<(), RenderError> {
        let name = &self.service;
        tree.suggest(name, "read_only", json!(true));
        tree.suggest(name, "tmpfs", json!(["/tmp:size=16m,mode=1777,noexec,nosuid,nodev"]));
        // It writes a snapshot on SIGTERM.
        tree.suggest(name, "stop_grace_period", json!("60s"));
        let lines = self.lines();
        // Whoever may ping; the application's own user first.
        let Some(user) = lines.iter().find(|line| line.name == "app").or(lines.first()) else {
            return Ok(());
        };
        let password = literal::reads(tree, name, service, &user.password)?;
        // The password goes through the environment of this one command, never through an argument. While a snapshot is
        // read in, the answer is LOADING, not PONG. `$$` is Compose's `$`.
        let command = format!(
            "REDISCLI_AUTH=\"$$(cat {password})\" {}-cli --user {} ping | grep -q PONG",
            server.kind, user.name
        );
        tree.suggest(
            name,
            "healthcheck",
            json!({
                "interval": "10s",
                "retries": 6,
                "start_interval": "1s",
                "start_period": "60s",
                "test": ["CMD-SHELL", command],
                "timeout": "5s",
            }),
        );
        Ok(())
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
    use super::super::super::fixture;
    use super::super::SERVER as REDIS;
    use super::*;

    const VALKEY: Server = super::super::super::valkey::SERVER;

    fn table(more: &str) -> Table {
        toml::from_str(&format!("service = 'redis'\nmaxmemory = '64m'\npassword = 'redis_password'\n{more}"))
            .unwrap()
    }

    fn at(table: &Table) -> Vec<Vec<String>> {
        table.check(REDIS, &fixture::spec()).into_iter().map(|problem| problem.at).collect()
    }

    #[test]
    fn without_snapshots_nothing_is_saved_at_the_end_either() {
        let conf = table("save = []").conf(REDIS, Version::new(7, 0)).unwrap();
        assert!(conf.contains("\nsave \"\"\n") && conf.contains("shutdown-on-sigterm default\n"), "{conf}");
    }

    #[test]
    fn no_option_is_newer_than_the_server() {
        for (server, version, hides, stamps) in [
            (REDIS, Version::new(7, 0), false, false),
            (REDIS, Version::new(8, 2), true, false),
            (VALKEY, Version::new(7, 2), false, false),
            (VALKEY, Version::new(9, 0), true, true),
        ] {
            let conf = table("").conf(server, version).unwrap();
            assert_eq!(conf.contains("hide-user-data-from-log"), hides, "{} {version}", server.kind);
            assert_eq!(conf.contains("log-timestamp-format"), stamps, "{} {version}", server.kind);
        }
    }

    #[test]
    fn what_the_profile_lacks_is_a_problem() {
        let table: Table =
            toml::from_str("service = 'backend'\nmaxmemory = '64g'\npassword = 'nothing'\nops = 'no'")
                .unwrap();
        assert_eq!(at(&table), [["service"], ["password"], ["ops"], ["maxmemory"]]);
        let table: Table = toml::from_str("service = 'redis'\nmaxmemory = '64m'").unwrap();
        assert_eq!(at(&table), [["service"]]);
    }

    #[test]
    fn data_that_leaves_no_room_for_a_snapshot_is_a_problem() {
        let with = |maxmemory: &str, save: &str| {
            let text =
                format!("service = 'redis'\nmaxmemory = '{maxmemory}'\npassword = 'redis_password'\n{save}");
            toml::from_str::<Table>(&text).unwrap()
        };
        assert_eq!(at(&with("300m", "")), [[""; 0]; 0]);
        assert_eq!(at(&with("320m", "")), [["maxmemory"]]);
        assert_eq!(at(&with("320m", "save = []")), [[""; 0]; 0]);
        assert_eq!(at(&with("500m", "save = []")), [["maxmemory"]]);
        let problems = with("320m", "").check(REDIS, &fixture::spec());
        assert!(problems[0].hint.as_ref().unwrap().contains("mem_limit = \"576m\""), "{problems:?}");
    }

    #[test]
    fn own_users_are_looked_at_and_take_the_place_of_ours() {
        let own = "[users.app]\npassword = 'redis_password'\nkeys = ['*']\ncommands = ['+@all', '-@admin']\n\
                   [users.jobs]\npassword = 'redis_password'\nread_keys = ['jobs:*']\nchannels = ['jobs']\ncommands = ['+get']";
        let table = table(own);
        assert_eq!(at(&table), [[""; 0]; 0]);
        let text = users::template(&table.lines()).unwrap();
        assert_eq!(
            text,
            "user default off resetpass -@all\n\
             user app on #{{ redis_password | sha256 }} resetkeys resetchannels ~* -@all +@all -@admin\n\
             user jobs on #{{ redis_password | sha256 }} resetkeys resetchannels %R~jobs:* &jobs -@all +get\n"
        );
        let wrong = "[users.default]\npassword = 'gone'\nkeys = ['a b']\ncommands = ['nopass']";
        let expected: [&[&str]; 4] = [
            &["users", "default", "password"],
            &["users", "default"],
            &["users", "default", "keys"],
            &["users", "default", "commands"],
        ];
        assert_eq!(at(&self::table(wrong)), expected);
        assert_eq!(at(&self::table("version = 6.2")), [["version"]]);
        assert_eq!(at(&self::table("prefix = 'a b'")), [["prefix"]]);
    }
}
