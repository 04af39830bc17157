//! Keeps ARCHITECTURE.md true: who may use whom, who may touch the world, which kinds there are, how long a file may be.
//!
//! A text scan, not a compiler: it reads `crate::room` and `super::…::room` in the sources, without comments and without
//! what is compiled for tests only. Each checker is also shown a planted violation, so that it is known to see one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom. The same table stands in ARCHITECTURE.md, under "Who may use whom".
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("spec", &["model"]),
    ("artifacts", &["model", "spec"]),
    ("profile", &["artifacts", "model", "spec"]),
    ("adopt", &["artifacts", "model", "profile"]),
    ("bundle", &["artifacts", "model", "spec"]),
    ("image", &["bundle", "model", "spec"]),
    ("provenance", &["bundle", "model"]),
    ("registry", &["bundle", "model"]),
    ("debian", &["image", "model", "registry", "spec"]),
    ("store", &["bundle", "model"]),
    ("activate", &["bundle", "model", "store"]),
    ("host", &["activate", "bundle", "model"]),
    (
        "cli",
        &[
            "activate",
            "adopt",
            "artifacts",
            "bundle",
            "debian",
            "host",
            "image",
            "model",
            "profile",
            "provenance",
            "registry",
            "spec",
            "store",
        ],
    ),
];

/// No file is longer. One that comes near it is two things.
const LONGEST: usize = 700;

type Table = BTreeMap<String, BTreeSet<String>>;

/// The sources by their path below `src/`, as the compiler sees them when it does not compile tests.
struct Sources(BTreeMap<String, String>);

impl Sources {
    fn read() -> Self {
        let src = root().join("src");
        let mut sources = Self(BTreeMap::new());
        for entry in walkdir::WalkDir::new(&src).sort_by_file_name() {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
                sources.0.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
        assert!(sources.0.len() > 50, "found only {} sources below {}", sources.0.len(), src.display());
        sources
    }

    /// Without what only tests have, and without comments.
    fn shipped(&self) -> BTreeMap<&str, String> {
        let tests: BTreeSet<_> = self.0.iter().flat_map(|(name, text)| test_files(name, text)).collect();
        let shipped = self.0.iter().filter(|(name, _)| !tests.contains(*name));
        shipped.map(|(name, text)| (name.as_str(), without_tests(text))).collect()
    }

    /// Which room uses which others.
    fn uses(&self) -> Table {
        let mut table = Table::new();
        for (name, text) in self.shipped() {
            let Some((room, _)) = name.split_once('/') else { continue };
            let used = table.entry(room.to_owned()).or_default();
            used.extend(rooms_named(name, &text).into_iter().filter(|other| other != room));
        }
        table
    }

    /// The files that say that they touch the world; a folder's `mod.rs` speaks for the folder.
    fn worldly(&self) -> BTreeSet<String> {
        let says = |text: &str| text.contains("expect(") && text.contains("clippy::disallowed_methods");
        let worldly = self.shipped().into_iter().filter(|(_, text)| says(text));
        worldly.map(|(name, _)| name.trim_end_matches("/mod.rs").trim_end_matches(".rs").to_owned()).collect()
    }

    fn too_long(&self) -> Vec<String> {
        let long = self.0.iter().map(|(name, text)| (name, text.lines().count()));
        long.filter(|(_, lines)| *lines > LONGEST).map(|(name, lines)| format!("{name}: {lines}")).collect()
    }

    /// The files of `artifacts/` that are kinds, and those that [`bundle::artifacts::KINDS`] lists, by module.
    fn kinds(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut written = BTreeSet::new();
        let mut listed = BTreeSet::new();
        for (name, text) in self.shipped() {
            let Some(name) = name.strip_prefix("artifacts/") else { continue };
            if name == "mod.rs" {
                let entries = text.split("Kind::of::<").skip(1);
                listed.extend(
                    entries.filter_map(|rest| rest.split_once("::")).map(|(module, _)| module.to_owned()),
                );
            } else if text.contains("impl Section for ") {
                written.insert(name.split(['/', '.']).next().unwrap().to_owned());
            }
        }
        (written, listed)
    }
}

/// What stands before an item that no program has.
const FOR_TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// Modules that a file declares for tests only, as paths below `src/`.
fn test_files(name: &str, text: &str) -> Vec<String> {
    let folder = name.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
    let mut files = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !FOR_TESTS.contains(&line) {
            continue;
        }
        let module = lines.next().and_then(|next| next.rsplit_once("mod ")?.1.strip_suffix(';'));
        files.extend(module.map(|module| format!("{folder}/{module}.rs")));
    }
    files
}

/// The text without comments and without items under `#[cfg(test)]`. Such an item ends, as rustfmt lays it out, with the
/// first line of its own indentation that closes it.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if !FOR_TESTS.contains(&code) {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - code.len();
        for inside in lines.by_ref() {
            let ends = inside.ends_with('}') || inside.ends_with(';');
            if ends && inside.len() - inside.trim_start().len() == indent {
                break;
            }
        }
    }
    kept
}

/// The rooms that a file names, its own among them.
fn rooms_named(name: &str, text: &str) -> BTreeSet<String> {
    // `src/a/b.rs` is two modules below the root, `src/a/mod.rs` is one.
    let depth = name.trim_end_matches("/mod.rs").split('/').count();
    let prefixes = ["crate::".to_owned(), "super::".repeat(depth)];
    let mut rooms = BTreeSet::new();
    for root in &prefixes {
        for (at, _) in text.match_indices(root.as_str()) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before)) {
                continue;
            }
            let rest = &text[at + root.len()..];
            // A group names several: `crate::{model::Digest, spec::Spec}`.
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(heads(group)),
                None => rooms.extend([word(rest)]),
            }
        }
    }
    rooms
}

/// The first word of each member of a `{…}` group.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut fresh = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            letter if fresh && (letter.is_alphanumeric() || letter == '_') => {
                heads.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// What differs between what may be and what is, in words.
fn differences(allowed: &Table, used: &Table) -> Vec<String> {
    let none = BTreeSet::new();
    let mut faults = Vec::new();
    for (room, uses) in used {
        let Some(may) = allowed.get(room) else {
            faults.push(format!("the room `{room}` is not in the table"));
            continue;
        };
        faults.extend(uses.difference(may).map(|other| format!("`{room}` uses `{other}` and may not")));
    }
    for (room, may) in allowed {
        let really = used.get(room).unwrap_or(&none);
        faults.extend(may.difference(really).map(|other| format!("`{room}` may use `{other}` and does not")));
    }
    faults
}

fn may_use() -> Table {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    MAY_USE.iter().map(|(room, uses)| ((*room).to_owned(), owned(uses))).collect()
}

/// The words in backticks of each row of the table under `heading`: the first column's, and all others'.
fn rows(document: &str, heading: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let section = document.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("ARCHITECTURE.md has no heading `{heading}`"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.split_once('|'));
    let rows = rows.map(|(first, others)| (quoted(first), quoted(others)));
    rows.filter(|(first, _)| !first.is_empty()).collect()
}

fn document() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn every_room_uses_exactly_the_rooms_that_it_may() {
    let faults = differences(&may_use(), &Sources::read().uses());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nobody_is_used_before_the_row_that_says_what_it_is() {
    let mut known = BTreeSet::new();
    for (room, uses) in MAY_USE {
        let early: Vec<_> = uses.iter().filter(|other| !known.contains(*other)).collect();
        assert!(early.is_empty(), "`{room}` uses {early:?}: a circle, or a row in the wrong place");
        known.insert(room);
    }
}

#[test]
fn the_document_says_the_same_as_the_table() {
    let said: Table = rows(&document(), "Who may use whom")
        .into_iter()
        .map(|(room, uses)| (room.concat(), uses.into_iter().collect()))
        .collect();
    // `cli` is said to use everything.
    let all = |room: &str| may_use().into_keys().filter(|other| other != room).collect();
    let said: Table = said
        .into_iter()
        .map(
            |(room, uses)| {
                if room == "cli" && uses.is_empty() { (room.clone(), all(&room)) } else { (room, uses) }
            },
        )
        .collect();
    assert_eq!(said, may_use());
}

#[test]
fn whoever_touches_the_world_is_in_the_document() {
    let said: BTreeSet<_> =
        rows(&document(), "Who may touch the world").into_iter().flat_map(|(files, _)| files).collect();
    assert_eq!(said, Sources::read().worldly(), "left: ARCHITECTURE.md, right: the files that say so");
}

#[test]
fn every_artifact_kind_is_listed() {
    let (written, listed) = Sources::read().kinds();
    assert!(written.len() >= 8, "only these kinds were found: {written:?}");
    assert_eq!(written, listed, "left: files with `impl Section`, right: `KINDS` in src/artifacts/mod.rs");
}

#[test]
fn no_file_is_too_long_to_read() {
    assert_eq!(Sources::read().too_long(), Vec::<String>::new(), "longer than {LONGEST} lines");
}

fn planted(name: &str, text: &str) -> Sources {
    Sources([(name.to_owned(), text.to_owned())].into())
}

#[test]
fn the_scan_sees_every_spelling_of_a_use() {
    let uses = |name, text| planted(name, text).uses().into_values().next().unwrap();
    for text in [
        "use crate::host::Droplet;",
        "    let host = crate::host::machine();",
        "use crate::{host::Droplet, model::{Digest, Slot}};",
        "use super::super::host;",
    ] {
        assert!(uses("store/lock.rs", text).contains("host"), "{text}");
    }
    assert!(uses("store/mod.rs", "use super::host;").contains("host"));
    assert!(uses("store/mod.rs", "use crate::{\n    model::{Digest, Slot},\n    host,\n};").contains("host"));
}

#[test]
fn the_scan_does_not_see_what_is_not_shipped() {
    for text in [
        "//! See [`crate::host`].",
        "#[cfg(test)]\nmod tests {\n    fn a() {}\n    use crate::host::Droplet;\n}",
        "use super::host;",
        "let a = mycrate::host::b();",
    ] {
        assert!(!planted("store/lock.rs", text).uses()["store"].contains("host"), "{text}");
    }
    let mut sources = planted("store/mod.rs", "#[cfg(test)]\nmod sample;\nuse crate::model::Slot;");
    sources.0.insert("store/sample.rs".to_owned(), "use crate::host;".to_owned());
    assert_eq!(sources.uses()["store"], ["model".to_owned()].into());
}

#[test]
fn a_forbidden_use_is_a_fault_and_so_is_a_stale_row() {
    let used = planted("model/path.rs", "use crate::store::Store;").uses();
    let faults = differences(&may_use(), &used);
    assert!(faults.contains(&"`model` uses `store` and may not".to_owned()), "{faults:?}");
    assert!(faults.contains(&"`spec` may use `model` and does not".to_owned()), "{faults:?}");
    let used = planted("attic/mod.rs", "").uses();
    assert!(differences(&may_use(), &used).contains(&"the room `attic` is not in the table".to_owned()));
}

#[test]
fn a_kind_that_nobody_listed_is_seen() {
    let mut sources = planted("artifacts/mod.rs", "const KINDS: &[Kind] = &[Kind::of::<redis::Redis>()];");
    sources.0.insert("artifacts/redis.rs".to_owned(), "impl Section for Redis {}".to_owned());
    sources.0.insert("artifacts/valkey.rs".to_owned(), "impl Section for Valkey {}".to_owned());
    let (written, listed) = sources.kinds();
    assert_eq!(written.difference(&listed).collect::<Vec<_>>(), ["valkey"]);
}

#[test]
fn a_file_that_says_that_it_touches_the_world_is_seen() {
    let says = "#![expect(clippy::disallowed_methods, reason = \"…\")]";
    assert_eq!(planted("bundle/layout.rs", says).worldly(), ["bundle/layout".to_owned()].into());
    assert_eq!(planted("host/mod.rs", says).worldly(), ["host".to_owned()].into());
    assert!(planted("model/path.rs", "").worldly().is_empty());
}

#[test]
fn a_file_that_is_too_long_is_seen() {
    assert_eq!(planted("cli/mod.rs", &"\n".repeat(LONGEST)).too_long(), Vec::<String>::new());
    assert_eq!(planted("cli/mod.rs", &"\n".repeat(LONGEST + 1)).too_long(), ["cli/mod.rs: 701"]);
}
