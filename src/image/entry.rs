//! What a layer is made of: one entry for each file, directory and link, before it is bytes.
//!
//! Entries carry what the bytes of a layer may depend on and nothing else: there are no times, no owners' names, no
//! device numbers, and of the extended attributes only file capabilities. Where an entry came from (the project, a
//! Debian package, the recipe itself) cannot be seen in it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The longest path that an entry may have, in bytes: Linux' `PATH_MAX` (`limits.h`).
pub const MAX_PATH: usize = 4096;

/// A path in an image: bytes, relative to its root, without empty names, `.` and `..`. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

/// Bytes that are not the path of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a path in an image: it must be relative, without `.`, `..`, empty or NUL parts, and at most {MAX_PATH} bytes long", shown(.0))]
pub struct EntryPathError(Vec<u8>);

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

impl EntryPath {
    /// Takes the bytes of a relative path, names separated by `/`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, EntryPathError> {
        let bytes = bytes.into();
        let clean = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        if bytes.len() <= MAX_PATH && bytes.split(|&byte| byte == b'/').all(clean) {
            Ok(Self(bytes))
        } else {
            Err(EntryPathError(bytes))
        }
    }

    /// Takes an absolute path as people write it; nothing for the root.
    pub fn absolute(text: &str) -> Result<Option<Self>, EntryPathError> {
        match text.strip_prefix('/') {
            Some("") => Ok(None),
            Some(rest) => Self::new(rest.strip_suffix('/').unwrap_or(rest)).map(Some),
            None => Err(EntryPathError(text.as_bytes().to_vec())),
        }
    }

    /// The bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory that it is in; `None` if that is the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// The last name.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// A path below this one.
    pub fn join(&self, below: &[u8]) -> Result<Self, EntryPathError> {
        Self::new([&self.0, b"/".as_slice(), below].concat())
    }
}

impl fmt::Display for EntryPath {
    /// As it would stand in the image; bytes that are no ASCII are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// One file, directory or link of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Permissions, with the set-user-ID, set-group-ID and sticky bits (`inode(7)`): `0o7777` at most. Of no meaning to
    /// symbolic links.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The value of its extended attribute `security.capability` (`capabilities(7)`), if it has one.
    pub capability: Option<Vec<u8>>,
}

impl Entry {
    /// An entry of root's, without capabilities.
    pub fn new(path: EntryPath, kind: Kind, mode: u16) -> Self {
        Self { path, kind, mode, uid: 0, gid: 0, capability: None }
    }

    /// The same entry, owned by somebody else.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }
}

/// What an entry is. Devices, pipes and sockets do not exist: every runtime makes its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link, and what it says.
    Symlink(Vec<u8>),
    /// One more name of a regular file that stands before it in the same layer.
    HardLink(EntryPath),
}

/// The bytes of a file, or where to read them.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A part of a file on disk, or all of it.
    File {
        /// The file.
        path: PathBuf,
        /// Where the part begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        size: u64,
    },
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File { path, offset, size } => write!(f, "File({}, {offset}+{size})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_nowhere_but_down() {
        for good in ["a", "a/b", "...", "a b/\u{e9}", ".hidden/..x"] {
            assert_eq!(EntryPath::new(good).unwrap().as_bytes(), good.as_bytes());
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b"] {
            assert!(EntryPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(
            EntryPath::new(vec![b'a'; MAX_PATH]).is_ok() && EntryPath::new(vec![b'a'; MAX_PATH + 1]).is_err()
        );
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path = EntryPath::new("usr/lib/x").unwrap();
        assert_eq!(
            (path.name(), path.parent().unwrap().as_bytes()),
            (b"x".as_slice(), b"usr/lib".as_slice())
        );
        assert_eq!(EntryPath::new("usr").unwrap().parent(), None);
        assert_eq!(EntryPath::new("usr/lib").unwrap().join(b"x").unwrap(), path);
        assert_eq!(EntryPath::new(b"a\xff".to_vec()).unwrap().to_string(), "/a\\xff");
    }
}
