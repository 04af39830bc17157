//! The commands that speak of profiles, as processes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

fn bundle(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bundle")).args(arguments).current_dir(directory).output().unwrap()
}

fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A directory with a profile in two layers; `more` is the upper one's end.
fn profile(more: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let base = include_str!("malformed/parts/sound.toml");
    std::fs::write(directory.path().join("base.toml"), base).unwrap();
    std::fs::write(directory.path().join("p.toml"), format!("extends = \"base.toml\"\n{more}")).unwrap();
    std::fs::write(directory.path().join("bundle.lock"), include_str!("malformed/bundle.lock")).unwrap();
    directory
}

#[test]
fn the_schema_is_printed_for_a_file_and_for_a_whole_profile() {
    let directory = tempfile::tempdir().unwrap();
    let file = json(&bundle(directory.path(), &["schema"]));
    let whole = json(&bundle(directory.path(), &["schema", "--merged"]));
    assert_eq!(file["required"], Json::Null);
    assert!(whole["required"].as_array().unwrap().contains(&"domain".into()));
    let committed = std::fs::read_to_string("docs/profile.schema.json").unwrap();
    assert_eq!(file, serde_json::from_str::<Json>(&committed).unwrap());
}

#[test]
fn check_tells_programs_everything_that_is_wrong_and_people_too() {
    let directory = profile("domian = 1\n[switch]\ntrial = \"soon\"\n");
    let output = bundle(directory.path(), &["--json", "check", "p.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = json(&output);
    assert_eq!(
        (&said["right"], &said["errors"], &said["schema_version"]),
        (&false.into(), &2.into(), &1.into())
    );
    let unknown = &said["diagnostics"][0];
    assert_eq!(unknown["message"], "unknown key or table `domian` in the profile");
    assert_eq!(
        (&unknown["file"], &unknown["line"], &unknown["column"]),
        (&"p.toml".into(), &2.into(), &1.into())
    );
    assert_eq!((&unknown["end_line"], &unknown["end_column"]), (&2.into(), &7.into()));
    assert_eq!(unknown["severity"], "error");
    assert_eq!(unknown["help"], serde_json::json!(["did you mean `domain`?"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("error: unknown key or table `domian`") && stderr.contains("--> p.toml:2:1"),
        "{stderr}"
    );
}

#[test]
fn a_finding_says_by_which_way_its_file_came_in() {
    let directory = profile("");
    let base = directory.path().join("base.toml");
    let text = std::fs::read_to_string(&base).unwrap();
    std::fs::write(directory.path().join("ground.toml"), "[switch]\ntrial = \"soon\"\n").unwrap();
    std::fs::write(&base, format!("extends = [\"ground.toml\"]\n{text}")).unwrap();
    let output = bundle(directory.path(), &["--json", "check", "p.toml"]);
    let said = json(&output);
    let bad = &said["diagnostics"][0];
    assert_eq!(bad["file"], "ground.toml");
    assert_eq!(bad["way"], serde_json::json!(["p.toml", "base.toml", "ground.toml"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let note = "= note: this is in `ground.toml`, which `p.toml` extends by way of `base.toml`";
    assert!(stderr.contains(note), "{stderr}");
}

#[test]
fn what_is_right_has_no_errors_for_programs_either() {
    let directory = profile("");
    let output = bundle(directory.path(), &["--json", "check", "p.toml"]);
    let said = json(&output);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&said["right"], &said["errors"], &said["profile"]), (&true.into(), &0.into(), &"p".into()));
}

#[test]
fn why_names_the_lines_and_what_showed_it() {
    let directory = profile("[droplet]\nregion = \"ams3\"\n[switch]\ntrial = \"40s\"\n");
    let path = "compose/data.yaml";
    let output = bundle(directory.path(), &["why", "p.toml", path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("compose/data.yaml  made by `compose`\n  /var/lib/bundle/store/"), "{text}");
    assert!(
        text.contains("these lines decide what is in it\n") && text.contains("  services.db.image = "),
        "{text}"
    );
    assert!(!text.contains("region") && !text.contains("trial"), "{text}");
    let said = json(&bundle(directory.path(), &["--json", "why", "p.toml", path]));
    let lines = said["lines"].as_array().unwrap();
    let image = lines.iter().find(|line| line["key"] == "services.db.image").unwrap();
    assert_eq!((&image["file"], &image["decides"]), (&"base.toml".into(), &"content".into()));
    assert_eq!(image["way"], serde_json::json!(["p.toml", "base.toml"]));
    assert!(image["shown_by"].as_str().unwrap().ends_with(" instead"), "{image}");
}

#[test]
fn why_does_not_know_a_file_that_is_not_there() {
    let directory = profile("");
    let output = bundle(directory.path(), &["why", "p.toml", "compose/dat.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: the profile makes no file `compose/dat.yaml`\n"), "{stderr}");
    assert!(stderr.contains("hint: did you mean `compose/data.yaml`?"), "{stderr}");
}
