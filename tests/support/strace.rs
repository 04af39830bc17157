//! strace(1) as a hand that kills a process, or makes the kernel say no, at the system call of one's choice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, Run, program};

/// The calls by which a process changes the disk, or says something. `?`: not every architecture has all of them.
const CALLS: &str = "?rename,?renameat,?renameat2,?symlink,?symlinkat,?link,?linkat,?unlink,?unlinkat,?rmdir,write,\
                     ?pwrite64,fsync,fdatasync,openat,?mkdir,?mkdirat,?chmod,?fchmod,?fchmodat,?chown,?fchown,\
                     ?fchownat,?lchown";

/// A system call of a run: its name, and which of that name it is, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub when: usize,
    /// As strace showed it, when nobody was disturbed.
    pub line: String,
}

fn strace(machine: &Machine, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg("--").arg(program());
    command.arg("--root").arg(machine.root()).args(arguments);
    command
}

/// Every call of one run that touches the machine's disk, in order.
pub fn points(machine: &Machine, arguments: &[&str]) -> (Run, Vec<Point>) {
    assert!(Command::new("strace").arg("-V").output().is_ok(), "strace is not there: apt install strace");
    let log = machine.root().with_extension("strace");
    let log_text = log.display().to_string();
    let run =
        Run::of(&mut strace(machine, &["-y", "-o", &log_text, "-e", &format!("trace={CALLS}")], arguments));
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    (run, of(&text, machine.root()))
}

fn of(text: &str, root: &Path) -> Vec<Point> {
    let root = root.display().to_string();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut processes: Vec<&str> = Vec::new();
    let mut points = Vec::new();
    for line in text.lines() {
        let (process, rest) = line.split_once(' ').unwrap_or(("", line));
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        if !processes.contains(&process) {
            processes.push(process);
        }
        let when = counts.entry(call).or_default();
        *when += 1;
        if line.contains(&root) {
            points.push(Point { call: call.to_owned(), when: *when, line: rest.trim_start().to_owned() });
        }
    }
    assert_eq!(processes.len(), 1, "a run is one thread of one process, so that its calls have one order");
    points
}

/// Runs it, killed when it is about to make this call.
pub fn killed(machine: &Machine, point: &Point, arguments: &[&str]) -> Run {
    inject(machine, point, "signal=KILL", arguments)
}

/// Runs it, with this call failing; from then on every call of its name if the disk does not get well again.
pub fn failing(machine: &Machine, point: &Point, errno: &str, for_good: bool, arguments: &[&str]) -> Run {
    let what = format!("error={errno}");
    if for_good {
        inject_from(machine, point, &what, "+", arguments)
    } else {
        inject(machine, point, &what, arguments)
    }
}

fn inject(machine: &Machine, point: &Point, what: &str, arguments: &[&str]) -> Run {
    inject_from(machine, point, what, "", arguments)
}

fn inject_from(machine: &Machine, point: &Point, what: &str, on: &str, arguments: &[&str]) -> Run {
    let Point { call, when, .. } = point;
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{what}:when={when}{on}");
    Run::of(&mut strace(machine, &["-o", "/dev/null", "-e", &trace, "-e", &inject], arguments))
}

/// Numbers that look random and are the same for the same seed (`SplitMix64`).
pub struct Random(u64);

impl Random {
    /// From `BUNDLE_SEED`, or always the same; printed, so that a failure can be had again.
    pub fn seeded(test: &str) -> Self {
        let seed = std::env::var("BUNDLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_101);
        println!("{test}: BUNDLE_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// `count` of them, none twice.
    pub fn some<T>(&mut self, mut from: Vec<T>, count: usize) -> Vec<T> {
        let mut chosen = Vec::new();
        while chosen.len() < count && !from.is_empty() {
            chosen.push(from.swap_remove(self.below(from.len())));
        }
        chosen
    }
}
