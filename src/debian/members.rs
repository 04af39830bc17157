//! The members of a decoded tar, as `deb(5)` allows them: the old format, ustar, GNU's long names, and of the POSIX
//! extensions paths and file capabilities.
#![expect(clippy::disallowed_methods, reason = "decoded packages are files of the builder's cache")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use tar::{Archive, EntryType};

use super::DebianError;
use crate::image::{Content, Entry, EntryPath, Kind};

/// The longest extension header that is read, in bytes.
const MAX_EXTENSION: u64 = 64 << 10;
/// The most members that a package may have.
const MAX_MEMBERS: usize = 1 << 20;

/// What the extension headers before a member say about it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    capability: Option<Vec<u8>>,
}

/// The entries of a tar in its order, without the root. The content of a file is where it lies in the tar. A hard link
/// names an entry before it.
pub(crate) fn read(path: &Path, package: &str) -> Result<Vec<Entry>, DebianError> {
    let fault = |reason: String| DebianError::package(package, reason);
    let file = File::open(path).map_err(DebianError::io("read", path))?;
    let mut archive = Archive::new(BufReader::with_capacity(8 << 10, file));
    let members = archive.entries_with_seek().map_err(|error| fault(error.to_string()))?.raw(true);
    let mut entries = Vec::new();
    let mut files = BTreeSet::new();
    let mut extensions = Extensions::default();
    for member in members {
        let mut member = member.map_err(|error| fault(error.to_string()))?;
        if entries.len() > MAX_MEMBERS {
            return Err(fault(format!("it has more than {MAX_MEMBERS} members")));
        }
        if extensions.take(&mut member).map_err(&fault)? {
            continue;
        }
        let extensions = std::mem::take(&mut extensions);
        let name = extensions.path.unwrap_or_else(|| member.path_bytes().into_owned());
        let Some(at) = clean(&name) else { continue };
        let at = EntryPath::new(at).map_err(|error| fault(error.to_string()))?;
        let link = || match &extensions.link {
            Some(link) => Ok(link.clone()),
            None => member
                .header()
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .ok_or_else(|| fault(format!("the link `{at}` leads nowhere"))),
        };
        let kind = match member.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                let content = Content::File {
                    path: path.to_owned(),
                    offset: member.raw_file_position(),
                    size: member.size(),
                };
                files.insert(at.clone());
                Kind::File(content)
            }
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => {
                let target = link()?;
                let target = clean(&target).and_then(|target| EntryPath::new(target).ok());
                let target = target.filter(|target| files.contains(target));
                files.insert(at.clone());
                Kind::HardLink(
                    target
                        .ok_or_else(|| fault(format!("`{at}` is one more name of a file that it has not")))?,
                )
            }
            other => return Err(fault(format!("`{at}` is of the type {other:?}, which images do not have"))),
        };
        let number = |value: std::io::Result<u64>| {
            value
                .ok()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| fault(format!("`{at}` has an owner out of range")))
        };
        let (uid, gid) = (number(member.header().uid())?, number(member.header().gid())?);
        let mode = member.header().mode().map_err(|error| fault(error.to_string()))? & 0o7777;
        let mode = u16::try_from(mode).unwrap_or(0);
        entries.push(Entry { path: at, kind, mode, uid, gid, capability: extensions.capability });
    }
    Ok(entries)
}

/// Without `./` in front and `/` behind; `None` for the root.
fn clean(name: &[u8]) -> Option<&[u8]> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    let name = name.strip_suffix(b"/").unwrap_or(name);
    (!name.is_empty() && name != b".").then_some(name)
}

impl Extensions {
    /// Takes in a member that only says something about the next; `false` if it is a member of its own.
    fn take<R: Read>(&mut self, member: &mut tar::Entry<'_, R>) -> Result<bool, String> {
        let kind = member.header().entry_type();
        if !(kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions()) {
            return Ok(false);
        }
        if member.size() > MAX_EXTENSION {
            return Err(format!("it has an extension header of more than {MAX_EXTENSION} bytes"));
        }
        let mut body = Vec::new();
        member.read_to_end(&mut body).map_err(|error| error.to_string())?;
        if kind.is_pax_local_extensions() {
            self.records(&body)?;
            return Ok(true);
        }
        while body.last() == Some(&0) {
            body.pop();
        }
        let place = if kind.is_gnu_longname() { &mut self.path } else { &mut self.link };
        *place = Some(body);
        Ok(true)
    }

    /// `<length> <key>=<value>\n` (`pax(1)`, POSIX). What changes the size of a member is refused, times are passed over.
    fn records(&mut self, mut body: &[u8]) -> Result<(), String> {
        let broken = || "it has a broken extension header".to_owned();
        while !body.is_empty() {
            let space = body.iter().position(|&byte| byte == b' ').ok_or_else(broken)?;
            let length: usize = std::str::from_utf8(&body[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(broken)?;
            let record = body
                .get(space + 1..length)
                .and_then(|record| record.strip_suffix(b"\n"))
                .ok_or_else(broken)?;
            body = &body[length..];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], record[equals + 1..].to_vec());
            match key {
                b"path" => self.path = Some(value),
                b"linkpath" => self.link = Some(value),
                b"SCHILY.xattr.security.capability" => self.capability = Some(value),
                b"mtime" | b"atime" | b"ctime" | b"uname" | b"gname" | b"comment" => {}
                other if other.starts_with(b"SCHILY.xattr.") => {}
                other => {
                    return Err(format!(
                        "it has the extension `{}`, which is not known",
                        other.escape_ascii()
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<Vec<Entry>, String> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        read(&path, "p").map_err(|error| error.to_string())
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, body: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o104_755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).unwrap();
    }

    #[test]
    fn members_are_what_the_tar_says() {
        let long = "d/".repeat(120) + "f";
        let read = members(|tar| {
            add(tar, EntryType::Directory, "./", "", b"");
            add(tar, EntryType::Directory, "./usr/", "", b"");
            add(tar, EntryType::Regular, "./usr/x", "", b"body");
            add(tar, EntryType::Link, "./usr/y", "./usr/x", b"");
            add(tar, EntryType::Symlink, "./z", "/usr/x", b"");
            add(tar, EntryType::GNULongName, "././@LongLink", "", format!("./{long}\0").as_bytes());
            add(tar, EntryType::Regular, "./d", "", b"");
            add(tar, EntryType::XHeader, "x", "", b"41 SCHILY.xattr.security.capability=\0\0\x01\x02\n");
            add(tar, EntryType::Regular, "./ping", "", b"p");
        })
        .unwrap();
        let shown: Vec<_> = read.iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(shown, ["/usr", "/usr/x", "/usr/y", "/z", &format!("/{long}"), "/ping"]);
        assert_eq!((read[0].mode, read[0].uid, read[0].gid), (0o4755, 7, 8));
        assert_eq!(read[2].kind, Kind::HardLink(EntryPath::new("usr/x").unwrap()));
        assert_eq!(read[3].kind, Kind::Symlink(b"/usr/x".to_vec()));
        assert_eq!(read[5].capability.as_deref(), Some(b"\0\0\x01\x02".as_slice()));
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        type Hostile<'a> = (EntryType, &'a str, &'a str, &'a [u8], &'a str);
        let long = vec![b'a'; 70_000];
        let hostile: &[Hostile<'_>] = &[
            (EntryType::Regular, "../x", "", b"", "not a path"),
            (EntryType::Regular, "/etc/x", "", b"", "not a path"),
            (EntryType::Regular, "./a//b", "", b"", "not a path"),
            (EntryType::Link, "./x", "./y", b"", "one more name"),
            (EntryType::Link, "./x", "../../etc/passwd", b"", "one more name"),
            (EntryType::Char, "./dev/null", "", b"", "type"),
            (EntryType::Fifo, "./p", "", b"", "type"),
            (EntryType::GNUSparse, "./s", "", b"", "type"),
            (EntryType::XHeader, "x", "", b"99 path=x\n", "broken"),
            (EntryType::XHeader, "x", "", b"9 size=9\n", "not known"),
            (EntryType::GNULongName, "x", "", &long, "more than"),
        ];
        for (kind, name, link, body, why) in hostile {
            let said = members(|tar| add(tar, *kind, name, link, body)).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
    }
}
