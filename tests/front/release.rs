//! The program as it travels to a droplet: one file that needs no shared library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{installed, target_directory};

/// A droplet fetches it on its first boot, over a network that may be slow.
const GOAL: u64 = 10_000_000;

fn program() -> PathBuf {
    let path = target_directory().join("x86_64-unknown-linux-gnu/release/bundle");
    assert!(path.is_file(), "there is no `{}`; run `cargo static` first", path.display());
    path
}

#[test]
fn the_released_program_is_static_and_small() {
    let path = program();
    // It exits 1 for a static program that is no PIE: judge by the words.
    let output = installed("ldd", &[path.to_str().unwrap()]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let is_static =
        ["statically linked", "not a dynamic executable"].iter().any(|words| said.contains(words));
    assert!(is_static, "`ldd {}` says: {said}", path.display());
    let size = fs::metadata(&path).unwrap().len();
    println!("the static program has {size} bytes; {}", said.trim());
    assert!(size <= GOAL, "{size} bytes are more than {GOAL}");
}

#[test]
fn ldd_tells_a_dynamic_program_from_a_static_one() {
    let output = installed("ldd", &[env!("CARGO_BIN_EXE_bundle")]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("libc.so"), "the development build is dynamic, `ldd` says: {said}");
}

#[test]
fn the_released_program_is_of_these_sources() {
    let version = |program: PathBuf| {
        let root = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.current_dir(super::repository()).arg("--root").arg(root.path()).args(["build", "production"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let development = version(env!("CARGO_BIN_EXE_bundle").into());
    assert_eq!(version(program()), development, "run `cargo static` again");
}
