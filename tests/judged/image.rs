//! The programs of the images that the droplets run: a second version of each server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::laid::repository;

/// Where the root of the image `name` (`postgres`, `redis`) lies. Made once for each test program.
pub(crate) fn root(name: &str) -> PathBuf {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new(repository().join("tests/images/build")).arg(dir.path().join("images")));
        for name in ["postgres", "redis"] {
            let layout = dir.path().join(format!("images/{name}:latest"));
            let mut unpack = Command::new("umoci");
            unpack.args(["raw", "unpack", "--image"]).arg(layout).arg(dir.path().join(name));
            run(&mut unpack);
        }
        dir
    });
    made.path().join(name)
}

fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// The version that a program of the image, or of this machine, says of itself: the first number behind `word`.
pub(crate) fn version(root: &Path, program: &str, word: &str) -> String {
    let said = Command::new("chroot").arg(root).arg(program).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (_, rest) = said.split_once(word).unwrap_or_else(|| panic!("{program} --version: {said}"));
    let number = rest.trim_start().split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap();
    let parts: Vec<&str> = number.split('.').take(2).collect();
    parts.join(".")
}
