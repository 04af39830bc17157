//! What the builder's commands share: a profile by name or path, resolved, rendered, sealed.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use super::own_images::{self, Own};
use super::places::Reach;
use super::report::{Code, Failure};
use super::{Context, tell};
use crate::artifacts::{KINDS, Tree};
use crate::bundle::{Bundle, seal};
use crate::model::{Digest, ImageName};
use crate::profile::{Diagnostics, Resolved, Sources, check, load};

/// A profile on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct ProfileArgument {
    /// `production` for `profiles/production.toml`, `shop/staging` for `profiles/shop/staging.toml`, or a path to a file
    #[arg(value_name = "PROFILE")]
    pub(super) profile: String,
}

impl ProfileArgument {
    /// The profile's file.
    pub(super) fn path(&self) -> String {
        let name = &self.profile;
        let is_path = Path::new(name).extension().is_some_and(|extension| extension == "toml");
        if is_path { name.clone() } else { format!("profiles/{name}.toml") }
    }

    pub(super) fn sources(&self) -> Sources {
        load(&self.path())
    }

    /// The profile with nothing left open; what is wrong is the failure.
    pub(super) fn resolve(&self) -> Result<Resolved, Failure> {
        check(&self.sources(), KINDS).map_err(|faults| Failure::diagnostics(faults.render(false)))
    }

    /// The profile's bundle, its own images built first.
    pub(super) fn seal(&self, context: &Context<'_>, reach: &Reach) -> Result<Sealed, Failure> {
        let mut sources = self.sources();
        let judge = |sources: &Sources| {
            check(sources, KINDS).map_err(|faults| Failure::diagnostics(faults.render(false)))
        };
        let mut resolved = judge(&sources)?;
        let mut images = BTreeMap::new();
        if !resolved.unbuilt.is_empty() {
            images = own_images::build(context, &resolved, &resolved.unbuilt, reach)?;
            for (name, own) in &images {
                sources.set_built(name.clone(), own.digest);
            }
            resolved = judge(&sources)?;
        }
        let (tree, bundle) = render(&mut resolved)?;
        Ok(Sealed { resolved, tree, bundle, images })
    }

    /// The bundle that the profile would have with these digests for some of its own images.
    pub(super) fn seal_with(
        &self,
        sealed: &Sealed,
        digests: &BTreeMap<ImageName, Digest>,
    ) -> Result<Bundle, Failure> {
        let mut sources = self.sources();
        for (name, own) in &sealed.images {
            sources.set_built(name.clone(), digests.get(name).copied().unwrap_or(own.digest));
        }
        let mut resolved =
            check(&sources, KINDS).map_err(|faults| Failure::diagnostics(faults.render(false)))?;
        Ok(render(&mut resolved)?.1)
    }

    /// Everything that can be said of a profile without building its images, and how many files it has.
    pub(super) fn judge(&self) -> Result<(Resolved, usize), Failure> {
        let mut resolved = self.resolve()?;
        let (_, bundle) = render(&mut resolved)?;
        Ok((resolved, bundle.manifest().artifacts.len()))
    }
}

/// A profile's bundle and what it came of.
pub(super) struct Sealed {
    pub(super) resolved: Resolved,
    pub(super) tree: Tree,
    pub(super) bundle: Bundle,
    /// The profile's own images that it runs.
    pub(super) images: BTreeMap<ImageName, Own>,
}

fn render(resolved: &mut Resolved) -> Result<(Tree, Bundle), Failure> {
    let tree = resolved.render().map_err(|error| Failure::of(Code::Input, &error))?;
    resolved.warnings = resolved.judge(&tree).map_err(|faults| Failure::diagnostics(faults.render(false)))?;
    say(&resolved.warnings);
    let bundle = seal(&resolved.spec, &tree).map_err(|error| Failure::of(Code::Input, &error))?;
    Ok((tree, bundle))
}

/// Says on stderr what is not wrong, but worth saying.
fn say(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        tell(warnings.render(false).trim_end());
    }
}

/// Refuses a profile whose lock has placeholders: what it names can be looked at, not run.
pub(super) fn refuse_placeholders(resolved: &Resolved, profile: &str) -> Result<(), Failure> {
    if resolved.placeholders.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = resolved.placeholders.iter().map(|image| format!("`{}`", image.repository)).collect();
    let message = format!("no machine could run it: {} has no digest yet", names.join(", "));
    Err(Failure::new(Code::Input, message)
        .hint(format!("publish it, and run `bundle lock {profile} --update`")))
}
