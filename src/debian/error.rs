//! Why packages could not be locked, fetched or made into layers.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Digest, ParsePatternError};

/// Why packages could not be locked, fetched or made into layers.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
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
    /// No answer, or an answer that is of no use.
    #[error("cannot fetch `{url}`: {reason}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// What went wrong, the last time it was tried.
        reason: String,
    },
    /// The archive does not have it.
    #[error("`{url}` is not there (404)")]
    Gone {
        /// What was asked for.
        url: String,
    },
    /// The archive does not have it any more, and where it is kept for good it cannot be had.
    #[error("`{url}` is not there any more (404), and it could not be had from `{also}` either")]
    Dropped {
        /// What was asked for.
        url: String,
        /// Where else.
        also: String,
        /// Why not.
        #[source]
        source: Box<DebianError>,
    },
    /// Other bytes than those that somebody signed.
    #[error(
        "`{url}` has the SHA-256 {found}, and {expected} was signed: it was damaged or tampered with, or the mirror is halfway through an update"
    )]
    Digest {
        /// What was asked for.
        url: String,
        /// What it should have been.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Not as many bytes as somebody signed.
    #[error(
        "`{url}` is not {expected} bytes large, as was signed: it was damaged or tampered with, or the mirror is halfway through an update"
    )]
    Size {
        /// What was asked for.
        url: String,
        /// The size in bytes.
        expected: u64,
    },
    /// No signature that counts.
    #[error("`{url}` is not to be trusted: {reason}")]
    Signature {
        /// The signed file.
        url: String,
        /// What is wrong with its signatures.
        reason: String,
    },
    /// The file of trusted keys is no such file.
    #[error("`{}` is no keyring: {reason}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Neither `gpgv` nor `sqv` is there.
    #[error("neither `gpgv` nor `sqv` is installed, and one of them has to check the signature of `{url}`")]
    NoVerifier {
        /// The signed file.
        url: String,
    },
    /// A signed file that does not say what it has to.
    #[error("`{url}` is of no use: {reason}")]
    Index {
        /// The file.
        url: String,
        /// What it lacks.
        reason: String,
    },
    /// A signed file whose time is over.
    #[error(
        "`{url}` was valid until {until}: the mirror is no longer updated, or someone holds back what is new"
    )]
    Expired {
        /// The file.
        url: String,
        /// As it says.
        until: String,
    },
    /// A package that nobody has.
    #[error("there is no package `{name}` for `{architecture}` in {suites}{near}")]
    NoPackage {
        /// Its name.
        name: String,
        /// For which architecture.
        architecture: String,
        /// Where it was looked for.
        suites: String,
        /// What it may have been meant to be, in words.
        near: String,
    },
    /// A name that several packages provide.
    #[error("`{name}` is provided by {providers}, and is no package itself: name one of them")]
    Virtual {
        /// The name.
        name: String,
        /// Who provides it.
        providers: String,
    },
    /// A dependency that nobody fulfils.
    #[error("`{package}` needs `{dependency}`, which is not in {suites} ({chain})")]
    Unmet {
        /// Who needs it.
        package: String,
        /// What it needs.
        dependency: String,
        /// Where it was looked for.
        suites: String,
        /// How one came to that package.
        chain: String,
    },
    /// Two packages that must not be together.
    #[error("`{first}` and `{second}` cannot both be installed: `{first}` says `{field}: {relation}`")]
    Conflict {
        /// Who says so.
        first: String,
        /// About whom.
        second: String,
        /// `Conflicts` or `Breaks`.
        field: &'static str,
        /// What it says.
        relation: String,
    },
    /// A package file that is none.
    #[error("`{package}` is not a package that can be read: {reason}")]
    Package {
        /// Its file or name.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// Two packages with the same file.
    #[error("`{first}` and `{second}` both have `{path}`, and neither says that it replaces the other")]
    SameFile {
        /// One package.
        first: String,
        /// The other.
        second: String,
        /// The path.
        path: String,
    },
    /// Packages whose maintainer scripts nobody knows.
    #[error("{}", scripts(.0))]
    Scripts(Vec<UnknownScript>),
    /// A lock that does not fit together.
    #[error("the lock of the packages does not fit together: {0}")]
    Lock(String),
    /// A pattern that is none.
    #[error(transparent)]
    Pattern(#[from] ParsePatternError),
    /// Users or groups that contradict each other.
    #[error("{0}")]
    Users(String),
}

/// A maintainer script that would have done something nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScript {
    /// The package.
    pub package: String,
    /// `preinst` or `postinst`.
    pub script: &'static str,
    /// The first line that was not understood.
    pub line: String,
}

fn scripts(unknown: &[UnknownScript]) -> String {
    let mut text =
        "no maintainer script is run, and it is not known what would be missed without these:".to_owned();
    for UnknownScript { package, script, line } in unknown {
        let _ = write!(text, "\n  - `{package}`: `{script}`, at `{line}`");
    }
    text
}

impl DebianError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn package(package: &str, reason: impl Into<String>) -> Self {
        Self::Package { package: package.to_owned(), reason: reason.into() }
    }
}
