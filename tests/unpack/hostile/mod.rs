//! Archives that somebody made to reach out of the directory, to be read in two ways, or to use up the machine. Each is
//! refused in words that name it, or, where it is harmless and others take it, unpacked as others do.

mod escapes;
mod excess;
mod readings;
mod whiteouts;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use bundle::image::unpack::{self, Limits, UnpackError};

use crate::image::{Image, archive, gzip, record};
use crate::listing::listing;

/// What is to come of an image.
pub enum Expected {
    /// These words are in the refusal.
    Refused(&'static str),
    /// These paths are there, and so is what they are.
    Taken(&'static [(&'static str, &'static str)]),
}

use Expected::{Refused, Taken};

pub struct Case {
    pub name: &'static str,
    pub layers: Vec<Vec<u8>>,
    pub expected: Expected,
}

fn case(name: &'static str, members: &[Vec<u8>], expected: Expected) -> Case {
    Case { name, layers: vec![archive(members)], expected }
}

fn raw(name: &'static str, bytes: Vec<u8>, expected: Expected) -> Case {
    Case { name, layers: vec![bytes], expected }
}

fn two(name: &'static str, below: &[Vec<u8>], above: &[Vec<u8>], expected: Expected) -> Case {
    Case { name, layers: vec![archive(below), archive(above)], expected }
}

pub fn cases() -> Vec<Case> {
    let readings = [readings::kinds(), readings::two_readings(), readings::ends()];
    let others = [escapes::escapes(), whiteouts::whiteouts(), excess::too_much()];
    readings.into_iter().chain(others).flatten().collect()
}

/// Small, so that the cases are.
pub const LIMITS: Limits =
    Limits { members: 1000, layer: unpack::stream::Bounds { bytes: 3 << 20, ratio: 200 } };

/// What lies beside the directory that an image goes to.
fn canary(dir: &Path) {
    std::fs::create_dir_all(dir.join("canary/below")).unwrap();
    std::fs::write(dir.join("canary/file"), "nobody may write here").unwrap();
    std::fs::write(dir.join("canary/below/file"), "nor here").unwrap();
    std::os::unix::fs::symlink("file", dir.join("canary/link")).unwrap();
}

/// All in a directory whose own time is another matter.
fn beside(dir: &Path) -> BTreeMap<String, String> {
    let mut found = listing(dir);
    found.remove(".");
    found
}

/// A directory in memory: layouts are synced, and these are many.
pub fn quick() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn words(error: &UnpackError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Unpacks with a canary beside; what came of it, with nothing but the image changed beside it.
pub fn unpacked(dir: &Path, layout: &bundle::bundle::Layout) -> Result<BTreeMap<String, String>, String> {
    let target = dir.join("target");
    let result =
        unpack::find(layout, Some("a")).and_then(|image| unpack::unpack(layout, &image, &target, LIMITS));
    match result {
        Ok(_) => {
            let found = listing(&target);
            std::fs::remove_dir_all(&target).unwrap();
            Ok(found)
        }
        Err(error) => Err(words(&error)),
    }
}

#[test]
fn every_hostile_archive_is_refused_in_words_and_reaches_nothing() {
    let dir = quick();
    canary(dir.path());
    let cases = cases();
    assert!(cases.iter().filter(|case| matches!(case.expected, Refused(_))).count() >= 60);
    let mut faults = Vec::new();
    for case in &cases {
        // In our encoding, and in everybody's.
        for (how, blobs) in [
            (
                "gz1",
                case.layers
                    .iter()
                    .map(|layer| bundle::bundle::gz1::encode(layer).unwrap())
                    .collect::<Vec<_>>(),
            ),
            ("gzip", case.layers.iter().map(|layer| gzip(layer)).collect()),
        ] {
            let image = quick();
            let layout = Image::encoded(image.path(), blobs, &case.layers).write(|_| {});
            let before = beside(dir.path());
            let found = unpacked(dir.path(), &layout);
            let after = beside(dir.path());
            if before != after {
                faults.push(format!("{} ({how}): something is left or changed: {after:#?}", case.name));
            }
            match (&case.expected, found) {
                (Refused(words), Err(said)) if said.contains(words) => {}
                (Taken(paths), Ok(found)) => {
                    let missing = |(path, what): &&(&str, &str)| {
                        found.get(*path).is_none_or(|found| !found.starts_with(what))
                    };
                    let missing: Vec<_> = paths.iter().filter(missing).collect();
                    if !missing.is_empty() || !paths.is_empty() && paths.len() != found.len() - 1 {
                        faults.push(format!("{} ({how}): {found:#?}", case.name));
                    }
                }
                (_, found) => faults.push(format!("{} ({how}): {found:?}", case.name)),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_cases_are_what_they_say() {
    assert_eq!(record("path", b"abc"), b"12 path=abc\n");
    let names: std::collections::BTreeSet<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len(), "each case once");
}
