//! File modes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The mode of a file in a bundle. There are only two: bundles carry no set-user-ID bits and nothing writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// `0444`: everybody may read. Nothing in a bundle is secret.
    #[serde(rename = "0444")]
    Read,
    /// `0555`: everybody may read and run.
    #[serde(rename = "0555")]
    Run,
}

impl Mode {
    /// The permission bits, as chmod(2) takes them.
    pub fn bits(self) -> u32 {
        match self {
            Self::Read => 0o444,
            Self::Run => 0o555,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.bits())
    }
}
