//! The directory that an image becomes: everything in it is reached from its own descriptor, downwards, and never
//! through a symbolic link (openat2(2)), so that nothing in an image can name anything outside. Where a link leads is
//! worked out first, as a path without links.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::error::Fault;
use crate::image::entry::EntryPath;

/// How many links one path may go through.
const MAX_LINKS: u32 = 16;
/// How many names may be looked at for links in all of an image.
const MAX_STEPS: u64 = 10_000_000;

/// A directory and all below it.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    steps: u64,
    /// The directory that was last asked for: archives go through one after the other.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// Whether something goes with its directory: asked with its path, once for each.
pub(super) type Stays<'a> = &'a dyn Fn(&[u8]) -> bool;

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Permission bits, set-user-ID and the like among them.
pub(super) fn mode(bits: u16) -> Mode {
    Mode::from_raw_mode(u32::from(bits))
}

/// The same time of change and of reading.
pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A path's directory, empty for the root, and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), steps: 0, last: None }
    }

    /// The directory at `path`, empty for the root; `None` if there is nothing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, Fault> {
        if path.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        if let Some((known, fd)) = &self.last
            && known == path
        {
            return Ok(Some(Rc::clone(fd)));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match beneath(&self.root, path, flags) {
            Ok(fd) => {
                let fd = Rc::new(fd);
                self.last = Some((path.to_vec(), Rc::clone(&fd)));
                Ok(Some(fd))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno @ (Errno::LOOP | Errno::NOTDIR | Errno::XDEV)) => Err(self.obstacle(path, errno)),
            Err(errno) => Err(Fault::io("open the directory of")(errno)),
        }
    }

    /// The path of the directory that `path` leads to, itself without links: those of the layers below are followed,
    /// within the root. Refused are links of the layer at hand (`ours`), and such as lead above the root or to nothing.
    pub(super) fn follow(&mut self, path: &[u8], ours: &dyn Fn(&[u8]) -> bool) -> Result<Vec<u8>, Fault> {
        match self.directory(path) {
            Err(Fault::Through(_)) => self.walk(Vec::new(), path, &mut MAX_LINKS.clone(), ours),
            Err(fault) => Err(fault),
            Ok(_) => Ok(path.to_vec()),
        }
    }

    fn walk(
        &mut self,
        mut at: Vec<u8>,
        path: &[u8],
        links: &mut u32,
        ours: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, Fault> {
        for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(Fault::TooMuch {
                    what: "names of paths through symbolic links",
                    limit: MAX_STEPS,
                });
            }
            if part == b".." {
                if at.is_empty() {
                    return Err(Fault::Upwards);
                }
                at = split(&at).0.to_vec();
                continue;
            }
            let above = self.directory(&at)?;
            let here = if at.is_empty() { part.to_vec() } else { [at.as_slice(), part].join(&b'/') };
            let link = match &above {
                Some(above)
                    if kind(above, part).map_err(Fault::io("look at"))? == Some(FileType::Symlink) =>
                {
                    above
                }
                // What is not there is made later, and what is no directory is found out then.
                _ => {
                    at = here;
                    continue;
                }
            };
            let through = || Fault::Through(here.escape_ascii().to_string());
            if ours(&here) || *links == 0 {
                return Err(through());
            }
            *links -= 1;
            let says = rustix::fs::readlinkat(link, name(part), Vec::new()).map_err(Fault::io("read"))?;
            let from = if says.as_bytes().starts_with(b"/") { Vec::new() } else { at };
            at = self.walk(from, says.as_bytes(), links, ours).map_err(|fault| match fault {
                Fault::Upwards | Fault::Below(_) => through(),
                fault => fault,
            })?;
            match self.directory(&at) {
                Ok(Some(_)) => {}
                Ok(None) | Err(Fault::Below(_)) => return Err(through()),
                Err(fault) => return Err(fault),
            }
        }
        Ok(at)
    }

    /// Forgets what it knows of directories: one was taken away.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// What exactly stands in the way to `path`.
    fn obstacle(&self, path: &[u8], errno: Errno) -> Fault {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (above, last) = split(&path[..end]);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = if above.is_empty() {
                rustix::io::dup(&*self.root)
            } else {
                beneath(&self.root, above, flags)
            };
            let found = above.and_then(|above| kind(&above, last));
            let shown = || path[..end].escape_ascii().to_string();
            match found {
                Ok(Some(FileType::Symlink)) => return Fault::Through(shown()),
                Ok(Some(FileType::Directory)) => {}
                _ => return Fault::Below(shown()),
            }
        }
        Fault::io("open the directory of")(errno)
    }

    /// Makes what is missing of the directories that lead to `path`, and says of each.
    pub(super) fn make(&mut self, path: &[u8], made: &mut dyn FnMut(&[u8])) -> Result<Rc<OwnedFd>, Fault> {
        if let Some(fd) = self.directory(path)? {
            return Ok(fd);
        }
        let (above, last) = split(path);
        let above = self.make(above, made)?;
        match rustix::fs::mkdirat(&*above, name(last), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Fault::io("make the directory of")(errno)),
        }
        made(path);
        self.directory(path)?.ok_or(Fault::Below(path.escape_ascii().to_string()))
    }

    /// Opens a directory for its own sake.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.is_empty() { b".".as_slice() } else { path };
        beneath(&self.root, path, flags).map_err(Fault::io("open"))
    }

    /// Takes away what is in the directory at `path` and does not stay.
    pub(super) fn clear(&mut self, path: &[u8], stays: Stays<'_>) -> Result<(), Fault> {
        if self.directory(path)?.is_none() {
            return Ok(());
        }
        self.forget();
        let dir = self.open(path)?;
        empty(&dir, &mut path.to_vec(), stays).map_err(Fault::io("take away what is in"))
    }

    /// Takes `path` away with all in it that does not stay; whether it is gone.
    pub(super) fn remove(&mut self, path: &EntryPath, stays: Stays<'_>) -> Result<bool, Fault> {
        let (above, last) = split(path.as_bytes());
        let Some(above) = self.directory(above)? else { return Ok(true) };
        if kind(&above, last).map_err(Fault::io("look at"))? == Some(FileType::Directory) {
            self.forget();
        }
        remove(above.as_fd(), last, &mut path.as_bytes().to_vec(), stays).map_err(Fault::io("take away"))
    }
}

/// Opens what is below `root`, and nothing else.
fn beneath(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    // The kernel gives up where somebody renames at the same time.
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, name(path), flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 32 => tries += 1,
            other => return other,
        }
    }
}

/// What a directory has under a name; links are not followed.
pub(super) fn kind(dir: &OwnedFd, last: &[u8]) -> rustix::io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name(last), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Takes away what is in a directory.
fn empty(dir: &OwnedFd, path: &mut Vec<u8>, stays: Stays<'_>) -> rustix::io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?.file_name().to_bytes().to_vec();
        if entry != b"." && entry != b".." {
            names.push(entry);
        }
    }
    let length = path.len();
    for entry in names {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&entry);
        remove(dir.as_fd(), &entry, path, stays)?;
        path.truncate(length);
    }
    Ok(())
}

fn remove(
    dir: BorrowedFd<'_>,
    last: &[u8],
    path: &mut Vec<u8>,
    stays: Stays<'_>,
) -> rustix::io::Result<bool> {
    let stays_itself = stays(path);
    if !stays_itself {
        match rustix::fs::unlinkat(dir, name(last), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name(last), flags, Mode::empty()) {
        Ok(below) => empty(&below, path, stays)?,
        // It stays, and has nothing in it.
        Err(Errno::NOTDIR | Errno::LOOP) if stays_itself => return Ok(false),
        Err(errno) => return Err(errno),
    }
    if stays_itself {
        return Ok(false);
    }
    match rustix::fs::unlinkat(dir, name(last), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes a directory away with all in it. Permissions of what is in it do not matter to root; others made it themselves.
pub(super) fn remove_all(dir: &OwnedFd, last: &[u8]) -> rustix::io::Result<()> {
    remove(dir.as_fd(), last, &mut last.to_vec(), &|_| false).map(drop)
}

/// Numbers of a user and a group.
pub(super) fn owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}
