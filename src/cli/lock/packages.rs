//! Choosing the Debian packages of the profile's own images: with the archive's signatures, by the builder's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::own_images::{debs, failed, sources};
use super::super::report::Failure;
use super::super::{Context, cache, tell};
use crate::debian::{Http, Indexes};
use crate::profile::{Lock, Profile};

/// Chooses packages where the lock has none or others were asked for, and where `update` says so.
pub(super) fn choose(
    context: &Context<'_>,
    update: Option<&[String]>,
    profile: &Profile,
    lock: &mut Lock,
    changes: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut wanted = Vec::new();
    for (name, recipe) in profile.packages() {
        let mut asked = recipe.packages.clone();
        asked.sort();
        let again =
            update.is_some_and(|names| names.is_empty() || names.iter().any(|one| one == name.as_str()));
        for architecture in &recipe.architectures {
            if again
                || lock.packages(name.as_str(), architecture).is_none_or(|known| known.requested != asked)
            {
                wanted.push((architecture, name, asked.clone()));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    cache::tidy(&context.cache()?);
    let cache = debs(context)?;
    let http = Http::new().map_err(|error| failed(&error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // One architecture after the other: its indexes are the largest that is ever in memory.
    wanted.sort();
    let mut indexes: Option<(&String, Indexes)> = None;
    for (architecture, name, asked) in wanted {
        if indexes.as_ref().is_none_or(|(known, _)| *known != architecture) {
            drop(indexes.take());
            tell(&format!(
                "asking {} for {} ({architecture})",
                profile.debian().mirror,
                profile.debian().suite
            ));
            let sources = sources(profile.debian(), architecture);
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            let found = Indexes::fetch(&sources, &http, &cache, now).map_err(|error| failed(&error))?;
            indexes = Some((architecture, found));
        }
        let Some((_, found)) = &indexes else { continue };
        let chosen = found.choose(&asked).map_err(|error| failed(&error))?;
        if lock.packages(name.as_str(), architecture) != Some(&chosen) {
            let bytes: u64 = chosen.packages.iter().map(|package| package.size).sum();
            changes.push(format!("{name}/{architecture} {} packages, {bytes} bytes", chosen.packages.len()));
            lock.set_packages(name.as_str(), chosen);
        }
    }
    Ok(())
}
