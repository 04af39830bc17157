//! A service that a timer starts, in a sandbox: what the kinds share that look after the machine.

use super::format::Refused;
use super::format::unit::{Arg, UnitFile};
use super::systemd::SANDBOX;
use super::{Entry, Problem, RenderError, Tree, literal};
use crate::model::{PROGRAM, Unit};

/// When a timer elapses.
#[derive(Debug, Clone)]
pub(super) enum When<'a> {
    /// Every day at these times, `HH:MM` in the machine's time zone; what was missed is made up for after a boot.
    Daily(&'a [String]),
    /// Again and again, so many minutes after the last time, and after a boot.
    EveryMinutes(u32),
}

/// A unit that calls `bundle` and talks to Docker alone.
pub(super) struct Job<'a> {
    /// The kind that it belongs to.
    pub(super) kind: &'static str,
    /// `bundle-NAME`.
    pub(super) name: &'static str,
    /// What it does, for people.
    pub(super) description: &'static str,
    /// What `bundle` is called with.
    pub(super) arguments: &'a [&'a str],
    /// When.
    pub(super) when: When<'a>,
    /// What it needs.
    pub(super) needs: Needs,
}

/// What a job needs beside reading.
#[derive(Debug, Clone, Copy)]
pub(super) enum Needs {
    /// Docker's socket, and this directory to write in.
    DockerAnd(&'static str),
    /// Docker's socket, and to ask what listens on the loopback.
    DockerAndLoopback,
}

/// It is root without any capability: Docker's socket, the store and what is kept are root's own.
const ROOT_OF_NOTHING: &[&str] = &[
    "CapabilityBoundingSet=",
    "PrivateUsers=yes",
    "PrivateMounts=yes",
    "ProcSubset=pid",
    "IPAddressDeny=any",
    "Environment=DOCKER_CONFIG=/run/bundle/docker",
];

impl Job<'_> {
    /// Adds the service and its timer.
    pub(super) fn render(&self, tree: &mut Tree) -> Result<(), RenderError> {
        let (service, timer) = (format!("{}.service", self.name), format!("{}.timer", self.name));
        let text = self.service().map_err(|refused| refused.at(&service))?;
        let check = ["systemd-analyze", "verify", "--recursive-errors=no", "{}"];
        let entry = Entry::text(self.kind, literal::path(&format!("etc/systemd/system/{service}"))?, text);
        tree.insert(entry.check(&check).unit(Unit::default()))?;
        let text = self.timer().map_err(|refused| refused.at(&timer))?;
        let unit = Unit { wanted_by: vec![literal::unit("timers.target")?], start: true, ahead: false };
        // `systemd-analyze verify` would look for the service beside it, and in the store it is not.
        let entry = Entry::text(self.kind, literal::path(&format!("etc/systemd/system/{timer}"))?, text);
        tree.insert(entry.unit(unit)).map(drop)
    }

    fn service(&self) -> Result<String, Refused> {
        let mut unit = UnitFile::default();
        unit.section("Unit")
            .set("Description", self.description)?
            .fixed(&["After=bundle-late.service docker.service"])
            .section("Service")
            .fixed(&["Type=oneshot", "Nice=10", "IOSchedulingClass=idle", "TimeoutStartSec=3h"]);
        let arguments = self.arguments.iter().map(|argument| Arg::Literal(argument));
        let command: Vec<_> = [Arg::Literal(PROGRAM)].into_iter().chain(arguments).collect();
        unit.exec("ExecStart", &command)?.fixed(ROOT_OF_NOTHING);
        match self.needs {
            Needs::DockerAnd(directory) => {
                unit.set("ReadWritePaths", directory)?
                    .fixed(&["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"]);
            }
            Needs::DockerAndLoopback => {
                unit.fixed(&["IPAddressAllow=localhost", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"]);
            }
        }
        unit.fixed(SANDBOX);
        Ok(unit.finish())
    }

    fn timer(&self) -> Result<String, Refused> {
        let mut unit = UnitFile::default();
        unit.section("Unit").set("Description", self.description)?.section("Timer");
        match &self.when {
            When::Daily(times) => {
                for time in *times {
                    unit.set("OnCalendar", &format!("*-*-* {time}:00"))?;
                }
                unit.fixed(&["Persistent=yes", "AccuracySec=1min"]);
            }
            When::EveryMinutes(minutes) => {
                unit.set("OnActiveSec", &format!("{minutes}min"))?
                    .set("OnUnitInactiveSec", &format!("{minutes}min"))?
                    .fixed(&["AccuracySec=10s"]);
            }
        }
        Ok(unit.finish())
    }
}

/// What is wrong with the times at `key`.
pub(super) fn check_times(key: &str, times: &[String]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = times
        .iter()
        .enumerate()
        .filter(|(_, time)| !is_time(time))
        .map(|(nth, time)| Problem {
            at: vec![key.to_owned(), nth.to_string()],
            message: format!("`{time}` is not a time of the day"),
            hint: Some("write hours and minutes, as in `\"04:00\"`".to_owned()),
        })
        .collect();
    if times.is_empty() {
        let hint = Some("write `enabled = false` for never".to_owned());
        problems.push(literal::problem(key, "it would never run".to_owned(), hint));
    }
    problems
}

/// `HH:MM`.
pub(super) fn is_time(text: &str) -> bool {
    let two = |part: &str, limit: u8| {
        part.len() == 2
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse().is_ok_and(|n: u8| n < limit)
    };
    text.split_once(':').is_some_and(|(hours, minutes)| two(hours, 24) && two(minutes, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_hours_and_minutes() {
        for good in ["00:00", "23:59", "04:05"] {
            assert!(is_time(good), "{good}");
        }
        for wrong in ["", "4:00", "24:00", "12:60", "12", "12:00:00", "ab:cd", "+1:00"] {
            assert!(!is_time(wrong), "{wrong}");
        }
        assert_eq!(check_times("at", &[]).len(), 1);
    }
}
