//! Patterns of paths, as shells and `.gitignore` know them.

use std::fmt;
use std::str::FromStr;

/// A pattern: `*` and `?` stop at a slash, `**` does not; `[a-z]` and `{a,b}` are as in a shell. It is held against a path
/// without a slash in front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// A text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern: {reason}")]
pub struct ParsePatternError {
    text: String,
    reason: String,
}

impl Pattern {
    /// Whether a path fits.
    pub fn fits(&self, path: &[u8]) -> bool {
        fast_glob::glob_match(&self.0, path)
    }
}

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: String| ParsePatternError { text: text.to_owned(), reason };
        let pattern = text.trim_start_matches('/');
        if pattern.is_empty() {
            return Err(error("it is empty".to_owned()));
        }
        // What it means there is not what it would mean here.
        if pattern.starts_with('!') {
            return Err(error("write what is wanted, not what is not".to_owned()));
        }
        fast_glob::validate(pattern).map_err(|fault| error(fault.to_string()))?;
        Ok(Self(pattern.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().fits(path.as_bytes())
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        for (pattern, path) in [
            ("*.py", "a.py"),
            ("/*.py", "a.py"),
            ("**/*.py", "a.py"),
            ("**/*.py", "a/b/c.py"),
            ("usr/share/doc/**", "usr/share/doc/x/y"),
            ("usr/share/perl{,5}/**", "usr/share/perl/x"),
            ("usr/share/perl{,5}/**", "usr/share/perl5/x/y"),
            ("lib/{llvmjit*,bitcode/**}", "lib/llvmjit_types.bc"),
            ("lib/{llvmjit*,bitcode/**}", "lib/bitcode/a/b"),
            ("[ab]?", "ax"),
            ("**/tests", "a/tests"),
            ("**/tests", "tests"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.py", "a/b.py"),
            ("usr/share/doc/**", "usr/share/documents"),
            ("**/*.py", "a.pyc"),
            ("?", "/"),
            ("a", "b/a"),
        ] {
            assert!(!fits(pattern, path), "{pattern} {path}");
        }
        assert!("a*".parse::<Pattern>().unwrap().fits(b"a\xff"), "bytes that are no text");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "/", "a[", "{a", "!a"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
