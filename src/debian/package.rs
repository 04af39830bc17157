//! A package as it lies decoded in the cache: its control files, and the entries that it brings.
#![expect(clippy::disallowed_methods, reason = "decoded packages are files of the builder's cache")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::DebianError;
use super::control::Paragraph;
use super::deb::Decoded;
use super::members;
use crate::image::{Content, Entry, Kind};
use crate::spec::PackagePin;

/// The largest file that is read whole, in bytes: a package's control files, and what is synthesised from.
const MAX_FILE: u64 = 8 << 20;

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name, version and whatever else the index says.
    pub(crate) pin: PackagePin,
    /// Its `control` file, read.
    pub(crate) control: Paragraph,
    /// Its control files by name, `control` among them.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What it brings, in its own order.
    pub(crate) entries: Vec<Entry>,
}

impl Package {
    /// Reads a package, and refuses one that is not the one that the index spoke of.
    pub(crate) fn read(pin: &PackagePin, decoded: &Decoded) -> Result<Self, DebianError> {
        let mut files = BTreeMap::new();
        for entry in members::read(&decoded.control, &pin.name)? {
            if let Kind::File(content) = &entry.kind {
                let name = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
                files.insert(name, bytes(content)?);
            }
        }
        let mut control = Vec::new();
        let text = files.get("control").map(Vec::as_slice).unwrap_or_default();
        Paragraph::each(text, |paragraph| {
            control.push(paragraph);
            Ok::<_, io::Error>(())
        })
        .map_err(|error| DebianError::package(&pin.name, format!("its `control`: {error}")))?;
        let [control] = <[Paragraph; 1]>::try_from(control)
            .map_err(|_| DebianError::package(&pin.name, "its `control` is not one paragraph"))?;
        for (field, expected) in
            [("package", &pin.name), ("version", &pin.version), ("architecture", &pin.architecture)]
        {
            let found = control.get(field).unwrap_or_default();
            if found != expected {
                let reason =
                    format!("it says `{field}: {}`, and the index `{expected}`", found.escape_debug());
                return Err(DebianError::package(&pin.name, reason));
            }
        }
        Ok(Self { pin: pin.clone(), control, files, entries: members::read(&decoded.data, &pin.name)? })
    }

    /// The source package that it was built from: what is updated together.
    pub(crate) fn source(&self) -> &str {
        let source = self.control.get("source").and_then(|source| source.split_whitespace().next());
        source.unwrap_or(&self.pin.name)
    }

    /// As dpkg names its files: with the architecture if there may be others beside it.
    pub(crate) fn qualified(&self) -> String {
        if self.control.get("multi-arch") == Some("same") {
            format!("{}:{}", self.pin.name, self.pin.architecture)
        } else {
            self.pin.name.clone()
        }
    }
}

/// A content as bytes, where it is known to be small.
pub(crate) fn bytes(content: &Content) -> Result<Vec<u8>, DebianError> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.to_vec()),
        Content::File { path, offset, size } => {
            let cannot = || DebianError::io("read", path);
            if *size > MAX_FILE {
                return Err(DebianError::package(&path.display().to_string(), "a file in it is too large"));
            }
            let mut file = File::open(path).map_err(cannot())?;
            file.seek(SeekFrom::Start(*offset)).map_err(cannot())?;
            let mut bytes = Vec::new();
            file.take(*size).read_to_end(&mut bytes).map_err(cannot())?;
            if bytes.len() as u64 == *size {
                Ok(bytes)
            } else {
                Err(cannot()(io::ErrorKind::UnexpectedEof.into()))
            }
        }
    }
}
