//! `deny.toml`, as far as `Cargo.lock` alone can tell: licences, bans, sources. `cargo deny check` says more, and takes
//! minutes to install; this is never left out.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::{file, repository};

fn packages() -> Vec<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(repository()).args(["metadata", "--locked", "--format-version", "1"]);
    let output = command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What other systems need is in `packages`, too; the resolved graph has only what ours does.
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let ours: BTreeSet<_> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| ours.contains(package["id"].as_str().unwrap())).cloned().collect()
}

fn deny() -> toml::Table {
    file("deny.toml").parse().unwrap()
}

fn strings(value: &toml::Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met with these licences. Cargo's old `/` means `OR`.
fn met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().collect::<Vec<_>>().into_iter().peekable();
    any(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        words.next();
        return met;
    }
    let licence = words.next().unwrap_or_default();
    // With an exception it is another licence.
    let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
    exception.is_none() && allowed.contains(licence)
}

#[test]
fn every_dependency_has_a_licence_that_we_take() {
    let allowed = strings(&deny()["licenses"]["allow"]);
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(met(licence, &allowed), "{} {}: {licence}", package["name"], package["version"]);
    }
}

#[test]
fn a_licence_is_met_only_as_a_whole() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()].into();
    for expression in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC"] {
        assert!(met(expression, &allowed), "{expression}");
    }
    for expression in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH Some-exception", "none", ""] {
        assert!(!met(expression, &allowed), "{expression}");
    }
}

#[test]
fn every_dependency_comes_from_crates_io_and_none_is_banned() {
    let deny = deny();
    let known: BTreeSet<_> = strings(&deny["sources"]["allow-registry"])
        .into_iter()
        .map(|url| format!("registry+{url}"))
        .collect();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    let banned: BTreeSet<_> = banned.iter().map(|entry| entry["crate"].as_str().unwrap()).collect();
    assert!(banned.contains("openssl-sys"));
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(name), "{name} is banned in deny.toml");
        let ours = package["source"].is_null() && name == "bundle";
        assert!(
            ours || known.contains(package["source"].as_str().unwrap()),
            "{name} is from {}",
            package["source"]
        );
    }
}
