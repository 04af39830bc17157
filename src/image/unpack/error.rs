//! What can be wrong with an image that is to be unpacked, in words.

use std::io;
use std::path::PathBuf;

use crate::bundle::{ImageError, LayoutError};
use crate::model::Digest;

/// Why an image was not unpacked. Nothing of it is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A blob is missing, damaged, or cannot be read.
    #[error("the image's files are not what they should be")]
    Layout(#[from] LayoutError),
    /// A layout was named, and it does not say which image.
    #[error("`{}` has {count} images{}, where one is needed", layout.display(), .name.as_ref().map_or(String::new(), |name| format!(" named `{name}`")))]
    NotOne {
        /// The directory.
        layout: PathBuf,
        /// The name that was asked for.
        name: Option<String>,
        /// How many it has.
        count: usize,
    },
    /// The reference leads to something else than an image.
    #[error("this cannot be unpacked")]
    Image(#[from] ImageError),
    /// The configuration is not one of an image.
    #[error("the image's configuration {digest} cannot be read")]
    Config {
        /// The blob.
        digest: Digest,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration has another number of layers than the manifest.
    #[error("the manifest has {layers} layers and the configuration {diff_ids} `diff_ids`")]
    Layers {
        /// Of the manifest.
        layers: usize,
        /// Of the configuration.
        diff_ids: usize,
    },
    /// A layer's bytes are not the descriptor's.
    #[error(
        "the layer {digest} is damaged or was tampered with: it has {size} bytes with the digest {found}, its descriptor says {expected} bytes"
    )]
    Blob {
        /// The descriptor's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// How many bytes there are.
        size: u64,
        /// Their digest.
        found: Digest,
    },
    /// A layer's content is not what the configuration says.
    #[error("the content of layer {layer} has the digest {found}, the image's configuration says {expected}")]
    DiffId {
        /// The layer.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A layer in an encoding that we do not read.
    #[error("the layer {layer} is of the type `{media_type}`, which is not unpacked")]
    Encoding {
        /// The layer.
        layer: Digest,
        /// Its type.
        media_type: String,
    },
    /// A layer is not an archive that may be unpacked.
    #[error("the layer {layer} is refused{}", .path.as_ref().map_or(String::new(), |path| format!(" at `{path}`")))]
    Layer {
        /// The layer.
        layer: Digest,
        /// The member, where it has a name already.
        path: Option<String>,
        /// What is wrong.
        #[source]
        source: Fault,
    },
    /// The directory is taken.
    #[error("`{}` is there already and not empty", .0.display())]
    Taken(PathBuf),
    /// The file system said no.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with an archive or one of its members.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes cannot be read or decompressed.
    #[error("its bytes cannot be read")]
    Read(#[source] io::Error),
    /// It ends in the middle.
    #[error("the archive ends before its end")]
    Truncated,
    /// There is something behind the end.
    #[error("the archive has more bytes behind its end, which some programs would read")]
    Trailing,
    /// Only one block of zeros where two are the end.
    #[error("a block of zeros stands between members")]
    LoneZero,
    /// A header that is none.
    #[error("a header's checksum is wrong")]
    Checksum,
    /// A header of another format.
    #[error("a header is neither ustar nor GNU's")]
    Magic,
    /// A field that is no number, or a negative one.
    #[error("the field `{field}` is not a number that can be meant")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// A number in GNU's long form that fits the short one.
    #[error("the field `{field}` is written in base 256 without need, which programs read in two ways")]
    TwoForms {
        /// The field.
        field: &'static str,
    },
    /// The header and its extended header disagree about where the next header is.
    #[error(
        "the header says {header} bytes and the extended header {extended}: programs would read two different archives"
    )]
    TwoSizes {
        /// In the header.
        header: u64,
        /// In the extended header.
        extended: u64,
    },
    /// Content where there can be none.
    #[error("it is {what} and says that {size} bytes follow, which some programs skip and others do not")]
    Content {
        /// What it is.
        what: &'static str,
        /// The size.
        size: u64,
    },
    /// An extended record that is none.
    #[error("an extended header is not made of records `LENGTH KEY=VALUE`")]
    Record,
    /// The same key, or the same kind of header, twice.
    #[error("`{key}` is given twice")]
    Twice {
        /// The key.
        key: &'static str,
    },
    /// A name that is empty or has a NUL in it.
    #[error("`{field}` is empty or has a NUL byte in it")]
    Name {
        /// The field.
        field: &'static str,
    },
    /// A header for all members that follow.
    #[error("a global extended header would change all that follows")]
    Global,
    /// A header that belongs to no member.
    #[error("an extended header is followed by no member")]
    Dangling,
    /// A sparse file.
    #[error("it is a sparse file, whose content is not what stands in the archive; layers have whole files")]
    Sparse,
    /// A device or a pipe.
    #[error("it is a {0}; a runtime makes those itself, and an image must not bring any")]
    Special(&'static str),
    /// An unknown kind.
    #[error("it is of the unknown kind `{}`", .flag.escape_ascii())]
    Kind {
        /// The type flag.
        flag: u8,
    },
    /// From the root of this machine.
    #[error("it has an absolute path")]
    Absolute,
    /// Upwards.
    #[error("it leads out of the image with `..`")]
    Upwards,
    /// Through a link.
    #[error("its path goes through the symbolic link `{0}`")]
    Through(String),
    /// Below something that is no directory.
    #[error("its path goes through `{0}`, which is no directory")]
    Below(String),
    /// Another member of the same layer has the name.
    #[error("the layer has it twice")]
    Duplicate,
    /// It is a directory in the same layer, with something in it.
    #[error("the layer has it as a directory too")]
    Both,
    /// A hard link to nothing.
    #[error("it is a hard link to `{0}`, which is not in the image")]
    Nothing(String),
    /// A hard link to something that has no second name.
    #[error("it is a hard link to `{0}`, which is no file")]
    NoFile(String),
    /// A whiteout that cannot be meant.
    #[error("it is no whiteout that could be meant: {0}")]
    Whiteout(&'static str),
    /// A file where only a directory can be.
    #[error("its name ends in `/` and it is no directory")]
    Slash,
    /// A root that is no directory.
    #[error("it is the root of the image and no directory")]
    Root,
    /// More than we unpack.
    #[error("{what}: more than {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The most that is taken.
        limit: u64,
    },
    /// The file system said no.
    #[error("cannot {action} it")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Fault {
    /// An error of the file system.
    pub(super) fn io(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { action, source: errno.into() }
    }
}
