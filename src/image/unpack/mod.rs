//! An image back into a directory: the layers of an OCI layout, of any make, one on top of the other.
//!
//! Whoever made them may be hostile. Blobs are hashed before they are read; archives are read by one strict reader
//! (`archive`) that refuses what programs read in two ways; nothing is reached but downwards from the directory's own
//! descriptor (`tree`); everything is bounded. The directory has another name until all layers are in it and every
//! digest was right, and is renamed then. Nothing is synced: what a loss of power takes can be unpacked again.

mod apply;
pub mod archive;
pub mod error;
mod find;
mod header;
mod pax;
pub mod stream;
mod tree;

use std::ffi::{OsStr, OsString};
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::Deserialize;

pub use apply::Unpacked;
pub use error::{Fault, UnpackError};
pub use find::{find, find_for};

use crate::bundle::oci::MAX_CONFIG;
use crate::bundle::{Blob, ImageFiles, Layout};
use crate::model::Digest;
use apply::Applying;
use archive::Archive;
use stream::{Bounds, Encoding};

/// The most that an image may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Members of one layer.
    pub members: u64,
    /// Of one layer.
    pub layer: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: 1_000_000, layer: Bounds { bytes: 64 << 30, ratio: 200 } }
    }
}

/// As much of an image's configuration (image-spec, `config.md`) as is needed here.
#[derive(Deserialize)]
struct Config {
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<Digest>,
}

/// Unpacks an image of a layout into the directory `into`, which is made, or is there and empty. Where this fails,
/// nothing is left.
pub fn unpack(
    layout: &Layout,
    image: &ImageFiles,
    into: &Path,
    limits: Limits,
) -> Result<Unpacked, UnpackError> {
    let diff_ids = diff_ids(layout, &image.config)?;
    if diff_ids.len() != image.layers.len() {
        return Err(UnpackError::Layers { layers: image.layers.len(), diff_ids: diff_ids.len() });
    }
    // Before anything is written: what can be known to be wrong with the last layer.
    let encodings = image.layers.iter().map(encoding).collect::<Result<Vec<_>, _>>()?;
    let mut target = Target::beside(into)?;
    let mut applying = Applying::new(target.root()?);
    for ((layer, encoding), diff_id) in image.layers.iter().zip(encodings).zip(diff_ids) {
        apply(layout, layer, encoding, diff_id, limits, &mut applying)?;
    }
    let done = applying.finish().map_err(|(path, source)| UnpackError::Io {
        action: "finish",
        path: into.join(OsStr::from_bytes(&path)),
        source: io::Error::other(source),
    })?;
    target.keep()?;
    Ok(done)
}

pub(super) fn diff_ids(layout: &Layout, config: &Blob) -> Result<Vec<Digest>, UnpackError> {
    let bytes = layout.read_blob(config.digest, MAX_CONFIG.min(config.size))?;
    if bytes.len() as u64 != config.size {
        let (digest, size) = (config.digest, bytes.len() as u64);
        return Err(UnpackError::Blob { digest, expected: config.size, size, found: digest });
    }
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|source| UnpackError::Config { digest: config.digest, source })?;
    Ok(config.rootfs.diff_ids)
}

pub(super) fn encoding(layer: &Blob) -> Result<Encoding, UnpackError> {
    match layer.media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Encoding::Plain)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Encoding::Gzip),
        other => Err(UnpackError::Encoding { layer: layer.digest, media_type: other.to_owned() }),
    }
}

fn apply(
    layout: &Layout,
    layer: &Blob,
    encoding: Encoding,
    diff_id: Digest,
    limits: Limits,
    applying: &mut Applying,
) -> Result<(), UnpackError> {
    let ((), found) = read(layout, layer, encoding, limits, |pieces| {
        applying.layer(&mut Archive::new(pieces, limits.members))
    })?;
    // What was hashed above may have been changed before it was read again: this is the proof.
    if found == diff_id {
        Ok(())
    } else {
        Err(UnpackError::DiffId { layer: layer.digest, expected: diff_id, found })
    }
}

/// Hashes a layer's blob, and only then has `read` read what is in it: what that gives, and the digest of all of it.
pub(super) fn read<T>(
    layout: &Layout,
    layer: &Blob,
    encoding: Encoding,
    limits: Limits,
    read: impl FnOnce(&mut stream::Pieces) -> Result<T, archive::At>,
) -> Result<(T, Digest), UnpackError> {
    let mut file = layout.open_blob(layer.digest)?;
    let unreadable =
        |source| UnpackError::Io { action: "read", path: layout.blob_path(layer.digest), source };
    let (found, size) =
        Digest::of_reader(io::Read::take(&mut file, layer.size.saturating_add(1))).map_err(unreadable)?;
    if (size, found) != (layer.size, layer.digest) {
        let (digest, expected) = (layer.digest, layer.size);
        return Err(UnpackError::Blob { digest, expected, size, found });
    }
    file.rewind().map_err(unreadable)?;
    let blob = io::Read::take(file, layer.size);
    stream::decoded(blob, layer.size, encoding, limits.layer, read).map_err(|archive::At { path, fault }| {
        UnpackError::Layer { layer: layer.digest, path, source: fault }
    })
}

/// The directory under its other name. Dropped before it is kept, it is removed.
struct Target {
    parent: OwnedFd,
    name: OsString,
    partial: OsString,
    into: PathBuf,
    /// An empty directory is there already.
    there: bool,
    kept: bool,
}

impl Target {
    fn beside(into: &Path) -> Result<Self, UnpackError> {
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |errno: Errno| UnpackError::Io { action, path, source: errno.into() }
        };
        let name = into.file_name().ok_or_else(|| UnpackError::Taken(into.to_owned()))?.to_owned();
        let above = into.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(above, flags, Mode::empty()).map_err(error("open", above))?;
        let there = match rustix::fs::openat(&parent, &name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(dir) => {
                let names = rustix::fs::Dir::new(dir).map_err(error("read", into))?;
                let used = names.flatten().any(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
                if used {
                    return Err(UnpackError::Taken(into.to_owned()));
                }
                true
            }
            Err(Errno::NOENT) => false,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(UnpackError::Taken(into.to_owned())),
            Err(errno) => return Err(error("open", into)(errno)),
        };
        for nth in 0..1000 {
            let mut partial = OsString::from(".");
            partial.push(&name);
            partial.push(format!(".partial-{nth}"));
            match rustix::fs::mkdirat(&parent, &partial, Mode::RWXU) {
                Ok(()) => {
                    return Ok(Self { parent, name, partial, into: into.to_owned(), there, kept: false });
                }
                // Another one at work, or what one left that was killed.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(error("make a directory beside", into)(errno)),
            }
        }
        Err(error("make a directory beside", into)(Errno::EXIST))
    }

    fn root(&self) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent, &self.partial, flags, Mode::empty()).map_err(|errno| {
            UnpackError::Io {
                action: "open the directory beside",
                path: self.into.clone(),
                source: errno.into(),
            }
        })
    }

    fn keep(&mut self) -> Result<(), UnpackError> {
        let flags = if self.there { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match rustix::fs::renameat_with(&self.parent, &self.partial, &self.parent, &self.name, flags) {
            Ok(()) => {
                self.kept = true;
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(UnpackError::Taken(self.into.clone())),
            Err(errno) => {
                Err(UnpackError::Io { action: "rename to", path: self.into.clone(), source: errno.into() })
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            // What failed has been told; a directory that cannot be removed has a name that says what it is.
            let _gone = tree::remove_all(&self.parent, self.partial.as_bytes());
        }
    }
}
