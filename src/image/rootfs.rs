//! A tarball of a root file system → a layer: the same tar, whatever it is, compressed by us.
#![expect(clippy::disallowed_methods, reason = "the tarball is read here")]

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::write::{Layer, Stop, WriteError, compressed};
use crate::bundle::Layout;

/// The first two bytes of gzip (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Writes the layer of a tarball, plain or in gzip.
pub(super) fn write(path: &Path, layout: &Layout, threads: NonZeroUsize) -> Result<Layer, WriteError> {
    let failed = |source: io::Error| WriteError::Rootfs { file: path.to_owned(), source };
    // A read may give less than was asked for, down to one byte.
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(2).read_to_end(&mut head).map_err(failed)?;
    let gzip = head == GZIP;
    let file = BufReader::with_capacity(1 << 18, io::Cursor::new(head).chain(file));
    let mut reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    compressed(layout, threads, |out| {
        let mut first = Vec::new();
        reader.by_ref().take(512).read_to_end(&mut first).map_err(|error| Stop::Read(failed(error)))?;
        // Whatever else it is, it is not an archive if its first header is none.
        if first.len() < 512 || &first[257..262] != b"ustar" {
            return Err(Stop::Read(WriteError::NoTar { file: path.to_owned() }));
        }
        out.write_all(&first)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => out.write_all(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Read(failed(error))),
            }
        }
    })
}
