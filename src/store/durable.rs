//! Writes that survive a power cut: beside, sync, rename, sync the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Doing, StoreError};

/// Makes a directory (and its parents) with exactly this mode, whatever the umask; an existing one gets the mode.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    if !path.is_dir() {
        let parent = parent(path);
        if !parent.is_dir() {
            make_dir(parent, 0o755)?;
        }
        match fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.doing("making the directory", path)?,
        }
        sync_dir(parent)?;
    }
    let now = fs::metadata(path).doing("looking at", path)?.permissions().mode() & 0o7777;
    if now != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing("setting the mode of", path)?;
    }
    Ok(())
}

/// Makes the directories that lead to `path`, leaving the modes of existing ones alone.
pub(crate) fn make_parents(path: &Path) -> Result<(), StoreError> {
    let parent = parent(path);
    if parent.is_dir() { Ok(()) } else { make_dir(parent, 0o755) }
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).doing("syncing the directory", path)
}

/// Replaces `path` by a file with this content and mode, at once or not at all, and durably.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    let beside = beside(path);
    write_new(&beside, content, mode)?;
    fs::rename(&beside, path).doing("replacing", path)?;
    sync_dir(parent(path))
}

/// Writes a file that nobody looks at yet, and syncs it.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    remove_if_there(path)?;
    let mut file = create_new(path, mode)?;
    file.write_all(content).doing("writing", path)?;
    file.sync_all().doing("syncing", path)
}

/// Creates a file that must not exist, with exactly this mode before it has any content.
pub(crate) fn create_new(path: &Path, mode: u32) -> Result<File, StoreError> {
    // 0600 first: a secret must not be readable for the moment between open and chmod.
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).doing("creating", path)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).doing("setting the mode of", path)?;
    Ok(file)
}

/// Points the symbolic link `path` at `target`, at once or not at all, and durably.
pub(crate) fn link(path: &Path, target: &Path) -> Result<(), StoreError> {
    let beside = beside(path);
    link_new(&beside, target)?;
    fs::rename(&beside, path).doing("replacing the link", path)?;
    sync_dir(parent(path))
}

/// Makes a symbolic link, replacing a leftover of that name.
pub(crate) fn link_new(path: &Path, target: &Path) -> Result<(), StoreError> {
    remove_if_there(path)?;
    symlink(target, path).doing("making the link", path)
}

/// Removes a file or link; one that is not there is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing", path),
    }
}

/// Removes a directory and what is in it; one that is not there is no error.
pub(crate) fn remove_dir_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing the directory", path),
    }
}

/// Reads a file; one that is not there is `None`.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).doing("reading", path),
    }
}

/// Where a symbolic link points; `None` if there is nothing.
pub(crate) fn read_link(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    match fs::read_link(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).doing("reading the link", path),
    }
}

/// The name under which something is written before it takes its place. Fixed, so that a leftover of a crash is
/// replaced and not collected.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.new"))
}

/// The directory that holds `path`; of a bare name it is the working directory.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_a_crash_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        fs::write(beside(&path), "half").unwrap();
        write(&path, b"whole", 0o444).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);

        let current = dir.path().join("current");
        symlink("nowhere", beside(&current)).unwrap();
        link(&current, Path::new("generations/1/blue")).unwrap();
        assert_eq!(read_link(&current).unwrap().unwrap(), Path::new("generations/1/blue"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
