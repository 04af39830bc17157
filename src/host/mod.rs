//! The real machine: Docker, systemd, HAProxy, the clock. One file per program that is talked to.
#![expect(clippy::disallowed_methods, reason = "running programs is this module's job")]

mod acme;
mod buildx;
mod command;
mod docker;
mod haproxy;
mod http;
mod images;
mod offline;
mod systemd;
mod tls;

pub use acme::Order;
pub use buildx::{Buildx, BuildxError, Order as BuildOrder};
pub use haproxy::{Shown, show_certificate};
pub use offline::Offline;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::activate::{Effect, Host, HostError, Probe};
use crate::bundle::{ImageFiles, ImagePin, Layout};
use crate::model::{Check, Digest, RouteName, Slot, StorePath};
use command::Program;
use tls::Tls;

/// The droplet that this process runs on.
#[derive(Debug)]
pub struct Droplet {
    /// Where compose files lie: the store, as rendered files name it.
    store: PathBuf,
    started: Instant,
    tls: Tls,
}

impl Default for Droplet {
    fn default() -> Self {
        Self { store: PathBuf::from(StorePath::STORE), started: Instant::now(), tls: Tls::new() }
    }
}

impl Droplet {
    fn file(&self, path: &StorePath) -> String {
        self.store.join(path.to_string()).to_string_lossy().into_owned()
    }
}

impl Host for Droplet {
    fn perform(&mut self, effect: &Effect) -> Result<(), HostError> {
        match effect {
            Effect::EnsureNetwork { network } => docker::ensure_network(network),
            Effect::DataUp { file, services } => docker::up_and_wait(&self.file(file), services),
            Effect::Migrate { slot, file, service } => {
                docker::run_to_end(&self.file(file), &format!("{service}-{slot}"))
            }
            Effect::SlotUp { slot, file, services } => {
                let names: Vec<_> = services.iter().map(|service| format!("{service}-{slot}")).collect();
                docker::up(&self.file(file), &names)
            }
            Effect::Stop { containers } => docker::stop(containers),
            Effect::KeepRunning { containers, keep } => docker::keep_running(containers, *keep),
            Effect::UnitsAhead { files, start } => {
                let files: Vec<_> = files.iter().map(|path| self.store.join(path.to_string())).collect();
                systemd::units_ahead(&files, start)
            }
            Effect::DaemonReload => systemd::daemon_reload(),
            Effect::Unit { verb, unit } => systemd::unit(*verb, unit),
            Effect::Route { routes, to } => haproxy::route(routes, *to),
            Effect::Drain { routes, slot, seconds } => {
                haproxy::drain(routes, *slot, Duration::from_secs(*seconds))
            }
            Effect::Ground => ground(),
            Effect::ResumeFirstBoot => systemd::resume_first_boot(),
            Effect::ArmTrial { transaction, seconds } => systemd::arm(*transaction, *seconds),
            Effect::DisarmTrial { transaction } => systemd::disarm(*transaction),
        }
    }

    fn check(&mut self, check: &Check, file: &str) -> Result<(), HostError> {
        let mut argv = check.0.iter().map(|arg| arg.replace("{}", file));
        let Some(program) = argv.next() else { return Ok(()) };
        Program::new(program).args(argv).limit(Duration::from_mins(1)).run().map(drop)
    }

    fn ensure_image(&mut self, image: &ImagePin) -> Result<(), HostError> {
        docker::ensure_image(image)
    }

    fn has_image(&mut self, image: &ImagePin) -> bool {
        images::has(image)
    }

    fn load_image(&mut self, image: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), HostError> {
        images::load(image, files, layout)
    }

    fn local_images(&mut self) -> Result<Vec<String>, HostError> {
        images::ours()
    }

    fn remove_image(&mut self, local: &str) -> Result<(), HostError> {
        images::remove(local)
    }

    fn in_use(&mut self) -> Result<Vec<String>, HostError> {
        docker::in_use()
    }

    fn run_in(
        &mut self,
        container: &str,
        command: &[String],
        input: Option<File>,
        output: Option<File>,
    ) -> Result<(), HostError> {
        docker::run_in(container, command, input, output)
    }

    fn probe(&mut self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Container { name } => docker::container_state(name)?.well(),
            Probe::Ready { name } => docker::container_state(name)?.ready(),
            Probe::Route { rule, slot, release, container, .. } => {
                let state = docker::container_state(container)?;
                if state.release.as_deref() != Some(release.to_string().as_str()) {
                    return Err(format!("container `{container}` is of another release"));
                }
                let answer = http::get((rule.address(*slot), rule.port).into(), &rule.health, "localhost")?;
                answer.ready(rule.release_header.as_deref(), release)
            }
            Probe::Public { name, rule, slot, release, domain } => {
                self.public(name, *slot, domain, rule.release_header.as_deref(), release)
            }
        }
    }

    fn shown_certificate(&mut self, domain: &str) -> Option<Result<Vec<u8>, String>> {
        Some(self.tls.certificate(tls::PUBLIC.into(), domain))
    }

    fn restarts(&mut self, container: &str) -> Option<u64> {
        docker::container_state(container).ok().map(|state| state.restarts)
    }

    fn has_a_door(&self) -> bool {
        true
    }

    fn elapsed(&mut self) -> Duration {
        self.started.elapsed()
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Laid down by the first boot's user-data.
const GROUND: &str = "/etc/bundle/ground.nft";

fn ground() -> Result<(), HostError> {
    if !std::path::Path::new(GROUND).exists() {
        return Ok(());
    }
    Program::new("nft").args(["-f", GROUND]).run().map(drop)
}

impl Droplet {
    /// Asks the public listener on its loopback side, on the private path that only loopback may ask.
    fn public(
        &self,
        route: &RouteName,
        slot: Slot,
        domain: &str,
        release_header: Option<&str>,
        release: &Digest,
    ) -> Result<(), String> {
        let address = tls::PUBLIC.into();
        let connection = self.tls.connect(address, domain)?;
        let answer = http::ask(connection, &address, &format!("/.bundle/{route}/health"), domain)?;
        answer.ready(release_header, release)?;
        match answer.header("x-bundle-slot") {
            Some(answered) if answered == slot.as_str() => Ok(()),
            Some(answered) => Err(format!("the proxy sends requests to {answered}")),
            None => Err("the proxy did not say which slot answered".to_owned()),
        }
    }
}
