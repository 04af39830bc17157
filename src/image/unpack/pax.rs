//! The records of an extended header (POSIX.1-2024, `pax`, "pax Extended Header"): `LENGTH KEY=VALUE\n`.

use super::error::Fault;

/// What extended headers may say about the member that follows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds since 1970.
    pub(super) mtime: Option<(i64, u32)>,
    /// The value of `security.capability`.
    pub(super) capability: Option<Vec<u8>>,
    /// How many other extended attributes there were.
    pub(super) dropped: u64,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Records {
    /// Reads all records. The same key twice is refused, and so is an empty value: some readers take it for nothing,
    /// others for the header's own.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Fault> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(Fault::Record)?;
            bytes = rest;
            match key {
                b"path" => once(&mut records.path, "path", name(value, "path")?)?,
                b"linkpath" => once(&mut records.link, "linkpath", name(value, "linkpath")?)?,
                b"size" => once(&mut records.size, "size", decimal(value, "size")?)?,
                b"uid" => once(&mut records.uid, "uid", decimal(value, "uid")?)?,
                b"gid" => once(&mut records.gid, "gid", decimal(value, "gid")?)?,
                b"mtime" => {
                    let time = time(value).ok_or(Fault::Number { field: "mtime" })?;
                    once(&mut records.mtime, "mtime", time)?;
                }
                b"SCHILY.xattr.security.capability" => {
                    once(&mut records.capability, "security.capability", value.to_vec())?;
                }
                key if key.starts_with(XATTR) => records.dropped += 1,
                // They say that the content is not what it seems to be.
                key if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" => {
                    return Err(Fault::Sparse);
                }
                key if key == b"SCHILY.filetype" => return Err(Fault::Kind { flag: b'x' }),
                // Names of owners, other times, comments.
                _ => {}
            }
        }
        Ok(records)
    }

    /// Whether these records, said of all members that follow, change nothing.
    pub(super) fn only_comments(mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match record(bytes) {
                Some((b"comment", _, rest)) => bytes = rest,
                _ => return false,
            }
        }
        true
    }
}

/// Key, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let length = usize::try_from(digits(&bytes[..blank])?).ok()?;
    let record = bytes.get(blank + 1..length)?;
    let (b"\n", record) = record.split_last().map(|(last, record)| (std::slice::from_ref(last), record))?
    else {
        return None;
    };
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let key = &record[..equals];
    let plain = !key.is_empty() && !key.contains(&0) && !key.contains(&b'\n');
    plain.then(|| (key, &record[equals + 1..], &bytes[length..]))
}

fn once<T>(place: &mut Option<T>, key: &'static str, value: T) -> Result<(), Fault> {
    if place.replace(value).is_some() { Err(Fault::Twice { key }) } else { Ok(()) }
}

fn name(value: &[u8], field: &'static str) -> Result<Vec<u8>, Fault> {
    if value.is_empty() || value.contains(&0) { Err(Fault::Name { field }) } else { Ok(value.to_vec()) }
}

fn decimal(value: &[u8], field: &'static str) -> Result<u64, Fault> {
    digits(value).ok_or(Fault::Number { field })
}

/// Decimal digits alone: no sign, no blanks.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `-12.345` is 0.345 s after −12 for nobody: it is 12.345 s before 1970.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (minus, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(digits(parts.next()?)?).ok()?;
    let nanoseconds = match parts.next() {
        None | Some([]) => 0,
        Some(fraction) => {
            digits(&fraction[..fraction.len().min(9)])?;
            if !fraction.iter().all(u8::is_ascii_digit) {
                return None;
            }
            (0..9).fold(0, |value, nth| {
                value * 10 + u32::from(fraction.get(nth).map_or(0, |digit| digit - b'0'))
            })
        }
    };
    match (minus, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}
