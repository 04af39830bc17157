//! Differential health: what was red before cannot fail a switch, what turns red does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::host::{Host, Probe};
use super::side::Side;

/// How often is asked during a trial.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often is asked while somebody waits for the answer.
const AWAITING: Duration = Duration::from_millis(100);
/// How many times in a row something must be red during the trial to count. One lost packet is no reason to go back.
const IN_A_ROW: u32 = 3;

/// What was red before anything was touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    red: BTreeSet<String>,
}

impl Baseline {
    /// Asks everything about the current side once. What is red twice in a row is red.
    pub fn of(host: &mut dyn Host, side: &Side<'_>) -> Self {
        let mut red = BTreeSet::new();
        for probe in side.public_probes() {
            if host.probe(&probe).is_err() {
                host.wait(INTERVAL);
                if host.probe(&probe).is_err() {
                    red.insert(probe.subject());
                }
            }
        }
        Self { red }
    }

    /// What was red, for people.
    pub fn red(&self) -> impl Iterator<Item = &str> {
        self.red.iter().map(String::as_str)
    }

    fn tolerates(&self, probe: &Probe) -> bool {
        self.red.contains(&probe.subject())
    }
}

/// Waits until every probe is green, at most `limit`. What was red before may stay so. Returns early when `stop` is set.
pub fn await_green(
    host: &mut dyn Host,
    probes: &[Probe],
    limit: Duration,
    baseline: &Baseline,
    stop: &AtomicBool,
) -> Result<(), String> {
    let end = host.elapsed() + limit;
    while !stop.load(Ordering::SeqCst) {
        let failing: Vec<_> =
            probes.iter().filter_map(|probe| host.probe(probe).err().map(|why| (probe, why))).collect();
        if failing.is_empty() {
            return Ok(());
        }
        if host.elapsed() >= end {
            let new: Vec<_> = failing.iter().filter(|(probe, _)| !baseline.tolerates(probe)).collect();
            if new.is_empty() {
                return Ok(());
            }
            let words: Vec<_> =
                new.iter().map(|(probe, why)| format!("{}: {why}", probe.subject())).collect();
            return Err(format!("not healthy after {} s: {}", limit.as_secs(), words.join("; ")));
        }
        host.wait(AWAITING);
    }
    // The caller says that it was stopped.
    Ok(())
}

/// Watches for `time`, or until it is `enough`. Returns early, with the reason, when something stays red that was not
/// red before.
pub fn watch(
    host: &mut dyn Host,
    probes: &[Probe],
    time: Duration,
    baseline: &Baseline,
    mut enough: impl FnMut() -> bool,
) -> Result<(), String> {
    let end = host.elapsed() + time;
    let mut in_a_row: BTreeMap<usize, u32> = BTreeMap::new();
    // A container that dies and is back within the second is green whenever it is asked.
    let restarts: Vec<_> = probes.iter().map(|probe| restarts(host, probe)).collect();
    while host.elapsed() < end && !enough() {
        for (index, probe) in probes.iter().enumerate() {
            if restarts[index].is_some()
                && restarts[index] < self::restarts(host, probe)
                && !baseline.tolerates(probe)
            {
                return Err(format!("died during the trial and was restarted: {}", probe.subject()));
            }
            match host.probe(probe) {
                Ok(()) => {
                    in_a_row.remove(&index);
                }
                Err(_) if baseline.tolerates(probe) => {}
                Err(why) => {
                    let count = in_a_row.entry(index).or_default();
                    *count += 1;
                    if *count >= IN_A_ROW {
                        return Err(format!("turned red during the trial: {}: {why}", probe.subject()));
                    }
                }
            }
        }
        host.wait(INTERVAL);
    }
    Ok(())
}

fn restarts(host: &mut dyn Host, probe: &Probe) -> Option<u64> {
    match probe {
        Probe::Container { name } | Probe::Ready { name } => host.restarts(name),
        Probe::Route { .. } | Probe::Public { .. } => None,
    }
}
