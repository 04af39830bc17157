//! PID 1 killed at random moments of a switch, which is the end of every process at once: after the next boot the machine
//! is in the old generation or in the new one, whole, and serves. It is the one that the journal had promised.
//!
//! The moments come from a seed, which is printed: `BUNDLE_SEED=N` draws the same ones again. Twenty are drawn;
//! `BUNDLE_EXHAUSTIVE=1` draws a hundred, and makes a whole switch after each.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::builder::{door, status};
use crate::machine::Machine;
use crate::poster::Door;
use crate::serving::{await_count, await_healthy, circumstances, first_switch, post, release};
use crate::site::Site;
use crate::slot::output;

/// How long a machine at full speed may take to serve after its power came back, in seconds.
const SERVES: u64 = 60;

/// Short waits: what is of interest is what happens between them.
const SHORT: &str = "\n[switch]\ntrial = \"1s\"\nhealth = \"20s\"\ndrain = \"1s\"\n";

/// The updates that are posted here are above all that others post.
const FIRST_UPDATE: u64 = 1_000_000;

/// Every how many cuts a switch is let come to its end.
const WHOLE_EVERY: u64 = 5;

#[test]
fn a_machine_that_loses_its_processes_in_a_switch_is_whole_and_serves_after_the_next_boot() {
    let exhaustive = std::env::var_os("BUNDLE_EXHAUSTIVE").is_some();
    let mut site = Site::open();
    let releases = ["a", "b"].map(|name| site.publish(&release(name, SHORT)));
    first_switch(&site, &releases[0]);
    let releases =
        Releases { digests: releases, options: vec!["--repository".to_owned(), site.repository()] };
    cuts(&mut site.droplet, releases, if exhaustive { 100 } else { 20 }, exhaustive);
}

/// Two releases, of which one is current.
pub(crate) struct Releases {
    pub(crate) digests: [String; 2],
    /// What `bundle switch` is told besides.
    pub(crate) options: Vec<String>,
}

/// Takes the power from `count` switches between two releases. After each, or every few, one comes to its end.
pub(crate) fn cuts(machine: &mut dyn Machine, releases: Releases, count: u64, each: bool) {
    let seed = match std::env::var("BUNDLE_SEED") {
        Ok(seed) => seed.parse().expect("BUNDLE_SEED is a number"),
        Err(_) => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap(),
    };
    println!("power: BUNDLE_SEED={seed} draws these moments again");
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut run = Run::begin(machine, releases);
    for number in 1..=count {
        let moment = run.usual.mul_f64(random.share());
        let before = Marks::of(machine);
        let mut switch = run.switch(machine);
        let mut switch =
            switch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        let ended = switch.try_wait().unwrap();
        let started = Instant::now();
        machine.cut_power();
        switch.wait().unwrap();
        machine.boot_again();
        let label = format!("cut {number} of seed {seed}, {moment:.1?} after its start");
        let fell = run.is_whole(machine, &before, &label);
        println!(
            "power: {label}{}: {fell}, whole after {:.1} s",
            if ended.is_some() { " (it had ended)" } else { "" },
            started.elapsed().as_secs_f64()
        );
        tally.add(&fell);
        if each || number % WHOLE_EVERY == 0 || number == count {
            run.whole_switch(machine);
            run.is_whole(machine, &Marks::none(), &format!("the switch after {label}"));
        }
    }
    tally.print();
}

/// What stays the same from cut to cut.
struct Run {
    releases: Releases,
    /// How long a switch between them takes when nobody cuts it short.
    usual: Duration,
    /// The secret files, with owners, modes and sums.
    secrets: String,
    door: Door,
    posted: u64,
}

impl Run {
    /// Switches to the second release and back, and measures.
    fn begin(machine: &dyn Machine, releases: Releases) -> Self {
        await_healthy(machine, machine.patience(SERVES));
        let door = door(machine);
        let posted = await_count(machine, &door, machine.patience(SERVES));
        let mut run = Self { releases, usual: Duration::ZERO, secrets: secrets(machine), door, posted };
        let times = [run.whole_switch(machine), run.whole_switch(machine)];
        // The shorter one: a cut after the end of a switch is worth little.
        run.usual = times[0].min(times[1]);
        println!("power: a whole switch takes {times:.1?}");
        run
    }

    /// The command that switches to the release that is not current.
    fn switch(&self, machine: &dyn Machine) -> Command {
        let current = text(&status(machine)["record"]["bundle"]);
        let other = self.releases.digests.iter().find(|digest| **digest != current).unwrap();
        let options = self.releases.options.iter().map(String::as_str);
        machine.command(&["bundle", "switch", other].into_iter().chain(options).collect::<Vec<_>>())
    }

    /// Switches to the other release without a cut.
    fn whole_switch(&self, machine: &dyn Machine) -> Duration {
        let started = Instant::now();
        let switched = output(self.switch(machine).stdin(Stdio::null()));
        assert!(switched.status.success(), "{switched:?}\n{}", circumstances(machine));
        started.elapsed()
    }

    /// Asserts that the machine is whole after a cut; gives where in the switch it fell, as the journal tells.
    fn is_whole(&mut self, machine: &dyn Machine, before: &Marks, label: &str) -> Fell {
        let count = await_count(machine, &self.door, machine.patience(SERVES));
        assert_eq!(count, self.posted, "{label}: what was stored is stored");
        self.posted += 1;
        post(&self.door, FIRST_UPDATE + self.posted).unwrap_or_else(|why| panic!("{label}: {why}"));
        let status = await_healthy(machine, machine.patience(SERVES));
        let fell = before.cut(machine);

        let record = &status["record"];
        let bundle = text(&record["bundle"]);
        let generation = status["current"]["generation"].as_u64().unwrap();
        match fell.committed {
            Some(committed) => {
                let promised = if committed { fell.to } else { fell.from };
                assert_eq!(generation, promised, "{label}: the journal promised another one: {status:#}");
            }
            None => assert!(self.releases.digests.contains(&bundle), "{label}: {status:#}"),
        }
        assert_eq!(record["outcome"], "good", "{label}: {status:#}");
        assert_eq!(status["last_good"], status["current"], "{label}: {status:#}");
        let fault = self.fault(machine, &text(&status["current"]["slot"]), generation, &bundle);
        assert!(fault.is_empty(), "{label}: {fell}: {fault:#?}\n{}", circumstances(machine));
        fell
    }

    /// What is not as it is on a machine that was never cut off.
    fn fault(&self, machine: &dyn Machine, slot: &str, generation: u64, bundle: &str) -> Vec<String> {
        let idle = if slot == "blue" { "green" } else { "blue" };
        let file = format!("/var/lib/bundle/bundles/{}", bundle.trim_start_matches("sha256:"));
        let manifest: Value = serde_json::from_str(&machine.run_ok(&["cat", &file])).unwrap();
        let release = text(&manifest["release"]);
        let container = |name: &str, release: &str| format!("{name} {release} unless-stopped\n");
        let running = [
            container(&format!("backend-{slot}"), &release),
            container("postgres", ""),
            container("redis", ""),
            container(&format!("worker-{slot}"), &release),
        ]
        .concat();
        let said = machine.sh(QUESTIONS);
        let said: BTreeMap<_, _> = said.split("\n== ").filter_map(|part| part.split_once('\n')).collect();
        let expected = [
            ("current", format!("generations/{generation}/{slot}\n")),
            ("running", running),
            ("stopped and yet to be restarted", String::new()),
            ("links that lead nowhere", String::new()),
            ("units", "active\n".repeat(5)),
            ("failed units", String::new()),
            ("timers of a trial", String::new()),
            ("tables", "table inet bundle\n".to_owned()),
            // Who gets requests: a server that is neither drained nor in maintenance by its administrative state; 4 only
            // tells that its configuration once said so (HAProxy management guide, "show servers state").
            ("servers", sorted(&[format!("backend {slot} all\n"), format!("backend {idle} none\n")])),
            ("recover", "10\n".to_owned()),
        ];
        let mut faults = Vec::new();
        for (question, expected) in expected {
            let said = said.get(question).unwrap_or_else(|| panic!("no answer to `{question}`"));
            let (said, expected) = (said.trim_end(), expected.trim_end());
            if said != expected {
                faults.push(format!("{question}: {said:?}, not {expected:?}"));
            }
        }
        let secrets = secrets(machine);
        if secrets != self.secrets {
            faults.push(format!("secrets: {secrets}, not {}", self.secrets));
        }
        let answer = self.door.get("/readyz").unwrap();
        if answer.status != 200 || answer.header("x-bundle-release") != Some(release.as_str()) {
            faults.push(format!("{answer:?} is not of release {release}"));
        }
        faults
    }
}

/// What a machine is asked; each answer below a heading.
const QUESTIONS: &str = r#"
say() { printf '\n== %s\n' "$1"; }
inspect() { docker ps "$@" --format '{{.Names}}' | sort | xargs -r docker inspect --format \
  '{{slice .Name 1}} {{with index .Config.Labels "bundle.release"}}{{.}}{{end}} {{.HostConfig.RestartPolicy.Name}}'; }
say current; readlink /var/lib/bundle/current
say running; inspect
say 'stopped and yet to be restarted'; inspect --filter status=exited --filter status=created | grep -v ' no$' || true
say 'links that lead nowhere'; find /etc -xtype l -lname '*bundle*'
say units; systemctl is-active bundle-early bundle-late bundle-firewall bundle-haproxy docker || true
say 'failed units'; systemctl --failed --no-legend --plain
say 'timers of a trial'; systemctl list-timers --all --no-legend 'bundle-trial-*'
say tables; nft list tables | grep bundle
say servers
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/bundle-haproxy/admin.sock"); s.sendall(b"show servers state\n")
text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
rows = [line.split() for line in text.splitlines()]
print("\n".join(sorted(f"{r[1]} {r[3]} " + ("none" if int(r[6]) & ~4 else "all") for r in rows if len(r) > 7 and r[3] in ("blue", "green"))))'
say recover; bundle recover >/dev/null 2>&1 || echo $?
"#;

fn sorted(lines: &[String]) -> String {
    let mut lines = lines.to_vec();
    lines.sort();
    lines.concat()
}

/// Without the logins to registries: they are made when one is asked, which no boot does.
fn secrets(machine: &dyn Machine) -> String {
    machine.sh("findmnt --noheadings --output FSTYPE /run/bundle/secrets; cd /run/bundle/secrets; \
         find . -type f ! -path './.registry/*' -printf '%p %m %U %G ' -exec sha256sum {} \\; | sort")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// How far the journal had come.
struct Marks(Option<u64>);

/// Where a cut fell.
struct Fell {
    /// The last phase that was announced, or what was instead of one.
    phase: String,
    /// Whether the journal had the commit; `None` if the switch had not come as far as the journal.
    committed: Option<bool>,
    from: u64,
    to: u64,
}

impl Marks {
    fn of(machine: &dyn Machine) -> Self {
        Self(Some(transactions(machine).last().map_or(0, |line| line["txn"].as_u64().unwrap())))
    }

    /// For a switch that was not cut short.
    fn none() -> Self {
        Self(None)
    }

    /// Reads in the journal where the cut fell since this mark was made.
    fn cut(&self, machine: &dyn Machine) -> Fell {
        let lines = transactions(machine);
        let last = lines.last().map_or(0, |line| line["txn"].as_u64().unwrap());
        if self.0.is_none_or(|before| before == last) {
            return Fell { phase: "before the journal".to_owned(), committed: None, from: 0, to: 0 };
        }
        let lines: Vec<_> = lines.iter().filter(|line| line["txn"] == last).collect();
        let event = |name: &str| lines.iter().find(|line| line["event"] == name);
        let begin = event("begin").unwrap();
        let view = |side: &str| begin[side]["generation"].as_u64().unwrap();
        let committed = event("commit").is_some();
        let intent = lines.iter().rev().find(|line| line["event"] == "intent");
        let phase = match intent {
            _ if committed => "commit".to_owned(),
            Some(intent) => text(&intent["phase"]),
            None => "begin".to_owned(),
        };
        Fell { phase, committed: Some(committed), from: view("from"), to: view("to") }
    }
}

/// The journal's lines, without their sums.
fn transactions(machine: &dyn Machine) -> Vec<Value> {
    let text = machine.sh("tr -d '\\0' </var/lib/bundle/journal");
    let json = text.lines().filter_map(|line| line.split_once(' '));
    json.map(|(_, json)| serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
        .collect()
}

impl std::fmt::Display for Fell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {}",
            self.phase,
            if self.committed == Some(true) { "the new one serves" } else { "the old one serves" }
        )
    }
}

/// How many cuts fell where, and which side won.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, [u64; 2]>);

/// In the order of a switch.
const PHASES: [&str; 10] =
    ["before the journal", "begin", "data", "migrate", "slot", "arm", "flip", "reconcile", "trial", "commit"];

impl Tally {
    fn add(&mut self, fell: &Fell) {
        let phase = PHASES.into_iter().find(|phase| *phase == fell.phase);
        let phase = phase.unwrap_or_else(|| panic!("no phase `{}` is known", fell.phase));
        self.0.entry(phase).or_default()[usize::from(fell.committed == Some(true))] += 1;
    }

    fn print(&self) {
        println!("power: {:<20} {:>4} {:>4}", "last intent", "old", "new");
        for phase in PHASES {
            let [old, new] = self.0.get(phase).copied().unwrap_or_default();
            let bar = "#".repeat(usize::try_from(old + new).unwrap());
            println!("power: {phase:<20} {old:>4} {new:>4}  {bar}");
        }
    }
}

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a few lines, and the same
/// numbers for the same seed for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, evenly.
    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }
}
