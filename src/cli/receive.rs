//! `bundle receive`: the droplet's end of `bundle deploy --copy`

use std::io::IsTerminal;

use clap::Args;
use serde_json::json;

use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::activate::Host;
use crate::bundle::parcel::{self, Taker};
use crate::bundle::{ImageFiles, ImagePin, Layout};
use crate::model::Digest;
use crate::registry::Image;
use crate::store::Store;

/// Free bytes that must be left.
const RESERVE: u64 = 64 * 1024 * 1024;
/// How much larger an image is in Docker than on its way, with the blobs beside it.
const UNPACKED: u64 = 4;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The bundle that comes on stdin
    #[arg(required_unless_present = "missing")]
    bundle: Option<Digest>,
    /// Take nothing; say which of these images, by local name and digest, are not here
    #[arg(long, value_name = "REFERENCE", num_args = 0.., conflicts_with = "bundle")]
    missing: Option<Vec<String>>,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let store = context.store();
    match (&arguments.missing, arguments.bundle) {
        (Some(names), _) => missing(context, &store, names),
        (None, Some(bundle)) => take(context, &store, bundle),
        (None, None) => Err(Failure::new(Code::Input, "there is nothing to receive: name a bundle")),
    }
}

fn missing(context: &Context<'_>, store: &Store, names: &[String]) -> Result<Code, Failure> {
    let mut host = context.host(store);
    let mut missing = Vec::new();
    for local in names {
        let wrong = || Failure::new(Code::Input, format!("`{local}` is not `bundle.local/NAME:HEX`"));
        let words = local.strip_prefix("bundle.local/").and_then(|rest| rest.split_once(':'));
        let (name, hex) = words.ok_or_else(wrong)?;
        let pin = ImagePin {
            local: local.clone(),
            reference: local.clone(),
            name: name.parse().map_err(|_| wrong())?,
            digest: Digest::from_hex(hex).map_err(|_| wrong())?,
        };
        if !host.has_image(&pin) {
            missing.push(local);
        }
    }
    print(context, json!({ "missing": missing }), || {
        missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("\n")
    });
    Ok(Code::Done)
}

fn take(context: &Context<'_>, store: &Store, bundle: Digest) -> Result<Code, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::new(Code::Input, "a parcel comes on stdin: `bundle deploy --copy` sends one"));
    }
    store.prepare()?;
    let Some(receiving) = store.receive()? else {
        return Err(Failure::new(Code::Busy, "somebody else is sending a bundle to this machine"));
    };
    let layouts = Layout::create(&receiving.bundle)
        .and_then(|into| Layout::create(&receiving.images).map(|images| (into, images)));
    let (into, images) = layouts.map_err(|error| Failure::of(Code::Refused, &error))?;
    let mut host = context.host(store);
    let mut taking = Taking { host: host.as_mut(), store, taken: 0 };
    let read = parcel::read(std::io::stdin().lock(), bundle, &into, &images, &mut taking);
    let taken = taking.taken;
    store.clear_received_images()?;
    let opened = read.map_err(|error| Failure::of(Code::Refused, &error))?;
    let json = json!({ "bundle": opened.digest(), "images": taken });
    print(context, json, || format!("{} is here, with {taken} images", opened.digest()));
    Ok(Code::Done)
}

/// Takes images into the host, as long as there is room.
pub(super) struct Taking<'a> {
    pub(super) host: &'a mut dyn Host,
    pub(super) store: &'a Store,
    /// How many it has taken.
    pub(super) taken: usize,
}

impl Taker for Taking<'_> {
    fn room(&mut self, pin: &ImagePin, bytes: u64) -> Result<(), String> {
        let free = self.store.space().map_err(|error| error.to_string())?.bytes;
        let needed = bytes.saturating_mul(UNPACKED).saturating_add(RESERVE);
        if free < needed {
            let mib = |bytes: u64| bytes / 1024 / 1024;
            return Err(format!(
                "the disk has no room for the image `{}`: {} MiB are free, it may need {}",
                pin.reference,
                mib(free),
                mib(needed)
            ));
        }
        tell(&format!("receiving {} ({} MiB)", shown(pin), bytes.div_ceil(1024 * 1024)));
        Ok(())
    }

    fn take(&mut self, pin: &ImagePin, files: &ImageFiles, layout: &Layout) -> Result<(), String> {
        self.host.load_image(pin, files, layout).map_err(|error| error.to_string())?;
        self.taken += 1;
        Ok(())
    }
}

/// An image without its digest, for people.
fn shown(pin: &ImagePin) -> String {
    pin.reference.parse().map_or_else(|_| pin.local.clone(), |image: Image| image.repository.to_string())
}
