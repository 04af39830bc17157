//! What is named matters, and what is not named does not.

use std::collections::BTreeSet;

use super::super::check;
use super::*;
use crate::artifacts::KINDS;

const PROFILE: &str = r#"extends = "base.toml"
environment = "test"
domain = "app.example.com"

[droplet]
size = "s-2vcpu-4gb"
region = "fra1"
image = "debian-13-x64"

[redis]
maxmemory = "200mb"

[firewall]
ssh_from = ["203.0.113.0/24"]
"#;

const BASE: &str = r#"stateful = ["cache"]

[services.cache]
image = "redis:7"
user = "999:999"
secrets = ["password"]
volumes = ["cache:/data"]
mem_limit = "448m"

[services.web]
image = "web:1"
user = "1001:1001"
secrets = ["password"]
mem_limit = "256m"
pids_limit = 64

[routes.web]
service = "web"
port = 8000
health = "/readyz"

[secrets.password]
generate = "password"

[redis]
service = "cache"
maxmemory = "100mb"
policy = "noeviction"
password = "password"
"#;

const LOCK: &str = r#"schema = 1
[images."docker.io/library/redis:7"]
digest = "sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b"
[images."docker.io/library/web:1"]
digest = "sha256:efedf3595f1d6f415c08568ba171029bf54052e754cc9f030e3a8b0c5c6ac67b"
[hosts.cache]
data_blue = 10
data_green = 10
slot = 10
[hosts.web]
data_blue = 11
data_green = 12
slot = 11
"#;

const FILES: [(&str, &str); 3] = [("p.toml", PROFILE), ("base.toml", BASE), ("bundle.lock", LOCK)];

/// The sources, with line `changed.1` of file `changed.0` replaced.
fn sources(changed: Option<(&str, usize, &str)>) -> Sources {
    let mut sources = Sources::new("p.toml");
    for (path, text) in FILES {
        let lines: Vec<&str> = text
            .lines()
            .enumerate()
            .map(|(nth, line)| match changed {
                Some((file, number, other)) if file == path && nth + 1 == number => other,
                _ => line,
            })
            .collect();
        sources.add(path, &lines.join("\n"));
    }
    sources
}

/// All renderings of a file.
fn bytes(sources: &Sources, path: &str) -> Result<Vec<Vec<u8>>, Diagnostics> {
    let tree = check(sources, KINDS)?.render().unwrap();
    Ok(tree
        .entries()
        .filter(|entry| entry.path.as_str() == path)
        .map(|entry| entry.content.clone())
        .collect())
}

fn ask(path: &str) -> Why {
    why(&sources(None), KINDS, path).unwrap_or_else(|error| panic!("{error}"))
}

/// `file:line key` of the lines that decide so.
fn keys(why: &Why, decides: Decides) -> Vec<String> {
    let lines = why.lines.iter().filter(|line| line.decides == decides);
    lines.map(|line| format!("{}:{} {}", line.place.path, line.place.line.unwrap(), line.key)).collect()
}

#[test]
fn a_configuration_file_comes_from_its_table() {
    let why = ask("redis/redis.conf");
    assert_eq!(keys(&why, Decides::Existence), ["p.toml:10 [redis]"]);
    assert_eq!(
        keys(&why, Decides::Content),
        ["base.toml:4 services.cache.image", "base.toml:28 redis.policy", "p.toml:11 redis.maxmemory"]
    );
    assert_eq!(keys(&why, Decides::Reference), [""; 0]);
    assert!(why.open.is_empty(), "{:?}", why.open);
    assert_eq!(why.kind, "redis");
}

#[test]
fn the_line_is_that_of_the_layer_on_top_with_the_way_to_it() {
    let why = ask("redis/redis.conf");
    let line = |key: &str| why.lines.iter().find(|line| line.key == key).unwrap();
    let policy = line("redis.policy");
    assert_eq!(
        (policy.value.as_str(), &policy.way[..]),
        ("\"noeviction\"", &["p.toml".to_owned(), "base.toml".to_owned()][..])
    );
    let memory = line("redis.maxmemory");
    assert_eq!((memory.value.as_str(), &memory.way[..]), ("\"200mb\"", &["p.toml".to_owned()][..]));
}

#[test]
fn what_reaches_a_file_only_by_the_address_of_another_is_told_apart() {
    let why = ask("compose/data.yaml");
    let reference: Vec<_> = why.lines.iter().filter(|line| line.decides == Decides::Reference).collect();
    let memory = reference.iter().find(|line| line.key == "redis.maxmemory").unwrap();
    assert_eq!(memory.through, ["redis/redis.conf"]);
    let content = keys(&why, Decides::Content);
    for key in [
        "base.toml:8 services.cache.mem_limit",
        "base.toml:26 redis.service",
        "bundle.lock:3 images.\"docker.io/library/redis:7\".digest",
        "bundle.lock:6 [hosts.cache]",
    ] {
        assert!(content.iter().any(|found| found == key), "{key} is not in {content:#?}");
    }
    assert!(!content.iter().any(|key| key.contains("services.web.mem_limit")), "{content:#?}");
}

/// The oracle: the text of a line changed in the file, and everything built from the files again.
#[test]
fn a_line_that_is_not_named_can_change_without_the_file() {
    let mut checked = 0;
    for path in [
        "redis/redis.conf",
        "redis/users.acl.template",
        "compose/data.yaml",
        "nftables/bundle.nft",
        "haproxy/haproxy.cfg",
    ] {
        let why = ask(path);
        let named: BTreeSet<(&str, usize)> = why
            .lines
            .iter()
            .chain(&why.open)
            .map(|line| (line.place.path.as_str(), line.place.line.unwrap()))
            .collect();
        let before = bytes(&sources(None), path).unwrap_or_else(|faults| panic!("{faults}"));
        for (file, text) in FILES {
            for (nth, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
                // In the lock a service's three numbers are named by its table.
                if named.contains(&(file, nth + 1)) || (file == "bundle.lock" && !line.starts_with("digest"))
                {
                    continue;
                }
                for (from, to) in
                    [("1", "3"), ("2", "4"), ("6", "8"), ("\"]", "x\"]"), ("\"", "\"x"), ("web", "cache")]
                {
                    let other = line.replacen(from, to, 1);
                    let Ok(after) = bytes(&sources(Some((file, nth + 1, &other))), path) else { continue };
                    assert!(before == after, "{path} changes with {file}:{}: {other}", nth + 1);
                    checked += usize::from(other != line);
                }
            }
        }
    }
    assert!(checked > 60, "only {checked} changes were right");
}

#[test]
fn what_is_named_was_seen_to_matter() {
    let mut checked = 0;
    for path in ["redis/redis.conf", "haproxy/haproxy.cfg"] {
        let before = bytes(&sources(None), path).unwrap_or_else(|faults| panic!("{faults}"));
        let why = ask(path);
        for line in why.lines.iter().filter(|line| line.place.path != "bundle.lock") {
            let Some((instead, _)) =
                line.shown_by.strip_prefix('`').and_then(|by| by.split_once("` instead"))
            else {
                continue;
            };
            // Another image, service or placement needs another lock.
            let key = line.key.rsplit('.').next().unwrap();
            let other = format!("{key} = {instead}");
            let Ok(after) = bytes(&sources(Some((&line.place.path, line.place.line.unwrap(), &other))), path)
            else {
                continue;
            };
            assert!(before != after, "{path}: {} {}", line.key, line.shown_by);
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn a_path_may_be_one_of_the_machine() {
    let sources = sources(None);
    let tree = check(&sources, KINDS).unwrap().render().unwrap();
    let store = tree.entries().find(|entry| entry.path.as_str() == "redis/redis.conf").unwrap().store_path();
    for (asked, path) in [
        ("redis/redis.conf", "redis/redis.conf"),
        (&store.absolute(), "redis/redis.conf"),
        ("/var/lib/bundle/current/redis/redis.conf", "redis/redis.conf"),
        ("/etc/systemd/system/bundle-early.service", "etc/systemd/system/bundle-early.service"),
    ] {
        assert_eq!(find(&tree, asked).unwrap().as_str(), path, "{asked}");
    }
    for (asked, meant) in [
        ("redis.conf", Some("redis/redis.conf")),
        ("redis/redis.cnf", Some("redis/redis.conf")),
        ("/var/lib/bundle/store/0000/redis.conf", Some("redis/redis.conf")),
        ("nothing/like/it.at.all", None),
        ("", None),
    ] {
        let Err(WhyError::NoFile { meant: found, .. }) = find(&tree, asked) else { panic!("{asked}") };
        assert_eq!(found.as_deref(), meant, "{asked}");
    }
}

#[test]
fn a_unit_that_is_the_same_for_everybody_has_no_lines() {
    let why = ask("etc/systemd/system/bundle-early.service");
    assert!(why.lines.is_empty() && why.open.is_empty(), "{:?} {:?}", why.lines, why.open);
}
