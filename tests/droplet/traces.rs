//! Looking for what a machine may have left behind on this one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::droplet::Droplet;
use crate::slot::owner;

/// Everything by which a droplet could outlive itself on this machine.
#[derive(Debug)]
pub(crate) struct Traces {
    pub(crate) number: u8,
    /// Whose traces these are: the next one who has the slot makes new ones, after the old are gone.
    pub(crate) owner: String,
    pub(crate) state: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) wire: String,
    /// The identities of its namespaces, as `/proc/PID/ns` gives them.
    pub(crate) namespaces: BTreeSet<PathBuf>,
}

impl Traces {
    pub(crate) fn of(droplet: &Droplet) -> Self {
        let slot = droplet.slot();
        let namespaces = namespaces(&droplet.pid().to_string());
        let namespaces = namespaces.difference(&namespaces_of_this_test()).cloned().collect();
        let (state, cgroup) = (slot.state.clone(), slot.cgroup.clone());
        Self { number: slot.number, owner: owner(slot.number), state, cgroup, wire: slot.wire(), namespaces }
    }

    /// What of it is there now, in words.
    pub(crate) fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        let own = owner(self.number) == self.owner;
        for dir in [&self.state, &self.cgroup] {
            if own && dir.exists() {
                found.push(format!("directory {}", dir.display()));
            }
        }
        if own && Path::new("/sys/class/net").join(&self.wire).exists() {
            found.push(format!("link {}", self.wire));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let state = self.state.to_str().unwrap();
        found.extend(
            mounts.lines().filter(|line| own && line.contains(state)).map(|line| format!("mount {line}")),
        );
        let cgroup = format!("/bundle-test-{}/", self.number);
        let mirror = format!("10.213.{}.1:80\0", self.number);
        for process in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
            let name = process.file_name().unwrap().to_string_lossy().into_owned();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let inside = namespaces(&name).intersection(&self.namespaces).next().is_some();
            let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            // The kernel gives a namespace's number again, to another droplet in a cgroup of its own.
            let other = cgroups.contains("/bundle-test-");
            let cgroups = cgroups.lines().any(|line| format!("{line}/").contains(&cgroup));
            let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
            let serves = String::from_utf8_lossy(&arguments).contains(&mirror);
            if inside && !other || own && (cgroups || serves) {
                let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
                found.push(format!("process {name} {}", command.trim()));
            }
        }
        found
    }

    /// Asserts that nothing is left, within what the kernel needs to reap the last process.
    pub(crate) fn are_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.found();
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {found:#?}");
            sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) fn namespaces(pid: &str) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/ns")) else { return BTreeSet::new() };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

pub(crate) fn namespaces_of_this_test() -> BTreeSet<PathBuf> {
    namespaces("self")
}
