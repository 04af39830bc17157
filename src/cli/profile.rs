//! What the builder's commands share: a profile by name or path, resolved, rendered, sealed.

use std::path::Path;

use clap::Args;

use super::report::{Code, Failure};
use super::tell;
use crate::artifacts::{KINDS, Tree};
use crate::bundle::{Bundle, seal};
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

    /// The profile's bundle.
    pub(super) fn seal(&self) -> Result<(Resolved, Bundle), Failure> {
        self.render().map(|(resolved, _, bundle)| (resolved, bundle))
    }

    /// The same, with the files that are in it.
    pub(super) fn render(&self) -> Result<(Resolved, Tree, Bundle), Failure> {
        let mut resolved = self.resolve()?;
        let tree = resolved.render().map_err(|error| Failure::of(Code::Input, &error))?;
        resolved.warnings =
            resolved.judge(&tree).map_err(|faults| Failure::diagnostics(faults.render(false)))?;
        say(&resolved.warnings);
        let bundle = seal(&resolved.spec, &tree).map_err(|error| Failure::of(Code::Input, &error))?;
        Ok((resolved, tree, bundle))
    }
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
