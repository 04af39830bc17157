//! One block of a tar archive as a header: ustar (POSIX.1-2024, `pax`, "ustar Interchange Format"), GNU's and the
//! seventh edition's.
//!
//! Nothing here knows of the blocks before or after. What two programs are known to read in two ways is refused.

use super::error::Fault;

/// A block of an archive, in bytes.
pub(super) const BLOCK: usize = 512;

/// The header's own fields, before long names and extended records have had their say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) size: u64,
    pub(super) mode: u16,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
}

/// What follows a name in the block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Ustar,
    Gnu,
    /// Before there was a magic word.
    Seventh,
}

impl Header {
    /// Reads a block; `None` if all of it is zero.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, Fault> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The sum of all bytes, with the sum's own field read as blanks.
        let own: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
        let all: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        if octal(&block[148..156], "checksum")? != all - own + 8 * u64::from(b' ') {
            return Err(Fault::Checksum);
        }
        let format = match (&block[257..263], &block[263..265]) {
            (b"ustar\0", b"00") => Format::Ustar,
            (b"ustar ", b" \0") => Format::Gnu,
            ([0, 0, 0, 0, 0, 0], [0, 0]) => Format::Seventh,
            _ => return Err(Fault::Magic),
        };
        let number = |range: std::ops::Range<usize>, field| number(&block[range], field, format);
        let mut name = text(&block[..100]);
        // GNU has times where ustar has a prefix.
        if format == Format::Ustar && block[345] != 0 {
            name = [&text(&block[345..500]), b"/".as_slice(), &name].concat();
        }
        let mode = octal(&block[100..108], "mode")?;
        Ok(Some(Self {
            name,
            link: text(&block[157..257]),
            flag: block[156],
            size: number(124..136, "size")?,
            // Some writers add the kind of file, as `stat` has it.
            mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
            uid: number(108..116, "uid")?,
            gid: number(116..124, "gid")?,
            mtime: i64::try_from(number(136..148, "mtime")?).map_err(|_| Fault::Number { field: "mtime" })?,
        }))
    }
}

/// Up to the first NUL, or the whole field.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits, or, in GNU's form alone, a number in base 256 that octal digits could not have said.
fn number(field: &[u8], name: &'static str, format: Format) -> Result<u64, Fault> {
    let fault = Fault::Number { field: name };
    match field[0] {
        0x80 if format == Format::Gnu => {
            let mut value: u64 = 0;
            for &byte in &field[1..] {
                if value >> 56 != 0 {
                    return Err(fault);
                }
                value = value << 8 | u64::from(byte);
            }
            let digits = u32::try_from(field.len() - 1).map_err(|_| Fault::Number { field: name })?;
            if value < 8_u64.pow(digits) { Err(Fault::TwoForms { field: name }) } else { Ok(value) }
        }
        // Negative, or with bits that nobody agrees on.
        first if first >= 0x80 => Err(fault),
        _ => octal(field, name),
    }
}

/// Octal digits, after blanks or zeros and up to a blank or NUL. Nothing at all is zero, as for every other reader.
fn octal(field: &[u8], name: &'static str) -> Result<u64, Fault> {
    let fault = || Fault::Number { field: name };
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(|&byte| byte == 0 || byte == b' ') {
        return Err(fault());
    }
    digits.iter().try_fold(0_u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + u64::from(digit - b'0')).ok_or_else(fault),
        _ => Err(fault()),
    })
}
