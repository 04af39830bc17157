//! What has been built already: an action's key → the layer that came of it. Nothing changed, nothing compressed.
//!
//! A key covers all that the bytes of a layer depend on, with one exception: files on disk go in by their identity
//! (device, number, size, times) and not by their content, because reading everything is what the cache is there to
//! avoid. What all layers of an image of packages are is remembered besides, with the program itself among what it
//! depends on: then the packages need not even be looked into. A file that changed so shortly before a build that its
//! times might not show the next change is not remembered (the "racy" entries of git's index have the same reason).
#![expect(clippy::disallowed_methods, reason = "the cache is a directory of files")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Content, Entry, Kind};
use super::tar::header;
use super::write::{LAYER_TYPE, Layer};
use crate::bundle::oci::Descriptor;
use crate::bundle::{Layout, gz1};
use crate::model::Digest;

/// How far apart two times must be to be told apart, with room to spare: file systems take the time of the last tick.
const TICK: Duration = Duration::from_millis(100);
/// No result is longer, in bytes.
pub(crate) const MAX_RESULT: u64 = 64 << 10;
const DAY: Duration = Duration::from_hours(24);
/// The program that is running (`proc(5)`).
const PROGRAM: &str = "/proc/self/exe";

/// A directory of results.
#[derive(Debug, Clone)]
pub struct Actions {
    directory: PathBuf,
    now: Option<SystemTime>,
}

/// What a layer depends on.
#[derive(Debug)]
pub struct Key {
    digest: Digest,
    /// When the youngest file in it changed last.
    youngest: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

impl Actions {
    /// The results in this directory, which need not be there.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), now: None }
    }

    /// Notes of what is found that it was of use at this time, for whoever clears old results.
    #[must_use]
    pub fn noting(self, now: SystemTime) -> Self {
        Self { now: Some(now), ..self }
    }

    /// The layer that came of this, if the layout still has its blob. The blob was hashed when it was written; here only
    /// its size is looked at.
    pub fn look(&self, key: &Key, layout: &Layout) -> Option<Layer> {
        let record: Record = self.read(key)?;
        self.used(key);
        record.layer(layout)
    }

    /// The layers that came of this, with what they are for people, if the layout still has the blobs of all.
    pub fn look_all(&self, key: &Key, layout: &Layout) -> Option<Vec<(String, Layer)>> {
        let all: Vec<(String, Record)> = self.read(key)?;
        self.used(key);
        all.into_iter().map(|(note, record)| Some((note, record.layer(layout)?))).collect()
    }

    /// Remembers what came of this. `begun` is when the first of its files was opened.
    pub fn keep(&self, key: &Key, begun: SystemTime, layer: &Layer) -> io::Result<()> {
        self.write(key, begun, &Record::of(layer))
    }

    /// Remembers all layers that came of this.
    pub fn keep_all(&self, key: &Key, begun: SystemTime, layers: &[(String, Layer)]) -> io::Result<()> {
        let all: Vec<_> = layers.iter().map(|(note, layer)| (note, Record::of(layer))).collect();
        self.write(key, begun, &all)
    }

    fn read<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let mut text = Vec::new();
        let file = fs::File::open(self.place(key)).ok()?;
        file.take(MAX_RESULT).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, key: &Key, begun: SystemTime, result: &impl Serialize) -> io::Result<()> {
        if key.youngest + TICK >= begun {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&serde_json::to_vec(result)?)?;
        file.persist(self.place(key))?;
        Ok(())
    }

    fn used(&self, key: &Key) {
        if let Some(now) = self.now {
            touch(&self.place(key), now);
        }
    }

    fn place(&self, key: &Key) -> PathBuf {
        self.directory.join(key.digest.hex())
    }
}

impl Record {
    fn of(layer: &Layer) -> Self {
        Self { digest: layer.blob.digest, size: layer.blob.size, diff_id: layer.diff_id }
    }

    fn layer(self, layout: &Layout) -> Option<Layer> {
        let Self { digest, size, diff_id } = self;
        let there = fs::metadata(layout.blob_path(digest)).ok()?;
        let blob = Descriptor { media_type: LAYER_TYPE.to_owned(), digest, size };
        (there.is_file() && there.len() == size).then_some(Layer { blob, diff_id })
    }
}

impl Key {
    /// The key of the layer of these entries.
    pub fn of(entries: &[Entry]) -> io::Result<Self> {
        let mut key = Hasher::new("layer");
        key.entries(entries)?;
        Ok(key.finish())
    }

    /// The key of all layers that this program makes of what is told in words (a recipe, a lock), of these entries, and of
    /// a file. Another program may make others of the same words.
    pub fn of_all(words: &[&str], entries: &[Entry], file: Option<&Path>) -> io::Result<Self> {
        let mut key = Hasher::new("image");
        for path in file.into_iter().chain([Path::new(PROGRAM)]) {
            key.file(&Identity::of(path)?);
        }
        for word in words {
            key.hash.update((word.len() as u64).to_le_bytes());
            key.hash.update(word);
        }
        key.entries(entries)?;
        Ok(key.finish())
    }

    /// The key of a layer that is one file as it is.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut key = Hasher::new("layer");
        key.file(&Identity::of(path)?);
        Ok(key.finish())
    }
}

/// Notes that a file is still of use, once a day: it is as old as that then.
pub(crate) fn touch(path: &Path, now: SystemTime) {
    let age = fs::metadata(path).and_then(|about| about.modified()).map(|then| now.duration_since(then));
    if !matches!(age, Ok(Ok(age)) if age >= DAY) {
        return;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    // Who cannot say so finds it gone one day, and makes it again.
    let _ = utimensat(CWD, path, &times, AtFlags::empty());
}

struct Hasher {
    hash: Sha256,
    youngest: SystemTime,
}

impl Hasher {
    fn new(what: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(what);
        hash.update(b"\0");
        hash.update(gz1::ID);
        Self { hash, youngest: SystemTime::UNIX_EPOCH }
    }

    fn entries(&mut self, entries: &[Entry]) -> io::Result<()> {
        // Many entries in a row may be parts of one file.
        let mut last: Option<(&Path, Identity)> = None;
        for entry in entries {
            self.hash.update(header(entry));
            let Kind::File(content) = &entry.kind else { continue };
            match content {
                Content::Bytes(bytes) => self.hash.update(bytes),
                Content::File { path, offset, size } => {
                    let identity = match &last {
                        Some((known, identity)) if known == path => identity.clone(),
                        _ => Identity::of(path)?,
                    };
                    self.file(&identity);
                    self.hash.update([*offset, *size].map(u64::to_le_bytes).concat());
                    last = Some((path, identity));
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, identity: &Identity) {
        self.hash.update(identity.bytes);
        self.youngest = self.youngest.max(identity.changed);
    }

    fn finish(self) -> Key {
        Key { digest: Digest::from_hasher(self.hash), youngest: self.youngest }
    }
}

#[derive(Clone)]
struct Identity {
    bytes: [u8; 48],
    changed: SystemTime,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let about = fs::metadata(path)?;
        let numbers = [
            about.dev(),
            about.ino(),
            about.size(),
            about.mtime().cast_unsigned(),
            about.ctime().cast_unsigned(),
            // Both are below a thousand million.
            about.mtime_nsec().cast_unsigned() << 32 | about.ctime_nsec().cast_unsigned(),
        ];
        let mut bytes = [0; 48];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        // What was changed before 1970 is old enough.
        let seconds = u64::try_from(about.ctime()).unwrap_or_default();
        let nanoseconds = u32::try_from(about.ctime_nsec()).unwrap_or_default();
        Ok(Self { bytes, changed: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds) })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::thread::sleep;

    use super::super::entry::EntryPath;
    use super::super::write;
    use super::*;

    #[test]
    fn what_did_not_change_is_found_again_and_what_did_is_not() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(&root.path().join("layout")).unwrap();
        let actions = Actions::at(&root.path().join("actions"));
        let file = root.path().join("file");
        fs::write(&file, "first").unwrap();
        let entries = || {
            let content = Content::File { path: file.clone(), offset: 0, size: 5 };
            [Entry::new(EntryPath::new("file").unwrap(), Kind::File(content), 0o644)]
        };
        let build = || {
            let key = Key::of(&entries()).unwrap();
            let begun = layout.new_blob().unwrap().made().unwrap();
            let layer = write::write(&entries(), &layout, NonZeroUsize::MIN).unwrap();
            actions.keep(&key, begun, &layer).unwrap();
            layer
        };
        build();
        assert_eq!(actions.look(&Key::of(&entries()).unwrap(), &layout), None, "it changed a moment ago");
        sleep(2 * TICK);
        let layer = build();
        assert_eq!(actions.look(&Key::of(&entries()).unwrap(), &layout), Some(layer.clone()));
        let mut other = entries();
        other[0].mode = 0o600;
        assert_eq!(actions.look(&Key::of(&other).unwrap(), &layout), None, "another mode is another layer");
        fs::write(&file, "other").unwrap();
        assert_eq!(actions.look(&Key::of(&entries()).unwrap(), &layout), None, "another content as well");
        let of_all = |words: &[&str]| Key::of_all(words, &entries(), None).unwrap();
        let all = vec![("note".to_owned(), layer.clone())];
        sleep(2 * TICK);
        let begun = layout.new_blob().unwrap().made().unwrap();
        actions.keep_all(&of_all(&["a", "b"]), begun, &all).unwrap();
        assert_eq!(actions.look_all(&of_all(&["a", "b"]), &layout), Some(all));
        for other in [&["ab", ""][..], &["a", "b", ""], &["b", "a"]] {
            assert_eq!(actions.look_all(&of_all(other), &layout), None);
        }
        let record = actions.place(&of_all(&["a", "b"]));
        fs::write(&record, &fs::read(&record).unwrap()[1..]).unwrap();
        assert_eq!(actions.look_all(&of_all(&["a", "b"]), &layout), None, "a broken record is none");
        fs::remove_file(layout.blob_path(layer.blob.digest)).unwrap();
        fs::write(&file, "first").unwrap();
        assert_eq!(actions.look(&Key::of(&entries()).unwrap(), &layout), None);
    }
}
