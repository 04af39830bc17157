//! What no generation needs any more, and taking it away.
//!
//! Roots first: a generation goes before its manifest, a manifest before its files. So whatever a crash leaves behind is what
//! nothing names, and the next time takes it. What cannot be read is an error: whoever goes on without it might remove what
//! it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Doing, Outcome, Record, Store, StoreError, View, durable};
use crate::bundle::Manifest;
use crate::model::{Digest, GenerationNumber, Mode, PROGRAM, StorePath};

/// What has to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The generations.
    pub generations: BTreeSet<GenerationNumber>,
    /// The manifests of their bundles, and of a bundle that the machine waits for.
    pub manifests: BTreeSet<Digest>,
    /// The files in the store, by the hash in their path.
    pub objects: BTreeSet<Digest>,
    /// The images, by their local name.
    pub images: BTreeSet<String>,
}

/// What nothing that is kept needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Generations, in order of their numbers.
    pub generations: Vec<GenerationNumber>,
    /// Manifests, by their file's name.
    pub manifests: Vec<String>,
    /// Directories of the store.
    pub objects: Vec<String>,
    /// How much the files take, in bytes.
    pub bytes: u64,
}

impl Garbage {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.manifests.is_empty() && self.objects.is_empty()
    }
}

impl Store {
    /// What stays if the newest `keep` good generations do: they, and as many of all, so that the reasons of late failures can
    /// be read; what is current, last good, and where `rollback` goes from either; what a transaction under way or a first
    /// boot that waits is about; the program that is called.
    ///
    /// `also` stays besides: what runs, as far as it lies in the store.
    pub fn kept(&self, keep: usize, also: &[StorePath]) -> Result<Kept, StoreError> {
        let records = self.records()?;
        let mut kept = Kept { generations: self.generations_kept(&records, keep)?, ..Kept::default() };
        for record in records.iter().filter(|record| kept.generations.contains(&record.generation)) {
            kept.manifests.extend(record.bundle);
        }
        kept.manifests.extend(self.waiting()?.and_then(|waiting| waiting.bundle));
        for digest in kept.manifests.clone() {
            kept.all_of(&self.manifest(digest)?);
        }
        let called = durable::read_link(&self.below(PROGRAM)).ok().flatten();
        kept.objects.extend(called.iter().filter_map(|path| hash_in(path)));
        kept.objects.extend(also.iter().map(StorePath::hash));
        Ok(kept)
    }

    fn generations_kept(
        &self,
        records: &[Record],
        keep: usize,
    ) -> Result<BTreeSet<GenerationNumber>, StoreError> {
        let newest = |good: bool| {
            let some = records.iter().rev().filter(move |record| !good || record.outcome == Outcome::Good);
            some.take(keep.max(1)).map(|record| record.generation)
        };
        let mut kept: BTreeSet<_> = newest(true).chain(newest(false)).collect();
        // The bare machine has next to nothing, and is where the first one goes back to.
        kept.insert(View::BARE.generation);
        let pending = self.pending()?;
        let views = [
            self.current()?,
            self.last_good()?,
            pending.as_ref().map(|p| p.from),
            pending.as_ref().map(|p| p.to),
        ];
        for view in views.into_iter().flatten() {
            kept.insert(view.generation);
            let record = records.iter().find(|record| record.generation == view.generation);
            kept.extend(record.and_then(|record| record.previous));
        }
        kept.extend(pending.and_then(|pending| pending.previous));
        Ok(kept)
    }

    /// What there is beside `kept`. Only what has a name of the form that we give: anything else is not ours.
    pub fn garbage(&self, kept: &Kept) -> Result<Garbage, StoreError> {
        let mut garbage = Garbage::default();
        // The highest number is never forgotten, lest it be given twice.
        let last = self.last_generation()?;
        for (name, _) in self.listed("generations")? {
            let number: Option<GenerationNumber> = name.parse().ok();
            let goes =
                |number: &GenerationNumber| !kept.generations.contains(number) && last != Some(*number);
            garbage.generations.extend(number.filter(goes));
        }
        garbage.generations.sort();
        let unnamed = |name: &str, kept: &BTreeSet<Digest>| {
            let hex = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).unwrap_or(name);
            Digest::from_hex(hex).is_ok_and(|digest| hex != name || !kept.contains(&digest))
        };
        for (name, path) in self.listed("bundles")? {
            if unnamed(&name, &kept.manifests) {
                garbage.bytes += size(&path)?;
                garbage.manifests.push(name);
            }
        }
        for (name, path) in self.listed("store")? {
            if unnamed(&name, &kept.objects) {
                for (_, file) in listed(&path)? {
                    garbage.bytes += size(&file)?;
                }
                garbage.objects.push(name);
            }
        }
        Ok(garbage)
    }

    /// Takes it away. Holding the lock is the caller's business.
    pub fn remove(&self, garbage: &Garbage) -> Result<(), StoreError> {
        for number in &garbage.generations {
            let directory = self.at("generations").join(number.to_string());
            // Without its record it never came to be.
            durable::remove_if_there(&directory.join("record.json"))?;
            durable::sync_dir(&directory)?;
            durable::remove_dir_if_there(&directory)?;
        }
        durable::sync_dir(&self.at("generations"))?;
        for name in &garbage.manifests {
            durable::remove_if_there(&self.at("bundles").join(name))?;
        }
        durable::sync_dir(&self.at("bundles"))?;
        for name in &garbage.objects {
            durable::remove_dir_if_there(&self.at("store").join(name))?;
        }
        durable::sync_dir(&self.at("store"))
    }

    fn listed(&self, directory: &str) -> Result<BTreeMap<String, PathBuf>, StoreError> {
        let names = listed(&self.at(directory))?;
        Ok(names.into_iter().filter_map(|(name, path)| Some((name.into_string().ok()?, path))).collect())
    }
}

impl Kept {
    /// Everything that a machine of this manifest needs.
    pub fn all_of(&mut self, manifest: &Manifest) {
        self.objects.extend(manifest.artifacts.iter().map(|entry| entry.store_path().hash()));
        let program = |digest| StorePath::of("bundle", Mode::Run, digest).hash();
        self.objects.extend(manifest.activator.iter().map(|pin| program(pin.digest)));
        self.images.extend(manifest.images.iter().map(|image| image.local.clone()));
    }
}

/// The hash of an absolute path into the store.
fn hash_in(path: &Path) -> Option<Digest> {
    let inside = path.strip_prefix(StorePath::STORE).ok()?;
    Digest::from_hex(inside.iter().next()?.to_str()?).ok()
}

/// The store path that an absolute path is or lies in.
pub fn store_path_in(path: &str) -> Option<StorePath> {
    let inside = Path::new(path).strip_prefix(StorePath::STORE).ok()?;
    let parts: Vec<_> = inside.iter().take(2).map(|part| part.to_str()).collect::<Option<_>>()?;
    StorePath::try_from(parts.join("/")).ok()
}

fn listed(directory: &Path) -> Result<Vec<(OsString, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).doing("listing", directory)? {
        let entry = entry.doing("listing", directory)?;
        found.push((entry.file_name(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn size(path: &Path) -> Result<u64, StoreError> {
    Ok(fs::symlink_metadata(path).doing("looking at", path)?.len())
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
