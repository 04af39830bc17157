//! `bundle verify`: identical, the same in another encoding, or the first path that differs, each with its exit code.

use std::path::Path;
use std::process::Command;

use crate::hostile::quick;
use crate::image::{Head, Image, archive, directory, file, gzip};

fn verify(one: &Path, other: Option<&Path>) -> (i32, String) {
    let named = |path: &Path| format!("oci:{}:a", path.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
    command.args(["verify", &named(one)]);
    if let Some(other) = other {
        command.args(["--against", &named(other)]);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn two_images_are_identical_or_otherwise_encoded_or_differ_at_a_path() {
    let with = |mode: u32, text: &str| {
        archive(&[
            directory("d"),
            Head::new("d/f", b'0', text.len() as u64).mode(mode).with(text),
            file("g", ""),
        ])
    };
    let base = quick();
    Image::of(base.path(), &[with(0o644, "text")]).write(|_| {});
    assert_eq!(verify(base.path(), None).0, 0);
    assert_eq!(verify(base.path(), Some(base.path())).0, 0);
    let encoded = quick();
    let bytes = with(0o644, "text");
    Image::encoded(encoded.path(), vec![gzip(&bytes)], &[bytes]).write(|_| {});
    assert_eq!(verify(base.path(), Some(encoded.path())).0, 50);
    for (other, words) in [
        (with(0o644, "tent"), "`/d/f` in layer 1: its content differs from byte 2 on"),
        (with(0o600, "text"), "`/d/f` in layer 1: its mode is 0644 in the first and 0600 in the second"),
        (with(0o644, "longer"), "`/d/f` in layer 1: it is File(4)"),
        (archive(&[directory("d")]), "only the first has it"),
    ] {
        let dir = quick();
        Image::of(dir.path(), &[other]).write(|_| {});
        let (code, said) = verify(base.path(), Some(dir.path()));
        assert!(code == 51 && said.contains(words), "{code}: {said}");
    }
}
