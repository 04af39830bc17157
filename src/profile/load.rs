//! The only function of this module tree that touches the disk: a path → every text that the profile is made of.
#![expect(clippy::disallowed_methods, reason = "reading a profile is this file's job")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::files;
use super::images;
use super::merge::parents;
use super::registry;
use super::source::Sources;

/// No profile is near this long, and a device or a wrong file must not fill the memory.
const LIMIT: u64 = 1 << 20;

/// Reads a profile, everything that it extends, the files that these name, and the `bundle.lock` beside it. What cannot be read is noted in the
/// result and becomes a diagnostic where it is needed.
pub fn load(path: &str) -> Sources {
    let mut sources = Sources::new(path);
    let mut wanted = vec![sources.root().to_owned(), sources.lock_path()];
    let mut named = Vec::new();
    let mut project = BTreeSet::new();
    let mut dockerfiles = BTreeSet::new();
    while let Some(path) = wanted.pop() {
        if sources.knows(&path) {
            continue;
        }
        match read(&path) {
            Ok(text) => sources.add(&path, &text),
            Err(reason) => sources.add_unreadable(&path, &reason),
        }
        if path != sources.lock_path()
            && let Some(source) = sources.source(&path)
        {
            wanted.extend(parents(source));
            named.extend(registry::files(source));
            project.extend(files::named(source));
            dockerfiles.extend(images::dockerfiles(source));
        }
    }
    // Certificates and keys: inputs like the profile itself, and not TOML.
    for path in named {
        if !sources.knows(&path) {
            match read(&path) {
                Ok(text) => sources.add(&path, &text),
                Err(reason) => sources.add_unreadable(&path, &reason),
            }
        }
    }
    // For what is said of them; they do not travel in the bundle.
    for (dockerfile, ignored) in dockerfiles {
        match read(&dockerfile) {
            Ok(text) => {
                sources.add_contents(&dockerfile, BTreeMap::from([(String::new(), text.into_bytes())]));
            }
            Err(reason) => sources.add_unreadable(&dockerfile, &reason),
        }
        if Path::new(&ignored).exists() {
            sources.add_contents(&ignored, BTreeMap::new());
        }
    }
    let mut left = Left { bytes: MOST_BYTES, files: MOST_FILES };
    for path in project {
        let mut contents = BTreeMap::new();
        match gather(Path::new(&path), "", &mut left, &mut contents) {
            Ok(()) => sources.add_contents(&path, contents),
            Err(reason) => sources.add_unreadable(&path, &reason),
        }
    }
    sources
}

/// Files of the project travel in every bundle, and all of them together must stay small.
const MOST_BYTES: u64 = 8 << 20;
const MOST_FILES: u32 = 500;
const DEEPEST: usize = 16;

/// What may still be read.
struct Left {
    bytes: u64,
    files: u32,
}

/// Reads a file, or all files below a directory, by their paths below it.
fn gather(
    path: &Path,
    below: &str,
    left: &mut Left,
    contents: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), String> {
    let at = |reason: String| if below.is_empty() { reason } else { format!("{reason} (`{below}`)") };
    let kind = std::fs::metadata(path).map_err(|error| at(reason(&error)))?;
    if kind.is_dir() {
        if below.split('/').count() > DEEPEST {
            return Err(at(format!("it is more than {DEEPEST} directories deep")));
        }
        let entries = std::fs::read_dir(path).map_err(|error| at(reason(&error)))?;
        for entry in entries {
            let entry = entry.map_err(|error| at(reason(&error)))?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| at("the name of a file in it is not UTF-8".to_owned()))?;
            let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            gather(&entry.path(), &below, left, contents)?;
        }
        return if contents.is_empty() { Err("it is an empty directory".to_owned()) } else { Ok(()) };
    }
    if !kind.is_file() {
        return Err(at("it is neither a file nor a directory".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| at(reason(&error)))?;
    file.take(left.bytes + 1).read_to_end(&mut bytes).map_err(|error| at(reason(&error)))?;
    let spent = bytes.len() as u64;
    if spent > left.bytes || left.files == 0 {
        return Err(at(format!(
            "the files of a profile are more than {MOST_FILES}, or than {MOST_BYTES} bytes together"
        )));
    }
    left.bytes -= spent;
    left.files -= 1;
    contents.insert(below.to_owned(), bytes);
    Ok(())
}

/// The text of a file, or why there is none.
fn read(path: &str) -> Result<String, String> {
    // Opening a pipe would wait for somebody to write into it.
    if std::fs::metadata(path).map_err(|error| reason(&error))?.file_type().is_fifo() {
        return Err("it is a pipe, not a file".to_owned());
    }
    let file = File::open(path).map_err(|error| reason(&error))?;
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(|error| reason(&error))?;
    if text.len() as u64 > LIMIT {
        return Err(format!("it is longer than {LIMIT} bytes"));
    }
    Ok(text)
}

/// The same words on every system and in every locale for what happens every day.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_extended_is_loaded_and_what_is_missing_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a.toml"), "extends = ['b.toml', 'gone.toml']").unwrap();
        std::fs::write(path("b.toml"), "extends = 'a.toml'\nx = 1").unwrap();
        let sources = load(&path("a.toml"));
        assert_eq!(sources.text(&path("b.toml")), Some("extends = 'a.toml'\nx = 1"));
        assert_eq!(sources.unreadable(&path("gone.toml")), Some("there is no such file"));
        assert_eq!(sources.unreadable(&path("bundle.lock")), Some("there is no such file"));
    }

    #[test]
    fn files_of_the_project_are_loaded_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir_all(path("conf/sub")).unwrap();
        std::fs::write(path("conf/a"), b"\xff").unwrap();
        std::fs::write(path("conf/sub/b"), "b").unwrap();
        let text = "[files.'web:/a']\nsource = 'conf/a'\n[files.'web:/c']\nsource = 'conf'\n[files.'web:/x']\nsource = 'x'\n";
        std::fs::write(path("a.toml"), text).unwrap();
        let sources = load(&path("a.toml"));
        assert_eq!(sources.contents(&path("conf/a")).unwrap()[""], b"\xff");
        let names: Vec<_> = sources.contents(&path("conf")).unwrap().keys().cloned().collect();
        assert_eq!(names, ["a", "sub/b"]);
        assert_eq!(sources.unreadable(&path("x")), Some("there is no such file"));
    }
}
