//! A layer on top of those below (image-spec, `layer.md`, "Applying Changesets"): files, links, and whiteouts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::archive::{self, Archive, At, Member, What};
use super::error::Fault;
use super::tree::{self, Tree, mode, owner, split, times};
use crate::image::entry::EntryPath;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How many bytes the paths of all directories may have together: their times are set when all else is done.
const MAX_DIRECTORIES: usize = 16 << 20;

/// What was unpacked, and what of it could not be kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Layers.
    pub layers: usize,
    /// Members of all layers.
    pub members: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, directories and links that now belong to who unpacked them: only root can give them away.
    pub owners: u64,
    /// Files that lost their capabilities: only root can give them.
    pub capabilities: u64,
    /// Extended attributes that are not kept by anybody: they are of the machine where the image was made.
    pub attributes: u64,
}

/// An image that is being unpacked.
#[derive(Debug)]
pub(super) struct Applying {
    tree: Tree,
    root: bool,
    /// What each directory is to be in the end, by its path.
    directories: BTreeMap<Vec<u8>, (u16, (i64, u32))>,
    paths: usize,
    /// What the layer at hand has made, by the hash of its path.
    made: BTreeSet<[u8; 16]>,
    pub(super) done: Unpacked,
}

fn key(path: &[u8]) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::digest(path).into();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

impl Applying {
    /// Into an empty directory.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            tree: Tree::new(root),
            root: rustix::process::geteuid().is_root(),
            directories: BTreeMap::from([(Vec::new(), (0o755, (0, 0)))]),
            paths: 0,
            made: BTreeSet::new(),
            done: Unpacked::default(),
        }
    }

    /// Applies a layer.
    pub(super) fn layer<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<(), At> {
        self.made.clear();
        while let Some(member) = archive.advance()? {
            self.member(&member, archive).map_err(|fault| {
                let path = member.path.as_ref().map(|path| archive::shown(path.as_bytes()));
                At { path, fault }
            })?;
            self.done.members += 1;
            self.done.attributes += member.dropped;
        }
        self.done.layers += 1;
        Ok(())
    }

    /// Gives all directories their permissions and times, from the deepest up.
    pub(super) fn finish(&mut self) -> Result<Unpacked, (Vec<u8>, Fault)> {
        while let Some((path, (bits, time))) = self.directories.pop_last() {
            let set = || {
                let dir = self.tree.open(&path)?;
                rustix::fs::fchmod(&dir, mode(self.bits(bits))).map_err(Fault::io("set the mode of"))?;
                rustix::fs::futimens(&dir, &times(time)).map_err(Fault::io("set the time of"))
            };
            set().map_err(|fault| (path, fault))?;
        }
        Ok(self.done)
    }

    fn member<R: BufRead>(&mut self, member: &Member, archive: &mut Archive<R>) -> Result<(), Fault> {
        let Some(path) = &member.path else { return self.root_itself(member) };
        let hidden = |name: &[u8]| name.starts_with(WHITEOUT);
        let (above, last) = split(path.as_bytes());
        if above.split(|&byte| byte == b'/').any(hidden) {
            return Err(Fault::Whiteout("it stands in the middle of a path"));
        }
        let above = &*self.follow(above)?;
        if hidden(last) {
            return self.whiteout(member, above, last);
        }
        let path = &below_of(above, last)?;
        let again = !self.made.insert(key(path.as_bytes()));
        let parent = self.parent(above)?;
        if let What::Directory = member.what {
            return self.directory(member, path, &parent, again);
        }
        if again {
            return Err(Fault::Duplicate);
        }
        match &member.what {
            What::File(size) => {
                self.file(member, path, &parent, last, archive)?;
                self.done.bytes += size;
                Ok(())
            }
            What::Symlink(says) => self.symlink(member, says, path, &parent, last),
            What::HardLink(to) => self.hard_link(to, path, &parent, last),
            What::Directory => Ok(()),
        }
    }

    /// Where the directory of a member is: links of the layers below lead there, as in a merged `/usr`.
    fn follow(&mut self, above: &[u8]) -> Result<Vec<u8>, Fault> {
        let made = &self.made;
        self.tree.follow(above, &|path| made.contains(&key(path)))
    }

    /// The directory of a member. Those that no layer has are root's.
    fn parent(&mut self, above: &[u8]) -> Result<Rc<OwnedFd>, Fault> {
        let mut missing = Vec::new();
        let parent = self.tree.make(above, &mut |path| missing.push(path.to_vec()))?;
        for path in missing {
            self.remember(path, (0o755, (0, 0)))?;
        }
        Ok(parent)
    }

    fn remember(&mut self, path: Vec<u8>, is: (u16, (i64, u32))) -> Result<(), Fault> {
        let length = path.len();
        if self.directories.insert(path, is).is_none() {
            self.paths += length;
        }
        if self.paths > MAX_DIRECTORIES {
            let limit = MAX_DIRECTORIES as u64;
            return Err(Fault::TooMuch { what: "bytes of the paths of directories", limit });
        }
        Ok(())
    }

    fn root_itself(&mut self, member: &Member) -> Result<(), Fault> {
        let root = self.tree.open(b"")?;
        self.owned(member, |uid, gid| rustix::fs::fchown(&root, uid, gid))?;
        self.remember(Vec::new(), (member.mode, member.mtime))
    }

    fn directory(
        &mut self,
        member: &Member,
        path: &EntryPath,
        parent: &OwnedFd,
        again: bool,
    ) -> Result<(), Fault> {
        let (_, last) = split(path.as_bytes());
        let name = OsStr::from_bytes(last);
        loop {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Fault::io("make")(errno)),
            }
            match tree::kind(parent, last).map_err(Fault::io("look at"))? {
                Some(FileType::Directory) => break,
                // Writers give a directory more than once, which changes nothing; a link of this layer is another matter.
                Some(_) if again => return Err(Fault::Duplicate),
                _ => self.take_away(path)?,
            }
        }
        self.owned(member, |uid, gid| {
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        self.remember(path.as_bytes().to_vec(), (member.mode, member.mtime))
    }

    fn file<R: BufRead>(
        &mut self,
        member: &Member,
        path: &EntryPath,
        parent: &OwnedFd,
        last: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<(), Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, OsStr::from_bytes(last), flags, Mode::RUSR | Mode::WUSR);
        let opened = match open() {
            Err(Errno::EXIST) => {
                self.take_away(path)?;
                open()
            }
            opened => opened,
        };
        let mut file = File::from(opened.map_err(Fault::io("make"))?);
        loop {
            let bytes = archive.content()?;
            if bytes.is_empty() {
                break;
            }
            file.write_all(bytes).map_err(|source| Fault::Io { action: "write", source })?;
            let length = bytes.len();
            archive.consume(length);
        }
        let file = OwnedFd::from(file);
        // In this order: a new owner takes set-user-ID and capabilities away (chown(2)).
        self.owned(member, |uid, gid| rustix::fs::fchown(&file, uid, gid))?;
        rustix::fs::fchmod(&file, mode(self.bits(member.mode))).map_err(Fault::io("set the mode of"))?;
        match &member.capability {
            Some(capability) if self.root => {
                rustix::fs::fsetxattr(&file, "security.capability", capability, XattrFlags::empty())
                    .map_err(Fault::io("give capabilities to"))?;
            }
            Some(_) => self.done.capabilities += 1,
            None => {}
        }
        rustix::fs::futimens(&file, &times(member.mtime)).map_err(Fault::io("set the time of"))
    }

    /// Who cannot give files away does not make them run as somebody who they do not belong to either.
    fn bits(&self, mode: u16) -> u16 {
        if self.root { mode } else { mode & 0o1777 }
    }

    /// Gives what was made to its owner, by that system call; who cannot, counts it.
    fn owned(
        &mut self,
        member: &Member,
        change: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<(), Fault> {
        if !self.root {
            self.done.owners += 1;
            return Ok(());
        }
        let (uid, gid) = owner(member.uid, member.gid);
        change(uid, gid).map_err(Fault::io("change the owner of"))
    }

    fn symlink(
        &mut self,
        member: &Member,
        says: &[u8],
        path: &EntryPath,
        parent: &OwnedFd,
        last: &[u8],
    ) -> Result<(), Fault> {
        let name = OsStr::from_bytes(last);
        let link = || rustix::fs::symlinkat(OsStr::from_bytes(says), parent, name);
        match link() {
            Err(Errno::EXIST) => {
                self.take_away(path)?;
                link().map_err(Fault::io("make"))?;
            }
            linked => linked.map_err(Fault::io("make"))?,
        }
        self.owned(member, |uid, gid| {
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        rustix::fs::utimensat(parent, name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Fault::io("set the time of"))
    }

    fn hard_link(
        &mut self,
        to: &EntryPath,
        path: &EntryPath,
        parent: &OwnedFd,
        last: &[u8],
    ) -> Result<(), Fault> {
        let (above, first) = split(to.as_bytes());
        let above = &*self.follow(above)?;
        let shown = || to.as_bytes().escape_ascii().to_string();
        let there = self.tree.directory(above)?.ok_or_else(|| Fault::Nothing(shown()))?;
        match tree::kind(&there, first).map_err(Fault::io("look at the target of"))? {
            Some(FileType::RegularFile | FileType::Symlink) => {}
            Some(_) => return Err(Fault::NoFile(shown())),
            None => return Err(Fault::Nothing(shown())),
        }
        let link = || {
            let (first, last) = (OsStr::from_bytes(first), OsStr::from_bytes(last));
            rustix::fs::linkat(&*there, first, parent, last, AtFlags::empty())
        };
        match link() {
            Err(Errno::EXIST) => {
                self.take_away(path)?;
                match link() {
                    Err(Errno::NOENT) => Err(Fault::Nothing(shown())),
                    linked => linked.map_err(Fault::io("make")),
                }
            }
            linked => linked.map_err(Fault::io("make")),
        }
    }

    /// Takes away what the layers below have here, for something else to take its place.
    fn take_away(&mut self, path: &EntryPath) -> Result<(), Fault> {
        let own = key(path.as_bytes());
        let made = &self.made;
        let stays = |path: &[u8]| {
            let key = key(path);
            key != own && made.contains(&key)
        };
        if !self.tree.remove(path, &stays)? {
            return Err(Fault::Both);
        }
        self.forget(path.as_bytes());
        Ok(())
    }

    /// Directories that are no more are no more to be finished.
    fn forget(&mut self, path: &[u8]) {
        self.directories.remove(path);
        let below = [path, b"/".as_slice()].concat();
        let gone: Vec<_> = self
            .directories
            .range(below.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.directories.remove(&path);
        }
    }

    fn whiteout(&mut self, member: &Member, above: &[u8], last: &[u8]) -> Result<(), Fault> {
        if !matches!(member.what, What::File(0)) {
            return Err(Fault::Whiteout("it is no empty file"));
        }
        if self.tree.directory(above)?.is_none() {
            return Ok(());
        }
        // Only what is below is hidden, wherever in the layer this stands.
        let made = &self.made;
        let stays = |path: &[u8]| made.contains(&key(path));
        if last == OPAQUE {
            self.tree.clear(above, &stays)?;
            let all: Vec<_> = self.directories.keys().filter(|path| below(path, above)).cloned().collect();
            return self.drop_gone(all);
        }
        let name = &last[WHITEOUT.len()..];
        if name.is_empty() || name == b"." || name == b".." || name.starts_with(WHITEOUT) {
            return Err(Fault::Whiteout("it hides nothing that has a name"));
        }
        let path = below_of(above, name)?;
        if self.tree.remove(&path, &stays)? {
            self.forget(path.as_bytes());
            return Ok(());
        }
        let bytes = path.as_bytes();
        let all =
            self.directories.keys().filter(|path| *path == bytes || below(path, bytes)).cloned().collect();
        self.drop_gone(all)
    }

    /// Of these directories, those that are gone are not to be finished.
    fn drop_gone(&mut self, paths: Vec<Vec<u8>>) -> Result<(), Fault> {
        for path in paths {
            let there = match self.tree.directory(&path) {
                Ok(there) => there.is_some(),
                Err(Fault::Below(_) | Fault::Through(_)) => false,
                Err(fault) => return Err(fault),
            };
            if !there {
                self.directories.remove(&path);
            }
        }
        Ok(())
    }
}

/// The path of a name in the directory `above`, which is empty for the root.
fn below_of(above: &[u8], name: &[u8]) -> Result<EntryPath, Fault> {
    let path = if above.is_empty() { name.to_vec() } else { [above, name].join(&b'/') };
    EntryPath::new(path).map_err(|_| Fault::Name { field: "name" })
}

/// Whether `path` lies below the directory `above`, which is empty for the root.
fn below(path: &[u8], above: &[u8]) -> bool {
    if above.is_empty() {
        !path.is_empty()
    } else {
        path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
    }
}
