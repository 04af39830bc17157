//! What a program on the machine would see on its disk: the files of the current view, and the units in `/etc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where an absolute path of the machine lies below `root`, with one link of ours followed: what a link in `/etc` or a
/// view leads to, as a path in the store; its target as it is if it leads elsewhere.
fn leads_to(root: &Path, target: &Path) -> String {
    let Ok(through) = target.strip_prefix("/var/lib/bundle/current") else {
        return target.display().to_string();
    };
    let view = root.join("var/lib/bundle/current").join(through);
    match fs::read_link(view) {
        Ok(store) => in_store(&store),
        Err(_) => "nothing".to_owned(),
    }
}

/// `<hash>/<name>` of a path that ends so.
fn in_store(path: &Path) -> String {
    let parts: Vec<_> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// Every link below `directory`, by its path below `root`.
fn links_below(root: &Path, directory: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(target) = fs::read_link(&path) {
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), target);
        } else if path.is_dir() {
            links_below(root, &path, found);
        }
    }
}

/// The links below `directory` of the machine, with their targets.
pub fn links(root: &Path, directory: &str) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    links_below(root, &root.join(directory), &mut found);
    found
}

/// The units that PID 1 would read now, and where in the store their definitions lie.
pub fn units(root: &Path) -> BTreeMap<String, String> {
    let root = root.canonicalize().unwrap();
    let links = links(&root, "etc/systemd/system");
    links.into_iter().map(|(path, target)| (path, leads_to(&root, &target))).collect()
}

/// The files of the current view, and where in the store they lie.
pub fn view(root: &Path) -> BTreeMap<String, String> {
    let Ok(current) = root.join("var/lib/bundle/current").canonicalize() else { return BTreeMap::new() };
    let links = links(&current, "");
    links.into_iter().map(|(path, target)| (path, in_store(&target))).collect()
}
