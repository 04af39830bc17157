//! Entries as tar writes them: one entry has one byte form.
//!
//! The interchange format is POSIX ustar, and a pax extended header stands before an entry only where ustar cannot say
//! something: a long name, a large file, a large number, a capability (POSIX.1-2017 `pax`, "ustar Interchange Format"
//! and "pax Extended Header"; image-spec, `layer.md`). Times are 0, owners are numbers, and there is no blocking factor.

use super::entry::{Entry, EntryPath, Kind};

/// The unit in which tar counts, in bytes.
pub const BLOCK: usize = 512;
/// What stands at the end: two blocks of zeros.
pub const TRAILER: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const NAME: usize = 100;
const PREFIX: usize = 155;
/// The largest size that eleven octal digits hold, in bytes.
const MOST_OCTAL_SIZE: u64 = 0o77_777_777_777;
/// The largest owner that seven octal digits hold.
const MOST_OCTAL_OWNER: u32 = 0o7_777_777;

/// How many zeros follow a content of this size, in bytes.
pub fn padding(size: u64) -> usize {
    const BLOCK: u64 = self::BLOCK as u64;
    usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0)
}

/// All that stands before an entry's content: its header, and before that what does not fit into it.
pub fn header(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let path = with_slash(entry);
    let (name, prefix) = ustar_name(&path).unwrap_or_else(|| {
        record(&mut records, b"path", &path);
        (&path[..NAME.min(path.len())], &[])
    });
    let link = match &entry.kind {
        Kind::Symlink(target) => target.as_slice(),
        Kind::HardLink(path) => path.as_bytes(),
        Kind::Directory | Kind::File(_) => &[],
    };
    if link.len() > NAME {
        record(&mut records, b"linkpath", link);
    }
    let size = match &entry.kind {
        Kind::File(content) => content.size(),
        _ => 0,
    };
    if size > MOST_OCTAL_SIZE {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid".as_slice(), entry.uid), (b"gid", entry.gid)] {
        if id > MOST_OCTAL_OWNER {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if let Some(value) = &entry.capability {
        // The name that Go's archive/tar, and so every container runtime, gives to extended attributes.
        record(&mut records, b"SCHILY.xattr.security.capability", value);
    }
    let fields = Fields {
        name,
        prefix,
        mode: match entry.kind {
            // chmod(2) follows links, so that no other mode can come from anywhere.
            Kind::Symlink(_) => 0o777,
            _ => entry.mode & 0o7777,
        },
        uid: if entry.uid > MOST_OCTAL_OWNER { 0 } else { entry.uid },
        gid: if entry.gid > MOST_OCTAL_OWNER { 0 } else { entry.gid },
        size: if size > MOST_OCTAL_SIZE { 0 } else { size },
        kind: match entry.kind {
            Kind::File(_) => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::Directory => b'5',
        },
        link: &link[..NAME.min(link.len())],
    };
    let mut bytes = extended(&mut records);
    bytes.extend_from_slice(&fields.block());
    bytes
}

/// Directories are written with a slash at the end.
fn with_slash(entry: &Entry) -> Vec<u8> {
    let mut path = EntryPath::as_bytes(&entry.path).to_vec();
    if entry.kind == Kind::Directory {
        path.push(b'/');
    }
    path
}

/// The path in ustar's two fields; the prefix is as short as it can be.
fn ustar_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME {
        return Some((path, &[]));
    }
    // The name may be `NAME` long, and its slash stands in neither field.
    let from = path.len() - NAME - 1;
    let slash = from + path[from..path.len() - 1].iter().position(|&byte| byte == b'/')?;
    (slash <= PREFIX).then(|| (&path[slash + 1..], &path[..slash]))
}

/// One record of a pax header: `<length> <key>=<value>\n`, the length counting itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The extended header with these records, if there are any.
fn extended(records: &mut Vec<u8>) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    let size = records.len() as u64;
    let fields = Fields {
        name: b"PaxHeaders.0/entry",
        prefix: &[],
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        kind: b'x',
        link: &[],
    };
    let mut bytes = fields.block().to_vec();
    bytes.append(records);
    bytes.resize(bytes.len() + padding(size), 0);
    bytes
}

/// The fields of a ustar header that are not always the same.
struct Fields<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    kind: u8,
    link: &'a [u8],
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, 0, self.name);
        put(&mut block, 100, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108, format!("{:07o}", self.uid).as_bytes());
        put(&mut block, 116, format!("{:07o}", self.gid).as_bytes());
        put(&mut block, 124, format!("{:011o}", self.size).as_bytes());
        put(&mut block, 136, b"00000000000");
        put(&mut block, 148, b"        ");
        put(&mut block, 156, &[self.kind]);
        put(&mut block, 157, self.link);
        put(&mut block, 257, b"ustar\x0000");
        put(&mut block, 329, b"0000000");
        put(&mut block, 337, b"0000000");
        put(&mut block, 345, self.prefix);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::image::Content;

    /// Path, link, header, extensions.
    type ReadBack = (Vec<u8>, Option<Vec<u8>>, tar::Header, Vec<(String, Vec<u8>)>);

    /// What the `tar` crate reads from an entry's bytes.
    fn read_back(entry: &Entry) -> ReadBack {
        let mut bytes = header(entry);
        assert_eq!(bytes.len() % BLOCK, 0);
        if let Kind::File(Content::Bytes(content)) = &entry.kind {
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + padding(content.len() as u64), 0);
        }
        bytes.extend_from_slice(&TRAILER);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut found = entries.next().unwrap().unwrap();
        let extensions = found.pax_extensions().unwrap();
        let extensions = extensions.into_iter().flatten().map(|one| one.unwrap());
        let extensions: Vec<_> =
            extensions.map(|one| (one.key().unwrap().to_owned(), one.value_bytes().to_vec())).collect();
        let result = (
            found.path_bytes().into_owned(),
            found.link_name_bytes().map(std::borrow::Cow::into_owned),
            found.header().clone(),
            extensions,
        );
        found.read_to_end(&mut Vec::new()).unwrap();
        assert!(entries.next().is_none());
        result
    }

    fn path(bytes: &[u8]) -> EntryPath {
        EntryPath::new(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_ustar_can_say_has_no_extension() {
        let long = [vec![b'd'; 155], vec![b'/'], vec![b'n'; 100]].concat();
        for name in [b"a".as_slice(), b"usr/bin/\xff\xfe", &long] {
            let entry = Entry::new(path(name), Kind::File(vec![7; 700].into()), 0o4755).owned_by(5, 70_000);
            let (found, link, head, extensions) = read_back(&entry);
            assert_eq!((found.as_slice(), link, extensions.len()), (name, None, 0));
            assert_eq!((head.mode().unwrap(), head.uid().unwrap(), head.gid().unwrap()), (0o4755, 5, 70_000));
            assert_eq!((head.mtime().unwrap(), head.size().unwrap()), (0, 700));
        }
    }

    #[test]
    fn what_ustar_cannot_say_stands_in_one_extended_header() {
        let far = [vec![b'n'; 101], vec![b'/'], vec![b'm'; 200]].concat();
        let mut entry = Entry::new(path(&far), Kind::Symlink(vec![b't'; 300]), 0);
        let (found, link, _, extensions) = read_back(&entry);
        assert_eq!((found, link.unwrap().len(), extensions.len()), (far.clone(), 300, 2));
        entry = Entry::new(path(b"x"), Kind::File(Vec::new().into()), 0o755).owned_by(u32::MAX, 1);
        // No line feed: the `tar` crate takes one for the end of a record, though the record's length says otherwise.
        entry.capability = Some(b"\x01\x00\x00\x02\r=\x00".to_vec());
        let (_, _, _, extensions) = read_back(&entry);
        assert_eq!(
            extensions,
            [
                ("uid".to_owned(), b"4294967295".to_vec()),
                ("SCHILY.xattr.security.capability".to_owned(), entry.capability.unwrap())
            ]
        );
    }

    #[test]
    fn a_directory_that_just_fits_is_split_before_its_last_name() {
        // With its slash the path is one byte longer, and the slash at the end is no place to split at.
        for length in 95..105 {
            let name = [b"d/".to_vec(), vec![b'n'; length]].concat();
            let (found, ..) = read_back(&Entry::new(path(&name), Kind::Directory, 0o755));
            assert_eq!(found.strip_suffix(b"/").unwrap(), name);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_name_comes_back(names in prop::collection::vec("[^/\0\n]{1,120}", 1..5), link in "[^\0\n]{1,300}") {
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let name = names.join("/");
            let (found, target, ..) = read_back(&Entry::new(path(name.as_bytes()), Kind::Symlink(link.clone().into()), 0));
            prop_assert_eq!(found, name.into_bytes());
            prop_assert_eq!(target.unwrap(), link.into_bytes());
        }
    }
}
