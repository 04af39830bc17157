//! What a program on the machine would see on its disk: the files of the current view, and the units in `/etc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where an absolute path of the machine lies below `root`, with one link of ours followed: what a link in `/etc` or a
/// view leads to, as a path in the store; its target as it is if it leads elsewhere.
fn leads_to(root: &Path, target: &Path) -> io::Result<String> {
    let Ok(through) = target.strip_prefix("/var/lib/bundle/current") else {
        return Ok(target.display().to_string());
    };
    let view = root.join("var/lib/bundle/current").join(through);
    match fs::read_link(view) {
        Ok(store) => Ok(in_store(&store)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("nothing".to_owned()),
        Err(error) => Err(error),
    }
}

/// `<hash>/<name>` of a path that ends so.
fn in_store(path: &Path) -> String {
    let parts: Vec<_> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// Every link below `directory`, by its path below `root`.
fn links_below(root: &Path, directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_symlink() {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.insert(name, fs::read_link(&path)?);
        } else if kind.is_dir() {
            links_below(root, &path, found)?;
        }
    }
    Ok(())
}

/// The links below `directory` of the machine, with their targets.
pub fn links(root: &Path, directory: &str) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    links_below(root, &root.join(directory), &mut found)?;
    Ok(found)
}

/// The units that PID 1 would read now, and where in the store their definitions lie.
pub fn units(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let links = links(root, "etc/systemd/system")?;
    links.into_iter().map(|(path, target)| Ok((path, leads_to(root, &target)?))).collect()
}

/// The files of the current view, and where in the store they lie.
pub fn view(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let home = root.join("var/lib/bundle");
    let view = home.join(fs::read_link(home.join("current"))?);
    let mut found = BTreeMap::new();
    links_below(&view, &view, &mut found)?;
    Ok(found.into_iter().map(|(path, target)| (path, in_store(&target))).collect())
}
