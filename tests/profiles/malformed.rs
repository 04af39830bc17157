//! Every malformed profile with all of its diagnostics, word for word.

use std::path::PathBuf;

use bundle::profile::{Sources, check, load};

use crate::kinds::KINDS;

/// What is printed for a file of `tests/profiles/malformed`.
fn diagnostics(name: &str) -> String {
    let faults = check(&load(&format!("tests/profiles/malformed/{name}.toml")), KINDS).unwrap_err();
    assert!(faults.has_errors());
    faults.render(false)
}

macro_rules! malformed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), diagnostics(stringify!($name)));
        })*

        /// The files that have a test.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

malformed! {
    unknown_table
    unknown_key
    wrong_type
    many_over_two_files
    ports
    restart
    unknown_compose_key
    tag_without_pin
    extends_cycle
    missing_parent
    toml_syntax
    duplicate_key
    bad_subnet
    overlapping_subnets
    route_to_nowhere
    routes
    unknown_secret
    template_cycle
    bad_template
    bad_duration
    bad_size
    depends_across
    user_not_numeric
    missing_keys
    volumes
    kind_table
    kind_problem
    too_much_memory
    interpolation
    placements
    bad_name
    registry
    registry_token
    dockerfile
}

#[test]
fn every_file_has_a_test() {
    let mut files: Vec<String> = std::fs::read_dir("tests/profiles/malformed")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(files, tested);
}

/// The profile that all malformed ones spoil, beside a lock.
fn sound(lock: &str) -> Result<String, String> {
    let mut sources = Sources::new("p.toml");
    sources.add("p.toml", include_str!("malformed/parts/sound.toml"));
    sources.add("bundle.lock", lock);
    let resolved = check(&sources, KINDS).map_err(|faults| faults.render(false))?;
    Ok(resolved.warnings.render(false))
}

fn with_lock(lock: &str) -> String {
    sound(lock).unwrap_err()
}

#[test]
fn the_profile_that_the_others_spoil_is_sound() {
    assert_eq!(sound(include_str!("malformed/bundle.lock")), Ok(String::new()));
}

#[test]
fn a_bad_lock() {
    insta::assert_snapshot!(with_lock(
        r#"schema = 1
[images."postgres:16"]
digest = "sha256:EFEDF359"
[images."ghcr.io/example/web:1"]
digst = "sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b"
[hosts.db]
data_blue = 10
data_green = 10
slot = 10
[hosts.web]
data_blue = 10
data_green = 1
slot = 12
"#
    ));
}

#[test]
fn a_lock_whose_numbers_do_not_fit() {
    let digest = "sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b";
    insta::assert_snapshot!(with_lock(&format!(
        r#"schema = 1
[images]
"docker.io/library/postgres:16" = {{ digest = "{digest}" }}
"ghcr.io/example/web:1" = {{ digest = "{digest}" }}
[hosts]
db = {{ data_blue = 10, data_green = 11, slot = 10 }}
web = {{ data_blue = 255, data_green = 12, slot = 13 }}
"#
    )));
}

#[test]
fn a_lock_that_gives_a_number_twice() {
    insta::assert_snapshot!(with_lock(
        "schema = 1\n[hosts]\na = { data_blue = 10, data_green = 11, slot = 10 }\n\
         b = { data_blue = 12, data_green = 13, slot = 11 }\n"
    ));
}

#[test]
fn a_lock_of_another_time() {
    insta::assert_snapshot!(with_lock("schema = 2\n"));
}

#[test]
fn no_lock() {
    let mut sources = Sources::new("p.toml");
    sources.add("p.toml", include_str!("malformed/parts/sound.toml"));
    insta::assert_snapshot!(check(&sources, KINDS).unwrap_err().render(false));
}

#[test]
fn no_profile() {
    insta::assert_snapshot!(
        check(&load("tests/profiles/malformed/nowhere.toml"), KINDS).unwrap_err().render(false)
    );
}

#[test]
fn colour_changes_nothing_but_colour() {
    let faults = check(&load("tests/profiles/malformed/many_over_two_files.toml"), KINDS).unwrap_err();
    let coloured = faults.render(true);
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let squeeze = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(squeeze(&plain), squeeze(&faults.render(false)));
}
