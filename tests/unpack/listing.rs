//! What is below a directory, in words that two listings can be compared by.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bundle::model::Digest;

/// By path, `.` the directory itself: kind, mode, size; then what is left of it: owner, time, links, content,
/// capabilities.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let path = if path.is_empty() { ".".to_owned() } else { path };
        let meta = entry.path().symlink_metadata().unwrap();
        let mode = meta.mode() & 0o7777;
        let what = if meta.is_dir() {
            format!("directory {mode:04o}")
        } else if meta.is_symlink() {
            format!(
                "link {}",
                std::fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().escape_ascii()
            )
        } else if meta.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            format!("file {mode:04o} {} {}", bytes.len(), Digest::of(&bytes).short())
        } else {
            format!("something else {mode:04o}")
        };
        let mut capability = [0; 64];
        let capability = rustix::fs::lgetxattr(entry.path(), "security.capability", &mut capability[..])
            .map_or(String::new(), |size| format!(" capability {:?}", &capability[..size]));
        // The first of the names of a file, in order.
        let first = if meta.is_file() && meta.nlink() > 1 {
            format!(" is {}", names.entry(meta.ino()).or_insert_with(|| path.clone()))
        } else {
            String::new()
        };
        let rest = format!(
            " {}:{} at {}.{}{capability}{first}",
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        found.insert(path, what + &rest);
    }
    found
}
