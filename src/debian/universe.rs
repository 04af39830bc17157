//! All packages that the indexes name, of each the latest version, and what is needed to choose among them.
//!
//! Debian has some seventy thousand. Their words lie one after the other in one text, and a record says where, so that
//! all of them take little more room than what of the index is of use.

use std::io::{self, BufRead};

use super::control::{Paragraph, Relation};
use super::{DebianError, version};
use crate::model::Digest;
use crate::spec::PackagePin;

/// How much text is kept at most, in bytes. Debian's packages have 18 million.
const MAX_TEXT: usize = 1 << 30;
const FIELDS: usize = 8;
const RANKS: [&str; 4] = ["required", "important", "standard", "optional"];

/// A package's place in the text.
#[derive(Debug)]
struct Record {
    start: u32,
    /// Where each of its fields ends, after the start: name, version, architecture, path, `Pre-Depends` and `Depends`,
    /// `Conflicts`, `Breaks`, `Provides`.
    ends: [u32; FIELDS],
    size: u64,
    digest: Digest,
    suite: u16,
    rank: u8,
}

/// The packages by name.
#[derive(Debug, Default)]
pub(crate) struct Universe {
    text: String,
    records: Vec<Record>,
    suites: Vec<String>,
    /// What is provided, by its name and then by how much its provider is wanted: a record, and which of those that it
    /// provides.
    provided: Vec<(u32, u32)>,
}

/// A package that can be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'u> {
    universe: &'u Universe,
    record: &'u Record,
}

impl Universe {
    /// Takes in an index.
    pub(crate) fn read(&mut self, reader: impl BufRead, suite: &str, url: &str) -> Result<(), DebianError> {
        let number = u16::try_from(self.suites.len()).unwrap_or(u16::MAX);
        self.suites.push(suite.to_owned());
        let taken = Paragraph::each(reader, |paragraph| self.add(&paragraph, number));
        taken
            .map_err(|error: io::Error| DebianError::Index { url: url.to_owned(), reason: error.to_string() })
    }

    fn add(&mut self, paragraph: &Paragraph, suite: u16) -> io::Result<()> {
        let lacks = |name: &str| {
            let package = paragraph.get("package").unwrap_or("a package").escape_debug().to_string();
            io::Error::new(io::ErrorKind::InvalidData, format!("`{package}` has no right `{name}`"))
        };
        let field = |name: &str| paragraph.get(name).unwrap_or_default();
        let plain = |name: &str, also: &str| {
            let value = field(name);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte);
            let clean = !value.is_empty() && value.len() <= 1024 && value.bytes().all(allowed);
            if clean { Ok(value) } else { Err(lacks(name)) }
        };
        let path = plain("filename", "+-.~_:/%")?;
        if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(lacks("filename"));
        }
        let [before, depends] = ["pre-depends", "depends"].map(field);
        let fields: [&[&str]; FIELDS] = [
            &[plain("package", "+-.")?],
            &[plain("version", "+-.~:")?],
            &[plain("architecture", "-")?],
            &[path],
            &[before, if before.is_empty() || depends.is_empty() { "" } else { ", " }, depends],
            &[field("conflicts")],
            &[field("breaks")],
            &[field("provides")],
        ];
        let size = field("size").parse().map_err(|_| lacks("size"))?;
        let digest = Digest::from_hex(field("sha256")).map_err(|_| lacks("sha256"))?;
        let start = self.text.len();
        let mut ends = [0; FIELDS];
        for (end, parts) in ends.iter_mut().zip(fields) {
            self.text.extend(parts.iter().copied());
            *end = place(self.text.len() - start)?;
        }
        let rank = RANKS.iter().position(|rank| *rank == field("priority")).unwrap_or(RANKS.len());
        let rank = u8::try_from(rank).unwrap_or(u8::MAX);
        self.records.push(Record { start: place(start)?, ends, size, digest, suite, rank });
        Ok(())
    }

    /// Puts them in order, when all indexes are read. Where a package is there several times, the latest version stays,
    /// and of two alike the first.
    pub(crate) fn complete(mut self) -> Self {
        let mut records = std::mem::take(&mut self.records);
        // Without room for a second list of them: whoever was read first begins first.
        records.sort_unstable_by(|one, other| {
            let (a, b) = (self.of(one), self.of(other));
            let later = || version::compare(b.version(), a.version());
            a.name().cmp(b.name()).then_with(later).then_with(|| one.start.cmp(&other.start))
        });
        records.dedup_by(|later, first| self.of(later).name() == self.of(first).name());
        self.records = records;
        let mut provided = Vec::new();
        for (number, record) in (0..).zip(&self.records) {
            let candidate = self.of(record);
            for (nth, relation) in (0..).zip(Relation::list(candidate.provides())) {
                provided.push((relation.name, record.rank, relation.version, (number, nth)));
            }
        }
        // Records are in the order of their names.
        provided.sort_unstable_by_key(|(name, rank, version, (number, nth))| {
            (*name, *rank, *number, *version, *nth)
        });
        let provided = provided.into_iter().map(|(.., place)| place).collect();
        Self { provided, ..self }
    }

    /// A package by its name.
    pub(crate) fn get(&self, name: &str) -> Option<Candidate<'_>> {
        let at = self.records.binary_search_by(|record| self.of(record).name().cmp(name)).ok()?;
        Some(self.of(&self.records[at]))
    }

    fn of<'s>(&'s self, record: &'s Record) -> Candidate<'s> {
        Candidate { universe: self, record }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|record| self.of(record).name())
    }

    /// Who provides a name, and as which version, the most wanted first.
    pub(crate) fn providers<'s>(
        &'s self,
        name: &str,
    ) -> impl Iterator<Item = (Candidate<'s>, Option<&'s str>)> {
        let named = |place| self.relation(place).1.map(|relation| relation.name);
        let first = self.provided.partition_point(|&place| named(place) < Some(name));
        let behind = first + self.provided[first..].partition_point(|&place| named(place) == Some(name));
        self.provided[first..behind].iter().map(|&place| {
            let (candidate, relation) = self.relation(place);
            (candidate, relation.and_then(|relation| relation.version).map(|(_, version)| version))
        })
    }

    fn relation(&self, (number, nth): (u32, u32)) -> (Candidate<'_>, Option<Relation<'_>>) {
        let candidate = self.of(&self.records[number as usize]);
        (candidate, Relation::list(candidate.provides()).nth(nth as usize))
    }

    /// The packages that fulfil a relation, the most wanted first: the package itself, then those that provide it. A
    /// relation with a version is fulfilled only by what provides a version (Debian Policy, 7.5).
    pub(crate) fn fulfilling<'s>(&'s self, relation: &Relation<'_>) -> Vec<Candidate<'s>> {
        let own = self.get(relation.name).filter(|candidate| relation.admits(candidate.version()));
        let provided = self.providers(relation.name).filter(|(_, version)| match version {
            Some(version) => relation.admits(version),
            None => relation.version.is_none(),
        });
        own.into_iter().chain(provided.map(|(candidate, _)| candidate)).collect()
    }
}

/// A place in the text.
fn place(at: usize) -> io::Result<u32> {
    let place = u32::try_from(at).ok().filter(|_| at <= MAX_TEXT);
    place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it speaks of too many packages"))
}

impl<'u> Candidate<'u> {
    fn field(self, nth: usize) -> &'u str {
        let Record { start, ends, .. } = self.record;
        let from = nth.checked_sub(1).map_or(0, |before| ends[before]);
        &self.universe.text[(start + from) as usize..(start + ends[nth]) as usize]
    }

    pub(crate) fn name(self) -> &'u str {
        self.field(0)
    }

    pub(crate) fn version(self) -> &'u str {
        self.field(1)
    }

    /// `Pre-Depends` and `Depends`, as they stand in the index.
    pub(crate) fn depends(self) -> &'u str {
        self.field(4)
    }

    pub(crate) fn conflicts(self) -> &'u str {
        self.field(5)
    }

    pub(crate) fn breaks(self) -> &'u str {
        self.field(6)
    }

    pub(crate) fn provides(self) -> &'u str {
        self.field(7)
    }

    /// What a lock says of it.
    pub(crate) fn pin(self) -> PackagePin {
        let text = |nth| self.field(nth).to_owned();
        let suite = self.universe.suites.get(usize::from(self.record.suite)).cloned().unwrap_or_default();
        let Record { size, digest, .. } = *self.record;
        PackagePin {
            name: text(0),
            version: text(1),
            architecture: text(2),
            suite,
            path: text(3),
            size,
            digest,
        }
    }
}
