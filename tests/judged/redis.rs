//! Redis and Valkey: every directive asked back by `CONFIG GET`, every user tried.

use std::path::Path;
use std::process::Output;

use crate::cell::{Cell, account, address};
use crate::image;
use crate::laid::{Laid, repository};

/// A server that is tried, and what of it is called how.
struct Tried<'t> {
    kind: &'static str,
    laid: &'t Laid,
    cell: Cell,
    data: String,
}

/// An operator for those profiles that have none, to ask by.
const OPERATOR: &str = "\nops = \"redis_ops\"\n[secrets.redis_ops]\ngenerate = \"password\"\n";

#[test]
fn every_shipped_profile_is_in_force_on_this_machines_redis() {
    let version = image::version(Path::new("/"), "redis-server", "v=");
    for profile in ["production", "staging", "development", "vulcan/staging", "vulcan/development"] {
        let more = format!("[redis]\nversion = \"{version}\"{OPERATOR}");
        let laid = Laid::over(&repository().join("profiles"), profile, &more);
        let mut tried = Tried::start("redis", &laid, Path::new("/"), Some(account("redis")));
        tried.the_file_is_in_force();
        tried.users_keep_to_their_own();
        tried.cell.is_confined();
        tried.a_stop_keeps_what_was_written();
        println!("{profile}: Redis {version}");
    }
}

#[test]
fn a_newer_redis_runs_on_what_is_written_for_it() {
    let root = image::root("redis");
    let version = image::version(&root, "redis-server", "v=");
    let laid = Laid::over(&judged(), "everything", &format!("[redis]\nversion = \"{version}\"\n"));
    assert!(laid.text("redis/redis.conf").contains("hide-user-data-from-log yes"), "{version}");
    let mut tried = Tried::start("redis", &laid, &root, None);
    tried.the_file_is_in_force();
    tried.users_keep_to_their_own();
    tried.own_users_may_what_the_profile_says();
    tried.a_stop_keeps_what_was_written();
    println!("Redis {version}");
}

#[test]
fn valkey_is_in_force_by_the_same_table() {
    let version = image::version(Path::new("/"), "valkey-server", "v=");
    let laid = Laid::over(&judged(), "everything", &format!("[valkey]\nversion = \"{version}\"\n"));
    let mut tried = Tried::start("valkey", &laid, Path::new("/"), Some(account("valkey")));
    tried.the_file_is_in_force();
    tried.users_keep_to_their_own();
    tried.cell.is_confined();
    tried.an_evicting_cache_evicts();
    tried.cell.stop();
    println!("Valkey {version}");
}

fn judged() -> std::path::PathBuf {
    repository().join("tests/judged/profiles")
}

impl<'t> Tried<'t> {
    fn start(kind: &'static str, laid: &'t Laid, lower: &Path, user: Option<(u32, u32)>) -> Self {
        let service = laid.service("data", kind);
        let data = address(&service, "data");
        let mut cell = Cell::new(laid, service, lower, user, &[format!("{data}/24")], &[]);
        cell.start(&[]);
        cell.await_healthy();
        Self { kind, laid, cell, data }
    }

    /// What the server says to `user`; `None`: to somebody who does not say who it is. Over the network, not loopback.
    fn ask(&self, user: Option<(&str, &str)>, words: &[&str]) -> String {
        let program = format!("{}-cli", self.kind);
        let mut argv = vec![program.as_str(), "-h", &self.data];
        if let Some((name, _)) = user {
            argv.extend(["--user", name]);
        }
        let mut command = self.cell.command(&[&argv[..], words].concat());
        command.envs(user.map(|(_, secret)| ("REDISCLI_AUTH", self.password(secret))));
        let Output { stdout, stderr, .. } = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)).trim().to_owned()
    }

    /// The password of a user is in the secrets' store, whether or not a consumer reads it as a file.
    fn password(&self, secret: &str) -> String {
        std::fs::read_to_string(self.laid.at(&format!("/var/lib/bundle/secrets/{secret}"))).unwrap()
    }

    fn app(&self, words: &[&str]) -> String {
        let secret = format!("{}_password", self.kind);
        self.ask(Some(("app", &secret)), words)
    }

    fn ops(&self, words: &[&str]) -> String {
        let secret = format!("{}_ops", self.kind);
        self.ask(Some(("ops", &secret)), words)
    }

    /// Each directive of the file against the server's own answer.
    fn the_file_is_in_force(&self) {
        let text = self.laid.text(&format!("{0}/{0}.conf", self.kind));
        let mut seen = 0;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once(' ').unwrap();
            let answer = self.ops(&["CONFIG", "GET", key]);
            let answer = answer.strip_prefix(key).unwrap_or_else(|| panic!("{key}: {answer}")).trim();
            let value = value.trim_matches('"');
            let holds = match key {
                // Several lines make one value; a class of clients is one of three; sizes come back as numbers.
                "save" => answer.contains(value),
                "client-output-buffer-limit" => answer.contains("pubsub 33554432 8388608 60"),
                _ => answer == value,
            };
            assert!(holds, "{key} is `{value}` in the file and `{answer}` in force");
            seen += 1;
        }
        assert!(seen > 25, "{text}");
        println!("{seen} directives read back from {}", self.kind);
    }

    fn users_keep_to_their_own(&self) {
        let refused = |answer: String, word: &str| assert!(answer.starts_with(word), "{answer}");
        assert_eq!(self.app(&["SET", "app:k", "v"]), "OK");
        assert_eq!(self.app(&["GET", "app:k"]), "v");
        assert_eq!(self.app(&["PUBLISH", "app:news", "x"]), "0");
        for words in [
            &["SET", "other", "v"][..],
            &["GET", "other"],
            &["RENAME", "app:k", "other"],
            &["PUBLISH", "news", "x"],
            &["KEYS", "*"],
            &["FLUSHALL"],
            &["CONFIG", "GET", "dir"],
            &["ACL", "LIST"],
            &["SHUTDOWN"],
        ] {
            refused(self.app(words), "NOPERM");
        }
        for words in [&["PING"][..], &["GET", "app:k"], &["CONFIG", "GET", "dir"]] {
            refused(self.ask(None, words), "NOAUTH");
        }
        let wrong = self.ask(Some(("default", &format!("{}_password", self.kind))), &["PING"]);
        assert!(wrong.contains("WRONGPASS") && wrong.contains("NOAUTH"), "{wrong}");
        assert_eq!(self.ops(&["GET", "app:k"]), "v");
        let changed = self.ops(&["CONFIG", "SET", "dir", "/tmp"]);
        assert!(changed.contains("can't set protected config"), "{changed}");
        refused(self.ops(&["DEBUG", "SLEEP", "0"]), "ERR DEBUG command not allowed");
        refused(self.ops(&["MODULE", "LIST"]), "NOPERM");
    }

    fn own_users_may_what_the_profile_says(&self) {
        let monitor = |words: &[&str]| self.ask(Some(("monitor", "redis_monitor")), words);
        assert!(monitor(&["INFO", "server"]).contains("redis_version"));
        assert_eq!(monitor(&["CONFIG", "GET", "maxclients"]).replace('\n', " "), "maxclients 1000");
        for words in
            [&["GET", "app:k"][..], &["CONFIG", "SET", "maxclients", "1"], &["SUBSCRIBE", "app:news"]]
        {
            assert!(monitor(words).starts_with("NOPERM"), "{words:?}");
        }
        let reports = |words: &[&str]| self.ask(Some(("reports", "redis_reports")), words);
        assert_eq!(self.ops(&["SET", "jobs:1", "done"]), "OK");
        assert_eq!(reports(&["GET", "jobs:1"]), "done");
        assert_eq!(reports(&["SET", "reports:1", "x"]), "OK");
        for words in [&["SET", "jobs:1", "x"][..], &["GET", "app:k"], &["DEL", "reports:1"]] {
            assert!(reports(words).starts_with("NOPERM"), "{words:?}");
        }
    }

    /// The snapshot on the way out is read in on the way back.
    fn a_stop_keeps_what_was_written(&mut self) {
        assert_eq!(self.app(&["SET", "app:kept", "yes"]), "OK");
        self.cell.stop();
        self.cell.start(&[]);
        self.cell.await_healthy();
        assert_eq!(self.app(&["GET", "app:kept"]), "yes");
        self.cell.stop();
    }

    /// The cache of the profile has 32 MiB and evicts: more is written than fits, and all of it is taken.
    fn an_evicting_cache_evicts(&self) {
        let filled = self.ops(&[
            "EVAL",
            "for i = 1, 60 do redis.call('SET', 'app:' .. i, string.rep('x', 1048576)) end return 1",
            "0",
        ]);
        assert_eq!(filled, "1");
        let evicted = self.ops(&["INFO", "stats"]);
        assert!(
            evicted.lines().any(|line| {
                line.trim()
                    .strip_prefix("evicted_keys:")
                    .is_some_and(|count| count.parse::<u32>().unwrap() > 10)
            }),
            "{evicted}"
        );
    }
}
