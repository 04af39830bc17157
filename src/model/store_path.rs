//! Where an artifact lives on the droplet: a function of its name, mode and content.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Digest, Mode};

/// `<hash>/<name>` below the store. The hash covers name, mode and content, so whoever names this path changes
/// exactly when something it depends on changes; the name stays the last part because systemd and people look at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePath {
    hash: Digest,
    name: String,
}

/// A text that is not `<64 hex digits>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a store path of the form `<64 hex digits>/<name>`")]
pub struct ParseStorePathError(String);

impl StorePath {
    /// The store as every rendered file names it, whatever `--root` is.
    pub const STORE: &'static str = "/var/lib/bundle/store";

    /// The path of a file with this name, mode and content.
    ///
    /// The hash is SHA-256 over `bundle-store-1\n<name>\n<mode>\n<content digest>\n`. A name has no line break, so
    /// no two different triples give the same input.
    pub fn of(name: &str, mode: Mode, content: Digest) -> Self {
        let input = format!("bundle-store-1\n{name}\n{mode}\n{content}\n");
        Self { hash: Digest::from_hasher(Sha256::new_with_prefix(input)), name: name.to_owned() }
    }

    /// The hash.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The last part.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/var/lib/bundle/store/<hash>/<name>`, as rendered files name it.
    pub fn absolute(&self) -> String {
        format!("{}/{self}", Self::STORE)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hash.hex(), self.name)
    }
}

impl TryFrom<String> for StorePath {
    type Error = ParseStorePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = text.split_once('/').and_then(|(hash, name)| {
            let hash = Digest::from_hex(hash).ok()?;
            let clean = name.parse::<super::TreePath>().is_ok() && !name.contains('/');
            clean.then(|| Self { hash, name: name.to_owned() })
        });
        parsed.ok_or(ParseStorePathError(text))
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_mode_and_content_each_move_the_path() {
        let base = StorePath::of("a", Mode::Read, Digest::of(b"x"));
        assert_ne!(base, StorePath::of("b", Mode::Read, Digest::of(b"x")));
        assert_ne!(base.hash(), StorePath::of("a", Mode::Run, Digest::of(b"x")).hash());
        assert_ne!(base.hash(), StorePath::of("a", Mode::Read, Digest::of(b"y")).hash());
        assert_eq!(base, StorePath::try_from(base.to_string()).unwrap());
    }
}
