//! A profile from nothing.

use crate::project::Project;

#[test]
fn a_first_profile_builds_at_once_and_nothing_is_overwritten() {
    let project = Project::of("");
    let said = |arguments: &[&str]| {
        let output = project.bundle(arguments);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, written, advice) = said(&["init"]);
    assert_eq!(code, Some(0), "{advice}");
    assert_eq!(written.lines().count(), 3, "{written}");
    assert!(advice.contains("ssh_from"), "{advice}");
    assert_eq!(said(&["check", "production"]).0, Some(0));
    assert_eq!(said(&["build", "--check", "production"]).0, Some(0));
    let before = project.read("profiles/base.toml");
    let (code, _, advice) = said(&["init"]);
    assert_eq!(code, Some(20));
    assert!(advice.contains("`profiles/base.toml`") && advice.contains("bundle init DIR"), "{advice}");
    assert_eq!(project.read("profiles/base.toml"), before);
    assert_eq!(said(&["init", "elsewhere"]).0, Some(0));
    assert_eq!(said(&["build", "elsewhere/profiles/production.toml"]).0, Some(0));
}

#[test]
fn without_compose_it_says_what_to_install() {
    let project = Project::of("services: {a: {image: x}}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bundle"))
        .args(["init", "--from-compose", "compose.yaml"])
        .current_dir(project.path())
        .env_clear()
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(20));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("docs.docker.com/compose/install"), "{said}");
    assert!(!project.path().join("profiles").exists());
}
