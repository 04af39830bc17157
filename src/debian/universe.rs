//! All packages that the indexes name, of each the latest version, and what is needed to choose among them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, BufRead};

use super::control::{Paragraph, Relation};
use super::{DebianError, version};
use crate::model::Digest;
use crate::spec::PackagePin;

/// A package that can be chosen.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) pin: PackagePin,
    /// `Pre-Depends` and `Depends`, as they stand in the index.
    pub(crate) depends: String,
    pub(crate) conflicts: String,
    pub(crate) breaks: String,
    pub(crate) provides: String,
    /// How much a package is wanted where several would do; less is more.
    pub(crate) rank: u8,
}

/// The packages by name.
#[derive(Debug, Default)]
pub(crate) struct Universe {
    /// Boxed, because the tree's leaves are half empty where names come in order.
    candidates: BTreeMap<String, Box<Candidate>>,
    /// Who provides a name, and as which version, by the provider's rank and name.
    providers: BTreeMap<String, Vec<(String, Option<String>)>>,
}

impl Universe {
    /// Takes in an index. Where a package is known already, the later version stays, and of two alike the first.
    pub(crate) fn read(&mut self, reader: impl BufRead, suite: &str, url: &str) -> Result<(), DebianError> {
        let fault = |reason: String| DebianError::Index { url: url.to_owned(), reason };
        let taken = Paragraph::each(reader, |paragraph| {
            let candidate = candidate(&paragraph, suite)?;
            let known = self.candidates.get(&candidate.pin.name);
            let later = known.is_none_or(|known| {
                version::compare(&candidate.pin.version, &known.pin.version) == Ordering::Greater
            });
            if later {
                self.candidates.insert(candidate.pin.name.clone(), Box::new(candidate));
            }
            Ok::<_, io::Error>(())
        });
        taken.map_err(|error| fault(error.to_string()))
    }

    /// Collects who provides what; to be called when all indexes are read.
    pub(crate) fn complete(mut self) -> Self {
        let mut providers: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, candidate) in &self.candidates {
            for provided in Relation::list(&candidate.provides) {
                let version = provided.version.map(|(_, version)| version.to_owned());
                providers.entry(provided.name.to_owned()).or_default().push((
                    candidate.rank,
                    name.clone(),
                    version,
                ));
            }
        }
        self.providers = providers
            .into_iter()
            .map(|(name, mut who)| {
                who.sort();
                (name, who.into_iter().map(|(_, name, version)| (name, version)).collect())
            })
            .collect();
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Candidate> {
        self.candidates.get(name).map(Box::as_ref)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.candidates.keys().map(String::as_str)
    }

    /// Who provides a name, the most wanted first.
    pub(crate) fn providers(&self, name: &str) -> &[(String, Option<String>)] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that fulfil a relation, the most wanted first: the package itself, then those that provide it. A
    /// relation with a version is fulfilled only by what provides a version (Debian Policy, 7.5).
    pub(crate) fn fulfilling<'s>(&'s self, relation: &Relation<'_>) -> Vec<&'s Candidate> {
        let own = self.get(relation.name).filter(|candidate| relation.admits(&candidate.pin.version));
        let provided = self.providers(relation.name).iter().filter(|(_, version)| match version {
            Some(version) => relation.admits(version),
            None => relation.version.is_none(),
        });
        own.into_iter().chain(provided.filter_map(|(name, _)| self.get(name))).collect()
    }
}

fn candidate(paragraph: &Paragraph, suite: &str) -> io::Result<Candidate> {
    let lacks = |name: &str| {
        let package = paragraph.get("package").unwrap_or("a package").escape_debug().to_string();
        io::Error::new(io::ErrorKind::InvalidData, format!("`{package}` has no right `{name}`"))
    };
    let text = |name: &str| paragraph.get(name).unwrap_or_default().to_owned();
    let plain = |name: &str, also: &str| {
        let value = paragraph.get(name).unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte);
        let clean = !value.is_empty() && value.len() <= 1024 && value.bytes().all(allowed);
        if clean { Ok(value.to_owned()) } else { Err(lacks(name)) }
    };
    let path = plain("filename", "+-.~_:/%")?;
    if path.starts_with('/') || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(lacks("filename"));
    }
    let pin = PackagePin {
        name: plain("package", "+-.")?,
        version: plain("version", "+-.~:")?,
        architecture: plain("architecture", "-")?,
        suite: suite.to_owned(),
        path,
        size: paragraph.get("size").and_then(|size| size.parse().ok()).ok_or_else(|| lacks("size"))?,
        digest: paragraph
            .get("sha256")
            .and_then(|digest| Digest::from_hex(digest).ok())
            .ok_or_else(|| lacks("sha256"))?,
    };
    let ranks = ["required", "important", "standard", "optional"];
    let priority = paragraph.get("priority").unwrap_or_default();
    let rank = ranks.iter().position(|rank| *rank == priority).unwrap_or(ranks.len());
    let depends = [text("pre-depends"), text("depends")];
    Ok(Candidate {
        pin,
        depends: depends.iter().filter(|field| !field.is_empty()).cloned().collect::<Vec<_>>().join(", "),
        conflicts: text("conflicts"),
        breaks: text("breaks"),
        provides: text("provides"),
        rank: u8::try_from(rank).unwrap_or(u8::MAX),
    })
}
