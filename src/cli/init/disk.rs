//! What is on the disk around a Compose project.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::adopt::Found;

/// No more of a directory than decides that it is too much.
const MOST_FILES: usize = 400;
const MOST_BYTES: u64 = 8 << 20;
const DEEPEST: usize = 12;

/// What is at a path.
pub(super) fn probe(path: &Path) -> Found {
    let Ok(metadata) = fs::metadata(path) else { return Found::Missing };
    if metadata.is_file() {
        return Found::File {
            bytes: metadata.len(),
            text: is_text(path, metadata.len()),
            executable: metadata.permissions().mode() & 0o100 != 0,
        };
    }
    if !metadata.is_dir() {
        return Found::Other;
    }
    let mut seen = Seen::default();
    if seen.walk(path, "", 0).is_none() {
        return Found::Other;
    }
    seen.files.sort();
    Found::Directory { files: seen.files, bytes: seen.bytes, executable: seen.executable }
}

#[derive(Default)]
struct Seen {
    files: Vec<String>,
    bytes: u64,
    executable: bool,
}

impl Seen {
    /// `None` if the directory cannot be read, or a name in it is not text.
    fn walk(&mut self, path: &Path, below: &str, depth: usize) -> Option<()> {
        for entry in fs::read_dir(path).ok()? {
            if self.files.len() > MOST_FILES || self.bytes > MOST_BYTES || depth > DEEPEST {
                return Some(());
            }
            let entry = entry.ok()?;
            let name = entry.file_name().to_str()?.to_owned();
            let below = if below.is_empty() { name } else { format!("{below}/{name}") };
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_dir() {
                self.walk(&entry.path(), &below, depth + 1)?;
            } else if metadata.is_file() {
                self.bytes = self.bytes.saturating_add(metadata.len());
                self.executable |= metadata.permissions().mode() & 0o100 != 0;
                self.files.push(below);
            }
        }
        Some(())
    }
}

fn is_text(path: &Path, length: u64) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    length <= MOST_BYTES && read.is_ok() && std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0)
}

/// The variables of an env file, as far as a line says so by itself.
pub(super) fn variables(path: &Path) -> BTreeMap<String, String> {
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let line = |line: &str| {
        let line = line.trim().trim_start_matches("export ").trim_start();
        let (name, value) = line.split_once('=').filter(|(name, _)| !name.starts_with('#'))?;
        let value = value.trim().trim_matches(['"', '\'']);
        Some((name.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// The path without `.` and `..`, as Compose itself resolves it: by its spelling.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean
}

/// `to` as seen from the directory `from`; both absolute.
pub(super) fn relative(from: &Path, to: &Path) -> PathBuf {
    let (mut left, mut right) = (from.components().peekable(), to.components().peekable());
    while left.peek().is_some() && left.peek() == right.peek() {
        left.next();
        right.next();
    }
    let mut path: PathBuf = left.map(|_| Component::ParentDir).collect();
    path.extend(right);
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_elsewhere() {
        let relative = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(relative("/a/profiles", "/a"), "..");
        assert_eq!(relative("/a/b/profiles", "/a/c"), "../../c");
        assert_eq!(relative("/a", "/a"), ".");
        assert_eq!(clean(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
