//! `bundle cloud-init`

use clap::Args;
use serde_json::json;

use super::build::keep;
use super::places::Reach;
use super::profile::{ProfileArgument, Sealed, refuse_placeholders};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::artifacts::cloud_init::{PATH, fill};
use crate::artifacts::{Tree, nftables};
use crate::model::{Digest, Slot};
use crate::profile::Resolved;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
}

/// What `DigitalOcean` takes at most, in bytes.
const MOST: usize = 65_536;

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let Sealed { resolved, tree, bundle, .. } = arguments.profile.seal(context, &Reach::default())?;
    let activator = pinned(&resolved, &arguments.profile.profile)?;
    refuse_nobody(&tree)?;
    let rendered = tree.get(PATH, Slot::Blue).and_then(|entry| std::str::from_utf8(&entry.content).ok());
    let Some(rendered) = rendered else {
        return Err(Failure::new(Code::Input, format!("no artifact kind has written `{PATH}`")));
    };
    keep(context, &bundle)?;
    let text = fill(rendered, bundle.digest(), activator);
    tell(&format!("{} bytes, of {MOST} that a droplet takes", text.len()));
    let json = json!({
        "bundle": bundle.digest(),
        "activator": activator,
        "bytes": text.len(),
        "user_data": text,
    });
    print(context, json, || text.clone());
    Ok(Code::Done)
}

/// Networks that are for documentation (RFC 5737, RFC 3849): nobody is there who could send a secret.
const NOBODY: [&str; 4] = ["192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:"];

/// Refuses a firewall that still has the example's addresses: a machine that waits for a secret would wait for ever.
fn refuse_nobody(tree: &Tree) -> Result<(), Failure> {
    let ground = tree.get(nftables::GROUND, Slot::Blue);
    let ground = ground.and_then(|entry| std::str::from_utf8(&entry.content).ok()).unwrap_or_default();
    let found: Vec<_> = NOBODY.into_iter().filter(|net| ground.contains(net)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let message =
        "`ssh_from` still has addresses that are for documentation: nobody could log in to such a machine";
    Err(Failure::new(Code::Input, message)
        .hint("name the networks from which you administer it in `[firewall]`"))
}

/// The activator's digest, if a droplet could boot from this profile at all.
fn pinned(resolved: &Resolved, profile: &str) -> Result<Digest, Failure> {
    let refused = |message: &str| Failure::new(Code::Input, message);
    if resolved.spec.registry.is_none() {
        return Err(refused("a fresh machine would not know where its bundle is").hint(
            "give the profile a table `[registry]` with `repository = \"registry.example.com/team/app\"`",
        ));
    }
    refuse_placeholders(resolved, profile)?;
    let Some(activator) = &resolved.spec.activator else {
        return Err(refused("the lock pins no activator, which a fresh machine fetches first").hint(format!(
            "run `bundle lock {profile} --activator PATH` with the program for the machine, and `bundle push {profile}`"
        )));
    };
    Ok(activator.digest)
}
