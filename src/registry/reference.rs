//! What people write to name a bundle or an image.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::bundle::oci::bundle_tag;
use crate::model::Digest;

/// The host that is meant when a reference has none, and its API's host.
pub const DOCKER_HUB: &str = "docker.io";

/// A bundle, as `switch`, `pull` and `show` take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref {
    /// `repository:tag`.
    Tag(Repository, Tag),
    /// `repository@sha256:…`: the OCI manifest's digest.
    Manifest(Repository, Digest),
    /// `oci:PATH`: the only bundle of an OCI image layout.
    Layout(PathBuf),
    /// `sha256:…`: the bundle's own digest.
    Bundle(Digest),
}

/// Host and name of a repository, as in `registry.example.com/team/app`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    name: String,
}

/// A tag (distribution-spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

/// An image reference as in Compose files: `postgres:16`, `ghcr.io/team/app@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub repository: Repository,
    /// Its tag.
    pub tag: Option<Tag>,
    /// Its digest. With one, the tag is only for people.
    pub digest: Option<Digest>,
}

/// A text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {reason}")]
pub struct ParseRefError {
    text: String,
    what: &'static str,
    reason: &'static str,
}

const REF: &str = "bundle reference";
const IMAGE: &str = "image reference";

fn error(text: &str, what: &'static str, reason: &'static str) -> ParseRefError {
    ParseRefError { text: text.to_owned(), what, reason }
}

impl Repository {
    /// `registry.example.com`, with the port if there is one; `docker.io` for Docker Hub.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `team/app`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host that answers for it: Docker Hub's API is elsewhere.
    pub(super) fn api_host(&self) -> &str {
        if self.host == DOCKER_HUB { "registry-1.docker.io" } else { &self.host }
    }

    /// Whether it is on this very machine.
    pub(super) fn is_loopback(&self) -> bool {
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        };
        is_loopback(name)
    }
}

/// Whether a URL's or a reference's host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

impl FromStr for Repository {
    type Err = ParseRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<Image>() {
            Ok(Image { repository, tag: None, digest: None }) => Ok(repository),
            Ok(_) => Err(error(text, "repository", "it must have no tag and no digest")),
            Err(ParseRefError { reason, .. }) => Err(error(text, "repository", reason)),
        }
    }
}

impl Tag {
    /// The tag under which a registry has a bundle.
    pub fn of_bundle(bundle: Digest) -> Self {
        Self(bundle_tag(bundle))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ParseRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let good = bytes.next().is_some_and(word)
            && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
            && text.len() <= 128;
        let reason = "a tag has letters, digits, `_`, `.`, `-`, starts with one of the first three, \
                      and has at most 128 characters";
        if good { Ok(Self(text.to_owned())) } else { Err(error(text, "tag", reason)) }
    }
}

impl FromStr for Ref {
    type Err = ParseRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("oci:") {
            return match path {
                "" => Err(error(text, REF, "`oci:` is followed by the path of an OCI image layout")),
                _ => Ok(Self::Layout(path.into())),
            };
        }
        if text.starts_with("sha256:") {
            return text.parse().map(Self::Bundle).map_err(|_| {
                error(text, REF, "`sha256:` is followed by the 64 lower-case hex digits of a bundle's digest")
            });
        }
        match text.parse() {
            Ok(Image { repository, digest: Some(digest), .. }) => Ok(Self::Manifest(repository, digest)),
            Ok(Image { repository, tag: Some(tag), .. }) => Ok(Self::Tag(repository, tag)),
            Ok(_) => Err(error(
                text,
                REF,
                "it says neither tag nor digest; write `repository:tag`, `repository@sha256:…`, `sha256:…` or `oci:PATH`",
            )),
            Err(ParseRefError { reason, .. }) => Err(error(text, REF, reason)),
        }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(repository, tag) => write!(f, "{repository}:{tag}"),
            Self::Manifest(repository, digest) => write!(f, "{repository}@{digest}"),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::Bundle(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Image {
    type Err = ParseRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let reason = "`@` is followed by `sha256:` and 64 lower-case hex digits";
                (rest, Some(digest.parse().map_err(|_| error(text, IMAGE, reason))?))
            }
        };
        // A colon before the last slash belongs to the host's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => {
                let tag = tag.parse().map_err(|tag: ParseRefError| error(text, IMAGE, tag.reason))?;
                (path, Some(tag))
            }
            _ => (rest, None),
        };
        let (host, name) = split_host(path);
        if !is_host(&host) {
            return Err(error(text, IMAGE, "its host is not a host name with an optional port"));
        }
        if !is_name(&name) {
            let reason = "a repository has parts of lower-case letters and digits, with `.`, `_`, `__` or `-` inside, \
                          separated by `/`, 255 characters at most";
            return Err(error(text, IMAGE, reason));
        }
        Ok(Self { repository: Repository { host, name }, tag, digest })
    }
}

/// Docker's rule: the first part is a host if it has a dot or a colon, or is `localhost`; without a host, Docker Hub
/// is meant, and there a single part is an official image.
fn split_host(path: &str) -> (String, String) {
    match path.split_once('/') {
        Some((host, name)) if host.contains(['.', ':', '[']) || host == "localhost" => {
            let hub = host == DOCKER_HUB || host == "index.docker.io";
            let official = hub && !name.contains('/');
            let name = if official { format!("library/{name}") } else { name.to_owned() };
            (if hub { DOCKER_HUB.to_owned() } else { host.to_owned() }, name)
        }
        Some(_) => (DOCKER_HUB.to_owned(), path.to_owned()),
        None => (DOCKER_HUB.to_owned(), format!("library/{path}")),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_good = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(label),
    };
    name_good && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, parts separated by `/` (distribution-spec, "Pulling manifests").
fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let mut gaps = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let ends = part.bytes().next().is_some_and(word) && part.bytes().last().is_some_and(word);
        ends && gaps.all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
    };
    name.len() <= 255 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_read_and_written_in_full() {
        let digest = Digest::of(b"");
        for (text, full) in [
            ("registry.example.com/team/app:v1", "registry.example.com/team/app:v1".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("[::1]:5000/app:v1", "[::1]:5000/app:v1".to_owned()),
            ("team/app:v1", "docker.io/team/app:v1".to_owned()),
            ("app:v1", "docker.io/library/app:v1".to_owned()),
            ("index.docker.io/app:v1", "docker.io/library/app:v1".to_owned()),
            (&format!("ghcr.io/a/b@{digest}"), format!("ghcr.io/a/b@{digest}")),
            (&format!("ghcr.io/a/b:v1@{digest}"), format!("ghcr.io/a/b@{digest}")),
            (&digest.to_string(), digest.to_string()),
            ("oci:some/dir", "oci:some/dir".to_owned()),
        ] {
            let read: Ref = text.parse().unwrap();
            assert_eq!(read.to_string(), full);
            assert_eq!(read.to_string().parse(), Ok(read));
        }
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_a_reason() {
        for (text, words) in [
            ("", "a repository has"),
            ("ghcr.io/team/app", "neither tag nor digest"),
            ("sha256:abc", "64 lower-case"),
            ("oci:", "path"),
            ("ghcr.io/team/app@sha256:abc", "64 lower-case"),
            ("ghcr.io/team/app:", "a tag has"),
            ("ghcr.io/team/app:.x", "a tag has"),
            ("ghcr.io/Team/app:v1", "a repository has"),
            ("ghcr.io/../app:v1", "a repository has"),
            ("ghcr.io/a//b:v1", "a repository has"),
            ("ghcr.io/a_-b:v1", "a repository has"),
            ("ghcr.io/a?x=y:v1", "a repository has"),
            ("user@ghcr.io/a:v1", "64 lower-case"),
            ("ghcr.io:99999/a:v1", "host"),
            ("https://ghcr.io/a:v1", "host"),
        ] {
            let message = text.parse::<Ref>().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!("ghcr.io/a:v1".parse::<Repository>().is_err());
        assert!("ghcr.io/a/b__c-d.e".parse::<Repository>().is_ok());
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text: &str| text.parse::<Repository>().unwrap().is_loopback();
        assert!(loopback("localhost:5000/a") && loopback("127.0.0.1:5000/a") && loopback("[::1]:5000/a"));
        assert!(!loopback("127.0.0.1.example.com/a") && !loopback("10.0.0.1/a") && !loopback("a"));
    }
}
