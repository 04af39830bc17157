//! What the activator asks of the machine it runs on.

use std::fs::File;
use std::time::Duration;

use super::step::Effect;
use crate::bundle::{ImageFiles, ImagePin, Layout, RouteRule};
use crate::model::{Check, Digest, RouteName, Slot};

/// Everything outside our own directory: systemd, Docker, nftables, the proxy, the clock. The real one is
/// [`host::Droplet`](crate::host::Droplet).
pub trait Host {
    /// Does one effect. Doing it twice does no harm; when it returns, it is done.
    fn perform(&mut self, effect: &Effect) -> Result<(), HostError>;

    /// Has a file judged by the program that will read it.
    fn check(&mut self, check: &Check, file: &str) -> Result<(), HostError>;

    /// Makes sure that an image is on the machine under its local name, fetched by digest, and will survive a power cut.
    fn ensure_image(&mut self, image: &ImagePin) -> Result<(), HostError>;

    /// Whether an image is on the machine under its local name, which only [`Host::ensure_image`] and
    /// [`Host::load_image`] give, after they have verified it.
    fn has_image(&mut self, image: &ImagePin) -> bool;

    /// Takes an image from a layout in which all its blobs are verified, as [`Host::ensure_image`] does from a registry.
    fn load_image(&mut self, image: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), HostError>;

    /// The images that have a local name of ours, by that name.
    fn local_images(&mut self) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    /// Takes an image away, under its local name and under the one by which it was fetched.
    fn remove_image(&mut self, local: &str) -> Result<(), HostError> {
        let _ = local;
        Ok(())
    }

    /// What running containers were made from: the absolute paths that they mount, their compose files, and the names of
    /// their images.
    fn in_use(&mut self) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    /// Runs a command in a container to its end, with a file as its input and one as its output.
    fn run_in(
        &mut self,
        container: &str,
        command: &[String],
        input: Option<File>,
        output: Option<File>,
    ) -> Result<(), HostError> {
        drop((command, input, output));
        Err(HostError::new(
            format!("running a command in `{container}`"),
            "there is no machine behind this disk",
        ))
    }

    /// Asks once whether something is well. `Err` says in a few words why not.
    fn probe(&mut self, probe: &Probe) -> Result<(), String>;

    /// The certificate, in DER, that the public listener shows to a client of `domain`; or why it shows none. `None` if
    /// there is no machine to ask.
    fn shown_certificate(&mut self, domain: &str) -> Option<Result<Vec<u8>, String>> {
        let _ = domain;
        None
    }

    /// How often Docker has restarted a container since it was created or started; `None` if nobody can say.
    fn restarts(&mut self, container: &str) -> Option<u64>;

    /// Whether somebody can be shut out: of a disk that is not running nobody can, and nobody is asked to confirm.
    fn has_a_door(&self) -> bool;

    /// The time since some fixed moment; it only grows.
    fn elapsed(&mut self) -> Duration;

    /// Waits.
    fn wait(&mut self, time: Duration);
}

/// A question about health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The container of a route, at its own address: it carries the release's label, and its readiness path answers 200
    /// (with the release in the header, if the profile names one).
    Route {
        /// The route.
        name: RouteName,
        /// Its rule.
        rule: RouteRule,
        /// The slot that is meant.
        slot: Slot,
        /// The release that must answer.
        release: Digest,
        /// The container behind the address.
        container: String,
    },
    /// The same through the public listener's TLS, which says which slot answered.
    Public {
        /// The route.
        name: RouteName,
        /// Its rule.
        rule: RouteRule,
        /// The slot that must answer.
        slot: Slot,
        /// The release that must answer.
        release: Digest,
        /// The host name to ask for.
        domain: String,
    },
    /// A container runs, is not being restarted, and is not unhealthy by its own check.
    Container {
        /// Its name.
        name: String,
    },
    /// The same, and its own check, if it has one, has passed: one that starts is not ready yet.
    Ready {
        /// Its name.
        name: String,
    },
}

impl Probe {
    /// What health is compared by, before and after: the same for both slots.
    pub fn subject(&self) -> String {
        match self {
            Self::Route { name, .. } | Self::Public { name, .. } => format!("route {name}"),
            Self::Container { name } | Self::Ready { name } => {
                let service =
                    name.strip_suffix("-blue").or_else(|| name.strip_suffix("-green")).unwrap_or(name);
                format!("service {service}")
            }
        }
    }
}

/// The machine did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{attempt}: {cause}")]
pub struct HostError {
    /// What was tried: a command as one would type it.
    pub attempt: String,
    /// What came of it.
    pub cause: String,
}

impl HostError {
    /// An error of `attempt`.
    pub fn new(attempt: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), cause: cause.into() }
    }
}
