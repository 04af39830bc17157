//! Each bundle may name the activator that is to activate it. Another one than this process is fetched, verified, and
//! takes over before anything is touched; what goes back, if it comes to that, is the last good generation's own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::Changing;
use super::places::Reach;
use super::report::{Code, Failure};
use super::{Context, tell};
use crate::bundle::{ActivatorPin, Layout};
use crate::model::Digest;
use crate::registry::{Ref, Repository};
use crate::store::activator::digest_of;

/// Set for who takes over, so that two programs never hand over to each other in a circle.
const HANDED_OVER: &str = "BUNDLE_HANDED_OVER";

/// Where this process is read from.
const OURSELVES: &str = "/proc/self/exe";

/// Makes sure that this process is the activator that `pin` names, or becomes it. Comes back only in the first case.
pub(super) fn hand_over(
    context: &Context<'_>,
    changing: &Changing,
    pin: &ActivatorPin,
    from: &Source<'_>,
) -> Result<(), Failure> {
    if !changing.store.is_running_system() {
        return Ok(());
    }
    let ours = digest_of(Path::new(OURSELVES))?;
    if ours == pin.digest {
        changing.store.put_activator(Path::new(OURSELVES), ours)?;
        return Ok(());
    }
    if std::env::var_os(HANDED_OVER).is_some() {
        let message = format!("the bundle names the activator {}, and this is {ours}", pin.digest);
        return Err(Failure::new(Code::Refused, message));
    }
    let program = match changing.store.activator(pin.digest)? {
        Some(program) => program,
        // Carried here by hand, the bundle came without it. This program has read the bundle, so it knows its format.
        None if context.received(from.reference).is_some() => {
            tell(&format!(
                "warning: the activator {} was not carried along: this one goes on, and stays the machine's",
                pin.digest.short()
            ));
            return Ok(());
        }
        None => match from_layout(from.reference, pin) {
            Some(blob) => changing.store.put_activator(&blob, pin.digest)?,
            None => fetch(context, changing, pin, from)?,
        },
    };
    tell(&format!("handing over to the activator {}, which the bundle names", pin.digest.short()));
    // The lock is closed with this process and taken again by the next; nothing has begun.
    let error = Command::new(&program).args(std::env::args_os().skip(1)).env(HANDED_OVER, "1").exec();
    Err(Failure::new(Code::Refused, format!("the activator {} cannot be run: {error}", pin.digest))
        .hint("is it a static program for this machine's processor? `bundle lock --activator` pinned it"))
}

/// Where the bundle came from, and how its registry is reached.
pub(super) struct Source<'a> {
    pub(super) reference: &'a Ref,
    pub(super) repository: Option<&'a Repository>,
    pub(super) reach: &'a Reach,
}

/// The program in the layout that the bundle came in. Its bytes are judged when they are taken.
fn from_layout(reference: &Ref, pin: &ActivatorPin) -> Option<PathBuf> {
    let Ref::Layout(path) = reference else { return None };
    let layout = Layout::open(path).ok()?;
    layout.has_file(pin.digest, pin.size).then(|| layout.blob_path(pin.digest))
}

fn fetch(
    context: &Context<'_>,
    changing: &Changing,
    pin: &ActivatorPin,
    from: &Source<'_>,
) -> Result<PathBuf, Failure> {
    let repository =
        repository(context, changing, from)?.ok_or_else(|| missing(pin.digest, "no registry is known"))?;
    let staging = changing.store.home().join("staging/activator");
    let registry = context.registry(Some(repository.host()), from.reach)?;
    let blob = registry
        .pull_activator(&repository, pin.digest, pin.size, &staging)
        .map_err(|error| missing(pin.digest, &error.to_string()))?;
    Ok(changing.store.put_activator(&blob, pin.digest)?)
}

/// A repository of its own if the machine was told one; else where the bundle came from.
fn repository(
    context: &Context<'_>,
    changing: &Changing,
    from: &Source<'_>,
) -> Result<Option<Repository>, Failure> {
    if let Some(named) = changing.store.machine_registry()?.and_then(|registry| registry.activator) {
        return named.parse().map(Some).map_err(|error| Failure::of(Code::Input, &error));
    }
    match from.reference {
        Ref::Tag(repository, _) | Ref::Manifest(repository, _) => Ok(Some(repository.clone())),
        Ref::Bundle(_) | Ref::Layout(_) => context.repository(from.repository),
    }
}

fn missing(digest: Digest, why: &str) -> Failure {
    let message = format!("the bundle names the activator {digest}, which is not to be had: {why}");
    Failure::new(Code::Refused, message)
        .hint("`bundle push` sends it along; or copy that program to this machine and run the switch with it")
}
