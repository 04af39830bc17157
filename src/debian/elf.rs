//! The few fields of a shared library (System V ABI, "Object Files") that the loader's cache is made from. A library may
//! be large, so only its headers and its dynamic section are read, wherever they lie.
#![expect(
    clippy::disallowed_methods,
    reason = "libraries are parts of decoded packages in the builder's cache"
)]

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::DebianError;
use crate::image::Content;

/// The longest part that is read at once, in bytes: no library has such a dynamic section, and none such a name.
const MAX_PART: u64 = 1 << 20;
/// The longest name that is read, in bytes.
const MAX_NAME: u64 = 4096;

const SHARED: u16 = 3;
const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const PROPERTY: u64 = 0x6474_e553;
const STRINGS: u64 = 5;
const SONAME: u64 = 14;
/// Which level of the x86-64 psABI it needs, a bit for each, as a property of GNU (`elf.h`, `GNU_PROPERTY_X86_ISA_1_NEEDED`).
const LEVELS: u64 = 0xc000_8002;

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    /// `e_machine`: for which processor it is.
    pub(crate) machine: u16,
    /// Whether its addresses have 64 bits.
    pub(crate) wide: bool,
    /// What it calls itself.
    pub(crate) soname: Option<Vec<u8>>,
    /// The highest level of its processor that it says it needs; 0 for any.
    pub(crate) level: u32,
}

/// Where fields lie, in bytes from the beginning of what they are in.
struct Shape {
    wide: bool,
    table: usize,
    count: usize,
    segment: u64,
    offset: usize,
    address: usize,
    size: usize,
    align: usize,
}

const NARROW: Shape =
    Shape { wide: false, table: 28, count: 44, segment: 32, offset: 4, address: 8, size: 16, align: 28 };
const WIDE: Shape =
    Shape { wide: true, table: 32, count: 56, segment: 56, offset: 8, address: 16, size: 32, align: 48 };

/// Reads a library; nothing if it is none, or a broken one, or one of the other byte order.
pub(crate) fn read(content: &Content) -> Result<Option<Library>, DebianError> {
    match content {
        Content::Bytes(bytes) => {
            let size = bytes.len() as u64;
            Ok(Part { reader: Cursor::new(&**bytes), start: 0, size }.library().unwrap_or_default())
        }
        Content::File { path, offset, size } => {
            let reader = File::open(path).map_err(DebianError::io("read", path))?;
            Part { reader, start: *offset, size: *size }.library().map_err(DebianError::io("read", path))
        }
    }
}

struct Part<R> {
    reader: R,
    start: u64,
    size: u64,
}

impl<R: Read + Seek> Part<R> {
    /// That many bytes from there on, or as many as there are.
    fn at(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(offset)).min(MAX_PART);
        let mut bytes = Vec::new();
        if length > 0 {
            self.reader.seek(SeekFrom::Start(self.start.saturating_add(offset)))?;
            self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    fn library(&mut self) -> io::Result<Option<Library>> {
        let header = self.at(0, 64)?;
        let shape = match header.get(..6) {
            Some(b"\x7fELF\x01\x01") => &NARROW,
            Some(b"\x7fELF\x02\x01") => &WIDE,
            _ => return Ok(None),
        };
        let (Some(SHARED), Some(machine)) = (short(&header, 16), short(&header, 18)) else { return Ok(None) };
        let (Some(table), Some(count)) =
            (word(&header, shape.table, shape.wide), short(&header, shape.count))
        else {
            return Ok(None);
        };
        let segments = self.at(table, shape.segment * u64::from(count))?;
        let (mut base, mut dynamic, mut level) = (None, None, 0);
        for segment in segments.chunks_exact(usize::try_from(shape.segment).unwrap_or(usize::MAX)) {
            let field = |at| word(segment, at, shape.wide).unwrap_or_default();
            let (offset, size) = (field(shape.offset), field(shape.size));
            match word(segment, 0, false) {
                Some(LOAD) => base = base.or(Some(field(shape.address).wrapping_sub(offset))),
                Some(DYNAMIC) => dynamic = Some((offset, size)),
                Some(PROPERTY) if field(shape.align) == if shape.wide { 8 } else { 4 } => {
                    level = levels(&self.at(offset, size)?, shape.wide);
                }
                _ => {}
            }
        }
        let Some((offset, size)) = dynamic else { return Ok(None) };
        let dynamic = self.at(offset, size)?;
        let width = if shape.wide { 8 } else { 4 };
        let pairs = dynamic.chunks_exact(2 * width).map(|pair| {
            (word(pair, 0, shape.wide).unwrap_or_default(), word(pair, width, shape.wide).unwrap_or_default())
        });
        let pairs: Vec<_> = pairs.take_while(|(tag, _)| *tag != 0).collect();
        let find = |wanted| pairs.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let Some(strings) = find(STRINGS) else { return Ok(None) };
        let soname = match find(SONAME) {
            Some(name) => {
                let at = strings.wrapping_sub(base.unwrap_or_default()).wrapping_add(name);
                let bytes = self.at(at, MAX_NAME)?;
                match bytes.iter().position(|&byte| byte == 0) {
                    Some(end) => Some(bytes[..end].to_vec()),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        Ok(Some(Library { machine, wide: shape.wide, soname, level }))
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize, wide: bool) -> Option<u64> {
    if wide {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    } else {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?).into())
    }
}

/// The highest level that a property note speaks of.
fn levels(note: &[u8], wide: bool) -> u32 {
    let number = |bytes: &[u8], at| word(bytes, at, false);
    let is_ours =
        number(note, 0) == Some(4) && number(note, 8) == Some(5) && note.get(12..16) == Some(b"GNU\0");
    let mut rest = note.get(16..).filter(|_| is_ours).unwrap_or_default();
    while let (Some(kind), Some(size)) = (number(rest, 0), number(rest, 4)) {
        if kind == LEVELS {
            let bits = number(rest, 8).filter(|_| size == 4).unwrap_or_default();
            return bits.checked_ilog2().unwrap_or_default();
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let next =
            size.checked_next_multiple_of(if wide { 8 } else { 4 }).and_then(|size| size.checked_add(8));
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_cut_or_changed_is_no_library_and_no_panic() {
        let program = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        let whole = read(&program.clone().into()).unwrap().unwrap();
        assert_eq!((whole.machine, whole.wide, whole.soname.as_deref()), (62, true, Some(&b"libc.so.6"[..])));
        for length in (0..2000).chain([program.len() / 2, program.len() - 1]) {
            let cut = read(&program[..length].to_vec().into()).unwrap();
            assert!(cut.is_none() || length > 4096, "{length}");
        }
        for at in 0..512 {
            let mut changed = program.clone();
            changed[at] = changed[at].wrapping_add(0x81);
            read(&changed.into()).unwrap();
        }
    }
}
