//! A blob whose digest is known only once it is written.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::{Layout, LayoutError, io_error, sync_directory};
use crate::model::Digest;

impl Layout {
    /// A blob to write into. Dropped before [`NewBlob::finish`], it leaves nothing.
    pub fn new_blob(&self) -> Result<NewBlob, LayoutError> {
        let blobs = self.blobs();
        let file = tempfile::Builder::new()
            .prefix("new.")
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&blobs)
            .map_err(io_error("create a file in", &blobs))?;
        let (file, path) = file.into_parts();
        Ok(NewBlob { layout: self.clone(), file, path, hasher: Sha256::new(), size: 0 })
    }
}

impl Layout {
    /// Copies a blob from another layout, and verifies it on the way. What is here already is not read there.
    pub fn copy_blob(&self, from: &Self, digest: Digest, size: u64) -> Result<(), LayoutError> {
        if self.has_blob(digest, size) {
            return Ok(());
        }
        let path = from.blob_path(digest);
        let file = from.open_blob(digest)?;
        let mut blob = self.new_blob()?;
        // One byte more than there should be is enough to see that there is more.
        io::copy(&mut file.take(size + 1), &mut blob).map_err(io_error("copy", &path))?;
        let found = Digest::from_hasher(blob.hasher.clone());
        if found != digest {
            return Err(LayoutError::Corrupt { path, digest, found });
        }
        blob.finish().map(drop)
    }
}

/// A blob on its way into a layout.
#[derive(Debug)]
pub struct NewBlob {
    layout: Layout,
    file: File,
    path: tempfile::TempPath,
    hasher: Sha256,
    size: u64,
}

impl NewBlob {
    /// When it was made, by the clock that gives files their times.
    pub fn made(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Gives the blob its name, and says it with its size in bytes.
    pub fn finish(self) -> Result<(Digest, u64), LayoutError> {
        let digest = Digest::from_hasher(self.hasher);
        let name: PathBuf = self.layout.blob_path(digest);
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        fs::rename(&self.path, &name).map_err(io_error("rename", &self.path))?;
        sync_directory(&name)?;
        Ok((digest, self.size))
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
