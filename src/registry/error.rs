//! What can go wrong between here and a registry, in the words of the person who has to do something about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::auth::AuthError;
use crate::bundle::{ImageError, LayoutError, VerifyError};
use crate::model::Digest;
use crate::model::json::CanonicalJsonError;

/// Why a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The client itself could not be made.
    #[error("the registry client cannot be started")]
    Runtime(#[source] io::Error),
    /// A manifest of our own making without canonical form.
    #[error("the activator's manifest cannot be written")]
    Manifest(#[from] CanonicalJsonError),
    /// The TLS library refused a certificate or a setting.
    #[error("the registry client cannot be set up; is the extra CA file a PEM file with certificates?")]
    Setup(#[source] reqwest::Error),
    /// No answer.
    #[error("cannot {action} `{repository}`: no answer from `{host}`")]
    Request {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It takes too long, or ends too early.
    #[error("cannot {action} `{repository}`: `{host}` {reason}")]
    Stuck {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// What it does.
        reason: String,
    },
    /// No right to do it.
    #[error("cannot {action} `{repository}`: `{host}` asks for credentials; {hint}")]
    Unauthorized {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// What to do.
        hint: String,
    },
    /// It is not there.
    #[error("cannot {action} `{repository}`: `{host}` does not have it{detail}")]
    NotFound {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// What the registry says, with a colon in front.
        detail: String,
    },
    /// The account may not do it.
    #[error(
        "cannot {action} `{repository}`: `{host}` does not allow it{detail}; does the account that is logged in have the right to?"
    )]
    Forbidden {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// What the registry says, with a colon in front.
        detail: String,
    },
    /// Any other answer that is not the right one.
    #[error("cannot {action} `{repository}`: `{host}` answers {status}{detail}")]
    Status {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// The HTTP status.
        status: reqwest::StatusCode,
        /// What the registry says, with a colon in front.
        detail: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that does not follow the protocol, or that we do not follow for safety.
    #[error("cannot {action} `{repository}`: the answer of `{host}` is refused, because {reason}")]
    Refused {
        /// What was tried.
        action: String,
        /// The repository.
        repository: String,
        /// The host that was asked.
        host: String,
        /// Why.
        reason: String,
    },
    /// Other bytes than the digest says.
    #[error(
        "`{host}` gives other bytes for {expected} of `{repository}`: they have the digest {found}; nothing of them was kept"
    )]
    Digest {
        /// The host.
        host: String,
        /// The repository.
        repository: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A `bundle-<hex>` tag that somebody has moved.
    #[error(
        "the tag for bundle {expected} in `{repository}` leads to bundle {found}; push the right one again"
    )]
    OtherBundle {
        /// The repository.
        repository: String,
        /// What was asked for.
        expected: Digest,
        /// What the tag leads to.
        found: Digest,
    },
    /// A bundle's own digest does not say where it is.
    #[error(
        "{bundle} does not say where the bundle is: name it with `--repository`, or in `/etc/bundle/registry.toml`"
    )]
    NoRepository {
        /// The bundle.
        bundle: Digest,
    },
    /// A file that was to be sent.
    #[error("`{}` cannot be sent: it cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A blob that an image needs and nobody has.
    #[error(
        "the image {image} cannot be sent: its blob {blob} is neither here, nor in the registry, nor in a base"
    )]
    NoSource {
        /// The image.
        image: Digest,
        /// What is missing.
        blob: Digest,
    },
    /// A credential file is broken.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The local directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What came is no image that can be carried.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What came is not a bundle.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl RegistryError {
    /// Whether another try may go better.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Request { source, .. } => !source.is_builder() && !is_tls(source),
            Self::Stuck { .. } => true,
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 403 | 408 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// How long the registry asks us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether TLS failed: the same certificate will not be better in a second.
fn is_tls(error: &reqwest::Error) -> bool {
    tls_error(error).is_some()
}

/// Whether the other side does not speak TLS at all.
pub(super) fn is_no_tls(error: &reqwest::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidMessage(_)))
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // Held by an I/O error, it is not among the causes: those are of what is held.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}
