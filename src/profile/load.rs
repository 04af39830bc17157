//! The only function of this module tree that touches the disk: a path → every text that the profile is made of.
#![expect(clippy::disallowed_methods, reason = "reading a profile is this file's job")]

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;

use super::merge::parents;
use super::registry::files;
use super::source::Sources;

/// No profile is near this long, and a device or a wrong file must not fill the memory.
const LIMIT: u64 = 1 << 20;

/// Reads a profile, everything that it extends, the files that these name, and the `bundle.lock` beside it. What cannot be read is noted in the
/// result and becomes a diagnostic where it is needed.
pub fn load(path: &str) -> Sources {
    let mut sources = Sources::new(path);
    let mut wanted = vec![sources.root().to_owned(), sources.lock_path()];
    let mut named = Vec::new();
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
            named.extend(files(source));
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
    sources
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
}
