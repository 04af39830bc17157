//! One writer for each syntax that the kinds write, owning its quoting. A value that the syntax cannot carry is refused,
//! never bent: no renderer puts a value from a profile into a line by itself.

pub(super) mod haproxy;
pub(super) mod json;
pub(super) mod nft;
pub(super) mod nginx;
pub(super) mod postgres;
pub(super) mod redis;
pub(super) mod settings;
pub(super) mod shell;
pub(super) mod unit;
pub(super) mod yaml;

use super::RenderError;

/// Why a syntax cannot carry a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

impl Refused {
    /// The same as a fault of the file at `path`.
    pub(super) fn at(self, path: &str) -> RenderError {
        RenderError::Format { path: path.to_owned(), reason: self.0 }
    }
}

/// Refuses control characters: none of the line-based syntaxes can carry a line break, and no value has a use for the
/// others.
fn one_line(value: &str) -> Result<&str, Refused> {
    if value.contains(char::is_control) {
        Err(Refused(format!("{value:?} has a control character, which does not fit on a line")))
    } else {
        Ok(value)
    }
}
