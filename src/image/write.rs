//! A layer's entries → its blob, in one pass: read, laid out as tar, hashed, compressed on several threads, hashed
//! again, written. Nothing is held whole.
#![expect(clippy::disallowed_methods, reason = "files are read into layers here")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::entry::{Content, Entry, EntryPath, Kind};
use super::tar::{TRAILER, header, padding};
use crate::bundle::gz1::parallel;
use crate::bundle::oci::Descriptor;
use crate::bundle::{Layout, LayoutError};
use crate::model::Digest;

/// Media type of a layer in [`gz1`](crate::bundle::gz1).
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its blob.
    pub blob: Descriptor,
    /// The SHA-256 of its tar, before compression (image-spec, `config.md`, "Layer `DiffID`").
    pub diff_id: Digest,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file that cannot be read.
    #[error("`{}`, which is `{entry}` in the image, cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What it is in the image.
        entry: EntryPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that had another size when it was read.
    #[error("`{}` changed while the image was built", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// A tarball that cannot be read.
    #[error("the tarball `{}` cannot be read", file.display())]
    Rootfs {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a tarball.
    #[error("`{}` is no tar archive, and no gzip of one", file.display())]
    NoTar {
        /// The file.
        file: PathBuf,
    },
    /// The blob cannot be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The blob cannot be written to.
    #[error("the layer cannot be written to `{}`", layout.display())]
    Write {
        /// The layout.
        layout: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes the layer of these entries, which have been [arranged](super::layer::arrange), into a layout.
pub fn write(entries: &[Entry], layout: &Layout, threads: NonZeroUsize) -> Result<Layer, WriteError> {
    compressed(layout, threads, |out| lay_out(entries, out))
}

/// Writes a layer whose tar `produce` writes.
pub(super) fn compressed(
    layout: &Layout,
    threads: NonZeroUsize,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), Stop>,
) -> Result<Layer, WriteError> {
    let blob = layout.new_blob()?;
    let mut diff = Sha256::new();
    let mut stopped = None;
    let written = parallel::encode(threads, blob, |out| {
        let mut out = Hashing { out, hasher: &mut diff };
        produce(&mut out).map_err(|stop| match stop {
            Stop::Out(error) => error,
            Stop::Read(error) => {
                stopped = Some(error);
                io::ErrorKind::Other.into()
            }
        })
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    let blob =
        written.map_err(|source| WriteError::Write { layout: layout.root().to_owned(), source })?.finish()?;
    let (digest, size) = blob;
    let blob = Descriptor { media_type: LAYER_TYPE.to_owned(), digest, size };
    Ok(Layer { blob, diff_id: Digest::from_hasher(diff) })
}

/// Why a tar stream ended early.
pub(super) enum Stop {
    /// Nobody takes it any more.
    Out(io::Error),
    /// What should go into it is not to be had.
    Read(WriteError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

/// Writes entries as tar.
pub(super) fn lay_out(entries: &[Entry], out: &mut dyn Write) -> Result<(), Stop> {
    let mut reader = Files { open: None, buffer: vec![0; 1 << 18] };
    for entry in entries {
        out.write_all(&header(entry))?;
        let Kind::File(content) = &entry.kind else { continue };
        match content {
            Content::Bytes(bytes) => out.write_all(bytes)?,
            Content::File { path, offset, size } => reader.copy(entry, path, *offset, *size, out)?,
        }
        out.write_all(&TRAILER[..padding(content.size())])?;
    }
    out.write_all(&TRAILER)?;
    Ok(())
}

/// Reads files; many entries in a row may be parts of one.
struct Files {
    open: Option<(PathBuf, File)>,
    buffer: Vec<u8>,
}

impl Files {
    fn copy(
        &mut self,
        entry: &Entry,
        path: &Path,
        offset: u64,
        size: u64,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        let failed = |source: io::Error| {
            let read = WriteError::Read { file: path.to_owned(), entry: entry.path.clone(), source };
            Stop::Read(read)
        };
        let changed = || Stop::Read(WriteError::Changed { file: path.to_owned() });
        let mut file = match self.open.take() {
            Some((open, file)) if open == path => file,
            _ => {
                let file = File::open(path).map_err(failed)?;
                // A part has something before it; what begins at the beginning is the whole file.
                if offset == 0 && file.metadata().map_err(failed)?.len() != size {
                    return Err(changed());
                }
                file
            }
        };
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        }
        let mut left = size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            match file.read(&mut self.buffer[..room]) {
                Ok(0) => return Err(changed()),
                Ok(read) => {
                    out.write_all(&self.buffer[..read])?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if offset > 0 {
            self.open = Some((path.to_owned(), file));
        }
        Ok(())
    }
}

/// Hashes what passes.
pub(super) struct Hashing<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) hasher: &'a mut Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
