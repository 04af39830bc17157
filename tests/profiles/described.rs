//! `docs/` says of the profile what the program says. `BLESS=1 cargo test --test profiles described` writes it anew.

use bundle::artifacts::KINDS;
use bundle::profile::describe::{Form, compose_keys, profile, schema};

fn is_fresh(path: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all("docs").unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "`{path}` is stale: `BLESS=1 cargo test --test profiles described`");
}

#[test]
fn the_schema_in_docs_is_the_programs() {
    is_fresh("docs/profile.schema.json", &format!("{:#}\n", schema(KINDS, Form::File)));
}

#[test]
fn the_list_of_keys_in_docs_is_the_programs() {
    is_fresh("docs/profile.md", &profile(&schema(KINDS, Form::Merged)));
}

#[test]
fn the_list_of_compose_keys_in_docs_is_the_programs() {
    is_fresh("docs/compose-keys.md", &compose_keys());
}

#[test]
fn every_shipped_profile_names_the_schema() {
    let mut seen = 0;
    for entry in walkdir::WalkDir::new("profiles") {
        let path = entry.unwrap().into_path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap_or_default();
        let schema = line.strip_prefix("#:schema ").unwrap_or_else(|| panic!("{}: `{line}`", path.display()));
        assert!(path.parent().unwrap().join(schema).is_file(), "{}: {schema}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
