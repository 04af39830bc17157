//! A bundle and images as one stream, for a droplet that reaches no registry.
//!
//! ```text
//! bundle-parcel 1\n
//! blob <digest> <size>\n <bytes>        the bundle's OCI manifest, its config, its layer
//! { image <local name>\n                each image at most once
//!   blob …                              what its digest leads to; an index comes before its manifest
//!   blob … }*                           config and layers, without those that came before
//! end\n
//! ```
//!
//! The reader knows what must come next, and how large it may be: the bundle's digest is given to it, the bundle pins
//! its images, and each document names the blobs after it. So nothing is stored that is not asked for, and every byte is
//! hashed before it has a name.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};

use super::image::{Blob, Document, ImageError, ImageFiles};
use super::layout::{Layout, LayoutError};
use super::oci::{MAX_MANIFEST, OciManifest};
use super::{ImagePin, Manifest, OpenedBundle, Verified, VerifyError};
use crate::model::Digest;

const FIRST: &str = "bundle-parcel 1";
/// The longest line, in bytes.
const LONGEST: u64 = 512;

/// Why a parcel was refused, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// It ended early, or the other side went away.
    #[error("the parcel cannot be passed on")]
    Io(#[from] io::Error),
    /// Something else came than what must come next.
    #[error("the parcel is not right: {expected} comes next, not `{found}`")]
    Unexpected {
        /// What must come.
        expected: String,
        /// What came.
        found: String,
    },
    /// A blob with other bytes than its name says.
    #[error("the blob {expected} was damaged on its way: it has the digest {found}; nothing of it was kept")]
    Digest {
        /// Its name.
        expected: Digest,
        /// Its bytes'.
        found: Digest,
    },
    /// What came is another bundle.
    #[error("the parcel holds the bundle {found}, not {expected}")]
    OtherBundle {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A directory failed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The bundle is not right.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// An image is not right.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Whoever takes the images failed.
    #[error("{0}")]
    Taken(String),
}

/// Writes a parcel.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    sent: BTreeSet<Digest>,
}

impl<W: Write> Writer<W> {
    /// Begins with a bundle of a layout, by its OCI manifest.
    pub fn begin(out: W, layout: &Layout, oci_digest: Digest) -> Result<Self, ParcelError> {
        let mut writer = Self { out, sent: BTreeSet::new() };
        writeln!(writer.out, "{FIRST}")?;
        let bytes = layout.read_blob(oci_digest, MAX_MANIFEST)?;
        let oci =
            OciManifest::parse(&bytes).map_err(|source| VerifyError::Oci { manifest: oci_digest, source })?;
        writer.blob(layout, oci_digest, bytes.len() as u64)?;
        writer.blob(layout, oci.config().digest, oci.config().size)?;
        writer.blob(layout, oci.layer().digest, oci.layer().size)?;
        // An image may not leave out what is the bundle's: it is kept elsewhere.
        writer.sent.clear();
        Ok(writer)
    }

    /// Adds an image whose blobs are all in a layout.
    pub fn image(&mut self, layout: &Layout, pin: &ImagePin) -> Result<(), ParcelError> {
        writeln!(self.out, "image {}", pin.local)?;
        let files = self.documents(layout, pin.digest)?;
        for blob in [&files.config].into_iter().chain(&files.layers) {
            if self.sent.insert(blob.digest) {
                self.blob(layout, blob.digest, blob.size)?;
            }
        }
        Ok(())
    }

    fn documents(&mut self, layout: &Layout, digest: Digest) -> Result<ImageFiles, ParcelError> {
        let bytes = layout.read_blob(digest, MAX_MANIFEST)?;
        self.blob(layout, digest, bytes.len() as u64)?;
        match Document::parse(&bytes)? {
            Document::Image(files) => Ok(files),
            Document::Index(manifest) => {
                let bytes = layout.read_blob(manifest.digest, MAX_MANIFEST)?;
                self.blob(layout, manifest.digest, bytes.len() as u64)?;
                image_of(&bytes)
            }
        }
    }

    /// Ends it.
    pub fn end(mut self) -> Result<(), ParcelError> {
        writeln!(self.out, "end")?;
        Ok(self.out.flush()?)
    }

    fn blob(&mut self, layout: &Layout, digest: Digest, size: u64) -> Result<(), ParcelError> {
        writeln!(self.out, "blob {digest} {size}")?;
        let copied = io::copy(&mut layout.open_blob(digest)?.take(size), &mut self.out)?;
        if copied == size {
            Ok(())
        } else {
            let path = layout.blob_path(digest);
            Err(LayoutError::Size { path, digest, expected: size }.into())
        }
    }
}

/// An index leads to a manifest and to nothing else.
fn image_of(bytes: &[u8]) -> Result<ImageFiles, ParcelError> {
    match Document::parse(bytes)? {
        Document::Image(files) => Ok(files),
        Document::Index(_) => {
            let reason = "an index leads to another index".to_owned();
            Err(ImageError { digest: Digest::of(bytes), reason }.into())
        }
    }
}

/// What an image's digest leads to in a layout, if all of it is there and right.
pub fn whole(layout: &Layout, digest: Digest) -> Result<ImageFiles, ParcelError> {
    let bytes = layout.read_blob(digest, MAX_MANIFEST)?;
    let files = match Document::parse(&bytes)? {
        Document::Image(files) => files,
        Document::Index(manifest) => image_of(&layout.read_blob(manifest.digest, MAX_MANIFEST)?)?,
    };
    for blob in [&files.config].into_iter().chain(&files.layers) {
        if !layout.has_blob(blob.digest, blob.size) {
            // Says which of the two it is: not there, or not right.
            drop(layout.open_blob(blob.digest)?);
            let path = layout.blob_path(blob.digest);
            return Err(LayoutError::Size { path, digest: blob.digest, expected: blob.size }.into());
        }
    }
    Ok(files)
}

/// Who takes the images of a parcel, one after the other.
pub trait Taker {
    /// Says no to an image of so many bytes before they come.
    fn room(&mut self, pin: &ImagePin, bytes: u64) -> Result<(), String>;
    /// Takes an image whose blobs are all in the layout, verified.
    fn take(&mut self, pin: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), String>;
}

/// Reads a parcel with this bundle: the bundle into one layout, the blobs of images into another.
pub fn read(
    input: impl BufRead,
    bundle: Digest,
    into: &Layout,
    images: &Layout,
    taker: &mut dyn Taker,
) -> Result<Verified<OpenedBundle>, ParcelError> {
    let mut reader = Reader { input };
    let opened = reader.bundle(bundle, into)?;
    let mut there = BTreeSet::new();
    let mut left: Vec<_> = opened.manifest().images.iter().collect();
    loop {
        let line = reader.line()?;
        if line == "end" {
            return if reader.input.fill_buf()?.is_empty() {
                Ok(opened)
            } else {
                Err(unexpected("nothing", "more"))
            };
        }
        let local = line.strip_prefix("image ").ok_or_else(|| unexpected("`image …` or `end`", &line))?;
        let index = left.iter().position(|pin| pin.local == local);
        let index = index.ok_or_else(|| unexpected("an image of the bundle that did not come yet", local))?;
        let pin = left.remove(index);
        let files = reader.documents(images, pin.digest)?;
        let wanted = |blob: &&Blob| !there.contains(&blob.digest);
        let blobs: Vec<_> = [&files.config].into_iter().chain(&files.layers).filter(wanted).collect();
        let size = blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        taker.room(pin, size).map_err(ParcelError::Taken)?;
        for blob in blobs {
            // One layer may stand twice in an image.
            if there.insert(blob.digest) {
                reader.blob(images, blob.digest, blob.size..=blob.size)?;
            }
        }
        taker.take(pin, &files, images).map_err(ParcelError::Taken)?;
    }
}

fn unexpected(expected: &str, found: &str) -> ParcelError {
    ParcelError::Unexpected { expected: expected.to_owned(), found: found.escape_debug().to_string() }
}

struct Reader<R> {
    input: R,
}

impl<R: BufRead> Reader<R> {
    fn line(&mut self) -> Result<String, ParcelError> {
        let mut bytes = Vec::new();
        (&mut self.input).take(LONGEST).read_until(b'\n', &mut bytes)?;
        match bytes.split_last() {
            Some((b'\n', line)) => match std::str::from_utf8(line) {
                Ok(line) => Ok(line.to_owned()),
                Err(_) => Err(unexpected("a line of text", &String::from_utf8_lossy(line))),
            },
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Some(_) => Err(unexpected("a line", &String::from_utf8_lossy(&bytes))),
        }
    }

    fn bundle(&mut self, bundle: Digest, into: &Layout) -> Result<Verified<OpenedBundle>, ParcelError> {
        let line = self.line()?;
        if line != FIRST {
            return Err(unexpected(&format!("`{FIRST}`"), &line));
        }
        // Which document wraps the bundle is the sender's to say; what it wraps is not.
        let (digest, size) = self.announced()?;
        self.content(into, digest, size, MAX_MANIFEST)?;
        let bytes = into.read_blob(digest, MAX_MANIFEST)?;
        let oci =
            OciManifest::parse(&bytes).map_err(|source| VerifyError::Oci { manifest: digest, source })?;
        if oci.config().digest != bundle {
            return Err(ParcelError::OtherBundle { expected: bundle, found: oci.config().digest });
        }
        self.blob(into, oci.config().digest, oci.config().size..=oci.config().size)?;
        let config = into.read_blob(bundle, oci.config().size)?;
        // Said before its files come.
        drop(Verified::<Manifest>::of_bytes(&config, bundle)?);
        self.blob(into, oci.layer().digest, oci.layer().size..=oci.layer().size)?;
        let opened = Verified::<OpenedBundle>::by_manifest(into, digest)?;
        into.enter(digest, bytes.len() as u64, bundle)?;
        Ok(opened)
    }

    fn documents(&mut self, images: &Layout, digest: Digest) -> Result<ImageFiles, ParcelError> {
        self.blob(images, digest, 0..=MAX_MANIFEST)?;
        match Document::parse(&images.read_blob(digest, MAX_MANIFEST)?)? {
            Document::Image(files) => Ok(files),
            Document::Index(manifest) => {
                self.blob(images, manifest.digest, manifest.size..=manifest.size.min(MAX_MANIFEST))?;
                image_of(&images.read_blob(manifest.digest, MAX_MANIFEST)?)
            }
        }
    }

    /// The blob that must come next.
    fn blob(
        &mut self,
        into: &Layout,
        digest: Digest,
        sizes: std::ops::RangeInclusive<u64>,
    ) -> Result<(), ParcelError> {
        let (announced, size) = self.announced()?;
        if announced != digest || !sizes.contains(&size) {
            let expected = format!("the blob {digest} of at most {} bytes", sizes.end());
            return Err(unexpected(&expected, &format!("blob {announced} {size}")));
        }
        self.content(into, digest, size, *sizes.end())
    }

    fn announced(&mut self) -> Result<(Digest, u64), ParcelError> {
        let line = self.line()?;
        let words = line.strip_prefix("blob ").and_then(|rest| rest.split_once(' '));
        let read = words.and_then(|(digest, size)| Some((digest.parse().ok()?, size.parse().ok()?)));
        read.ok_or_else(|| unexpected("a blob", &line))
    }

    fn content(&mut self, into: &Layout, digest: Digest, size: u64, limit: u64) -> Result<(), ParcelError> {
        if size > limit {
            return Err(unexpected(&format!("a blob of at most {limit} bytes"), &size.to_string()));
        }
        let mut incoming = into.incoming(digest, size)?;
        let mut left = size;
        while left > 0 {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            incoming.write(&buffer[..part])?;
            self.input.consume(part);
            left -= part as u64;
        }
        match incoming.finish()? {
            found if found == digest => Ok(()),
            found => Err(ParcelError::Digest { expected: digest, found }),
        }
    }
}

#[cfg(test)]
mod tests;
