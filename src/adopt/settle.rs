//! The profile's own reader has the last word: what it refuses is taken out again, line by line, and reported with its
//! reason, until it is content or nothing more can be taken out.

use crate::artifacts::KINDS;
use crate::model::Digest;
use crate::profile::{Diagnostics, Lock, Pin, Profile, Severity, Sources, check as read};

use super::document::Document;
use super::ledger::Ledger;
use super::{Found, Project};

const PROFILE: &str = "profiles/production.toml";
const BASE: &str = "profiles/base.toml";
const LOCK: &str = "profiles/bundle.lock";

/// What it came to.
pub(super) struct Settled {
    /// The text of `bundle.lock`.
    pub(super) lock: String,
    /// What could not be taken out.
    pub(super) faults: String,
}

/// More lines than any file has that could be made into a profile.
const MOST_ROUNDS: usize = 2000;

/// Makes a profile out of both documents that its own reader accepts.
pub(super) fn settle(
    project: &Project,
    ledger: &mut Ledger,
    base: &mut Document,
    profile: &mut Document,
) -> Settled {
    let mut last = None;
    for _ in 0..MOST_ROUNDS {
        let (base_text, profile_text) = (base.text(), profile.text());
        // Without any service there is no profile, and taking things out does not help.
        let (lock, faults) = check(&base_text, &profile_text, &project.travelling(base));
        let Some(faults) = faults else { return Settled { lock, faults: String::new() } };
        if !take_out(&faults, ledger, base, profile) {
            return Settled { lock, faults: faults.render(false) };
        }
        last = Some((lock, faults));
    }
    let (lock, faults) = last.map_or_else(Default::default, |(lock, faults)| (lock, faults.render(false)));
    Settled { lock, faults }
}

/// Takes out the line of the first error that has one; whether there was one.
fn take_out(faults: &Diagnostics, ledger: &mut Ledger, base: &mut Document, profile: &mut Document) -> bool {
    for fault in faults.iter().filter(|fault| fault.severity() == Severity::Error) {
        let Some(place) = faults.place(fault) else { continue };
        let Some(line) = place.line else { continue };
        let document = if place.path == BASE { &mut *base } else { &mut *profile };
        let Some(removed) = document.take_out(line, fault.message()) else { continue };
        if removed.what.is_empty() {
            return true;
        }
        let hint = fault.hints().join("; ");
        let why = fault.message().to_owned();
        for origin in &removed.origins {
            ledger.revoke(
                origin,
                &format!("the profile's own check refuses it: {why}"),
                Some(&hint).filter(|hint| !hint.is_empty()).map(String::as_str),
            );
        }
        ledger.todo(format!(
            "`{}` was left out, because {why}{}",
            removed.what,
            if hint.is_empty() { String::new() } else { format!("; {hint}") }
        ));
        return true;
    }
    false
}

/// Reads both texts, with a lock that has placeholders for all images; the lock, and what is wrong.
pub(super) fn check(
    base: &str,
    profile: &str,
    files: &[(String, Vec<String>)],
) -> (String, Option<Diagnostics>) {
    let mut sources = Sources::new(PROFILE);
    sources.add(PROFILE, profile);
    sources.add(BASE, base);
    for (file, below) in files {
        let plain = [String::new()];
        let below = if below.is_empty() { &plain[..] } else { below };
        let contents = below.iter().map(|path| (path.clone(), Vec::new())).collect();
        sources.add_contents(&format!("profiles/{file}"), contents);
    }
    let parsed = match Profile::parse(&sources, KINDS) {
        Ok(parsed) => parsed,
        Err(faults) => return (String::new(), Some(faults)),
    };
    let mut lock = Lock::parse(&sources);
    for image in parsed.images() {
        if image.digest.is_none() {
            lock.pin(&image, Pin { digest: placeholder(), manifest: None, placeholder: true });
        }
    }
    lock.allocate(parsed.placements());
    let text = lock.write();
    sources.add(LOCK, &text);
    (text, read(&sources, KINDS).err())
}

/// The digest of no image: 64 zeros.
fn placeholder() -> Digest {
    let text = format!("sha256:{}", "0".repeat(64));
    // It is a digest; were it none, the digest of nothing would do as well.
    text.parse().unwrap_or_else(|_| Digest::of(b""))
}

impl Project {
    /// The paths that the profile's files name, as they stand there, and what is below them.
    fn travelling(&self, base: &Document) -> Vec<(String, Vec<String>)> {
        let tables =
            base.tables.iter().filter(|table| table.name.first().is_some_and(|first| first == "files"));
        let sources = tables.flat_map(|table| &table.entries).filter(|entry| entry.key == "source");
        let sources = sources.filter_map(|entry| entry.value.as_str());
        let below = |named: &str| {
            let found = self.found.iter().find(|(path, _)| {
                self.within(path).is_some_and(|below| self.seen_from_profile(&below) == named)
            });
            match found {
                Some((_, Found::Directory { files, .. })) => files.clone(),
                _ => Vec::new(),
            }
        };
        sources.map(|named| (named.to_owned(), below(named))).collect()
    }
}
