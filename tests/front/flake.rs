//! flake.nix, as far as it can be judged without nixpkgs: Nix parses it, and what it names is there.

use super::{file, installed, repository};

fn parse(path: &str) -> std::process::Output {
    installed("nix-instantiate", &["--parse", path])
}

#[test]
fn nix_parses_the_flake() {
    let output = parse(repository().join("flake.nix").to_str().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parsed = String::from_utf8(output.stdout).unwrap();
    for part in ["packages", "devShells", "checks", "inputs", "buildRustPackage"] {
        assert!(parsed.contains(part), "the flake has no `{part}`");
    }
}

#[test]
fn nix_refuses_a_flake_that_is_not_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flake.nix");
    let broken = file("flake.nix").replacen('{', "", 1);
    std::fs::write(&path, broken).unwrap();
    assert!(!parse(path.to_str().unwrap()).status.success());
}

#[test]
fn the_files_that_the_flake_takes_are_there() {
    let text = file("flake.nix");
    let words = text.split(|letter: char| letter.is_whitespace() || "();".contains(letter));
    let paths: Vec<_> = words.filter(|word| word.starts_with("./")).collect();
    assert!(paths.contains(&"./Cargo.lock"), "{paths:?}");
    for path in paths {
        assert!(repository().join(path).exists(), "the flake names `{path}`");
    }
}
