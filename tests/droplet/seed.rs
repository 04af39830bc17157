//! Files that a droplet finds on its disk at its first boot.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

/// What a droplet finds on its disk at the first boot, besides the stock tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) seeds: Vec<Seed>,
}

/// A file laid down before the first boot.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Options {
    /// Lays down a file, owned by root, before the first boot. `path` is absolute; directories that the tree
    /// does not have are made with mode 755.
    pub(crate) fn seed(mut self, path: impl Into<PathBuf>, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(Seed { path: path.into(), mode, bytes: bytes.into() });
        self
    }

    /// Lays down several files.
    pub(crate) fn seeds(mut self, seeds: impl IntoIterator<Item = Seed>) -> Self {
        self.seeds.extend(seeds);
        self
    }
}

impl Seed {
    /// Writes the file into an upper directory that is not mounted yet. A directory of the tree above it keeps
    /// its mode and owner, which overlayfs takes from the upper directory.
    pub(crate) fn write(&self, tree: &Path, upper: &Path) {
        let mut below = PathBuf::new();
        let parent = self.path.parent().unwrap();
        for part in parent.components() {
            let Component::Normal(name) = part else { continue };
            below.push(name);
            let made = upper.join(&below);
            if made.is_dir() {
                continue;
            }
            if let Ok(stock) = fs::symlink_metadata(tree.join(&below)) {
                let shown = self.path.display();
                assert!(stock.is_dir(), "the path of seed {shown} goes through a link: name its target");
                fs::DirBuilder::new().mode(0o700).create(&made).unwrap();
                std::os::unix::fs::chown(&made, Some(stock.uid()), Some(stock.gid())).unwrap();
                fs::set_permissions(&made, stock.permissions()).unwrap();
            } else {
                fs::create_dir(&made).unwrap();
                fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let path = upper.join(self.path.strip_prefix("/").unwrap());
        remove_if_there(&path);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
        file.write_all(&self.bytes).unwrap();
        file.set_permissions(fs::Permissions::from_mode(self.mode)).unwrap();
    }
}

/// Removes a file, which need not be there.
pub(crate) fn remove_if_there(path: &Path) {
    if let Err(err) = fs::remove_file(path) {
        assert!(err.kind() == std::io::ErrorKind::NotFound, "removing {}: {err}", path.display());
    }
}
