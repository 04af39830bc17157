//! What an image is made of: `[images.NAME]` with nothing left open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Digest, Pattern};

/// How an image is made. Paths in the image are absolute and clean; those of files to read are as the builder opens them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecipe {
    /// What it is built on.
    pub base: Base,
    /// Debian packages in it, by name.
    pub packages: Vec<String>,
    /// Packages of which maintainer scripts may be left out although they are not known to be dispensable.
    pub accept_scripts: Vec<String>,
    /// Patterns of paths that packages have and the image has not.
    pub exclude: Vec<String>,
    /// Files of the project, each copy a layer of its own.
    pub layers: Vec<Copy>,
    /// Users besides those that packages bring.
    pub users: Vec<ImageUser>,
    /// Directories with an owner and a mode of their own.
    pub directories: Vec<ImageDirectory>,
    /// Symbolic links.
    pub links: Vec<ImageLink>,
    /// How containers of it run.
    pub config: ImageConfig,
    /// For which processors it is made, in the words of OCI (`amd64`, `arm64`): one is an image, more are an index.
    pub architectures: Vec<String>,
}

/// What an image is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image in a registry. Its layers are not fetched.
    Image {
        /// Host and repository.
        repository: String,
        /// The tag that was resolved, for people.
        tag: Option<String>,
        /// The digest of its index or manifest.
        digest: Digest,
    },
    /// An image in an OCI layout on disk, by its tag if there are several.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The tag.
        tag: Option<String>,
    },
    /// A tarball of a root file system, plain or in gzip, as it is.
    Rootfs {
        /// The file.
        path: PathBuf,
    },
}

/// Files of the project that are copied into an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// A directory, of which the content is copied, or a file.
    pub from: PathBuf,
    /// Where the content, or the file, goes; `/` for the root.
    pub to: String,
    /// What is copied, relative to `from`; all, if there is none.
    pub include: Vec<Pattern>,
    /// What is not.
    pub exclude: Vec<Pattern>,
    /// Who owns it.
    pub owner: Owner,
    /// Modes of files.
    pub file_mode: ModeRule,
    /// Modes of directories.
    pub dir_mode: ModeRule,
}

/// Who owns what is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever owns it on disk.
    Keep,
    /// Always the same.
    Fixed {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl Default for Owner {
    fn default() -> Self {
        Self::Fixed { uid: 0, gid: 0 }
    }
}

/// Which mode a copied file has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModeRule {
    /// `0755` for directories and what its owner may run, `0644` for the rest: what version control keeps.
    #[default]
    Plain,
    /// The mode on disk.
    Keep,
    /// Always the same.
    Fixed(u16),
}

/// A user, and the group of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The name of both.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group's.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDirectory {
    /// Where it is.
    pub path: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode.
    pub mode: u16,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLink {
    /// Where it is.
    pub path: String,
    /// What it says.
    pub target: String,
}

/// How containers run (image-spec, `config.md`). What is empty here is the base's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// User and group.
    pub user: Option<String>,
    /// Variables, besides the base's.
    pub env: BTreeMap<String, String>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments.
    pub cmd: Option<Vec<String>>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Ports, such as `8000/tcp`.
    pub ports: Vec<String>,
    /// Directories that are volumes.
    pub volumes: Vec<String>,
    /// The signal that ends it.
    pub stop_signal: Option<String>,
    /// Labels, besides the base's.
    pub labels: BTreeMap<String, String>,
}

/// Debian's public archive.
pub const DEBIAN_MIRROR: &str = "http://deb.debian.org/debian";
/// Debian's public archive of security updates.
pub const DEBIAN_SECURITY: &str = "http://deb.debian.org/debian-security";
/// Both as they were at any time (snapshot.debian.org, "Usage").
pub const DEBIAN_SNAPSHOT: &str = "https://snapshot.debian.org/archive";

/// Where Debian packages come from: `[debian]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianArchive {
    /// The release, such as `trixie`; its updates and its security updates are asked, too.
    pub suite: String,
    /// The mirror of the release and of its updates.
    pub mirror: String,
    /// The mirror of its security updates.
    pub security: String,
    /// The archive as it was at this time (`20261101T000000Z`), if not as it is.
    pub snapshot: Option<String>,
    /// `main`, and whatever else may be used.
    pub components: Vec<String>,
    /// The keys that may sign it, armoured or not; Debian's own, as the builder has them, if there is none.
    pub keyring: Option<PathBuf>,
}
