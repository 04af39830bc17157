//! What a newcomer meets first: the released program, its help, the documents, the flake, the command that runs this.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may, and what it prints is asked for"
)]

mod dependencies;
mod documents;
mod flake;
mod help;
mod release;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    let path = repository().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

/// The program, in the repository, acting below `root`.
fn bundle(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
    command.current_dir(repository()).arg("--root").arg(root).args(arguments);
    command.output().unwrap()
}

/// Where cargo puts what it builds: this very program lies in `<target>/<profile>/deps`.
fn target_directory() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(3).unwrap().to_owned()
}

/// A program that `tests/setup` installs. Not having it is a failure, never a reason to skip.
fn installed(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("`{program}` cannot be run ({error}); run `tests/setup` first"))
}
