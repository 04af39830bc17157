//! One question to the renderers: the same profile with one thing changed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::artifacts::{Kind, Tree};
use crate::model::{Digest, TreePath};

use super::super::lock::{Lock, Pin};
use super::super::resolve::resolve_table;
use super::super::schema::Profile;
use super::super::source::{Sources, Table};
use super::Decides;

/// A profile, its lock, and the file that is asked about.
pub(super) struct Trial<'t> {
    pub(super) sources: &'t Sources,
    kinds: &'static [Kind],
    pub(super) ways: &'t BTreeMap<String, Vec<String>>,
    pub(super) table: &'t Table<'t>,
    pub(super) lock: &'t Table<'t>,
    file: &'t TreePath,
    tree: &'t Tree,
    pins: Lock,
    seen: View,
}

/// A profile without one of its tables, or with one twice.
pub(super) struct Other<'t> {
    table: Table<'t>,
    tree: Tree,
}

impl<'t> Other<'t> {
    /// The same questions, asked of it; `None` if it has no such file.
    pub(super) fn trial<'a>(&'a self, whole: &'a Trial<'t>) -> Option<Trial<'a>>
    where
        't: 'a,
    {
        entries(&self.tree, whole.file).next()?;
        Some(Trial::new(
            whole.sources,
            whole.kinds,
            whole.ways,
            &self.table,
            whole.lock,
            &self.tree,
            whole.file,
        ))
    }
}

/// How a file differs.
#[derive(Debug, Clone, Default)]
pub(super) struct Effect {
    /// It is not there.
    pub(super) absent: bool,
    /// Its content differs by more than the addresses of other files.
    content: bool,
    /// The files whose addresses differ in it.
    pub(super) through: BTreeSet<String>,
}

impl Effect {
    pub(super) fn decides(&self) -> Decides {
        match self {
            Self { absent: true, .. } => Decides::Existence,
            Self { content: true, .. } => Decides::Content,
            Self { through, .. } if !through.is_empty() => Decides::Reference,
            _ => Decides::Unknown,
        }
    }
}

/// What a trial has shown.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It would not be a profile: nothing.
    Wrong,
    /// The file stays as it is.
    Same,
    /// It does not.
    Differs(Effect),
}

/// A file's renderings, by slot.
#[derive(Debug, PartialEq, Eq)]
struct View {
    /// Its bytes.
    bytes: Vec<Vec<u8>>,
    /// The same, with names instead of the addresses of other files.
    named: Vec<String>,
}

impl View {
    fn of(tree: &Tree, file: &TreePath) -> Self {
        let bytes: Vec<Vec<u8>> = entries(tree, file).map(|entry| entry.content.clone()).collect();
        Self { named: Vec::new(), bytes }
    }

    /// What bytes alone do not say. It costs more than comparing them, and few trials need it.
    fn name(&mut self, tree: &Tree) {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for entry in tree.entries() {
            names.insert(entry.store_path().hash().hex(), entry.path.to_string());
        }
        if let Some(release) = tree.release() {
            names.insert(release.hex(), RELEASE.to_owned());
        }
        for bytes in &self.bytes {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for (hash, name) in &names {
                if text.contains(hash) {
                    text = text.replace(hash, name);
                }
            }
            self.named.push(text);
        }
    }
}

/// As people read it among the files that a file names.
const RELEASE: &str = "the release";

fn entries<'t>(tree: &'t Tree, file: &TreePath) -> impl Iterator<Item = &'t crate::artifacts::Entry> {
    tree.entries().filter(move |entry| entry.path == *file)
}

impl<'t> Trial<'t> {
    pub(super) fn new(
        sources: &'t Sources,
        kinds: &'static [Kind],
        ways: &'t BTreeMap<String, Vec<String>>,
        table: &'t Table<'t>,
        lock: &'t Table<'t>,
        tree: &'t Tree,
        file: &'t TreePath,
    ) -> Self {
        let mut seen = View::of(tree, file);
        seen.name(tree);
        Self { sources, kinds, ways, table, lock, file, tree, pins: Lock::of_table(sources, lock), seen }
    }

    /// What becomes of the file without the value at `keys`.
    pub(super) fn without(&self, keys: &[String]) -> Outcome {
        let mut table = self.table.clone();
        if put(&mut table, keys, None) { self.ask(&table, &self.pins) } else { Outcome::Wrong }
    }

    /// The profile without the table at `keys`, if that is one.
    pub(super) fn smaller(&self, keys: &[String]) -> Option<Other<'t>> {
        let mut table = self.table.clone();
        put(&mut table, keys, None).then_some(())?;
        let tree = self.render(&table, &self.pins)?;
        Some(Other { table, tree })
    }

    /// The profile with the table `name` below `keys` twice, the second time under another name: what refers to it by
    /// name has a choice then.
    pub(super) fn larger(&self, keys: &[String], name: &str) -> Option<Other<'t>> {
        let mut table = self.table.clone();
        let twin = format!("{name}2");
        // A stateful service's twin is stateful too.
        for (_, value) in &mut table {
            let DeValue::Array(list) = value.get_mut() else { continue };
            if let Some(item) = list.iter().find(|item| item.get_ref().as_str() == Some(name)) {
                let span = item.span();
                list.push(Spanned::new(span, DeValue::String(Cow::Owned(twin.clone()))));
            }
        }
        let mut around = &mut table;
        for key in keys {
            let DeValue::Table(inner) = around.get_mut(key.as_str())?.get_mut() else { return None };
            around = inner;
        }
        let (key, value) = around.get_key_value(name)?;
        let (key, value) = (Spanned::new(key.span(), Cow::Owned(twin)), value.clone());
        around.insert(key, value);
        let tree = self.render(&table, &self.pins)?;
        Some(Other { table, tree })
    }

    /// What becomes of it with another value, written in TOML.
    pub(super) fn instead(&self, keys: &[String], text: &str) -> Outcome {
        let text = format!("v = {text}");
        let mut table: Table<'_> = self.table.clone();
        if put(&mut table, keys, value(&text)) { self.ask(&table, &self.pins) } else { Outcome::Wrong }
    }

    /// The same, for a value of the lock.
    pub(super) fn pinned(&self, keys: &[String], text: &str) -> Outcome {
        let text = format!("v = {text}");
        let mut lock: Table<'_> = self.lock.clone();
        if !put(&mut lock, keys, value(&text)) {
            return Outcome::Wrong;
        }
        let lock = Lock::of_table(self.sources, &lock);
        if lock.faults().has_errors() { Outcome::Wrong } else { self.ask(self.table, &lock) }
    }

    fn ask(&self, table: &Table<'_>, lock: &Lock) -> Outcome {
        self.render(table, lock).map_or(Outcome::Wrong, |tree| self.compare(&tree))
    }

    /// Everything that a profile renders to, after `bundle lock`: another image has a digest, another service addresses.
    fn render(&self, table: &Table<'_>, lock: &Lock) -> Option<Tree> {
        let profile = Profile::of_table(self.sources, self.kinds, table);
        if profile.faults().has_errors() {
            return None;
        }
        let mut lock = lock.clone();
        for image in profile.images() {
            if image.digest.is_none() && lock.image(&image).is_none() {
                let digest = Digest::of(image.to_string().as_bytes());
                lock.pin(&image, Pin { digest, manifest: None, placeholder: false });
            }
        }
        lock.allocate(profile.placements()).then_some(())?;
        resolve_table(&profile, &lock, table).ok()?.render().ok()
    }

    fn compare(&self, tree: &Tree) -> Outcome {
        let mut view = View::of(tree, self.file);
        if view.bytes == self.seen.bytes {
            return Outcome::Same;
        }
        view.name(tree);
        let through = if view.named == self.seen.named { self.moved(tree) } else { BTreeSet::new() };
        let content = view.named != self.seen.named;
        Outcome::Differs(Effect { absent: view.bytes.is_empty(), content, through })
    }

    /// The files that this one names, and that live elsewhere in the other tree.
    fn moved(&self, other: &Tree) -> BTreeSet<String> {
        let there: BTreeSet<String> = other.entries().map(|entry| entry.store_path().hash().hex()).collect();
        let named = |hash: &str| {
            self.seen
                .bytes
                .iter()
                .any(|bytes| bytes.windows(hash.len()).any(|window| window == hash.as_bytes()))
        };
        let mut moved: BTreeSet<String> = self
            .tree
            .entries()
            .map(|entry| (entry.store_path().hash().hex(), entry.path.to_string()))
            .filter(|(hash, _)| !there.contains(hash) && named(hash))
            .map(|(_, path)| path)
            .collect();
        let release = self.tree.release().filter(|release| other.release() != Some(*release));
        if release.is_some_and(|release| named(&release.hex())) {
            moved.insert(RELEASE.to_owned());
        }
        moved
    }
}

/// The value of `v = …`.
fn value(text: &str) -> Option<DeValue<'_>> {
    DeTable::parse(text).ok()?.into_inner().remove("v").map(Spanned::into_inner)
}

/// Puts a value in the place of the one at `keys`, or takes that one out. `false` if there is none.
fn put<'t>(table: &mut Table<'t>, keys: &[String], value: Option<DeValue<'t>>) -> bool {
    let Some((first, rest)) = keys.split_first() else { return false };
    if rest.is_empty() {
        return match value {
            None => table.remove(first.as_str()).is_some(),
            Some(value) => table.get_mut(first.as_str()).is_some_and(|old| {
                // Paths are relative to the file that says them: the place stays.
                *old = Spanned::new(old.span(), value);
                true
            }),
        };
    }
    match table.get_mut(first.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => put(inner, rest, value),
        _ => false,
    }
}
