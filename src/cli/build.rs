//! `bundle build`

use std::process::{Command, Stdio};

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::{ProfileArgument, Sealed};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::bundle::{Bundle, Layout};
use crate::model::Digest;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// Build once more in another environment, and compare
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    let Sealed { resolved, bundle, .. } = arguments.profile.seal(context, &arguments.reach)?;
    if arguments.check {
        let again = rebuild(arguments)?;
        if again != bundle.digest() {
            let message = format!("two builds of one profile differ: {} and {again}", bundle.digest());
            return Err(Failure::new(Code::Input, message).hint(
                "this is a fault of `bundle`: a renderer looked at the clock, the locale or the environment",
            ));
        }
        tell("built twice, the second time in another environment: the same digest");
    }
    let layout = keep(context, &bundle)?;
    let json = json!({
        "profile": resolved.spec.name,
        "bundle": bundle.digest(),
        "manifest": bundle.oci_digest(),
        "release": bundle.manifest().release,
        "layout": layout.root(),
    });
    print(context, json, || bundle.digest().to_string());
    Ok(Code::Done)
}

/// Puts a bundle into the builder's cache.
pub(super) fn keep(context: &Context<'_>, bundle: &Bundle) -> Result<Layout, Failure> {
    let directory = context.layout_dir()?;
    let kept = Layout::create(&directory).and_then(|layout| layout.add(bundle).map(|()| layout));
    kept.map_err(|error| Failure::of(Code::Refused, &error))
}

/// The digest of a build by another process: other directory, time zone, locale, home, umask and cache.
fn rebuild(arguments: &Arguments) -> Result<Digest, Failure> {
    let fail = |cause: String| Failure::new(Code::Refused, format!("the second build did not run: {cause}"));
    let elsewhere = tempfile::tempdir().map_err(|error| fail(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| fail(error.to_string()))?;
    let profile = std::path::absolute(arguments.profile.path()).map_err(|error| fail(error.to_string()))?;
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let output = Command::new(program)
        .arg("--root")
        .arg(elsewhere.path())
        .arg("build")
        .arg(profile)
        .current_dir("/")
        .env_clear()
        .envs([("TZ", "Pacific/Kiritimati"), ("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/nonexistent")])
        .stdin(Stdio::null())
        .output();
    rustix::process::umask(umask);
    let output = output.map_err(|error| fail(error.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    printed.trim().parse().map_err(|_| fail(format!("it said {}", said.trim())))
}
