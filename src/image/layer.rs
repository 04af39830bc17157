//! Entries → layers: put in order, completed, and cut so that a change moves few bytes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, EntryPath, Kind};
use super::tar;
use crate::model::Digest;

/// The size that a layer is cut at, in bytes of tar, unless that made too many layers.
const CUT: u64 = 16 << 20;
/// What is smaller than this, in bytes of tar, is not cut at all.
const WHOLE: u64 = 4 * CUT;
/// So many layers come of one list of entries, about; Docker takes 127 in an image.
const MOST_CUTS: u64 = 32;

/// Why entries are not a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// Two entries of one path.
    #[error("`{path}` comes twice into one layer")]
    Twice {
        /// The path.
        path: EntryPath,
    },
    /// Something below a path that is no directory.
    #[error("`{path}` cannot be there: `{parent}` is no directory, in this layer or in one below it")]
    NotADirectory {
        /// The entry.
        path: EntryPath,
        /// What is above it.
        parent: EntryPath,
    },
    /// A path through a link of a lower layer, which the directory would take the place of.
    #[error(
        "something goes below `{link}`, which is a link to `{target}` in a layer below: name the place that it leads to"
    )]
    ThroughLink {
        /// The link.
        link: EntryPath,
        /// What it says.
        target: String,
    },
    /// A hard link to nothing, or to no file.
    #[error("`{path}` is a hard link to `{target}`, which is no file of the same layer")]
    LinkToNothing {
        /// The link.
        path: EntryPath,
        /// What it should be another name of.
        target: EntryPath,
    },
}

/// What the layers below have: directories, links that a path could lead through, and files that it cannot.
#[derive(Debug, Clone, Default)]
pub struct Lower {
    directories: BTreeSet<EntryPath>,
    links: BTreeMap<EntryPath, Vec<u8>>,
    files: BTreeSet<EntryPath>,
}

impl Lower {
    /// Looks at one more layer.
    fn add(&mut self, layer: &BTreeMap<EntryPath, Entry>) {
        for (path, entry) in layer {
            match &entry.kind {
                Kind::Directory => drop(self.directories.insert(path.clone())),
                Kind::Symlink(target) => drop(self.links.insert(path.clone(), target.clone())),
                Kind::File(_) | Kind::HardLink(_) => drop(self.files.insert(path.clone())),
            }
        }
    }
}

/// Entries in the order of their paths, each once, of which the first name of a file is the file and the others are
/// links to it. With `lower`, what is below is all known: directories that are nowhere, and only named in others' paths,
/// are added, root's and `0755`. Without it they are those of the base.
pub fn arrange(entries: Vec<Entry>, lower: Option<&mut Lower>) -> Result<Vec<Entry>, LayerError> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        if let Some(twin) = sorted.insert(entry.path.clone(), entry) {
            return Err(LayerError::Twice { path: twin.path });
        }
    }
    let mut missing = BTreeSet::new();
    for path in sorted.keys() {
        let mut above = path.parent();
        while let Some(parent) = above {
            match sorted.get(&parent).map(|entry| &entry.kind) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(LayerError::NotADirectory { path: path.clone(), parent }),
                None => drop(missing.insert(parent.clone())),
            }
            above = parent.parent();
        }
    }
    if let Some(lower) = lower {
        if let Some((link, target)) = missing.iter().find_map(|path| lower.links.get_key_value(path)) {
            let (link, target) = (link.clone(), target.escape_ascii().to_string());
            return Err(LayerError::ThroughLink { link, target });
        }
        if let Some(parent) = missing.intersection(&lower.files).next().cloned() {
            let below = sorted.keys().find(|path| path.parent().is_some_and(|above| above == parent));
            let path = below.unwrap_or(&parent).clone();
            return Err(LayerError::NotADirectory { path, parent });
        }
        missing.retain(|path| !lower.directories.contains(path));
        let directory = |path: EntryPath| (path.clone(), Entry::new(path, Kind::Directory, 0o755));
        sorted.extend(missing.into_iter().map(directory));
        lower.add(&sorted);
    }
    first_name_first(&mut sorted)?;
    Ok(sorted.into_values().collect())
}

/// Makes the first name of each file the file. What else is known of a file is the same for all its names.
fn first_name_first(sorted: &mut BTreeMap<EntryPath, Entry>) -> Result<(), LayerError> {
    let mut names: BTreeMap<EntryPath, Vec<EntryPath>> = BTreeMap::new();
    for (path, entry) in sorted.iter() {
        if let Kind::HardLink(target) = &entry.kind {
            if !matches!(sorted.get(target).map(|entry| &entry.kind), Some(Kind::File(_))) {
                return Err(LayerError::LinkToNothing { path: path.clone(), target: target.clone() });
            }
            names.entry(target.clone()).or_default().push(path.clone());
        }
    }
    for (target, mut all) in names {
        let Some(file) = sorted.get(&target).cloned() else { continue };
        all.push(target);
        all.sort();
        let first = all[0].clone();
        for path in all {
            let kind = if path == first { file.kind.clone() } else { Kind::HardLink(first.clone()) };
            sorted.insert(path.clone(), Entry { path, kind, ..file.clone() });
        }
    }
    Ok(())
}

/// How many bytes an entry is in a layer, extensions aside.
fn weight(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::File(content) => content.size().next_multiple_of(tar::BLOCK as u64) + tar::BLOCK as u64,
        _ => tar::BLOCK as u64,
    }
}

/// Cuts arranged entries into layers, the lowest first.
///
/// A cut falls where a layer is large enough and the hash of a path says so, and not at a count: what is added or
/// removed somewhere moves no other cut, so that the layers around it keep their bytes.
pub fn cut(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let total: u64 = entries.iter().map(weight).sum();
    if total <= WHOLE {
        return if entries.is_empty() { Vec::new() } else { vec![entries] };
    }
    // Doubled, so that a small change of the whole does not change it.
    let mut size = CUT;
    while total / size > MOST_CUTS {
        size *= 2;
    }
    let mut layers = vec![Vec::new()];
    let mut filled = 0;
    for entry in entries {
        let weight = weight(&entry);
        let full = filled >= 2 * size || (filled >= size && is_mark(&entry.path));
        if full {
            layers.push(Vec::new());
            filled = 0;
        }
        filled += weight;
        if let Some(layer) = layers.last_mut() {
            layer.push(entry);
        }
    }
    keep_links_together(layers)
}

/// One path in 32, whatever stands around it.
fn is_mark(path: &EntryPath) -> bool {
    Digest::of(path.as_bytes()).hex().as_str() < "08"
}

/// A hard link stands in the layer of its file, with the directories above it.
fn keep_links_together(mut layers: Vec<Vec<Entry>>) -> Vec<Vec<Entry>> {
    let mut home = BTreeMap::new();
    let mut directories = BTreeMap::new();
    for (nth, layer) in layers.iter().enumerate() {
        for entry in layer {
            match entry.kind {
                Kind::File(_) => drop(home.insert(entry.path.clone(), nth)),
                Kind::Directory => drop(directories.insert(entry.path.clone(), entry.clone())),
                _ => {}
            }
        }
    }
    let mut moved = Vec::new();
    for (nth, layer) in layers.iter_mut().enumerate() {
        let home = |entry: &Entry| match &entry.kind {
            Kind::HardLink(target) => home.get(target).copied().filter(|home| *home != nth),
            _ => None,
        };
        let (away, stay): (Vec<_>, Vec<_>) =
            std::mem::take(layer).into_iter().partition(|entry| home(entry).is_some());
        moved.extend(away.into_iter().filter_map(|entry| Some((home(&entry)?, entry))));
        *layer = stay;
    }
    let mut touched = BTreeSet::new();
    for (nth, entry) in moved {
        let mut above = entry.path.parent();
        while let Some(parent) = above {
            if let Some(directory) = directories.get(&parent)
                && !layers[nth].iter().any(|entry| entry.path == parent)
            {
                layers[nth].push(directory.clone());
            }
            above = parent.parent();
        }
        layers[nth].push(entry);
        touched.insert(nth);
    }
    for nth in touched {
        layers[nth].sort_by(|one, other| one.path.cmp(&other.path));
    }
    layers.retain(|layer| !layer.is_empty());
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Content;

    fn file(path: &str, size: usize) -> Entry {
        let content = Content::File { path: "/nowhere".into(), offset: 0, size: size as u64 };
        Entry::new(EntryPath::new(path).unwrap(), Kind::File(content), 0o644)
    }

    fn link(path: &str, target: &str) -> Entry {
        let kind = Kind::HardLink(EntryPath::new(target).unwrap());
        Entry::new(EntryPath::new(path).unwrap(), kind, 0)
    }

    fn paths(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.path.to_string()).collect()
    }

    #[test]
    fn entries_come_by_their_bytes_with_the_directories_above_them() {
        let entries = vec![file("b/x", 1), file("a/c/d", 1), file("a-b", 1)];
        let arranged = arrange(entries.clone(), Some(&mut Lower::default())).unwrap();
        assert_eq!(paths(&arranged), ["/a", "/a-b", "/a/c", "/a/c/d", "/b", "/b/x"]);
        assert_eq!(paths(&arrange(entries, None).unwrap()), ["/a-b", "/a/c/d", "/b/x"]);
    }

    #[test]
    fn the_first_name_of_a_file_is_the_file() {
        let mut named = file("m", 5);
        named.uid = 7;
        let arranged =
            arrange(vec![named, link("z", "m"), link("a", "m")], Some(&mut Lower::default())).unwrap();
        assert!(matches!(arranged[0].kind, Kind::File(_)));
        let first = Kind::HardLink(EntryPath::new("a").unwrap());
        assert_eq!((&arranged[1].kind, &arranged[2].kind), (&first, &first));
        assert!(arranged.iter().all(|entry| entry.uid == 7 && entry.mode == 0o644));
    }

    #[test]
    fn what_no_layer_can_have_is_refused() {
        let refused = |entries| arrange(entries, Some(&mut Lower::default())).unwrap_err().to_string();
        assert_eq!(refused(vec![file("a", 1), file("a", 1)]), "`/a` comes twice into one layer");
        assert_eq!(
            refused(vec![file("a", 1), file("a/b", 1)]),
            "`/a/b` cannot be there: `/a` is no directory, in this layer or in one below it"
        );
        let nothing = "`/a` is a hard link to `/b`, which is no file of the same layer";
        assert_eq!(refused(vec![link("a", "b")]), nothing);
        assert_eq!(refused(vec![link("a", "b"), link("b", "a")]), nothing);
    }

    fn tree(leave_out: Option<usize>) -> Vec<Entry> {
        let entries = (0..3000)
            .filter(|nth| Some(*nth) != leave_out)
            .map(|nth| file(&format!("d{}/f{nth}", nth % 40), 70_000));
        arrange(entries.collect(), Some(&mut Lower::default())).unwrap()
    }

    #[test]
    fn a_change_somewhere_moves_the_cuts_nowhere_else() {
        let before = cut(tree(None));
        assert!((5..=40).contains(&before.len()), "{} layers", before.len());
        assert_eq!(before.concat(), tree(None), "nothing is lost, and the order stays");
        for leave_out in [0, 777, 1500, 2999] {
            let after = cut(tree(Some(leave_out)));
            let same = before.iter().filter(|layer| after.contains(layer)).count();
            assert!(same + 3 >= before.len(), "{same} of {} layers stayed", before.len());
        }
    }

    #[test]
    fn what_is_small_is_one_layer_and_nothing_is_none() {
        assert_eq!(cut(vec![file("a", 1000), file("b", 1000)]).len(), 1);
        assert!(cut(Vec::new()).is_empty());
    }

    #[test]
    fn a_link_stays_with_its_file() {
        let mut entries = tree(None);
        entries.push(link("zz/last", "d0/f0"));
        let layers = cut(arrange(entries, Some(&mut Lower::default())).unwrap());
        let with =
            layers.iter().find(|layer| layer.iter().any(|one| one.path.as_bytes() == b"zz/last")).unwrap();
        assert!(with.iter().any(|one| one.path.as_bytes() == b"d0/f0"));
        assert!(with.iter().any(|one| one.path.as_bytes() == b"zz"), "and the directory above it is there");
        assert!(with.is_sorted_by(|one, other| one.path < other.path));
    }
}
