//! The files of one bundle while they are being rendered, and what the activator must know about them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Check, Digest, Dump, Mask, Mode, OnChange, ProfileName, SecretFile, ServiceName, Slot, Slots, StorePath,
    TreePath, Unit, UnitName,
};

/// All files of a bundle, and what renderers tell each other: a config file's kind says where it is mounted, the
/// compose kind, which comes last, mounts it.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    header: Option<String>,
    entries: BTreeMap<(TreePath, Slots), Entry>,
    mounts: BTreeMap<ServiceName, Vec<ServiceMount>>,
    commands: BTreeMap<ServiceName, Vec<String>>,
    suggestions: BTreeMap<ServiceName, serde_json::Map<String, serde_json::Value>>,
    variables: BTreeMap<ServiceName, BTreeMap<String, String>>,
    secret_files: BTreeMap<String, SecretFile>,
    masks: BTreeMap<UnitName, Mask>,
    packages: BTreeSet<String>,
    dumps: Vec<Dump>,
    kept_days: Option<u32>,
    release: Option<Digest>,
}

/// One rendered file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kind that made it.
    pub kind: &'static str,
    /// Its place in a generation's view. Below `etc/` it also appears in `/etc`.
    pub path: TreePath,
    /// The views in which it stands.
    pub slots: Slots,
    /// Its mode.
    pub mode: Mode,
    /// Its bytes.
    pub content: Vec<u8>,
    /// How the program that reads it judges it before anything is touched.
    pub check: Option<Check>,
    /// What has to happen when it differs from the current generation's.
    pub on_change: Vec<OnChange>,
    /// If it is a systemd unit: what the activator does with it.
    pub unit: Option<Unit>,
    /// Whether it begins with the tree's header. Every syntax that we write takes `#` for a comment; JSON has none, and
    /// some files' first line means something.
    pub headed: bool,
}

/// A file of the bundle mounted into a service, read-only, by its store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMount {
    /// The absolute host path: a store path, or a secret file in the ramfs.
    pub source: String,
    /// Where the container sees it.
    pub target: String,
}

/// Why a tree could not be rendered. These are faults of the renderers or of a profile that the checks let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Two entries for one place.
    #[error("two artifacts both write `{0}`")]
    Collision(TreePath),
    /// A kind met a service that the profile does not have.
    #[error("`{kind}` is about service `{service}`, which the profile does not have")]
    NoService {
        /// The kind.
        kind: &'static str,
        /// The service it named.
        service: String,
    },
    /// A writer refused a value.
    #[error("`{path}` cannot be written: {reason}")]
    Format {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Entry {
    /// A read-only text file that stands in both views, begins with the header, and has nothing more to say about it.
    pub fn text(kind: &'static str, path: TreePath, content: String) -> Self {
        Self {
            kind,
            path,
            slots: Slots::Both,
            mode: Mode::Read,
            content: content.into_bytes(),
            check: None,
            on_change: Vec::new(),
            unit: None,
            headed: true,
        }
    }

    /// Has no header: its syntax knows no comments, or its first line means something.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.headed = false;
        self
    }

    /// Stands only in this slot's view.
    #[must_use]
    pub fn only(mut self, slot: Slot) -> Self {
        self.slots = slot.into();
        self
    }

    /// Is judged by this command; `{}` stands for the file.
    #[must_use]
    pub fn check(mut self, argv: &[&str]) -> Self {
        self.check = Some(Check(argv.iter().map(|&arg| arg.to_owned()).collect()));
        self
    }

    /// Asks this when it changes.
    #[must_use]
    pub fn on_change(mut self, what: OnChange) -> Self {
        self.on_change.push(what);
        self
    }

    /// Is a systemd unit.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Where it will live on the machine.
    pub fn store_path(&self) -> StorePath {
        StorePath::of(self.path.name(), self.mode, Digest::of(&self.content))
    }
}

/// The first line of what is written for `profile`.
pub(super) fn header(profile: &ProfileName) -> String {
    format!("# Written by bundle from the profile `{profile}`: change that, not this file.\n")
}

impl Tree {
    /// A tree whose files say which profile they come from.
    pub fn new(profile: &ProfileName) -> Self {
        Self { header: Some(header(profile)), ..Self::default() }
    }

    /// Adds a file and says where it will live.
    pub fn insert(&mut self, mut entry: Entry) -> Result<StorePath, RenderError> {
        if let Some(header) = self.header.as_ref().filter(|_| entry.headed) {
            entry.content.splice(0..0, header.bytes());
        }
        let taken = |slots| self.entries.contains_key(&(entry.path.clone(), slots));
        let collides = match entry.slots {
            Slots::Both => [Slots::Both, Slots::Blue, Slots::Green].into_iter().any(taken),
            one => [Slots::Both, one].into_iter().any(taken),
        };
        if collides {
            return Err(RenderError::Collision(entry.path));
        }
        let path = entry.store_path();
        self.entries.insert((entry.path.clone(), entry.slots), entry);
        Ok(path)
    }

    /// Mounts a file into a service.
    pub fn mount(&mut self, service: &ServiceName, mount: ServiceMount) {
        self.mounts.entry(service.clone()).or_default().push(mount);
    }

    /// Gives a service its command, unless the profile does.
    pub fn command(&mut self, service: &ServiceName, command: Vec<String>) {
        self.commands.insert(service.clone(), command);
    }

    /// Gives a service one of Compose's keys, unless the profile does: what a kind knows of the image it configures.
    pub fn suggest(&mut self, service: &ServiceName, key: &str, value: serde_json::Value) {
        self.suggestions.entry(service.clone()).or_default().insert(key.to_owned(), value);
    }

    /// Gives a service a variable, unless the profile does.
    pub fn variable(&mut self, service: &ServiceName, name: &str, value: &str) {
        self.variables.entry(service.clone()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Has a file written into the secrets' ramfs, and says its absolute path. Saying the same twice is no harm.
    pub fn secret_file(&mut self, file: SecretFile) -> Result<String, RenderError> {
        let path = file.absolute();
        match self.secret_files.insert(path.clone(), file.clone()) {
            Some(other) if other != file => Err(RenderError::Collision(file.path)),
            _ => Ok(path),
        }
    }

    /// Has a unit of the distribution masked, because one of ours takes its place.
    pub fn mask(&mut self, unit: UnitName, mask: Mask) {
        self.masks.insert(unit, mask);
    }

    /// The masked units.
    pub fn masks(&self) -> &BTreeMap<UnitName, Mask> {
        &self.masks
    }

    /// Has a package of the distribution installed with the first boot.
    pub fn package(&mut self, name: &str) {
        self.packages.insert(name.to_owned());
    }

    /// The packages that kinds ask for, in order of their names.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(String::as_str)
    }

    /// Says how a service's data is copied.
    pub fn dump(&mut self, dump: Dump) {
        self.dumps.push(dump);
    }

    /// How data is copied, in the order in which the kinds said so.
    pub fn dumps(&self) -> &[Dump] {
        &self.dumps
    }

    /// Has the copies made, and kept for so many days.
    pub fn keep_dumps(&mut self, days: u32) {
        self.kept_days = Some(days);
    }

    /// For how many days copies are kept, if any are made.
    pub fn kept_days(&self) -> Option<u32> {
        self.kept_days
    }

    /// Records the release: the hash of the slot services' canonical model.
    pub fn set_release(&mut self, release: Digest) {
        self.release = Some(release);
    }

    /// The files, in order of path and slot.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The file at `path` in the view of `slot`.
    pub fn get(&self, path: &str, slot: Slot) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.path.as_str() == path && entry.slots.has(slot))
    }

    /// What is mounted into `service`, sorted by target.
    pub fn mounts(&self, service: &ServiceName) -> Vec<ServiceMount> {
        let mut mounts = self.mounts.get(service).cloned().unwrap_or_default();
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        mounts
    }

    /// The command that a kind gave to `service`.
    pub fn command_of(&self, service: &ServiceName) -> Option<&[String]> {
        self.commands.get(service).map(Vec::as_slice)
    }

    /// Compose's keys that kinds gave to `service`.
    pub fn suggestions_for(
        &self,
        service: &ServiceName,
    ) -> impl Iterator<Item = (&String, &serde_json::Value)> {
        self.suggestions.get(service).into_iter().flatten()
    }

    /// The variables that kinds gave to `service`.
    pub fn variables_for(&self, service: &ServiceName) -> impl Iterator<Item = (&String, &String)> {
        self.variables.get(service).into_iter().flatten()
    }

    /// The files for the ramfs, in order of path.
    pub fn secret_files(&self) -> impl Iterator<Item = &SecretFile> {
        self.secret_files.values()
    }

    /// The release, once the compose kind has rendered.
    pub fn release(&self) -> Option<Digest> {
        self.release
    }

    /// The services that mount something or got a command, for checks.
    pub fn touched_services(&self) -> BTreeSet<&ServiceName> {
        self.mounts.keys().chain(self.commands.keys()).collect()
    }
}
