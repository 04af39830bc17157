//! The profiles of this repository.

use bundle::profile::{Lock, Profile, check, load};
use bundle::spec::{Placement, Spec};

use crate::kinds::KINDS;

fn spec(name: &str) -> Spec {
    let sources = load(&format!("profiles/{name}.toml"));
    check(&sources, KINDS).unwrap_or_else(|faults| panic!("{faults}")).spec
}

#[test]
fn every_shipped_profile_resolves() {
    for name in ["production", "staging", "development"] {
        let spec = spec(name);
        assert_eq!(spec.name.as_str(), name);
        assert_eq!(spec.environment, name);
        assert_eq!(spec.services.len(), 5);
    }
}

#[test]
fn the_production_profile_means_this() {
    insta::assert_debug_snapshot!(spec("production"));
}

#[test]
fn the_only_warnings_are_about_what_an_example_cannot_have() {
    let resolved = check(&load("profiles/production.toml"), KINDS).unwrap();
    insta::assert_snapshot!(resolved.warnings.render(false));
    assert_eq!(resolved.placeholders.len(), 1);
    assert!(resolved.render().is_ok());
}

#[test]
fn a_child_keeps_what_it_does_not_say() {
    let development = spec("development");
    let postgres = &development.services["postgres"];
    assert_eq!(postgres.compose["mem_limit"], "640m");
    assert_eq!(postgres.compose["stop_signal"], "SIGINT");
    assert_eq!(postgres.placement, Placement::Data);
}

#[test]
fn the_shipped_lock_is_what_the_program_would_write() {
    let sources = load("profiles/production.toml");
    let profile = Profile::parse(&sources, KINDS).unwrap();
    let mut lock = Lock::parse(&sources);
    assert!(lock.allocate(profile.placements()));
    assert_eq!(Some(lock.write().as_str()), sources.text("profiles/bundle.lock"));
}
