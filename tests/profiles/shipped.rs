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

/// The deployments beside the marketplace, each in a directory with a lock of its own.
const OTHERS: [&str; 5] =
    ["vulcan/production", "vulcan/staging", "vulcan/development", "media/production", "media/staging"];

#[test]
fn every_other_deployment_builds_and_lacks_only_what_an_example_cannot_have() {
    for name in OTHERS {
        let sources = load(&format!("profiles/{name}.toml"));
        let resolved =
            check(&sources, bundle::artifacts::KINDS).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let found = resolved.warnings.iter().map(|warning| warning.lint().unwrap_or(warning.message()));
        let others: Vec<_> =
            found.filter(|name| !["documentation-address", "placeholder-image"].contains(name)).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        assert!(!resolved.placeholders.is_empty(), "{name}");
        resolved.render().unwrap_or_else(|error| panic!("{name}: {error}"));
        let profile = Profile::parse(&sources, bundle::artifacts::KINDS).unwrap();
        let mut lock = Lock::parse(&sources);
        assert!(lock.allocate(profile.placements()), "{name}");
        let directory = name.split('/').next().unwrap();
        let path = format!("profiles/{directory}/bundle.lock");
        assert_eq!(Some(lock.write().as_str()), sources.text(&path), "{name}");
    }
}

#[test]
fn one_word_decides_whether_the_databases_are_the_machines_own() {
    let spec = |name: &str| {
        let sources = load(&format!("profiles/{name}.toml"));
        check(&sources, bundle::artifacts::KINDS).unwrap_or_else(|faults| panic!("{faults}")).spec
    };
    let (managed, own) = (spec("vulcan/production"), spec("vulcan/staging"));
    let stateful =
        |spec: &Spec| spec.services.values().filter(|service| service.placement == Placement::Data).count();
    assert_eq!((stateful(&managed), stateful(&own)), (0, 2));
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir("profiles/vulcan").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("self-hosted.toml", "managed.toml");
        std::fs::write(directory.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let sources = load(&directory.path().join("staging.toml").display().to_string());
    let resolved = check(&sources, bundle::artifacts::KINDS).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(stateful(&resolved.spec), 0);
}

#[test]
fn the_production_profile_means_this() {
    insta::assert_debug_snapshot!(spec("production"));
}

#[test]
fn the_only_warnings_are_about_what_an_example_cannot_have() {
    let resolved = check(&load("profiles/production.toml"), KINDS).unwrap();
    insta::assert_snapshot!(resolved.warnings.render(false));
    assert!(resolved.placeholders.is_empty());
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
