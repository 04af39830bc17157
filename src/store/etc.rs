//! Links in `/etc`. They point through `/var/lib/bundle/current`, so a flip changes what they say without touching
//! them; only links that one generation has and another has not are ever made or removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Doing, Store, StoreError, durable};

/// Links by absolute path, with their targets.
pub type Links = BTreeMap<String, String>;

impl Store {
    /// The paths in `links` where something stands that we did not put there.
    pub fn link_conflicts(&self, links: &Links) -> Result<Vec<String>, StoreError> {
        let ledger = self.ledger()?;
        let mut conflicts = Vec::new();
        for (path, target) in links {
            let there = self.below(path);
            let ours = ledger.links.contains_key(path);
            // A file in place of a link of ours is somebody's, too.
            let foreign = fs::symlink_metadata(&there).is_ok_and(|meta| !ours || !meta.is_symlink());
            if foreign && !points_at(&there, target)? {
                conflicts.push(path.clone());
            }
        }
        Ok(conflicts)
    }

    /// Makes the links that are missing. The ledger says so first. What is no link is somebody's: it is left alone, and an
    /// error when all others are made.
    pub fn add_links(&self, links: &Links) -> Result<(), StoreError> {
        let mut ledger = self.ledger()?;
        let before = ledger.clone();
        ledger.links.extend(links.clone());
        if ledger != before {
            self.write_ledger(&ledger)?;
        }
        let mut foreign = None;
        for (path, target) in links {
            let there = self.below(path);
            if points_at(&there, target)? {
                continue;
            }
            if fs::symlink_metadata(&there).is_ok_and(|meta| !meta.is_symlink()) {
                foreign.get_or_insert(there);
                continue;
            }
            durable::make_parents(&there)?;
            durable::link(&there, Path::new(target))?;
        }
        match foreign {
            Some(path) => Err(StoreError::damaged(
                &path,
                "somebody put something else in place of our link; move it away",
            )),
            None => Ok(()),
        }
    }

    /// Removes our links that are not in `keep`, then says so in the ledger.
    pub fn drop_links_except(&self, keep: &Links) -> Result<(), StoreError> {
        let mut ledger = self.ledger()?;
        let dropped: Vec<_> = ledger.links.keys().filter(|path| !keep.contains_key(*path)).cloned().collect();
        for path in &dropped {
            let there = self.below(path);
            // Somebody may have put a file of their own in its place; that is not ours to remove.
            if fs::symlink_metadata(&there).is_ok_and(|meta| meta.is_symlink()) {
                durable::remove_if_there(&there)?;
                durable::sync_dir(durable::parent(&there))?;
            }
            // A crash may have left a link that had not taken its name yet.
            durable::remove_if_there(&durable::beside(&there))?;
            ledger.links.remove(path);
        }
        if dropped.is_empty() { Ok(()) } else { self.write_ledger(&ledger) }
    }
}

fn points_at(path: &Path, target: &str) -> Result<bool, StoreError> {
    match fs::read_link(path) {
        Ok(found) => Ok(found == Path::new(target)),
        // EINVAL: there is something, but it is no link.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).doing("reading the link", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_put_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let links = |paths: &[&str]| -> Links {
            paths.iter().map(|path| ((*path).to_owned(), format!("/var/lib/bundle/current{path}"))).collect()
        };
        let (a, b, foreign) = ("/etc/a.conf", "/etc/deep/b.conf", "/etc/foreign.conf");
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(store.below(foreign), "theirs").unwrap();

        assert_eq!(store.link_conflicts(&links(&[a, foreign])).unwrap(), [foreign]);
        store.add_links(&links(&[a, b])).unwrap();
        assert!(store.link_conflicts(&links(&[a, b])).unwrap().is_empty());
        store.drop_links_except(&links(&[a])).unwrap();
        assert!(fs::symlink_metadata(store.below(a)).is_ok());
        assert!(fs::symlink_metadata(store.below(b)).is_err());
        assert_eq!(fs::read_to_string(store.below(foreign)).unwrap(), "theirs");

        fs::remove_file(store.below(a)).unwrap();
        fs::write(store.below(a), "now theirs").unwrap();
        store.drop_links_except(&Links::new()).unwrap();
        assert_eq!(fs::read_to_string(store.below(a)).unwrap(), "now theirs");
        assert!(store.ledger().unwrap().links.is_empty());
    }
}
