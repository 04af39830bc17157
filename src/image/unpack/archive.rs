//! The members of a tar archive, one after the other, as others write them: ustar, GNU's long names, extended headers.
//!
//! Programs differ in how they read what a careless or hostile writer left ambiguous, and whoever scans an image must
//! see the same files as whoever runs it (CVE-2025-62518 was such a difference). What is ambiguous is refused.

use std::io::BufRead;

use super::error::Fault;
use super::header::{BLOCK, Header};
use super::pax::Records;
use crate::image::entry::{EntryPath, MAX_PATH};

/// The longest extended header that is read, in bytes.
const MAX_EXTENDED: u64 = 1 << 20;
/// The longest name of a file on Linux (`limits.h`, `NAME_MAX`), in bytes.
const MAX_NAME: usize = 255;
/// How many directories deep a member may be.
pub(super) const MAX_DEPTH: usize = 200;

/// A file, directory or link, in the words of its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it is; `None` is the root.
    pub path: Option<EntryPath>,
    /// What it is.
    pub what: What,
    /// Permissions, `0o7777` at most.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed, in seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// The value of `security.capability`.
    pub capability: Option<Vec<u8>>,
    /// How many other extended attributes it has.
    pub dropped: u64,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link, and what it says.
    Symlink(Vec<u8>),
    /// One more name of a file.
    HardLink(EntryPath),
}

/// A fault, and the member it was found at if that has a name already.
#[derive(Debug)]
pub struct At {
    /// The member.
    pub path: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl From<Fault> for At {
    fn from(fault: Fault) -> Self {
        Self { path: None, fault }
    }
}

/// An archive that is being read.
#[derive(Debug)]
pub struct Archive<R> {
    inner: R,
    /// Content of the last member that nobody has read yet, and the zeros behind it.
    content: u64,
    padding: u64,
    members: u64,
    most: u64,
}

impl<R: BufRead> Archive<R> {
    /// Reads an archive of at most this many members.
    pub fn new(inner: R, most: u64) -> Self {
        Self { inner, content: 0, padding: 0, members: 0, most }
    }

    /// The next member, or the end, behind which there is nothing but zeros. What is left of the last member's content is skipped.
    pub fn advance(&mut self) -> Result<Option<Member>, At> {
        self.skip(self.content + self.padding)?;
        (self.content, self.padding) = (0, 0);
        let (mut name, mut link, mut records) = (None, None, None);
        loop {
            let Some(header) = self.header()? else {
                let pending = name.is_some() || link.is_some() || records.is_some();
                return if pending { Err(Fault::Dangling.into()) } else { Ok(None) };
            };
            match header.flag {
                b'L' => once(&mut name, "a long name", self.long(header.size, "long name")?)?,
                b'K' => once(&mut link, "a long link", self.long(header.size, "long link")?)?,
                b'x' => {
                    let read = Records::parse(&self.extended(header.size)?)?;
                    once(&mut records, "an extended header", read)?;
                }
                b'g' => {
                    if !Records::only_comments(&self.extended(header.size)?) {
                        return Err(Fault::Global.into());
                    }
                }
                _ => return self.member(&header, name, link, records.unwrap_or_default()).map(Some),
            }
        }
    }

    /// The next bytes of the member's content, as many as are at hand; none when there are no more.
    pub fn content(&mut self) -> Result<&[u8], Fault> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf().map_err(Fault::Read)?;
        if bytes.is_empty() {
            return Err(Fault::Truncated);
        }
        let here = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
        Ok(&bytes[..here])
    }

    /// Done with so many of the bytes that [`Archive::content`] gave.
    pub fn consume(&mut self, bytes: usize) {
        self.content -= bytes as u64;
        self.inner.consume(bytes);
    }

    fn member(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: Records,
    ) -> Result<Member, At> {
        self.members += 1;
        if self.members > self.most {
            return Err(Fault::TooMuch { what: "members of a layer", limit: self.most }.into());
        }
        if long_name.is_some() && records.path.is_some() || long_link.is_some() && records.link.is_some() {
            return Err(Fault::Twice { key: "a long name" }.into());
        }
        let name = long_name.or_else(|| records.path.clone()).unwrap_or_else(|| header.name.clone());
        let link = long_link.or_else(|| records.link.clone()).unwrap_or_else(|| header.link.clone());
        let shown = shown(&name);
        self.named(header, &name, &link, records).map_err(|fault| At { path: Some(shown), fault })
    }

    fn named(
        &mut self,
        header: &Header,
        name: &[u8],
        link: &[u8],
        records: Records,
    ) -> Result<Member, Fault> {
        let size = size(header.size, records.size)?;
        let slash = name.ends_with(b"/");
        let path = path(name)?;
        let nothing =
            |what: &'static str| if size == 0 { Ok(()) } else { Err(Fault::Content { what, size }) };
        let what = match header.flag {
            // Before there was a flag for directories, a slash was it.
            b'5' => nothing("a directory").map(|()| What::Directory)?,
            0 if slash => nothing("a directory").map(|()| What::Directory)?,
            0 | b'0' if slash => return Err(Fault::Slash),
            0 | b'0' => What::File(size),
            b'1' => {
                nothing("a hard link")?;
                What::HardLink(self::path(link)?.ok_or(Fault::Name { field: "linkname" })?)
            }
            b'2' => {
                nothing("a symbolic link")?;
                if link.is_empty() || link.len() >= MAX_PATH {
                    return Err(Fault::Name { field: "linkname" });
                }
                What::Symlink(link.to_vec())
            }
            b'3' => return Err(Fault::Special("character device")),
            b'4' => return Err(Fault::Special("block device")),
            b'6' => return Err(Fault::Special("named pipe")),
            b'S' => return Err(Fault::Sparse),
            flag => return Err(Fault::Kind { flag }),
        };
        if slash && !matches!(what, What::Directory) {
            return Err(Fault::Slash);
        }
        if path.is_none() && what != What::Directory {
            return Err(Fault::Root);
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(Member {
            path,
            what,
            mode: header.mode,
            uid: owner(records.uid.unwrap_or(header.uid), "uid")?,
            gid: owner(records.gid.unwrap_or(header.gid), "gid")?,
            mtime: records.mtime.unwrap_or((header.mtime, 0)),
            capability: records.capability,
            dropped: records.dropped,
        })
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let mut block = [0; BLOCK];
        // Some writers leave the end out, `umoci insert` among them.
        if self.ended()? {
            return Ok(None);
        }
        self.block(&mut block)?;
        if let Some(header) = Header::parse(&block)? {
            return Ok(Some(header));
        }
        if self.ended()? {
            return Ok(None);
        }
        self.block(&mut block)?;
        if block != [0; BLOCK] {
            return Err(Fault::LoneZero);
        }
        // Some writers fill up to the next 10 KiB.
        loop {
            let bytes = self.inner.fill_buf().map_err(Fault::Read)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(Fault::Trailing);
            }
            let length = bytes.len();
            self.inner.consume(length);
        }
    }

    fn ended(&mut self) -> Result<bool, Fault> {
        self.inner.fill_buf().map(<[u8]>::is_empty).map_err(Fault::Read)
    }

    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<(), Fault> {
        self.inner.read_exact(block).map_err(ended)
    }

    /// A name that GNU's form keeps in front of its member.
    fn long(&mut self, size: u64, what: &'static str) -> Result<Vec<u8>, Fault> {
        let limit = MAX_PATH as u64 + 1;
        if size > limit {
            return Err(Fault::TooMuch { what, limit });
        }
        let bytes = self.extended(size)?;
        // It ends with a NUL, of which some writers put more than one.
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        if end == 0 || bytes[end..].iter().any(|&byte| byte != 0) {
            return Err(Fault::Name { field: what });
        }
        Ok(bytes[..end].to_vec())
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        let limit = MAX_EXTENDED;
        let length = usize::try_from(size).ok().filter(|_| size <= limit);
        let mut bytes = vec![0; length.ok_or(Fault::TooMuch { what: "bytes of an extended header", limit })?];
        self.inner.read_exact(&mut bytes).map_err(ended)?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(bytes)
    }

    fn skip(&mut self, mut left: u64) -> Result<(), Fault> {
        while left > 0 {
            let bytes = self.inner.fill_buf().map_err(Fault::Read)?.len();
            if bytes == 0 {
                return Err(Fault::Truncated);
            }
            let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes);
            self.inner.consume(skipped);
            left -= skipped as u64;
        }
        Ok(())
    }
}

fn ended(error: std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { Fault::Truncated } else { Fault::Read(error) }
}

fn once<T>(place: &mut Option<T>, key: &'static str, value: T) -> Result<(), Fault> {
    if place.replace(value).is_some() { Err(Fault::Twice { key }) } else { Ok(()) }
}

/// How many bytes follow. An extended header may say what the header has no room for, and nothing else.
fn size(header: u64, extended: Option<u64>) -> Result<u64, Fault> {
    match extended {
        None => Ok(header),
        Some(extended) if extended == header || header == 0 && extended >= 8_u64.pow(11) => Ok(extended),
        Some(extended) => Err(Fault::TwoSizes { header, extended }),
    }
}

/// The highest number stands for "as it is" in `chown(2)`.
fn owner(id: u64, field: &'static str) -> Result<u32, Fault> {
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or(Fault::Number { field })
}

/// A member's name as a path below the root; `None` is the root itself. `./`, doubled slashes and a slash at the end
/// mean the same to everybody and are taken away.
fn path(name: &[u8]) -> Result<Option<EntryPath>, Fault> {
    // `umoci insert` names the root so.
    if name == b"/" {
        return Ok(None);
    }
    if name.starts_with(b"/") {
        return Err(Fault::Absolute);
    }
    if name.is_empty() {
        return Err(Fault::Name { field: "name" });
    }
    let mut clean = Vec::with_capacity(name.len());
    let mut depth = 0;
    for part in name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(Fault::Upwards);
        }
        if part.len() > MAX_NAME {
            return Err(Fault::TooMuch { what: "bytes of one name", limit: MAX_NAME as u64 });
        }
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(Fault::TooMuch { what: "directories, one in the other", limit: MAX_DEPTH as u64 });
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    if clean.is_empty() {
        return Ok(None);
    }
    EntryPath::new(clean).map(Some).map_err(|_| Fault::Name { field: "name" })
}

/// A path for a message.
pub(super) fn shown(path: &[u8]) -> String {
    let text: String = path.escape_ascii().to_string().chars().take(400).collect();
    if path.len() > 400 { text + "…" } else { text }
}
