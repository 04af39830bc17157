//! Generations: a number, a bundle, how its activation ended, and the two views of it; and the one durable flip.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Doing, Store, StoreError, durable};
use crate::bundle::Manifest;
use crate::model::{Digest, GenerationNumber, Slot};

/// A generation as seen from one slot: what `current` points at, so that one rename moves both together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The generation.
    pub generation: GenerationNumber,
    /// The slot.
    pub slot: Slot,
}

impl View {
    /// The machine before its first switch.
    pub const BARE: Self = Self { generation: GenerationNumber(0), slot: Slot::Blue };

    fn target(self) -> PathBuf {
        PathBuf::from(format!("generations/{}/{}", self.generation, self.slot))
    }

    fn parse(target: &Path) -> Option<Self> {
        let (number, slot) = target.to_str()?.strip_prefix("generations/")?.split_once('/')?;
        let slot = Slot::BOTH.into_iter().find(|one| one.as_str() == slot)?;
        Some(Self { generation: number.parse().ok()?, slot })
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} in {}", self.generation, self.slot)
    }
}

/// How the activation of a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    Pending,
    /// It was committed.
    Good,
    /// It failed, and the generation before came back.
    Failed(String),
}

/// `record.json` of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format of this document.
    pub schema: u32,
    /// Its number.
    pub generation: GenerationNumber,
    /// Its bundle; generation 0 has none.
    pub bundle: Option<Digest>,
    /// The profile, for people.
    pub profile: Option<String>,
    /// What the operator named.
    pub source: String,
    /// Who made it.
    pub by: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// How its activation ended.
    pub outcome: Outcome,
    /// The generation that was good before it was made current: where `rollback` goes.
    pub previous: Option<GenerationNumber>,
}

impl Record {
    /// The format of this document.
    pub const SCHEMA: u32 = 1;
}

/// A generation with its manifest at hand.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Its record.
    pub record: Record,
    /// Its manifest; generation 0 has none.
    pub manifest: Option<Manifest>,
}

impl Store {
    fn generation_dir(&self, number: GenerationNumber) -> PathBuf {
        self.at("generations").join(number.to_string())
    }

    /// The records of all generations, in order of their numbers. One that cannot be read is an error: whoever goes
    /// on without it might remove what it needs.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        let path = self.at("generations");
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing("listing", &path)?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let entry = entry.doing("listing", &path)?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // The record is written last, so a directory without one is a generation that never came to be.
            if let Some(record) = self.record(number)? {
                records.push(record);
            }
        }
        records.sort_by_key(|record| record.generation);
        Ok(records)
    }

    /// The record of one generation.
    pub fn record(&self, number: GenerationNumber) -> Result<Option<Record>, StoreError> {
        let path = self.generation_dir(number).join("record.json");
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::damaged(&path, error))
    }

    /// A generation with its manifest.
    pub fn generation(&self, number: GenerationNumber) -> Result<Option<Generation>, StoreError> {
        let Some(record) = self.record(number)? else { return Ok(None) };
        let manifest = record.bundle.map(|digest| self.manifest(digest)).transpose()?;
        Ok(Some(Generation { record, manifest }))
    }

    /// The manifest of a bundle that is in the store.
    pub fn manifest(&self, digest: Digest) -> Result<Manifest, StoreError> {
        let bytes = self.manifest_bytes(digest)?;
        let path = self.at("bundles").join(digest.hex());
        serde_json::from_slice(&bytes).map_err(|error| StoreError::damaged(&path, error))
    }

    /// Writes a record, replacing an earlier one.
    pub fn write_record(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.generation_dir(record.generation).join("record.json");
        let json = serde_json::to_vec_pretty(record).map_err(|error| StoreError::damaged(&path, error))?;
        durable::write(&path, &json, 0o600)
    }

    /// The next number: one more than the highest ever seen, whether or not it came to be.
    pub fn next_generation(&self) -> Result<GenerationNumber, StoreError> {
        Ok(self.last_generation()?.unwrap_or(View::BARE.generation).next())
    }

    /// The highest number ever seen, whether or not it came to be.
    pub fn last_generation(&self) -> Result<Option<GenerationNumber>, StoreError> {
        let path = self.at("generations");
        let mut highest = None;
        for entry in fs::read_dir(&path).doing("listing", &path)? {
            let name = entry.doing("listing", &path)?.file_name();
            if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
                highest = highest.max(Some(number));
            }
        }
        Ok(highest)
    }

    /// Makes a generation: its two views, synced, then its record.
    pub fn create_generation(&self, record: &Record, manifest: Option<&Manifest>) -> Result<(), StoreError> {
        let dir = self.generation_dir(record.generation);
        durable::make_dir(&dir, 0o755)?;
        for slot in Slot::BOTH {
            let view = dir.join(slot.as_str());
            durable::remove_dir_if_there(&view)?;
            durable::make_dir(&view, 0o755)?;
            for entry in manifest.into_iter().flat_map(|manifest| manifest.view(slot)) {
                let link = view.join(entry.path.as_str());
                let parent = durable::parent(&link);
                durable::make_dir(parent, 0o755)?;
                let up = "../".repeat(entry.path.as_str().matches('/').count() + 3);
                durable::link_new(&link, Path::new(&format!("{up}store/{}", entry.store_path())))?;
                durable::sync_dir(parent)?;
            }
            durable::sync_dir(&view)?;
        }
        durable::sync_dir(&dir)?;
        self.write_record(record)
    }

    /// Makes generation 0 current and last good, if nothing is: a fresh machine is not special.
    pub fn ensure_bare_generation(&self, by: &str, now: u64) -> Result<(), StoreError> {
        if self.current()?.is_some() {
            return Ok(());
        }
        if self.record(View::BARE.generation)?.is_none() {
            let record = Record {
                schema: Record::SCHEMA,
                generation: View::BARE.generation,
                bundle: None,
                profile: None,
                source: "the machine before its first switch".to_owned(),
                by: by.to_owned(),
                created: now,
                outcome: Outcome::Good,
                previous: None,
            };
            self.create_generation(&record, None)?;
        }
        durable::link(&self.at("last-good"), &View::BARE.target())?;
        durable::link(&self.at("current"), &View::BARE.target())
    }

    /// What is current; `None` before the first switch.
    pub fn current(&self) -> Result<Option<View>, StoreError> {
        self.view_at("current")
    }

    /// What a recovery goes back to.
    pub fn last_good(&self) -> Result<Option<View>, StoreError> {
        self.view_at("last-good")
    }

    fn view_at(&self, name: &str) -> Result<Option<View>, StoreError> {
        let path = self.at(name);
        let Some(target) = durable::read_link(&path)? else { return Ok(None) };
        View::parse(&target)
            .map(Some)
            .ok_or_else(|| StoreError::damaged(&path, format!("it points at `{}`", target.display())))
    }

    /// Makes the links for going forward and for going back, so that neither rename has to allocate anything.
    pub fn arm_flip(&self, forward: View, back: View) -> Result<(), StoreError> {
        durable::link_new(&self.at("current.back"), &back.target())?;
        durable::link_new(&self.at("current.forward"), &forward.target())?;
        durable::sync_dir(&self.home())
    }

    /// The flip: one rename, then the directory is synced.
    pub fn flip_forward(&self) -> Result<(), StoreError> {
        self.flip("current.forward")
    }

    /// Makes `view` current again. Uses the link made by [`Store::arm_flip`] if it is there and right.
    pub fn flip_back(&self, view: View) -> Result<(), StoreError> {
        if self.current()? == Some(view) {
            return durable::sync_dir(&self.home());
        }
        if self.view_at("current.back")? == Some(view) {
            return self.flip("current.back");
        }
        durable::link(&self.at("current"), &view.target())
    }

    fn flip(&self, prepared: &str) -> Result<(), StoreError> {
        let current = self.at("current");
        fs::rename(self.at(prepared), &current).doing("flipping", &current)?;
        durable::sync_dir(&self.home())
    }

    /// Removes what [`Store::arm_flip`] made and no flip used up.
    pub fn disarm_flip(&self) -> Result<(), StoreError> {
        durable::remove_if_there(&self.at("current.forward"))?;
        durable::remove_if_there(&self.at("current.back"))
    }

    /// Moves `last-good`.
    pub fn set_last_good(&self, view: View) -> Result<(), StoreError> {
        if self.last_good()? == Some(view) {
            Ok(())
        } else {
            durable::link(&self.at("last-good"), &view.target())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flip_back_needs_nothing_but_a_rename() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        store.ensure_bare_generation("test", 0).unwrap();
        assert_eq!(store.current().unwrap(), Some(View::BARE));
        let next = View { generation: GenerationNumber(1), slot: Slot::Green };
        store.arm_flip(next, View::BARE).unwrap();
        store.flip_forward().unwrap();
        assert_eq!(store.current().unwrap(), Some(next));
        store.flip_back(View::BARE).unwrap();
        assert_eq!(store.current().unwrap(), Some(View::BARE));
        assert!(!dir.path().join("var/lib/bundle/current.back").exists());
    }

    #[test]
    fn a_generation_that_never_got_its_record_keeps_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        store.ensure_bare_generation("test", 0).unwrap();
        fs::create_dir(dir.path().join("var/lib/bundle/generations/7")).unwrap();
        assert_eq!(store.next_generation().unwrap(), GenerationNumber(8));
        assert_eq!(store.records().unwrap().len(), 1);
    }
}
