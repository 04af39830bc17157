//! Everything that can be found out before anything is touched. What is refused here has started nothing.

use std::fmt;

use super::side::{Side, Way};
use super::transaction::{Activator, words};
use crate::bundle::ImagePin;
use crate::model::SecretName;
use crate::store::{Store, StoreError};

/// Free bytes below which nothing is begun: views, journal and what Docker writes when containers are recreated.
const MIN_BYTES: u64 = 64 * 1024 * 1024;
/// Free inodes below which nothing is begun.
const MIN_INODES: u64 = 2048;

/// Why a switch was not begun. All reasons at once.
#[derive(Debug)]
pub struct Refusal {
    /// Each in the words of the person who meets it.
    pub reasons: Vec<Reason>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Values that only the operator has were never sent.
    MissingSecrets(Vec<SecretName>),
    /// Something of somebody else stands where a link of ours must go.
    Conflict(String),
    /// A file in the store is not what it was when it was put there.
    Damaged {
        /// The file's path in the view.
        path: String,
        /// What is wrong with it.
        said: String,
    },
    /// The program that will read a file does not accept it.
    Check {
        /// The file's path in the view.
        path: String,
        /// What the program said.
        said: String,
    },
    /// An image is not to be had.
    Image {
        /// As the profile names it.
        reference: String,
        /// Why.
        why: String,
    },
    /// The disk is nearly full.
    Space {
        /// Free bytes.
        bytes: u64,
        /// Free inodes.
        inodes: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingSecrets(names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                write!(f, "the machine does not have the secrets {}", names.join(", "))
            }
            Self::Conflict(path) => write!(f, "`{path}` is there and is not ours"),
            Self::Damaged { path, said } => write!(f, "`{path}` is damaged: {said}"),
            Self::Check { path, said } => write!(f, "`{path}` is not accepted: {said}"),
            Self::Image { reference, why } => write!(f, "the image `{reference}` is not to be had: {why}"),
            Self::Space { bytes, inodes } => {
                write!(f, "the disk is nearly full: {} MiB and {inodes} inodes are free", bytes / 1024 / 1024)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused before anything was touched")?;
        for reason in &self.reasons {
            write!(f, "\n  - {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Secrets, foreign files, space: what the manifest and the disk alone can tell. Changes nothing.
pub fn look_first(store: &Store, to: &Side<'_>, way: Way) -> Result<Vec<Reason>, StoreError> {
    let mut reasons = Vec::new();
    if let Some(manifest) = to.manifest {
        let missing = store.missing_secrets(manifest)?;
        if !missing.is_empty() {
            reasons.push(Reason::MissingSecrets(missing));
        }
    }
    reasons.extend(store.link_conflicts(&to.links())?.into_iter().map(Reason::Conflict));
    let space = store.space()?;
    // Whoever goes back from what filled the disk must not be told to make room first.
    if way == Way::Forward && (space.bytes < MIN_BYTES || space.inodes < MIN_INODES) {
        reasons.push(Reason::Space { bytes: space.bytes, inodes: space.inodes });
    }
    Ok(reasons)
}

impl Activator<'_> {
    /// A certificate for each host name, every file whole and judged by its reader (unless it was, on the way to this generation before),
    /// every image on the machine. The bundle is in the store by now. `now` is in seconds since 1970.
    pub fn look_closely(&mut self, to: &Side<'_>, way: Way, now: u64) -> Result<Vec<Reason>, StoreError> {
        let Some(manifest) = to.manifest else { return Ok(Vec::new()) };
        if let Err(error) = self.store.ensure_certificates(manifest.hosts(), now) {
            // What served then had one.
            if way == Way::Forward {
                return Err(error);
            }
            (self.tell)(&format!("warning: {}", words(error)));
        }
        match way {
            Way::Forward => self.store.ensure_ballast()?,
            Way::Back => self.store.release_ballast()?,
        }
        let mut reasons = Vec::new();
        for entry in &manifest.artifacts {
            if let Err(error) = self.store.verify_object(&entry.store_path(), entry.mode) {
                reasons.push(Reason::Damaged { path: entry.path.to_string(), said: words(error) });
                continue;
            }
            if let (Some(check), Way::Forward) = (&entry.check, way) {
                let file = self.store.object(&entry.store_path());
                if let Err(error) = self.host.check(check, &file.to_string_lossy()) {
                    reasons.push(Reason::Check { path: entry.path.to_string(), said: error.to_string() });
                }
            }
        }
        for image in &manifest.images {
            if let Err(error) = self.host.ensure_image(image)
                && !self.found_beside(image)
            {
                reasons.push(Reason::Image { reference: image.reference.clone(), why: error.to_string() });
            }
        }
        Ok(reasons)
    }

    /// Gets an image that is not to be had where it was published from the machine's own registry, into which
    /// `bundle push --with-images` copies it. By the same digest, so it is the same image.
    fn found_beside(&mut self, image: &ImagePin) -> bool {
        let Ok(Some(ours)) = self.store.machine_registry() else { return false };
        let reference = format!("{}@{}", ours.repository, image.digest);
        if reference == image.reference {
            return false;
        }
        let beside = ImagePin { reference, ..image.clone() };
        let found = self.host.ensure_image(&beside).is_ok();
        if found {
            let from = &ours.repository;
            (self.tell)(&format!("`{}` is not to be had there; taken from `{from}`", image.reference));
        }
        found
    }
}
