//! Versions of the servers that kinds write for: no setting may be newer than what reads it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::spec::PinnedImage;

/// Major and minor, as in `7.2`; a bare `7` is `7.0`, the oldest server that it can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// Behind it.
    pub minor: u32,
}

/// A version as a profile may write it: `17`, `"7.2"`, `8.0`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u32),
    Decimal(f64),
    Text(String),
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version: write it as `17` or `\"7.2\"`")]
pub struct ParseVersionError(String);

impl Version {
    /// This version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// What an image's tag says: a number in front (`16-bookworm`, `7.2.4-alpine`), or behind `pg` (`0.8.0-pg17`, as images
    /// with extensions of PostgreSQL are tagged).
    pub(super) fn of(image: &PinnedImage) -> Option<Self> {
        let tag = image.tag.as_deref()?;
        let from = tag.find("pg").map_or(0, |at| at + 2);
        let number = |text: &str| -> Option<u32> {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..end].parse().ok()
        };
        let text = &tag[from..];
        let major = number(text)?;
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let minor = rest.strip_prefix('.').and_then(number).unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "pattern": r"^[0-9]+(\.[0-9]+)*$", "examples": ["7.2", 17] })
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError(text.to_owned());
        let (major, rest) = text.split_once('.').unwrap_or((text, "0"));
        let minor = rest.split_once('.').map_or(rest, |(minor, _)| minor);
        let number = |text: &str| text.parse().map_err(|_| error());
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl TryFrom<Written> for Version {
    type Error = ParseVersionError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Whole(major) => Ok(Self { major, minor: 0 }),
            Written::Decimal(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn a_tag_says_which_server_is_inside() {
        let of = |tag: &str| {
            Version::of(&PinnedImage {
                repository: "docker.io/library/postgres".to_owned(),
                tag: Some(tag.to_owned()),
                digest: Digest::of(b""),
                name: "postgres".parse().unwrap(),
            })
        };
        for (tag, expected) in [
            ("16-bookworm", Some((16, 0))),
            ("17.2", Some((17, 2))),
            ("7.2.4-alpine3.20", Some((7, 2))),
            ("0.8.0-pg17", Some((17, 0))),
            ("latest-pg16", Some((16, 0))),
            ("16-3.4", Some((16, 0))),
            ("bookworm", None),
            ("latest", None),
            ("99999999999", None),
        ] {
            assert_eq!(of(tag), expected.map(|(major, minor)| Version::new(major, minor)), "{tag}");
        }
    }

    #[test]
    fn a_profile_may_write_a_number_or_a_text() {
        #[derive(Deserialize)]
        struct Table {
            version: Version,
        }
        for (text, expected) in [("17", (17, 0)), ("7.2", (7, 2)), ("'8.0.2'", (8, 0)), ("'16'", (16, 0))] {
            let table: Table = toml::from_str(&format!("version = {text}")).unwrap();
            assert_eq!(table.version, Version::new(expected.0, expected.1), "{text}");
        }
        assert!(toml::from_str::<Table>("version = 'new'").is_err());
    }
}
