//! Paths inside a bundle.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A relative path with nothing in it that could leave the directory it is joined to: no empty, `.` or `..`
/// component, no backslash, no control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// A text that is not a path inside a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path inside a bundle: it must be relative, without `.`, `..` or empty parts")]
pub struct ParsePathError(String);

impl TreePath {
    /// The path as text, parts separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TreePath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let clean = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part.contains('\\')
                && !part.contains(char::is_control)
        };
        if text.len() <= 200 && text.split('/').all(clean) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParsePathError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TreePath {
    type Error = ParsePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leaves_its_directory_is_a_path() {
        for wrong in ["", "/", "/etc", "a//b", "a/", "./a", "a/../b", "..", "a\\b", "a\nb"] {
            assert!(wrong.parse::<TreePath>().is_err(), "{wrong:?}");
        }
        assert_eq!("etc/a.conf".parse::<TreePath>().unwrap().name(), "a.conf");
    }
}
