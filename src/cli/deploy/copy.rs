//! `--copy`: what a droplet does not have goes over the connection, for it reaches no registry itself.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use serde::Deserialize;

use super::host::Host;
use super::look::Seen;
use super::ssh::{Connection, Destination, LOST, Ssh};
use crate::bundle::parcel::Writer;
use crate::bundle::{Bundle, ImagePin, Layout};
use crate::cli::places::Reach;
use crate::cli::report::{Code, Failure};
use crate::cli::{Context, tell};
use crate::model::{Digest, PROGRAM};
use crate::registry::Image;

/// What is sent to one droplet.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    pub(super) bundles: &'a Layout,
    pub(super) oci_digest: Digest,
    pub(super) images: &'a Layout,
    /// The images that it does not have.
    pub(super) missing: Vec<ImagePin>,
}

#[derive(Deserialize)]
struct Missing {
    missing: BTreeSet<String>,
}

/// Which images of the bundle each droplet does not have. Reads only; what is wrong with any is said of all at once.
pub(super) fn ask(
    ssh: &Ssh,
    hosts: &[Destination],
    seen: &[Seen],
    bundle: &Bundle,
) -> Result<Vec<Vec<ImagePin>>, Failure> {
    let images = &bundle.manifest().images;
    let mut faults = Vec::new();
    let mut all = Vec::new();
    for (to, seen) in hosts.iter().zip(seen) {
        let sudo: &[&str] = if seen.sudo { &["sudo", "-n"] } else { &[] };
        let mut words = [sudo, &[PROGRAM, "--json", "receive", "--missing"]].concat();
        words.extend(images.iter().map(|image| image.local.as_str()));
        let said = ssh.run(to, Connection::Any, &words, b"");
        let read = said.and_then(|said| {
            let json = said.out.lines().find(|line| line.starts_with('{')).unwrap_or_default();
            serde_json::from_str::<Missing>(json).map_err(|_| said.complaint())
        });
        match read {
            Ok(Missing { missing }) => {
                all.push(images.iter().filter(|image| missing.contains(&image.local)).cloned().collect());
            }
            Err(why) => faults.push(format!("{to}: it does not say which images it has: {why}")),
        }
    }
    if faults.is_empty() {
        return Ok(all);
    }
    let message = format!("refused before any droplet was touched\n  - {}", faults.join("\n  - "));
    Err(Failure::new(Code::Refused, message))
}

/// Fetches what any droplet does not have into the builder's cache, each blob by its digest.
pub(super) fn gather(
    context: &Context<'_>,
    missing: &[Vec<ImagePin>],
    reach: &Reach,
) -> Result<Layout, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let layout = Layout::create(&context.cache()?.join("images")).map_err(|error| refused(&error))?;
    let wanted: BTreeSet<_> = missing.iter().flatten().map(|pin| &pin.reference).collect();
    for reference in wanted {
        let image: Image = reference.parse().map_err(|error| Failure::of(Code::Input, &error))?;
        let Some(digest) = image.digest else {
            return Err(Failure::new(
                Code::Input,
                format!("the image `{reference}` is not pinned by a digest"),
            ));
        };
        let began = Instant::now();
        let registry = context.registry(Some(image.repository.host()), reach)?;
        let files = registry.pull_image(&image, digest, &layout).map_err(|error| refused(&error))?;
        let size: u64 = files.layers.iter().map(|layer| layer.size).sum();
        tell(&format!(
            "{}: {} layers, {} MiB, in the cache after {:.1} s",
            image.repository,
            files.layers.len(),
            size.div_ceil(1024 * 1024),
            began.elapsed().as_secs_f64()
        ));
    }
    Ok(layout)
}

impl Host<'_> {
    /// Sends the bundle and what is missing. `Err` is the exit code of what did not take it.
    pub(super) fn send(&self, parcel: &Parcel<'_>) -> Result<(), i32> {
        let began = Instant::now();
        let bundle = self.bundle.to_string();
        let words = self.words(&["receive", &bundle]);
        let said = self.ssh.feed(self.to, &words, |out| {
            let written = Writer::begin(out, parcel.bundles, parcel.oci_digest).and_then(|mut writer| {
                parcel.missing.iter().try_for_each(|pin| writer.image(parcel.images, pin))?;
                writer.end()
            });
            written.map_err(|error| {
                // Whoever hung up has said why; what is wrong on this side only we can say.
                self.tell(&format!("sending broke off: {error}"));
                io::Error::other(error)
            })
        });
        let said = self.understood(said);
        if said.code == 0 {
            let (images, took) = (parcel.missing.len(), began.elapsed().as_secs_f64());
            self.tell(&format!("the bundle and {images} images sent in {took:.1} s"));
            return Ok(());
        }
        // Nothing was switched, whether the connection or the droplet failed.
        Err(if said.code == LOST { i32::from(Code::Refused.number()) } else { said.code })
    }
}
