//! All packages' entries as one tree, as dpkg would have put them there: directories shared, `/bin` and its kind led into
//! `/usr`, and no file of one package overwritten by another's unless one of them says so.

use std::collections::BTreeMap;

use super::DebianError;
use super::control::Relation;
use super::package::{self, Package};
use crate::image::{Content, Entry, EntryPath, Kind};
use crate::model::{ParsePatternError, Pattern};

/// Directories that are links into `/usr` (<https://wiki.debian.org/UsrMerge>), and what lies in them with it.
const MERGED: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];
/// Links that `base-files` makes when it is configured, and what older packages put below them.
const MOVED: [(&str, &str); 2] = [("var/lock", "run/lock"), ("var/run", "run")];

/// Files that a package moves out of its own file's way with `dpkg-divert` in its `preinst`: the package, the path, where
/// the others' file goes.
const DIVERSIONS: [(&str, &str, &str); 1] =
    [("postgresql-common", "usr/bin/pg_config", "usr/bin/pg_config.libpq-dev")];

/// Who an entry belongs to: a package, by its number, or nobody, because it was synthesised.
pub(crate) type Owner = Option<usize>;

/// An entry in the tree.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// With hard links resolved: each has the content.
    pub(crate) entry: Entry,
    pub(crate) owner: Owner,
    /// Whether it has other names, which are those with the very same content.
    pub(crate) linked: bool,
}

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<EntryPath, Node>,
    /// What the profile does not want; still there to be looked at.
    dropped: BTreeMap<EntryPath, Node>,
    exclude: Exclude,
}

/// Which paths an image is not to have: the last pattern that fits decides, and one with `!` in front keeps.
#[derive(Debug, Default)]
pub(crate) struct Exclude(Vec<(bool, Pattern)>);

impl Exclude {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, DebianError> {
        let read = |text: &String| {
            let kept = text.strip_prefix('!');
            Ok((kept.is_some(), kept.unwrap_or(text).parse()?))
        };
        patterns
            .iter()
            .map(read)
            .collect::<Result<_, ParsePatternError>>()
            .map(Self)
            .map_err(DebianError::Pattern)
    }

    fn drops(&self, path: &EntryPath) -> bool {
        self.0.iter().rfind(|(_, pattern)| pattern.fits(path.as_bytes())).is_some_and(|(keep, _)| !keep)
    }
}

impl Tree {
    /// Puts the packages together. The first is asked first what a directory is like.
    pub(crate) fn merge(packages: &[Package], exclude: Exclude) -> Result<Self, DebianError> {
        let mut tree = Self { exclude, ..Self::default() };
        for (number, package) in packages.iter().enumerate() {
            tree.add(packages, number, package)?;
        }
        tree.links(packages)?;
        tree.parents();
        let exclude = &tree.exclude;
        tree.dropped = tree.nodes.extract_if(.., |path, _| exclude.drops(path)).collect();
        // A directory that is not wanted is there if something in it is.
        let wanted: Vec<_> = tree.nodes.keys().filter_map(EntryPath::parent).collect();
        for mut path in wanted {
            while let Some(node) = tree.dropped.remove(&path) {
                tree.nodes.insert(path.clone(), node);
                let Some(parent) = path.parent() else { break };
                path = parent;
            }
        }
        Ok(tree)
    }

    fn add(&mut self, packages: &[Package], number: usize, package: &Package) -> Result<(), DebianError> {
        let mut contents: BTreeMap<&EntryPath, (Content, EntryPath)> = BTreeMap::new();
        for entry in &package.entries {
            let path = diverted(packages, number, place(&entry.path, &entry.kind));
            let mut node = Node { entry: entry.clone(), owner: Some(number), linked: false };
            match &entry.kind {
                Kind::File(content) => {
                    contents.insert(&entry.path, (content.clone(), path.clone()));
                }
                Kind::HardLink(target) => {
                    let Some((content, first)) = contents.get(target).cloned() else { continue };
                    node.entry.kind = Kind::File(content.clone());
                    node.linked = true;
                    if let Some(first) = self.nodes.get_mut(&first) {
                        first.linked = true;
                        (node.entry.mode, node.entry.uid, node.entry.gid) =
                            (first.entry.mode, first.entry.uid, first.entry.gid);
                        node.entry.capability.clone_from(&first.entry.capability);
                    }
                    contents.insert(&entry.path, (content, first));
                }
                Kind::Directory | Kind::Symlink(_) => {}
            }
            node.entry.path = path.clone();
            match self.nodes.get(&path) {
                Some(there) if there.entry.kind == Kind::Directory && node.entry.kind == Kind::Directory => {}
                Some(there) => {
                    let other = there.owner.map(|other| &packages[other]);
                    let Some(other) = other.filter(|other| other.pin.name != package.pin.name) else {
                        return Err(DebianError::package(
                            &package.pin.name,
                            format!("it has `{path}` twice"),
                        ));
                    };
                    if replaces(package, other) {
                        self.nodes.insert(path, node);
                    } else if !replaces(other, package) {
                        return Err(DebianError::SameFile {
                            first: other.pin.name.clone(),
                            second: package.pin.name.clone(),
                            path: path.to_string(),
                        });
                    }
                }
                None => {
                    self.nodes.insert(path, node);
                }
            }
        }
        Ok(())
    }

    /// The links that lead the old directories into `/usr`, where no package brings them.
    fn links(&mut self, packages: &[Package]) -> Result<(), DebianError> {
        for name in MERGED {
            let (link, target) = (known(name)?, known(&format!("usr/{name}"))?);
            let always = ["bin", "lib", "sbin"].contains(&name);
            let needed = always || self.nodes.contains_key(&target) || self.below(&target);
            if needed && !self.nodes.contains_key(&link) {
                self.insert(Entry::new(link, Kind::Symlink(format!("usr/{name}").into_bytes()), 0o777));
            }
        }
        let fault = |node: &Node, path: &EntryPath| match node.owner {
            Some(owner) => DebianError::package(
                &packages[owner].pin.name,
                format!("`{path}` is below something that is no directory"),
            ),
            None => {
                DebianError::package("a package", format!("`{path}` is below a link of the merged `/usr`"))
            }
        };
        for (path, node) in &self.nodes {
            let mut parent = path.parent();
            while let Some(at) = parent {
                if self.nodes.get(&at).is_some_and(|above| above.entry.kind != Kind::Directory) {
                    return Err(fault(node, path));
                }
                parent = at.parent();
            }
        }
        Ok(())
    }

    fn below(&self, path: &EntryPath) -> bool {
        let prefix = [path.as_bytes(), b"/"].concat();
        self.nodes
            .range(path.clone()..)
            .take_while(|(at, _)| at.as_bytes().starts_with(path.as_bytes()))
            .any(|(at, _)| at.as_bytes().starts_with(&prefix))
    }

    /// Directories that no package names itself.
    fn parents(&mut self) {
        let missing: Vec<_> =
            self.nodes.keys().flat_map(ancestors).filter(|at| !self.nodes.contains_key(at)).collect();
        for at in missing {
            self.insert(Entry::new(at, Kind::Directory, 0o755));
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.nodes.insert(entry.path.clone(), Node { entry, owner: None, linked: false });
    }

    /// Whether the image has it.
    pub(crate) fn has(&self, path: &str) -> bool {
        EntryPath::new(path).is_ok_and(|path| self.nodes.contains_key(&path))
    }

    /// A file's content, if there is such a file, wanted or not.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, DebianError> {
        let Ok(path) = EntryPath::new(path) else { return Ok(None) };
        let node = self.nodes.get(&path).or_else(|| self.dropped.get(&path));
        match node.map(|node| &node.entry.kind) {
            Some(Kind::File(content)) => package::bytes(content).map(Some),
            _ => Ok(None),
        }
    }

    /// The paths that begin with a text, and their owners, wanted or not.
    pub(crate) fn beginning(&self, prefix: &str) -> Vec<(String, Owner)> {
        let all = [&self.nodes, &self.dropped].into_iter().flatten();
        let found = all.filter(|(path, _)| path.as_bytes().starts_with(prefix.as_bytes()));
        let mut found: Vec<_> = found
            .map(|(path, node)| (String::from_utf8_lossy(path.as_bytes()).into_owned(), node.owner))
            .collect();
        found.sort();
        found
    }

    /// Adds something that no package brings, with the directories that it is in. What is there already stays, and what
    /// the profile does not want does not come.
    pub(crate) fn put(&mut self, entry: Entry) {
        let entry = Entry { path: place(&entry.path, &entry.kind), ..entry };
        if self.nodes.contains_key(&entry.path) || self.exclude.drops(&entry.path) {
            return;
        }
        for at in ancestors(&entry.path).into_iter().rev() {
            match self.dropped.remove(&at) {
                Some(node) => drop(self.nodes.insert(at, node)),
                None if self.nodes.contains_key(&at) => {}
                None => self.insert(Entry::new(at, Kind::Directory, 0o755)),
            }
        }
        self.insert(entry);
    }

    /// Lets a link lead somewhere else. It is made if it is not there.
    pub(crate) fn point(&mut self, from: EntryPath, to: Vec<u8>) {
        let kind = Kind::Symlink(to);
        match self.nodes.get_mut(&from) {
            Some(node) => node.entry.kind = kind,
            None => self.put(Entry::new(from, kind, 0o777)),
        }
    }

    /// Changes whose something is, and its mode.
    pub(crate) fn own(&mut self, path: &str, mode: u16, uid: u32, gid: u32) {
        if let Some(node) = EntryPath::new(path).ok().and_then(|path| self.nodes.get_mut(&path)) {
            (node.entry.mode, node.entry.uid, node.entry.gid) = (mode, uid, gid);
        }
    }

    /// What the image has, by path.
    pub(crate) fn nodes(&self) -> &BTreeMap<EntryPath, Node> {
        &self.nodes
    }
}

/// The directories that a path is in, the nearest first.
pub(crate) fn ancestors(path: &EntryPath) -> Vec<EntryPath> {
    std::iter::successors(path.parent(), EntryPath::parent).collect()
}

/// Where an entry lies in a merged `/usr`.
pub(crate) fn place(path: &EntryPath, kind: &Kind) -> EntryPath {
    let bytes = path.as_bytes();
    let moved = |from: &str, to: &str| {
        let rest = bytes.strip_prefix(from.as_bytes())?;
        let inside = rest.starts_with(b"/") || (rest.is_empty() && *kind == Kind::Directory);
        inside.then(|| EntryPath::new([to.as_bytes(), rest].concat()).ok())?
    };
    let merged = MERGED.iter().find_map(|name| moved(name, &format!("usr/{name}")));
    merged.or_else(|| MOVED.iter().find_map(|(from, to)| moved(from, to))).unwrap_or_else(|| path.clone())
}

fn diverted(packages: &[Package], number: usize, path: EntryPath) -> EntryPath {
    let there = |name: &str| packages.iter().any(|package| package.pin.name == name);
    let diversion = DIVERSIONS.iter().find(|(by, from, _)| {
        path.as_bytes() == from.as_bytes() && packages[number].pin.name != *by && there(by)
    });
    diversion.and_then(|(_, _, to)| EntryPath::new(*to).ok()).unwrap_or(path)
}

fn known(path: &str) -> Result<EntryPath, DebianError> {
    EntryPath::new(path).map_err(|error| DebianError::Lock(error.to_string()))
}

/// Whether the first may overwrite files of the second (Debian Policy, 7.6.1).
fn replaces(first: &Package, second: &Package) -> bool {
    let field = first.control.get("replaces").unwrap_or_default();
    Relation::list(field).any(|one| one.name == second.pin.name && one.admits(&second.pin.version))
}
