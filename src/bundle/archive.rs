//! The archive of a bundle's files: a subset of tar in which one content has one byte form.
//!
//! Any tar reads it (POSIX.1-2017 `pax`, section "ustar Interchange Format"), but our reader takes nothing else: a
//! header is decoded, encoded again, and refused unless the bytes are the same. So links, devices, owners, times,
//! long-name extensions and whatever else parsers have disagreed about do not exist here, rather than being handled.
//!
//! ```text
//! { header (512) · content · zeros to a multiple of 512 }*   sorted by path
//! 1024 zeros, and nothing after them
//! ```

use std::io::{self, Read};

use crate::model::{Mode, StorePath};

/// How many files an archive may have.
pub const MAX_ENTRIES: usize = 10_000;
/// How many bytes the contents of an archive may have in all.
pub const MAX_CONTENT: u64 = 64 << 20;
/// The directory in which every path begins.
pub const DIRECTORY: &str = "store";

const BLOCK: usize = 512;
const NAME: usize = 100;

/// What an archive says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its place in the store; in the archive it stands below [`DIRECTORY`].
    pub path: StorePath,
    /// Its mode.
    pub mode: Mode,
    /// The size of its content in bytes.
    pub size: u64,
}

/// Why an archive cannot be written or was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A name that ustar's fields cannot hold; we write no extension headers.
    #[error("the file name `{0}` is longer than the 100 bytes that a ustar header holds")]
    LongName(String),
    /// Not in order.
    #[error(
        "archive entry `{path}` does not come after the one before it; entries are sorted and each path stands once"
    )]
    Unsorted {
        /// The entry out of order.
        path: String,
    },
    /// Too many entries.
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// Too much content.
    #[error("the archive's contents are larger than {MAX_CONTENT} bytes")]
    TooLarge,
    /// Something that is tar, or nearly so, but not ours.
    #[error("the archive is not canonical: entry {index} {reason}")]
    Header {
        /// Its number, from 0.
        index: usize,
        /// What is wrong with it, as the end of a sentence.
        reason: &'static str,
    },
    /// Bytes other than zero after a content.
    #[error("the archive is not canonical: the padding of `{path}` is not zero")]
    Padding {
        /// The entry before it.
        path: String,
    },
    /// Not exactly two blocks of zeros at the end.
    #[error("the archive is not canonical: it does not end in exactly two blocks of zeros")]
    Trailer,
    /// The bytes could not be had, or ended early.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
}

impl Header {
    /// The 512 bytes of this header; there are no others that mean the same.
    fn encode(&self) -> Result<[u8; BLOCK], ArchiveError> {
        let (directory, name) = (format!("{DIRECTORY}/{}", self.path.hash().hex()), self.path.name());
        if name.len() > NAME {
            return Err(ArchiveError::LongName(name.to_owned()));
        }
        if self.size > MAX_CONTENT {
            return Err(ArchiveError::TooLarge);
        }
        let mut block = [0; BLOCK];
        let full = format!("{directory}/{name}");
        if full.len() <= NAME {
            put(&mut block, 0, full.as_bytes());
        } else {
            put(&mut block, 0, name.as_bytes());
            put(&mut block, 345, directory.as_bytes());
        }
        put(&mut block, 100, format!("{:07o}", self.mode.bits()).as_bytes());
        put(&mut block, 108, b"0000000");
        put(&mut block, 116, b"0000000");
        put(&mut block, 124, format!("{:011o}", self.size).as_bytes());
        put(&mut block, 136, b"00000000000");
        put(&mut block, 156, b"0");
        put(&mut block, 257, b"ustar\x0000");
        put(&mut block, 329, b"0000000");
        put(&mut block, 337, b"0000000");
        let sum = checksum(&block);
        put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        Ok(block)
    }

    /// Reads a header, and says in words what is wrong with one that is not ours.
    fn decode(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        if &block[257..265] != b"ustar\x0000" {
            return Err("is not a POSIX ustar header (GNU and old formats are refused)");
        }
        if field_number(&block[148..155]) != Some(u64::from(checksum(block))) {
            return Err("has a wrong checksum");
        }
        match block[156] {
            b'0' => {}
            b'1' | b'2' => return Err("is a link; bundles have regular files only"),
            b'3' | b'4' | b'6' => return Err("is a device or a pipe; bundles have regular files only"),
            b'5' => return Err("is a directory; bundles have regular files only"),
            b'x' | b'g' => return Err("is a pax extension header"),
            b'L' | b'K' => return Err("is a GNU long name"),
            _ => return Err("has an unknown type; bundles have regular files only"),
        }
        let mode = match field_number(&block[100..108]) {
            Some(0o444) => Mode::Read,
            Some(0o555) => Mode::Run,
            _ => return Err("has a mode other than 0444 and 0555"),
        };
        let size = field_number(&block[124..136]).ok_or("has a size that is not plain octal")?;
        let header = Self { path: decode_path(block)?, mode, size };
        match header.encode() {
            Ok(again) if again == *block => Ok(header),
            Ok(_) => Err("has an owner, a time, or another field that is not in its one canonical form"),
            Err(_) => Err("is too large, or its name too long"),
        }
    }
}

fn decode_path(block: &[u8; BLOCK]) -> Result<StorePath, &'static str> {
    const WRONG: &str = "has a path that is not `store/<64 hex digits>/<name>`";
    let text = |field: &[u8]| {
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).map(str::to_owned).map_err(|_| WRONG)
    };
    let (name, prefix) = (text(&block[..100])?, text(&block[345..500])?);
    let full = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let inner = full.strip_prefix(DIRECTORY).and_then(|rest| rest.strip_prefix('/')).ok_or(WRONG)?;
    StorePath::try_from(inner.to_owned()).map_err(|_| WRONG)
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An octal field that ends in one NUL. Base-256, blanks and signs are nobody's canonical form.
fn field_number(field: &[u8]) -> Option<u64> {
    let (&0, digits) = field.split_last()? else { return None };
    digits.iter().try_fold(0, |number: u64, &digit| match digit {
        b'0'..=b'7' => Some(number << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

/// The sum of all bytes, those of the checksum field counted as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let byte = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(byte) };
    block.iter().enumerate().map(byte).sum()
}

/// How many zeros follow a content of this size.
fn padding(size: u64) -> usize {
    const BLOCK: u64 = self::BLOCK as u64;
    usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0)
}

/// The archive of these files. They must come sorted by path, each path once.
pub fn write<'a>(
    files: impl IntoIterator<Item = (&'a StorePath, Mode, &'a [u8])>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut out = Vec::new();
    let mut limits = Limits::default();
    for (path, mode, content) in files {
        let header = Header { path: path.clone(), mode, size: content.len() as u64 };
        limits.admit(&header)?;
        out.extend_from_slice(&header.encode()?);
        out.extend_from_slice(content);
        out.resize(out.len() + padding(header.size), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// Reads an archive to its end and hands each file to `sink`, in order of path. What `sink` leaves unread is skipped.
///
/// What the sink sees has come from a canonical header, but the archive as a whole is right only once this returns.
pub fn read<E: From<ArchiveError>>(
    mut input: impl Read,
    mut sink: impl FnMut(&Header, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut limits = Limits::default();
    while let Some(header) = next_header(&mut input, &mut limits)? {
        let mut content = (&mut input).take(header.size);
        sink(&header, &mut content)?;
        io::copy(&mut content, &mut io::sink()).map_err(ArchiveError::Read)?;
        if content.limit() > 0 {
            return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let mut zeros = [0; BLOCK];
        let zeros = &mut zeros[..padding(header.size)];
        input.read_exact(zeros).map_err(ArchiveError::Read)?;
        if zeros.iter().any(|&byte| byte != 0) {
            return Err(ArchiveError::Padding { path: header.path.to_string() }.into());
        }
    }
    Ok(())
}

/// The next header, or nothing after a right trailer.
fn next_header(input: &mut impl Read, limits: &mut Limits) -> Result<Option<Header>, ArchiveError> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block).map_err(ArchiveError::Read)?;
    if block == [0; BLOCK] {
        return match input.read_exact(&mut block) {
            Ok(()) if block == [0; BLOCK] && at_end(input)? => Ok(None),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(ArchiveError::Read(error)),
            _ => Err(ArchiveError::Trailer),
        };
    }
    let header =
        Header::decode(&block).map_err(|reason| ArchiveError::Header { index: limits.entries, reason })?;
    limits.admit(&header)?;
    Ok(Some(header))
}

fn at_end(input: &mut impl Read) -> Result<bool, ArchiveError> {
    let read = io::copy(&mut input.take(1), &mut io::sink()).map_err(ArchiveError::Read)?;
    Ok(read == 0)
}

/// What is the same for writing and reading: order, number and size.
#[derive(Debug, Default)]
struct Limits {
    entries: usize,
    content: u64,
    last: Option<StorePath>,
}

impl Limits {
    fn admit(&mut self, header: &Header) -> Result<(), ArchiveError> {
        self.entries += 1;
        self.content = self.content.saturating_add(header.size);
        if self.entries > MAX_ENTRIES {
            return Err(ArchiveError::TooManyEntries);
        }
        if self.content > MAX_CONTENT {
            return Err(ArchiveError::TooLarge);
        }
        // The hash has a fixed length, so the order of store paths is the order of their bytes.
        if self.last.as_ref().is_some_and(|last| *last >= header.path) {
            return Err(ArchiveError::Unsorted { path: header.path.to_string() });
        }
        self.last = Some(header.path.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
