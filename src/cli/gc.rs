//! `bundle gc`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::machine::Changing;
use super::places::last_received;
use super::report::{Code, Failure};
use super::{Context, cache, print, tell};
use crate::activate::Host;
use crate::model::StorePath;
use crate::store::Store;
use crate::store::gc::{Garbage, store_path_in};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many good generations stay, the newest; what is current, last good, or where `rollback` goes always does
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep: usize,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Clear the builder's cache of packages, layers and results instead; all of it can be had again
    #[arg(long, conflicts_with = "keep")]
    cache: bool,
    /// What was not used for that long goes: days (`30d`) or hours (`12h`)
    #[arg(long, value_name = "AGE", requires = "cache", default_value = "30d", value_parser = cache::age)]
    older_than: Duration,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.cache {
        return cache::clear(context, arguments.older_than, arguments.dry_run);
    }
    let mut changing = Changing::lock(context, "bundle gc")?;
    let store = changing.store.clone();
    // What an interrupted switch needs is known when it has been settled; here nothing is started for that.
    if store.pending()?.is_some() {
        return Err(Failure::new(
            Code::Refused,
            "a switch was interrupted, and may need what would be removed",
        )
        .hint("`bundle recover` settles it"));
    }
    let Some(_sending) = store.receive_nothing()? else {
        return Err(Failure::new(Code::Busy, "somebody is sending a bundle to this machine")
            .hint("wait until it has ended"));
    };
    let used = changing.host.in_use().map_err(|error| Failure::of(Code::Refused, &error))?;
    let mut kept = store.kept(arguments.keep, &running(&used))?;
    if let Some(manifest) = last_received(&store) {
        kept.all_of(&manifest);
    }
    let garbage = store.garbage(&kept)?;
    kept.images.extend(used);
    let images = images(changing.host.as_mut(), &kept.images)?;
    let nothing = garbage.is_empty() && images.is_empty();
    let mut warnings = Vec::new();
    if !arguments.dry_run && !nothing {
        changing.lock.phase("remove")?;
        store.remove(&garbage)?;
        for image in &images {
            // One that is used stays; all others can go.
            warnings.extend(changing.host.remove_image(image).err().map(|error| error.to_string()));
        }
        // Room that was missing for it may be there now.
        if store.ensure_ballast().is_err() {
            warnings.push("no space could be set aside for going back: the disk is full".to_owned());
        }
    }
    for warning in &warnings {
        tell(&format!("warning: {warning}"));
    }
    let json = json!({
        "generations": garbage.generations,
        "bundles": garbage.manifests.len(),
        "files": garbage.objects.len(),
        "bytes": garbage.bytes,
        "images": images,
        "dry_run": arguments.dry_run,
        "warnings": warnings,
    });
    print(context, json, || words(&store, &garbage, &images, arguments.dry_run));
    Ok(if nothing { Code::NothingToChange } else { Code::Done })
}

/// What lies in the store and is in use: by containers, and this very program.
fn running(used: &[String]) -> Vec<StorePath> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(std::path::Path::to_str);
    // Compose notes several files with commas between them.
    let used = used.iter().flat_map(|path| path.split(','));
    used.chain(program).filter_map(store_path_in).collect()
}

fn images(host: &mut dyn Host, kept: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let all = host.local_images().map_err(|error| Failure::of(Code::Refused, &error))?;
    Ok(all.into_iter().filter(|image| !kept.contains(image)).collect())
}

fn words(store: &Store, garbage: &Garbage, images: &[String], dry_run: bool) -> String {
    if garbage.is_empty() && images.is_empty() {
        return format!("everything in `{}` is needed", store.home().display());
    }
    let mut lines: Vec<_> = garbage.generations.iter().map(|number| format!("generation {number}")).collect();
    lines.extend(images.iter().map(|image| format!("image {image}")));
    let (bundles, files, kib) =
        (garbage.manifests.len(), garbage.objects.len(), garbage.bytes.div_ceil(1024));
    lines.push(format!("{bundles} bundles, {files} files, {kib} KiB"));
    lines.push(if dry_run { "nothing was removed" } else { "removed" }.to_owned());
    lines.join("\n")
}
