//! OCI image layouts (image-spec, `image-layout.md`): the directory form of a bundle, on the builder and on the droplet.
//!
//! The only file of this folder that touches a file system. A file appears under its name only when all of it is on
//! disk, blobs before the manifest that names them, `index.json` last; so a crash leaves a layout that is right, and
//! doing it again is no harm.
#![expect(clippy::disallowed_methods, reason = "layouts are directories, and this file keeps them")]

mod new_blob;

pub use new_blob::NewBlob;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::Bundle;
use super::oci::{self, Descriptor, INDEX_TYPE, MANIFEST_TYPE, MAX_MANIFEST};
use crate::model::Digest;
use crate::model::json::{self, CanonicalJsonError};

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A directory with an OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// What `index.json` says about one manifest. Nothing of it is trusted before the manifest has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// Its name in the index, if it has one.
    pub name: Option<String>,
}

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system said no.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Some other directory.
    #[error("`{}` is not an OCI image layout: it has no `oci-layout` of version 1", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// An index that is not one.
    #[error("`{}` is not an OCI image index", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// An index with a number that has no canonical form.
    #[error("`{}` cannot be written again", path.display())]
    Rewrite {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: CanonicalJsonError,
    },
    /// A blob that is not there.
    #[error("`{}` has no blob {digest}", root.display())]
    NoBlob {
        /// The layout.
        root: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A blob with other bytes than its name says.
    #[error("the file of blob {digest} has the digest {found}: `{}` was damaged or tampered with; remove it and fetch it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Its name.
        digest: Digest,
        /// Its content.
        found: Digest,
    },
    /// A blob of another size.
    #[error("the file of blob {digest} is not {expected} bytes large: `{}` was damaged or tampered with; remove it and fetch it again", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its name.
        digest: Digest,
        /// The size or, where none is known, the limit.
        expected: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// `index.json`, with whatever other tools put into it.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<IndexDescriptor>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexDescriptor {
    digest: Digest,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    annotations: Map<String, Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl IndexEntry {
    /// Whether it may be the bundle of the layout: images and activators that lie beside one have names that say so.
    pub fn is_bundle(&self) -> bool {
        let beside = |name: &String| name.starts_with("image-") || name.starts_with("activator-");
        !self.name.as_ref().is_some_and(beside)
    }
}

impl Layout {
    /// Makes an empty layout, or opens the one that is there.
    pub fn create(root: &Path) -> Result<Self, LayoutError> {
        // The marker is written last, so that where it is everything is, on disk.
        if let Ok(layout) = Self::open(root) {
            return Ok(layout);
        }
        let layout = Self { root: root.to_owned() };
        let blobs = layout.blobs();
        fs::create_dir_all(&blobs).map_err(io_error("create", &blobs))?;
        for name in [root, &root.join("blobs"), &blobs] {
            sync_directory(name)?;
        }
        if !root.join(MARKER).exists() {
            write_beside(&root.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Self::open(root)
    }

    /// Opens a layout.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self { root: root.to_owned() };
        let error = || LayoutError::NotALayout { path: root.to_owned() };
        let bytes = read_at_most(&root.join(MARKER), 4096).map_err(|_| error())?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(|_| error())?;
        if marker.image_layout_version.starts_with("1.") { Ok(layout) } else { Err(error()) }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Opens a blob's file. Its bytes are not verified.
    pub fn open_blob(&self, digest: Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LayoutError::NoBlob { root: self.root.clone(), digest },
            _ => io_error("open", &path)(error),
        })
    }

    /// Whether a blob's file is there, with this size. Its bytes are not verified.
    pub fn has_file(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Whether a blob is there, with this size and the bytes that its name says. Reads all of it.
    pub fn has_blob(&self, digest: Digest, size: u64) -> bool {
        let Ok(file) = self.open_blob(digest) else { return false };
        let mut reader = io::BufReader::with_capacity(1 << 17, file.take(size + 1));
        let mut hasher = Sha256::new();
        let mut left = size + 1;
        loop {
            match io::BufRead::fill_buf(&mut reader) {
                Ok([]) => return left == 1 && Digest::from_hasher(hasher) == digest,
                Ok(bytes) => {
                    let read = bytes.len();
                    hasher.update(bytes);
                    left -= read as u64;
                    io::BufRead::consume(&mut reader, read);
                }
                Err(_) => return false,
            }
        }
    }

    /// Reads a blob of at most `limit` bytes and verifies that it has this digest.
    pub fn read_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(LayoutError::Size { path, digest, expected: limit });
        }
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(LayoutError::Corrupt { path, digest, found }),
        }
    }

    /// Writes a blob, unless its name is taken by the right bytes already.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::of(bytes);
        if self.put_blob(digest, bytes)? {
            sync_directory(&self.blob_path(digest))?;
        }
        Ok(digest)
    }

    /// The same, but that the name is not durable yet; whether anything was written.
    fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<bool, LayoutError> {
        let missing = self.read_blob(digest, bytes.len() as u64).is_err();
        if missing {
            put_beside(&self.blob_path(digest), bytes)?;
        }
        Ok(missing)
    }

    /// A blob on its way in.
    pub fn incoming(&self, digest: Digest, size: u64) -> Result<Incoming, LayoutError> {
        let path = self.blob_path(digest);
        let beside = beside(&path);
        let file = File::create(&beside).map_err(io_error("create", &beside))?;
        Ok(Incoming { path, beside, file, digest, size, left: size, hasher: Sha256::new(), keep: false })
    }

    /// A blob on its way in, from where an earlier way ended: `<digest>.partial`. Dropped, it leaves what it has, for the
    /// next time; finished with the wrong bytes, nothing. While somebody else writes the same, it begins anew, beside.
    pub fn resume(&self, digest: Digest, size: u64) -> Result<Incoming, LayoutError> {
        let path = self.blob_path(digest);
        let beside = path.with_added_extension("partial");
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&beside);
        let mut file = open.map_err(io_error("open", &beside))?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Who had the lock before us may have given the file its name, and then it is no longer ours to write.
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let ours =
            file.metadata().is_ok_and(|ours| fs::metadata(&beside).is_ok_and(|there| same(&ours, &there)));
        if !(locked && ours) {
            return self.incoming(digest, size);
        }
        let (mut hasher, mut there) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 17];
        loop {
            match file.read(&mut buffer).map_err(io_error("read", &beside))? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    there += read as u64;
                }
            }
        }
        let mut incoming = Incoming { path, beside, file, digest, size, left: 0, hasher, keep: true };
        match size.checked_sub(there) {
            Some(left) => incoming.left = left,
            None => incoming.restart()?,
        }
        Ok(incoming)
    }

    /// Writes a bundle and enters it in the index.
    pub fn add(&self, bundle: &Bundle) -> Result<(), LayoutError> {
        let mut written = false;
        for (digest, bytes) in [
            (bundle.layer_digest(), bundle.layer()),
            (bundle.digest(), bundle.config()),
            (bundle.oci_digest(), bundle.oci_manifest()),
        ] {
            written |= self.put_blob(digest, bytes)?;
        }
        // Once for all three: syncing is what a build waits for.
        if written {
            sync_directory(&self.blob_path(bundle.digest()))?;
        }
        self.enter(bundle.oci_digest(), bundle.oci_manifest().len() as u64, bundle.digest())
    }

    /// Enters a manifest, whose blobs are all there, in the index as `bundle-<hex>`. What others entered stays.
    pub fn enter(&self, manifest: Digest, size: u64, bundle: Digest) -> Result<(), LayoutError> {
        let text = |text: &str| Value::String(text.to_owned());
        let entry = IndexDescriptor {
            digest: manifest,
            annotations: Map::from_iter([(REF_NAME.to_owned(), text(&oci::bundle_tag(bundle)))]),
            rest: Map::from_iter([
                ("artifactType".to_owned(), text(oci::ARTIFACT_TYPE)),
                ("mediaType".to_owned(), text(MANIFEST_TYPE)),
                ("size".to_owned(), size.into()),
            ]),
        };
        self.record(entry, |there| there.digest == manifest)
    }

    /// Enters an image, whose blobs are all there, in the index under a tag, in the place of what had it.
    pub fn enter_image(&self, root: &Descriptor, tag: &str) -> Result<(), LayoutError> {
        let text = |text: &str| Value::String(text.to_owned());
        let entry = IndexDescriptor {
            digest: root.digest,
            annotations: Map::from_iter([(REF_NAME.to_owned(), text(tag))]),
            rest: Map::from_iter([
                ("mediaType".to_owned(), text(&root.media_type)),
                ("size".to_owned(), root.size.into()),
            ]),
        };
        self.record(entry, |there| there.annotations.get(REF_NAME).and_then(Value::as_str) == Some(tag))
    }

    /// Takes out of the index what is no longer there.
    pub fn forget_missing(&self) -> Result<(), LayoutError> {
        let mut index = self.index()?;
        let before = index.manifests.len();
        index.manifests.retain(|there| self.blob_path(there.digest).exists());
        if index.manifests.len() == before { Ok(()) } else { self.write_index(&index) }
    }

    /// Writes an entry of the index instead of those that it replaces.
    fn record(
        &self,
        entry: IndexDescriptor,
        replaces: impl Fn(&IndexDescriptor) -> bool,
    ) -> Result<(), LayoutError> {
        let mut index = self.index()?;
        index.manifests.retain(|there| !replaces(there));
        index.manifests.push(entry);
        index.manifests.sort_by_key(|entry| entry.digest);
        index.schema_version = 2;
        index.rest.insert("mediaType".to_owned(), Value::String(INDEX_TYPE.to_owned()));
        self.write_index(&index)
    }

    fn write_index(&self, index: &Index) -> Result<(), LayoutError> {
        let path = self.root.join(INDEX);
        let bytes =
            json::to_vec(index).map_err(|source| LayoutError::Rewrite { path: path.clone(), source })?;
        if read_at_most(&path, MAX_MANIFEST).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        write_beside(&path, &bytes)
    }

    /// The manifests that the index names.
    pub fn entries(&self) -> Result<Vec<IndexEntry>, LayoutError> {
        let entry = |entry: IndexDescriptor| IndexEntry {
            manifest: entry.digest,
            name: entry.annotations.get(REF_NAME).and_then(Value::as_str).map(str::to_owned),
        };
        Ok(self.index()?.manifests.into_iter().map(entry).collect())
    }

    fn index(&self) -> Result<Index, LayoutError> {
        let path = self.root.join(INDEX);
        match read_at_most(&path, MAX_MANIFEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| LayoutError::Index { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }
}

/// A blob that is being written while its bytes come in. Dropped, or finished with the wrong bytes, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    digest: Digest,
    size: u64,
    left: u64,
    hasher: Sha256,
    /// Whether what is there when it is dropped is worth something.
    keep: bool,
}

impl Incoming {
    /// Takes more bytes; `false` if they are more than the blob has.
    pub fn write(&mut self, bytes: &[u8]) -> Result<bool, LayoutError> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.keep = false;
            return Ok(false);
        };
        self.left = left;
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(io_error("write", &self.beside))?;
        Ok(true)
    }

    /// How many bytes are there.
    pub fn received(&self) -> u64 {
        self.size - self.left
    }

    /// Forgets what is there.
    pub fn restart(&mut self) -> Result<(), LayoutError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(io_error("truncate", &self.beside))?;
        (self.left, self.hasher) = (self.size, Sha256::new());
        Ok(())
    }

    /// Gives the blob its name if its bytes are the right ones; says which digest they have.
    pub fn finish(mut self) -> Result<Digest, LayoutError> {
        let found = Digest::from_hasher(std::mem::take(&mut self.hasher));
        self.keep = false;
        if found == self.digest {
            self.file.sync_all().map_err(io_error("sync", &self.beside))?;
            fs::rename(&self.beside, &self.path).map_err(io_error("rename", &self.beside))?;
            sync_directory(&self.path)?;
        }
        Ok(found)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep || self.left == self.size {
            // After a rename there is nothing to remove, and a failure has been told already.
            drop(fs::remove_file(&self.beside));
        }
    }
}

/// Where a file is while it is not complete. Two processes may write the same blob at once; each renames its own.
fn beside(path: &Path) -> PathBuf {
    path.with_added_extension(format!("{}.partial", std::process::id()))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io { action, path, source }
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Writes a file so that under its name there is either what was there before or all of the new bytes, on disk.
fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    put_beside(path, bytes)?;
    sync_directory(path)
}

/// The same, but that the name is not durable before its directory is synced.
fn put_beside(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if let Err(error) = renamed {
        // The first error is the one to tell.
        drop(fs::remove_file(&beside));
        return Err(io_error("write", path)(error));
    }
    Ok(())
}

/// Makes a name in its directory durable.
fn sync_directory(file: &Path) -> Result<(), LayoutError> {
    let directory = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => file,
    };
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(io_error("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::sample;

    fn snapshot(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        walkdir::WalkDir::new(root)
            .sort_by_file_name()
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect()
    }

    #[test]
    fn writing_twice_changes_nothing_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        layout.add(&sample::bundle()).unwrap();
        let once = snapshot(dir.path());
        assert_eq!(once.len(), 5, "oci-layout, index.json, three blobs");
        Layout::create(dir.path()).unwrap().add(&sample::bundle()).unwrap();
        assert_eq!(snapshot(dir.path()), once);
        let name = format!("bundle-{}", sample::bundle().digest().hex());
        let entry = IndexEntry { manifest: sample::bundle().oci_digest(), name: Some(name) };
        assert_eq!(layout.entries().unwrap(), [entry]);
    }

    #[test]
    fn a_damaged_blob_is_reported_and_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let digest = layout.write_blob(b"content").unwrap();
        fs::write(layout.blob_path(digest), b"contend").unwrap();
        assert!(matches!(layout.read_blob(digest, 100), Err(LayoutError::Corrupt { .. })));
        layout.write_blob(b"content").unwrap();
        assert_eq!(layout.read_blob(digest, 100).unwrap(), b"content");
        assert!(layout.has_blob(digest, 7) && !layout.has_blob(digest, 6) && !layout.has_blob(digest, 8));
        assert!(!layout.has_blob(Digest::of(b"contend"), 7));
        assert!(matches!(layout.read_blob(digest, 6), Err(LayoutError::Size { .. })));
        assert!(matches!(layout.read_blob(Digest::of(b""), 6), Err(LayoutError::NoBlob { .. })));
    }

    #[test]
    fn a_blob_goes_on_where_it_was_left_and_two_writers_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        let partial = layout.blob_path(digest).with_added_extension("partial");
        let mut first = layout.resume(digest, 7).unwrap();
        assert!(first.write(b"cont").unwrap());
        let mut second = layout.resume(digest, 7).unwrap();
        assert_eq!(second.received(), 0, "somebody else is at it");
        assert!(second.write(b"content").unwrap());
        drop(first);
        assert_eq!(fs::read(&partial).unwrap(), b"cont");
        let mut third = layout.resume(digest, 7).unwrap();
        assert_eq!(third.received(), 4);
        assert!(third.write(b"ent").unwrap());
        assert_eq!((third.finish().unwrap(), second.finish().unwrap()), (digest, digest));
        assert_eq!(layout.read_blob(digest, 7).unwrap(), b"content");

        let other = Digest::of(b"other");
        let partial = layout.blob_path(other).with_added_extension("partial");
        fs::write(&partial, b"wrong bytes, and too many").unwrap();
        let mut again = layout.resume(other, 5).unwrap();
        assert_eq!(again.received(), 0);
        assert!(again.write(b"oth").unwrap());
        again.restart().unwrap();
        assert!(again.write(b"wrong").unwrap() && !again.write(b"!").unwrap());
        assert_eq!(again.finish().unwrap(), Digest::of(b"wrong"));
        assert!(!partial.exists() && !layout.blob_path(other).exists());
        drop(layout.resume(other, 5).unwrap());
        assert!(!partial.exists(), "nothing is not worth keeping");
    }

    #[test]
    fn entries_of_others_stay_in_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let other = format!(
            r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "a/b", "digest": "{}", "size": 3,
                "platform": {{"os": "linux"}}}}], "annotations": {{"x": "y"}}}}"#,
            Digest::of(b"other")
        );
        fs::write(dir.path().join(INDEX), other).unwrap();
        layout.add(&sample::bundle()).unwrap();
        assert_eq!(layout.entries().unwrap().len(), 2);
        let index = fs::read_to_string(dir.path().join(INDEX)).unwrap();
        assert!(
            index.contains(r#""platform":{"os":"linux"}"#) && index.contains(r#""annotations":{"x":"y"}"#)
        );
    }

    #[test]
    fn another_directory_is_not_a_layout() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Layout::open(dir.path()), Err(LayoutError::NotALayout { .. })));
        fs::write(dir.path().join(MARKER), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(Layout::open(dir.path()), Err(LayoutError::NotALayout { .. })));
    }

    #[test]
    fn skopeo_reads_the_layout() {
        let dir = tempfile::tempdir().unwrap();
        Layout::create(dir.path()).unwrap().add(&sample::bundle()).unwrap();
        let source = format!("oci:{}:bundle-{}", dir.path().display(), sample::bundle().digest().hex());
        let output =
            std::process::Command::new("skopeo").args(["inspect", "--raw", &source]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(Digest::of(&output.stdout), sample::bundle().oci_digest());
    }
}
