//! Whether two images are the same, and if not, where they differ first.

use std::fmt;
use std::io::BufRead;

use super::unpack::archive::{Archive, At, Member};
use super::unpack::stream::Pieces;
use super::unpack::{self, Fault, Limits, UnpackError};
use crate::bundle::{Blob, ImageFiles, Layout};
use crate::model::Digest;

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// One digest.
    Identical,
    /// The same configuration and the same layers, compressed otherwise.
    Encoding,
    /// Other content; the first place where it differs.
    Content(Difference),
}

/// The first place where two images differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The layer, counted from 1.
    pub layer: usize,
    /// The path; none where the difference is no member's.
    pub path: Option<String>,
    /// What about it.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "`{path}` in layer {}: {}", self.layer, self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// An image in a layout.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Where its blobs are.
    pub layout: &'a Layout,
    /// Which they are.
    pub image: &'a ImageFiles,
}

/// Compares two images. Every blob that is looked into is verified.
pub fn compare(one: Side<'_>, other: Side<'_>) -> Result<Comparison, UnpackError> {
    if one.image.manifest.digest == other.image.manifest.digest {
        return Ok(Comparison::Identical);
    }
    let (ours, theirs) = (one.diff_ids()?, other.diff_ids()?);
    if let Some(nth) = ours.iter().zip(&theirs).position(|(a, b)| a != b) {
        let found = first(one, other, nth)?;
        let (path, what) =
            found.unwrap_or((None, format!("the archives of layer {} are written otherwise", nth + 1)));
        return Ok(Comparison::Content(Difference { layer: nth + 1, path, what }));
    }
    let what = if ours.len() == theirs.len() {
        if one.image.config.digest == other.image.config.digest {
            return Ok(Comparison::Encoding);
        }
        "the configurations differ, the layers are the same".to_owned()
    } else {
        format!("one has {} layers, the other {}", ours.len(), theirs.len())
    };
    Ok(Comparison::Content(Difference { layer: 0, path: None, what }))
}

impl Side<'_> {
    /// What the configuration says that the layers are, of which there are as many as in the manifest.
    fn diff_ids(self) -> Result<Vec<Digest>, UnpackError> {
        let diff_ids = unpack::diff_ids(self.layout, &self.image.config)?;
        if diff_ids.len() == self.image.layers.len() {
            Ok(diff_ids)
        } else {
            Err(UnpackError::Layers { layers: self.image.layers.len(), diff_ids: diff_ids.len() })
        }
    }

    fn read<T>(
        self,
        layer: &Blob,
        read: impl FnOnce(&mut Pieces) -> Result<T, At>,
    ) -> Result<(T, Digest), UnpackError> {
        unpack::read(self.layout, layer, unpack::encoding(layer)?, Limits::default(), read)
    }
}

type Found = Option<(Option<String>, String)>;

/// The first member that differs in the layer `nth`.
fn first(one: Side<'_>, other: Side<'_>, nth: usize) -> Result<Found, UnpackError> {
    let most = Limits::default().members;
    let (found, _) = one.read(&one.image.layers[nth], |ours| {
        let inner = other.read(&other.image.layers[nth], |theirs| {
            lockstep(&mut Archive::new(&mut *ours, most), &mut Archive::new(theirs, most))
        });
        // Two threads' worth of errors: the inner one goes out through the result.
        Ok(inner.map(|(found, _)| found))
    })?;
    found
}

fn lockstep<A: BufRead, B: BufRead>(ours: &mut Archive<A>, theirs: &mut Archive<B>) -> Result<Found, At> {
    loop {
        let (a, b) = (ours.advance()?, theirs.advance()?);
        let (a, b) = match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), None) => return Ok(Some((Some(name(&a)), "only the first has it".to_owned()))),
            (None, Some(b)) => return Ok(Some((Some(name(&b)), "only the second has it".to_owned()))),
            (Some(a), Some(b)) => (a, b),
        };
        if a.path != b.path {
            let (a, b) = (name(&a), name(&b));
            let what = format!("the other has `{}` there", if a < b { &b } else { &a });
            return Ok(Some((Some(a.min(b)), what)));
        }
        if let Some(what) = differs(&a, &b) {
            return Ok(Some((Some(name(&a)), what)));
        }
        if let Some(at) = content(ours, theirs)? {
            return Ok(Some((Some(name(&a)), format!("its content differs from byte {at} on"))));
        }
    }
}

fn name(member: &Member) -> String {
    member.path.as_ref().map_or("/".to_owned(), ToString::to_string)
}

fn differs(a: &Member, b: &Member) -> Option<String> {
    let owner = |member: &Member| format!("{}:{}", member.uid, member.gid);
    let time = |member: &Member| format!("{}.{:09}", member.mtime.0, member.mtime.1);
    let mode = |member: &Member| format!("{:04o}", member.mode);
    let what = |member: &Member| format!("{:?}", member.what);
    let capability = |member: &Member| format!("{:?}", member.capability);
    for (about, a, b) in [
        ("it is", what(a), what(b)),
        ("its mode is", mode(a), mode(b)),
        ("its owner is", owner(a), owner(b)),
        ("its capability is", capability(a), capability(b)),
        ("its time is", time(a), time(b)),
    ] {
        if a != b {
            return Some(format!("{about} {a} in the first and {b} in the second"));
        }
    }
    None
}

/// The first byte at which the contents differ; they are of the same size.
fn content<A: BufRead, B: BufRead>(
    ours: &mut Archive<A>,
    theirs: &mut Archive<B>,
) -> Result<Option<u64>, Fault> {
    let mut at = 0;
    loop {
        let (a, b) = (ours.content()?, theirs.content()?);
        let both = a.len().min(b.len());
        if both == 0 {
            return Ok(None);
        }
        if a[..both] != b[..both] {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        at += both as u64;
        ours.consume(both);
        theirs.consume(both);
    }
}

/// Reads all of an image and verifies every digest on the way: blobs, and what is in them. Archives must be such as are
/// unpacked.
pub fn verify(side: Side<'_>) -> Result<u64, UnpackError> {
    let mut members = 0;
    for (layer, diff_id) in side.image.layers.iter().zip(side.diff_ids()?) {
        let (count, found) = side.read(layer, |pieces| {
            let mut archive = Archive::new(pieces, Limits::default().members);
            let mut count = 0;
            while archive.advance()?.is_some() {
                count += 1;
            }
            Ok(count)
        })?;
        if found != diff_id {
            return Err(UnpackError::DiffId { layer: layer.digest, expected: diff_id, found });
        }
        members += count;
    }
    Ok(members)
}
