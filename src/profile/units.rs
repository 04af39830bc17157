//! Sizes, durations and image references, in Compose's spelling.

use std::fmt;
use std::str::FromStr;

use crate::model::{Digest, ImageName};

/// A number of bytes: `512m`, `1g`, `64kb`, `100` (Compose specification, "Specifying byte values").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A text that is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a whole number and `b`, `k`, `m` or `g`, such as `512m`")]
pub struct ParseBytesError(String);

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor: Option<u64> = match unit {
            "" | "b" => Some(1),
            "k" | "kb" => Some(1 << 10),
            "m" | "mb" => Some(1 << 20),
            "g" | "gb" => Some(1 << 30),
            _ => None,
        };
        let number = digits.parse::<u64>().ok();
        number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| ParseBytesError(text.to_owned()))
    }
}

/// A span of time: `30s`, `1m30s`, `500ms` (Compose specification, "Specifying durations").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    /// Microseconds, the smallest unit that Compose knows.
    pub micros: u64,
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write whole numbers and `h`, `m`, `s`, `ms` or `us`, such as `1m30s`")]
pub struct ParseDurationError(String);

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDurationError(text.to_owned());
        let mut rest = text;
        let mut micros: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let factor = match unit {
                "us" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" => 60_000_000,
                "h" => 3_600_000_000,
                _ => return Err(error()),
            };
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
            micros = part.and_then(|part| micros.checked_add(part)).ok_or_else(error)?;
            rest = tail;
        }
        if text.is_empty() { Err(error()) } else { Ok(Self { micros }) }
    }
}

/// The name of an image, complete: what Docker would make of a short one is written out, so that one image has one
/// name (`postgres:16` is `docker.io/library/postgres:16`; distribution/reference, "normalize").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageReference {
    /// Host and repository.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest, if the reference itself pins one.
    pub digest: Option<Digest>,
    /// The last part of the repository.
    pub name: ImageName,
    /// It is one of the profile's own, whose digest comes of building it.
    pub built: bool,
}

/// A text that is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image: {reason}")]
pub struct ParseImageError {
    text: String,
    reason: String,
}

impl FromStr for ImageReference {
    type Err = ParseImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| ParseImageError { text: text.to_owned(), reason: reason.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|fault| error(&fault.to_string()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_ref().is_some_and(|tag| !is_tag(tag)) {
            return Err(error("a tag has letters, digits, `_`, `.` and `-`, and at most 128 characters"));
        }
        if tag.is_none() && digest.is_none() {
            return Err(error("it has neither tag nor digest; write `NAME:TAG` or `NAME@sha256:…`"));
        }
        let repository = full_repository(path);
        let (host, parts) = repository.split_once('/').unwrap_or_default();
        if !is_host(host) || !parts.split('/').all(is_part) || repository.len() > 255 {
            return Err(error(
                "write `registry.example.com/team/app:TAG`; a repository has lower-case letters, digits, `.`, `_` and `-`",
            ));
        }
        let last = parts.rsplit('/').next().unwrap_or_default();
        let name = last.parse().map_err(|fault: crate::model::ParseNameError| error(&fault.to_string()))?;
        Ok(Self { repository, tag, digest, name, built: false })
    }
}

/// What a service runs: an image of a registry, or by its bare name one of the profile's own.
#[derive(Debug, Clone)]
pub(crate) struct ServiceImage(pub(crate) ImageReference);

impl FromStr for ServiceImage {
    type Err = ParseImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<ImageName>() {
            Ok(name) => Ok(Self(ImageReference {
                // The profile's registry fills this in.
                repository: String::new(),
                tag: None,
                digest: None,
                name,
                built: true,
            })),
            Err(_) => text.parse().map(Self),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Docker's rule: the first part is a host if it has a dot or a port or is `localhost`; else it is Docker Hub's.
fn full_repository(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    let has_host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    match (has_host, path.contains('/')) {
        (true, _) => match path.strip_prefix("docker.io/") {
            Some(short) if !short.contains('/') => format!("docker.io/library/{short}"),
            _ => path.to_owned(),
        },
        (false, true) => format!("docker.io/{path}"),
        (false, false) => format!("docker.io/library/{path}"),
    }
}

/// `registry.example.com/team/app`: host and path, no tag.
pub(crate) fn is_repository(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(host, path)| is_host(host) && !path.is_empty() && path.split('/').all(is_part))
        && text.len() <= 255
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    is_host_name(name) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// A DNS name (RFC 1123 §2.1), in lower case.
pub(crate) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A part of a repository (OCI distribution-spec, "Pulling manifests").
fn is_part(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alphanumeric)
        && part.ends_with(alphanumeric)
        && part.chars().all(|c| alphanumeric(c) || "._-".contains(c))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        for (short, full) in [
            ("postgres:16", "docker.io/library/postgres:16"),
            ("docker.io/postgres:16", "docker.io/library/postgres:16"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost:5000/b:1", "localhost:5000/b:1"),
        ] {
            assert_eq!(short.parse::<ImageReference>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn an_image_has_a_tag_or_a_digest() {
        let digest = Digest::of(b"");
        assert!(format!("a@{digest}").parse::<ImageReference>().unwrap().tag.is_none());
        for wrong in ["", "a", "a:", "A:1", "a b:1", "x/:1", "a@sha256:1", "/a:1"] {
            assert!(wrong.parse::<ImageReference>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_and_sizes_are_composes() {
        assert_eq!("1m30s".parse(), Ok(Duration { micros: 90_000_000 }));
        assert_eq!("512m".parse(), Ok(Bytes(512 << 20)));
        for wrong in ["", "30", "s", "1 s", "-1s", "1d", "99999999999999999999s", "1.5s"] {
            assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
        }
        for wrong in ["", "m", "1.5g", "1t", "-1m", "99999999999g", "1 g"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }
}
