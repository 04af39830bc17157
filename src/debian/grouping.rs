//! Which layer an entry goes into, so that an update moves few bytes.
//!
//! What is built from one source package is updated together, so it stays together:
//!
//! 1. the base: the packages of priority `required`, and whatever else their sources built;
//! 2. to 6. the five largest other sources of at least 4 MiB of packages, a layer each, by name;
//! 7. all other packages;
//! 8. what changes with every package: dpkg's data, and what was synthesised.
//!
//! So an update of one package moves its own layer and the last, which is small. A layer that would be empty is not there.

use std::collections::{BTreeMap, BTreeSet};

use super::package::Package;
use super::tree::{Node, Tree, ancestors};
use crate::image::{Content, Entry, EntryPath, Kind};

/// How many sources have a layer of their own.
const LARGE: usize = 5;
/// How large, in bytes, the packages of a source must be for that.
const LARGE_SIZE: u64 = 4 << 20;

/// The layers, each sorted by path. Every layer has the directories that its entries are in, so that none changes what
/// another said of them.
pub(crate) fn split(tree: &Tree, packages: &[Package]) -> Vec<Vec<Entry>> {
    let of_package = places(packages);
    let last = of_package.iter().max().map_or(0, |last| last + 1);
    let mut layers: Vec<BTreeMap<&EntryPath, &Node>> = vec![BTreeMap::new(); last + 1];
    for (path, node) in tree.nodes() {
        let layer = &mut layers[node.owner.map_or(last, |owner| of_package[owner])];
        layer.insert(path, node);
        for at in ancestors(path) {
            if let Some((at, above)) = tree.nodes().get_key_value(&at) {
                layer.insert(at, above);
            }
        }
    }
    layers.iter().map(entries).filter(|layer| !layer.is_empty()).collect()
}

/// The layer of each package.
fn places(packages: &[Package]) -> Vec<usize> {
    let required = packages.iter().filter(|package| package.control.get("priority") == Some("required"));
    let base: BTreeSet<_> = required.map(Package::source).collect();
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for package in packages.iter().filter(|package| !base.contains(package.source())) {
        *sizes.entry(package.source()).or_default() += package.pin.size;
    }
    let mut large: Vec<_> = sizes.into_iter().filter(|(_, size)| *size >= LARGE_SIZE).collect();
    large.sort_by_key(|(name, size)| (std::cmp::Reverse(*size), *name));
    large.truncate(LARGE);
    large.sort_unstable();
    let place = |package: &Package| match large.iter().position(|(name, _)| *name == package.source()) {
        _ if base.contains(package.source()) => 0,
        Some(at) => at + 1,
        None => large.len() + 1,
    };
    packages.iter().map(place).collect()
}

/// Of several names of one file the first has the content, and the others are links to it.
fn entries(layer: &BTreeMap<&EntryPath, &Node>) -> Vec<Entry> {
    let mut first: BTreeMap<(&std::path::Path, u64), &EntryPath> = BTreeMap::new();
    let mut entries = Vec::with_capacity(layer.len());
    for (path, node) in layer {
        let mut entry = node.entry.clone();
        if let (true, Kind::File(Content::File { path: tar, offset, .. })) = (node.linked, &node.entry.kind) {
            match first.get(&(tar.as_path(), *offset)) {
                Some(first) => entry.kind = Kind::HardLink((*first).clone()),
                None => drop(first.insert((tar, *offset), path)),
            }
        }
        entries.push(entry);
    }
    entries
}
