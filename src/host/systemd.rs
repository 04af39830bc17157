//! systemd, through `systemctl` and `systemd-run`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::Program;
use crate::activate::{HostError, UnitVerb};
use crate::model::{PROGRAM, StorePath, UnitName};

fn systemctl<T: Into<String>>(args: impl IntoIterator<Item = T>) -> Program {
    // The default job timeout of systemd is 90 s.
    Program::new("systemctl").args(args).limit(Duration::from_mins(2))
}

/// Units that only this boot has; what stands in `/etc` comes before them (systemd.unit(5), "Unit File Load Path").
const RUNTIME_UNITS: &str = "/run/systemd/system";

/// Links the files where PID 1 looks for units that do not outlast a boot, and starts some of them.
pub(super) fn units_ahead(files: &[PathBuf], start: &[UnitName]) -> Result<(), HostError> {
    for file in files {
        let Some(name) = file.file_name() else { continue };
        let link = Path::new(RUNTIME_UNITS).join(name);
        let fail =
            |error: io::Error| HostError::new(format!("linking `{}`", link.display()), error.to_string());
        fs::create_dir_all(RUNTIME_UNITS).map_err(fail)?;
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => symlink(file, &link).map_err(fail)?,
        }
    }
    systemctl(["daemon-reload"]).run()?;
    start.iter().try_for_each(|name| unit(UnitVerb::Start, name))
}

/// What was linked ahead stands in `/etc` now, or is no longer wanted.
pub(super) fn daemon_reload() -> Result<(), HostError> {
    let ours = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(StorePath::STORE));
    for entry in fs::read_dir(RUNTIME_UNITS).into_iter().flatten().flatten() {
        let link = entry.path();
        if ours(&link) {
            fs::remove_file(&link).map_err(|error| {
                HostError::new(format!("removing `{}`", link.display()), error.to_string())
            })?;
        }
    }
    systemctl(["daemon-reload"]).run().map(drop)
}

pub(super) fn unit(verb: UnitVerb, unit: &UnitName) -> Result<(), HostError> {
    match verb {
        // One that was never loaded has nothing to stop.
        UnitVerb::Stop if !is_loaded(unit) => Ok(()),
        UnitVerb::Stop => systemctl(["stop", unit.as_str()]).run().map(drop),
        // Earlier failures must not keep the start limit from letting us try (systemd.unit(5), StartLimitBurst=).
        UnitVerb::Start | UnitVerb::Restart => {
            drop(systemctl(["reset-failed", unit.as_str()]).run());
            systemctl([verb.as_str(), unit.as_str()]).run().map(drop)
        }
        UnitVerb::Reload => systemctl(["reload-or-restart", unit.as_str()]).run().map(drop),
    }
}

fn is_loaded(unit: &UnitName) -> bool {
    let show = systemctl(["show", "--property=ActiveState", "--value", unit.as_str()]).run();
    show.is_ok_and(|state| !["inactive", "failed", ""].contains(&state.trim()))
}

/// How long a first boot that has found a secret missing may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// Does not wait for the first boot, which takes minutes; but for the end of one that is ending, because it has found
/// missing what has come since: starting a unit that is still active does nothing. One that is still busy after that
/// looks for secrets itself before it ends.
pub(super) fn resume_first_boot() -> Result<(), HostError> {
    let unit = "bundle-bootstrap.service";
    let end = Instant::now() + ENDING;
    while is_running(unit) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(systemctl(["reset-failed", unit]).run());
    systemctl(["start", "--no-block", unit]).run().map(drop)
}

/// Whether it has processes. One that waits for its restart has none, and is `activating` all the same.
fn is_running(unit: &str) -> bool {
    let state = systemctl(["show", "--property=SubState", "--value", unit]).run().unwrap_or_default();
    let state = state.trim();
    !state.is_empty() && !["dead", "failed", "auto-restart"].iter().any(|over| state.starts_with(over))
}

fn timer(transaction: u64) -> String {
    format!("bundle-trial-{transaction}")
}

/// A timer of PID 1. Without `AccuracySec=` it may come up to a minute late (systemd.timer(5)).
pub(super) fn arm(transaction: u64, seconds: u64) -> Result<(), HostError> {
    // A timer of this name can only be a leftover of this very transaction.
    disarm(transaction)?;
    let program = last_good()?;
    let name = format!("--unit={}", timer(transaction));
    let when = format!("--on-active={seconds}s");
    let number = transaction.to_string();
    let options =
        [name.as_str(), when.as_str(), "--timer-property=AccuracySec=100ms", "--collect", "--quiet"];
    let call = ["--", program.as_str(), "recover", "--transaction", number.as_str()];
    Program::new("systemd-run").args(options).args(call).run().map(drop)
}

/// The last good generation's own activator, which this process need not be; on a machine that has it nowhere, this one.
fn last_good() -> Result<String, HostError> {
    if Path::new(PROGRAM).exists() {
        return Ok(PROGRAM.to_owned());
    }
    let ours = std::env::current_exe();
    let ours = ours.map_err(|error| HostError::new("finding our own program", error.to_string()))?;
    Ok(ours.to_string_lossy().into_owned())
}

pub(super) fn disarm(transaction: u64) -> Result<(), HostError> {
    let timer = format!("{}.timer", timer(transaction));
    let show = systemctl(["show", "--property=ActiveState", "--value", &timer]).run()?;
    if show.trim() == "active" { systemctl(["stop", &timer]).run().map(drop) } else { Ok(()) }
}
