//! Files of the project → entries. What is on disk besides content and kind (who checked it out, under which umask, when
//! and in which order) does not come along unless the recipe says `keep`.
#![expect(clippy::disallowed_methods, reason = "the project's files are looked at here")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::entry::{Content, Entry, EntryPath, EntryPathError, Kind};
use crate::model::Pattern;
use crate::spec::{Copy, ModeRule, Owner};

/// No capability is longer, in bytes (`linux/capability.h`, `XATTR_CAPS_SZ_3`, with room to spare).
const MAX_CAPABILITY: usize = 64;
/// So many mistakes are said at once.
const MOST_FAULTS: usize = 20;

/// Why files cannot be copied into an image.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Everything that cannot be copied.
    #[error("`{}` cannot be copied into an image: {}", from.display(), faults.join("; "))]
    Faults {
        /// What should be copied.
        from: PathBuf,
        /// Each file, and why not.
        faults: Vec<String>,
    },
    /// A path that no image can have.
    #[error(transparent)]
    Path(#[from] EntryPathError),
}

/// The entries of what `copy` says, `from` being taken relative to the working directory.
pub fn gather(copy: &Copy) -> Result<Vec<Entry>, FilesError> {
    let mut walk = Walk {
        copy,
        to: EntryPath::absolute(&copy.to)?,
        first_names: BTreeMap::new(),
        entries: Vec::new(),
        wanted: BTreeSet::new(),
        faults: Vec::new(),
    };
    walk.all();
    if walk.faults.is_empty() {
        return Ok(walk.finish());
    }
    let more = walk.faults.len().saturating_sub(MOST_FAULTS);
    walk.faults.truncate(MOST_FAULTS);
    if more > 0 {
        walk.faults.push(format!("and {more} more"));
    }
    Err(FilesError::Faults { from: copy.from.clone(), faults: walk.faults })
}

fn fits(patterns: &[Pattern], path: &Path) -> bool {
    patterns.iter().any(|pattern| pattern.fits(path.as_os_str().as_bytes()))
}

struct Walk<'a> {
    copy: &'a Copy,
    /// Where it goes; nothing for the root of the image.
    to: Option<EntryPath>,
    /// The first name that was met of each file that has several, by device and number.
    first_names: BTreeMap<(u64, u64), EntryPath>,
    entries: Vec<Entry>,
    /// Where only some files are included: the directories above them.
    wanted: BTreeSet<EntryPath>,
    faults: Vec<String>,
}

impl Walk<'_> {
    fn all(&mut self) {
        let from = &self.copy.from;
        let copy = self.copy;
        let all = copy.include.is_empty();
        let walk = WalkDir::new(from).follow_links(false).follow_root_links(true).into_iter();
        let walk = walk.filter_entry(|entry| {
            let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
            // A repository's history is nothing that an image should have by accident.
            let history = all && entry.file_type().is_dir() && entry.file_name() == OsStr::new(".git");
            entry.depth() == 0 || !(history || fits(&copy.exclude, below))
        });
        for entry in walk {
            match entry {
                Ok(entry) if entry.depth() == 0 && entry.file_type().is_dir() => self.root(entry.path()),
                Ok(entry) => match entry.metadata() {
                    Ok(metadata) => self.one(entry.path(), &metadata),
                    Err(error) => self.fault(entry.path(), &io::Error::from(error).to_string()),
                },
                Err(error) => {
                    let path = error.path().unwrap_or(from).to_owned();
                    let reason = error.io_error().map_or_else(|| error.to_string(), io::Error::to_string);
                    self.fault(&path, &reason);
                }
            }
        }
    }

    /// The directory itself: where it goes, it is one; but the root of an image is not an entry.
    fn root(&mut self, path: &Path) {
        match (&self.to, path.metadata()) {
            (Some(to), Ok(metadata)) => {
                let to = to.clone();
                self.wanted.insert(to.clone());
                let entry = self.entry(to, Kind::Directory, &metadata);
                self.entries.push(entry);
            }
            (None, Ok(_)) => {}
            (_, Err(error)) => self.fault(path, &error.to_string()),
        }
    }

    fn fault(&mut self, path: &Path, reason: &str) {
        let below = path.strip_prefix(&self.copy.from).ok().filter(|below| !below.as_os_str().is_empty());
        self.faults.push(match below {
            Some(below) => format!("`{}`: {reason}", below.display()),
            None => reason.to_owned(),
        });
    }

    fn one(&mut self, path: &Path, metadata: &Metadata) {
        let below = path.strip_prefix(&self.copy.from).unwrap_or(path);
        let chosen = self.copy.include.is_empty() || fits(&self.copy.include, below);
        let is_directory = metadata.is_dir();
        if !chosen && !is_directory {
            return;
        }
        let to = self.to.as_ref().map(|to| to.as_bytes().to_vec());
        let name: Vec<Vec<u8>> = to
            .into_iter()
            .chain(Some(below.as_os_str().as_bytes().to_vec()))
            .filter(|part| !part.is_empty())
            .collect();
        let to = match EntryPath::new(name.join(&b'/')) {
            Ok(to) => to,
            Err(error) => return self.fault(path, &error.to_string()),
        };
        let kind = match self.kind(path, metadata, &to) {
            Ok(kind) => kind,
            Err(reason) => return self.fault(path, &reason),
        };
        if chosen {
            let mut above = Some(to.clone());
            while let Some(directory) = above.filter(|one| self.wanted.insert(one.clone())) {
                above = directory.parent();
            }
        }
        let mut entry = self.entry(to, kind, metadata);
        if metadata.is_file() {
            entry.capability = capability(path);
        }
        self.entries.push(entry);
    }

    fn kind(&mut self, path: &Path, metadata: &Metadata, to: &EntryPath) -> Result<Kind, String> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Kind::Directory);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|error| error.to_string())?;
            return Ok(Kind::Symlink(target.into_os_string().into_vec()));
        }
        if !kind.is_file() {
            let what = match () {
                () if kind.is_socket() => "a socket",
                () if kind.is_fifo() => "a pipe",
                () => "a device",
            };
            return Err(format!("it is {what}; leave it out with `exclude`"));
        }
        if metadata.nlink() > 1 {
            let first =
                self.first_names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| to.clone());
            if first != to {
                return Ok(Kind::HardLink(first.clone()));
            }
        }
        Ok(Kind::File(Content::File { path: path.to_owned(), offset: 0, size: metadata.len() }))
    }

    fn entry(&self, path: EntryPath, kind: Kind, metadata: &Metadata) -> Entry {
        let on_disk = u16::try_from(metadata.mode() & 0o7777).unwrap_or_default();
        let rule = if metadata.is_dir() { self.copy.dir_mode } else { self.copy.file_mode };
        let mode = match rule {
            ModeRule::Keep => on_disk,
            ModeRule::Fixed(mode) => mode,
            // What version control keeps of a mode is whether its owner may run the file.
            ModeRule::Plain if metadata.is_dir() || on_disk & 0o100 != 0 => 0o755,
            ModeRule::Plain => 0o644,
        };
        let (uid, gid) = match self.copy.owner {
            Owner::Keep => (metadata.uid(), metadata.gid()),
            Owner::Fixed { uid, gid } => (uid, gid),
        };
        Entry { path, kind, mode, uid, gid, capability: None }
    }

    /// The entries, without directories that nobody asked for.
    fn finish(self) -> Vec<Entry> {
        let Self { mut entries, wanted, .. } = self;
        entries.retain(|entry| entry.kind != Kind::Directory || wanted.contains(&entry.path));
        entries
    }
}

/// The file's capabilities, where the file system has such a thing.
fn capability(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_CAPABILITY];
    let size = rustix::fs::lgetxattr(path, "security.capability", &mut value).ok()?;
    value.truncate(size);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn project() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, mode) in [
            ("run.sh", 0o700),
            ("app/main.py", 0o600),
            ("app/tests/a.py", 0o644),
            (".git/config", 0o644),
            ("b/c/d.txt", 0o4755),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.to_str().unwrap()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::hard_link(root.path().join("run.sh"), root.path().join("app/again")).unwrap();
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        root
    }

    fn copy(root: &Path) -> Copy {
        Copy { from: root.to_owned(), to: "/srv".to_owned(), ..Copy::default() }
    }

    fn listed(copy: &Copy) -> Vec<String> {
        let entries = super::super::layer::arrange(gather(copy).unwrap(), None).unwrap();
        entries.iter().map(|entry| format!("{} {:o}", entry.path, entry.mode)).collect()
    }

    #[test]
    fn modes_are_plain_history_stays_out_and_links_stay_links() {
        let root = project();
        let entries = gather(&copy(root.path())).unwrap();
        let of = |path: &str| entries.iter().find(|one| one.path.to_string() == path).unwrap();
        assert_eq!(
            (of("/srv/run.sh").mode, of("/srv/app/main.py").mode, of("/srv/b/c/d.txt").mode),
            (0o755, 0o644, 0o755)
        );
        assert_eq!(of("/srv/link").kind, Kind::Symlink(b"/etc/passwd".to_vec()));
        let linked =
            [of("/srv/run.sh"), of("/srv/app/again")].map(|one| matches!(one.kind, Kind::HardLink(_)));
        assert_eq!(
            linked.iter().filter(|is| **is).count(),
            1,
            "one name is the file, the other a link to it"
        );
        assert!(!entries.iter().any(|one| one.path.to_string().contains(".git")));
        assert!(entries.iter().all(|one| (one.uid, one.gid) == (0, 0)));
    }

    #[test]
    fn patterns_choose_files_and_the_directories_above_them() {
        let root = project();
        let mut copy = copy(root.path());
        copy.include = ["**/*.py", "run.sh"].map(|text| text.parse().unwrap()).to_vec();
        copy.exclude = vec!["**/tests".parse().unwrap()];
        assert_eq!(listed(&copy), ["/srv 755", "/srv/app 755", "/srv/app/main.py 644", "/srv/run.sh 755"]);
    }

    #[test]
    fn one_file_becomes_what_it_is_copied_to() {
        let root = project();
        let mut copy = copy(&root.path().join("b/c/d.txt"));
        copy.file_mode = ModeRule::Keep;
        assert_eq!(listed(&copy), ["/srv 4755"]);
    }

    #[test]
    fn everything_that_cannot_be_copied_is_said_at_once() {
        let root = project();
        let _socket = UnixListener::bind(root.path().join("app/socket")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let error = gather(&copy(root.path())).unwrap_err().to_string();
        assert!(
            error.contains("`pipe`: it is a pipe; leave it out")
                && error.contains("`app/socket`: it is a socket")
        );
        let gone = gather(&copy(&root.path().join("gone"))).unwrap_err().to_string();
        assert!(
            gone.ends_with("cannot be copied into an image: No such file or directory (os error 2)"),
            "{gone}"
        );
    }
}
