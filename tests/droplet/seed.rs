//! Files that a droplet finds on its disk at its first boot.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use crate::machine::Snapshot;

/// What a droplet starts from.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What it finds on its disk at the first boot, besides the tree.
    pub(crate) seeds: Vec<Seed>,
    /// The code name of the release whose stock machine it is; if none, the prepared tree, which has Docker and all.
    pub(crate) stock: Option<String>,
    /// What cloud-init gets, on a stock machine.
    pub(crate) user_data: String,
    /// In a virtual machine, in MiB.
    pub(crate) memory: u32,
    /// What the clock of a virtual machine shows when it is switched on: UTC as `2026-01-31T12:00:00`; if none, the time.
    pub(crate) clock: Option<String>,
    /// The directory of the snapshot that it starts from instead.
    pub(crate) snapshot: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            stock: None,
            user_data: "#cloud-config\n{}\n".to_owned(),
            memory: 2048,
            clock: None,
            snapshot: None,
        }
    }
}

/// A file laid down before the first boot.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Options {
    /// A stock machine that has never been booted, with this user-data: Debian 13, or what `BUNDLE_TEST_RELEASE` names,
    /// by its code name, after `tests/setup --release` has made it.
    pub(crate) fn stock(user_data: impl Into<String>) -> Self {
        let release = std::env::var("BUNDLE_TEST_RELEASE").unwrap_or_else(|_| "trixie".to_owned());
        Self { stock: Some(release), user_data: user_data.into(), ..Self::default() }
    }

    /// The memory of a virtual machine, in MiB.
    pub(crate) fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// The clock of a virtual machine when it is switched on, UTC: `2026-01-31T12:00:00`.
    pub(crate) fn clock(mut self, time: &str) -> Self {
        self.clock = Some(time.to_owned());
        self
    }

    /// Starts from a copy of a disk, as a new instance of what was there: cloud-init works through the user-data again.
    pub(crate) fn from(mut self, snapshot: &Snapshot) -> Self {
        self.snapshot = Some(snapshot.dir());
        self
    }

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
