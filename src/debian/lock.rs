//! From names to a lock: the archive's signed indexes, and the choice among what they name.
//!
//! The chain is checked here from its beginning: a keyring's keys sign `InRelease`, that has the SHA-256 of each index,
//! and that the one of each package. `InRelease` may be too old, or for another suite; the others cannot be.
#![expect(clippy::disallowed_methods, reason = "indexes are read from the builder's cache")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::cache::Cache;
use super::deb::decoder;
use super::fetch::{Fetch, Wanted};
use super::release::Release;
use super::universe::Universe;
use super::{DebianError, signature, solve};
use crate::model::Digest;
use crate::spec::{DEBIAN_MIRROR, DEBIAN_SECURITY, DEBIAN_SNAPSHOT, IndexPin, PackageLock};

/// The largest `InRelease` that is fetched, in bytes.
const MAX_RELEASE: u64 = 8 << 20;
/// The largest index that is fetched, in bytes. Debian's have some ten million.
const MAX_INDEX: u64 = 256 << 20;

/// The keys of Debian's archive, as the package `debian-archive-keyring` has them.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The suites that are asked. Of a package that several have, the latest version counts.
    pub suites: Vec<Suite>,
    /// The components of each, such as `main`.
    pub components: Vec<String>,
    /// Debian's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// The keys that are trusted to sign, as `gpg --export` gives them, with or without armor.
    pub keyring: PathBuf,
    /// Whether a suite may be older than it says it is valid: true for snapshots only.
    pub past: bool,
}

/// One suite of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// The archive's URL, without a slash at its end.
    pub url: String,
    /// The suite's name or code name.
    pub name: String,
}

impl Sources {
    /// A release of Debian as a stock machine has it: with its updates and its security updates, which those that are
    /// always in the making (`sid`) do not have. A snapshot is a time as snapshot.debian.org spells it.
    pub fn debian(
        suite: &str,
        mirror: Option<&str>,
        security: Option<&str>,
        snapshot: Option<&str>,
        architecture: &str,
    ) -> Self {
        let base = |given: Option<&str>, snapshot_of: &str, public: &str| {
            let url = match (given, snapshot) {
                (Some(url), _) => url.to_owned(),
                (None, Some(time)) => format!("{DEBIAN_SNAPSHOT}/{snapshot_of}/{time}"),
                (None, None) => public.to_owned(),
            };
            url.trim_end_matches('/').to_owned()
        };
        let (mirror, security) =
            (base(mirror, "debian", DEBIAN_MIRROR), base(security, "debian-security", DEBIAN_SECURITY));
        let of = |url: &str, name: String| Suite { url: url.to_owned(), name };
        let mut suites = vec![of(&mirror, suite.to_owned())];
        if !["sid", "unstable", "testing", "experimental"].contains(&suite) {
            suites.push(of(&mirror, format!("{suite}-updates")));
            suites.push(of(&security, format!("{suite}-security")));
        }
        Self {
            suites,
            components: vec!["main".to_owned()],
            architecture: architecture.to_owned(),
            keyring: KEYRING.into(),
            past: snapshot.is_some(),
        }
    }
}

/// Asks the archive's indexes once; images of one profile are then chosen from the same ones.
#[derive(Debug)]
pub struct Indexes {
    pins: Vec<IndexPin>,
    universe: Universe,
    architecture: String,
    suites: String,
}

impl Indexes {
    /// Fetches and checks the indexes. `now` is the time in seconds since 1970.
    pub fn fetch(sources: &Sources, fetch: &dyn Fetch, cache: &Cache, now: i64) -> Result<Self, DebianError> {
        let mut pins = Vec::new();
        let mut universe = Universe::default();
        for suite in &sources.suites {
            for pin in indexes(suite, sources, fetch, cache, now)? {
                let url = format!("{}/dists/{}/{}", pin.url, pin.suite, pin.path);
                let path = cache.path(pin.digest);
                let file = File::open(&path).map_err(DebianError::io("read", &path))?;
                let plain = decoder(&pin.path, BufReader::new(file))
                    .map_err(|reason| DebianError::Index { url: url.clone(), reason })?;
                universe.read(BufReader::with_capacity(1 << 16, plain), &pin.suite, &url)?;
                pins.push(pin);
            }
        }
        let names: Vec<_> = sources.suites.iter().map(|suite| format!("`{}`", suite.name)).collect();
        Ok(Self {
            pins,
            universe: universe.complete(),
            architecture: sources.architecture.clone(),
            suites: names.join(", "),
        })
    }

    /// Chooses what an image needs for these packages. Their order, and naming one twice, changes nothing.
    pub fn choose(&self, packages: &[String]) -> Result<PackageLock, DebianError> {
        let wanted: BTreeSet<_> = packages.iter().map(String::as_str).collect();
        let chosen = solve::solve(&self.universe, &wanted, &self.suites, &self.architecture)?;
        Ok(PackageLock {
            architecture: self.architecture.clone(),
            requested: wanted.into_iter().map(str::to_owned).collect(),
            indexes: self.pins.clone(),
            packages: chosen.iter().map(|candidate| candidate.pin()).collect(),
        })
    }
}

/// A suite's indexes, in the cache.
fn indexes(
    suite: &Suite,
    sources: &Sources,
    fetch: &dyn Fetch,
    cache: &Cache,
    now: i64,
) -> Result<Vec<IndexPin>, DebianError> {
    let base = format!("{}/dists/{}", suite.url, suite.name);
    let url = format!("{base}/InRelease");
    let in_release = fetch.bytes(&url, MAX_RELEASE)?;
    let signed = signature::verify(&url, &in_release, &sources.keyring)?;
    let release = Release::parse(&url, &signed.text)?;
    release.check(&url, &suite.name, Some(now).filter(|_| !sources.past))?;
    let mut pins = Vec::new();
    for component in &sources.components {
        let files = release.indexes(component, &sources.architecture);
        for file in files.map_err(|reason| DebianError::Index { url: url.clone(), reason })? {
            let from = format!("{base}/{}", file.fetch);
            if file.size > MAX_INDEX {
                return Err(DebianError::Index {
                    url: from,
                    reason: format!("it has more than {MAX_INDEX} bytes"),
                });
            }
            let path = cache.path(file.digest);
            let whole = File::open(&path).ok().and_then(|file| Digest::of_reader(file).ok());
            if whole != Some((file.digest, file.size)) {
                let wanted = Wanted { url: from, also: None, path, size: file.size, digest: file.digest };
                fetch.files(std::slice::from_ref(&wanted))?;
            }
            pins.push(IndexPin {
                url: suite.url.clone(),
                suite: suite.name.clone(),
                in_release: Digest::of(&in_release),
                date: release.date.clone(),
                keys: signed.keys.clone(),
                path: file.path,
                size: file.size,
                digest: file.digest,
            });
        }
    }
    Ok(pins)
}
