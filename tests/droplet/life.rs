//! Each service of a running site killed, one after the other, and the whole machine rebooted: the machine brings back
//! by itself what died, says so meanwhile, and keeps what was stored.

use std::time::{Duration, Instant};

use crate::builder::{door, status};
use crate::machine::Machine;
use crate::poster::Door;
use crate::serving::{
    await_count, await_healthy, await_processed, circumstances, first_switch, is_healthy, post, red, release,
};
use crate::site::Site;

/// How long a killed service may take to be back on a machine at full speed, in seconds.
const BACK: u64 = 30;
/// The first update that is posted here, above all that others post.
const FIRST_UPDATE: u64 = 10_000;
/// How long a reboot may take, until the site serves.
const REBOOT: Duration = Duration::from_mins(5);
/// Docker waits 100 ms before it restarts a container, and twice as long each time that it dies again within ten seconds
/// (Docker documentation, "Start containers automatically"): so often a short death may go unseen.
const DEATHS: u32 = 5;

/// What is killed: a name, and the command that prints its process.
const SERVICES: &[(&str, &str)] = &[
    ("postgres", "docker inspect --format '{{.State.Pid}}' postgres"),
    ("redis", "docker inspect --format '{{.State.Pid}}' redis"),
    ("web", "docker inspect --format '{{.State.Pid}}' backend-blue"),
    ("worker", "docker inspect --format '{{.State.Pid}}' worker-blue"),
    ("HAProxy's master", MASTER),
    (
        "HAProxy's worker",
        "cat /proc/$(systemctl show --property MainPID --value bundle-haproxy)/task/*/children",
    ),
    ("dockerd", "systemctl show --property MainPID --value docker"),
];
/// Docker and what it runs go on without it for a while: nothing is degraded.
const CONTAINERD: &str = "systemctl show --property MainPID --value containerd";
const MASTER: &str = "systemctl show --property MainPID --value bundle-haproxy";

#[test]
fn every_service_that_is_killed_comes_back_and_a_reboot_changes_nothing() {
    let mut site = Site::open();
    let digest = site.publish(&release("first", ""));
    first_switch(&site, &digest);
    killed_services_come_back(&site.droplet);
    a_worker_that_never_becomes_ready_is_no_release(&site);
    a_reboot_changes_nothing(&mut site.droplet);
}

/// Kills each service once, on a machine whose slot is blue.
pub(crate) fn killed_services_come_back(machine: &dyn Machine) {
    await_healthy(machine, machine.patience(60));
    let door = door(machine);
    let stored = await_count(machine, &door, machine.patience(BACK));
    let mut ledger = Ledger { door: &door, next: FIRST_UPDATE, stored, unknown: 0 };
    for (name, process) in SERVICES {
        ledger.post_now();
        let death = dies(machine, name, process);
        is_back(machine, &mut ledger, name, death.since);
        let (red, deaths) = (death.red.first(), death.deaths);
        println!(
            "{name} killed: back after {:.1} s; seen at death {deaths} as {red:?}",
            death.since.elapsed().as_secs_f64()
        );
        ledger.kept();
    }
    let since = Instant::now();
    // systemd waits five seconds before it starts it again; until then Docker starts no container.
    machine.sh(&format!(
        "old=$({CONTAINERD}); kill -9 $old; \
         for i in $(seq 100); do new=$({CONTAINERD}); \
           if [ $new != $old ] && [ $new != 0 ] && docker exec redis true; then exit; fi; sleep 0.2; done; exit 1"
    ));
    is_back(machine, &mut ledger, "containerd", since);
    println!("containerd killed: back after {:.1} s", since.elapsed().as_secs_f64());
    ledger.kept();
    let last = ledger.post_now();
    await_processed(&door, last, machine.patience(BACK));
}

/// Kills a process, or all that a command prints. What is dead just now has the number 0.
fn kill(machine: &dyn Machine, process: &str) {
    machine.sh(&format!("for pid in $({process}); do [ $pid = 0 ] || kill -9 $pid; done"));
}

/// Healthy again, and what is posted is stored.
fn is_back(machine: &dyn Machine, ledger: &mut Ledger<'_>, name: &str, since: Instant) {
    loop {
        let last = status(machine);
        if is_healthy(&last) && ledger.post() {
            return;
        }
        let late = since.elapsed() > machine.patience(BACK);
        assert!(!late, "{name} is not back: {:?}\n{}", red(&last), circumstances(machine));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What was stored, as far as clients know.
struct Ledger<'a> {
    door: &'a Door,
    next: u64,
    stored: u64,
    /// Posts without an answer: they may have been stored.
    unknown: u64,
}

impl Ledger<'_> {
    /// Posts something new; gives whether it was answered.
    fn post(&mut self) -> bool {
        self.next += 1;
        let answer = post(self.door, self.next);
        if answer.is_ok() {
            self.stored += 1;
        } else {
            self.unknown += 1;
        }
        answer.is_ok()
    }

    /// Posts something new, which must be answered; gives the message's number.
    fn post_now(&mut self) -> u64 {
        self.next += 1;
        let message = post(self.door, self.next).unwrap();
        self.stored += 1;
        message
    }

    /// Everything that was answered is there; what was not may be, once.
    fn kept(&mut self) {
        let answer = self.door.get("/messages/count").unwrap();
        let count =
            serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["count"].as_u64().unwrap();
        let possible = self.stored..=self.stored + self.unknown;
        assert!(possible.contains(&count), "{count} messages are stored, not {possible:?}");
        (self.stored, self.unknown) = (count, 0);
    }
}

/// A death that `bundle status` noticed.
struct Death {
    since: Instant,
    red: Vec<String>,
    deaths: u32,
}

/// Kills a process until `bundle status` has said, as text and as JSON, that the machine is degraded.
fn dies(machine: &dyn Machine, name: &str, process: &str) -> Death {
    let (mut text, mut json) = (false, Vec::new());
    for deaths in 1..=DEATHS {
        let since = Instant::now();
        kill(machine, process);
        while since.elapsed() < Duration::from_secs(2) {
            if json.is_empty() {
                json = red(&status(machine));
            }
            if !text {
                let said = machine.run_ok(&["bundle", "status"]);
                text = said.contains("state    degraded") && said.contains(" red: ");
            }
            if text && !json.is_empty() {
                return Death { since, red: json, deaths };
            }
        }
    }
    panic!("{name} died {DEATHS} times, and `bundle status` never said so: text {text}, json {json:?}");
}

/// It runs, it is not restarted, and no request fails: but its own check never passes.
fn a_worker_that_never_becomes_ready_is_no_release(site: &Site) {
    let never = "[services.worker.healthcheck]\ntest = [\"CMD\", \"false\"]\n";
    let waits = "[switch]\ntrial = \"1s\"\nhealth = \"8s\"\ndrain = \"1s\"\n";
    let digest = site.publish(&release("unready", &format!("{never}{waits}")));
    let switched = site.switch(&digest);
    assert_eq!(switched.code, 30, "{switched:?}");
    assert!(switched.err.contains("service worker: container `worker-green` starts"), "{switched:?}");
    await_healthy(&site.droplet, Machine::patience(&site.droplet, BACK));
}

/// The machine goes down and comes up; the site serves again, with what was stored.
pub(crate) fn a_reboot_changes_nothing(machine: &mut dyn Machine) {
    let before = status(machine);
    let posted = await_count(machine, &door(machine), machine.patience(BACK));
    let containers = "docker ps --format '{{.Names}} {{.Image}} {{.Label \"bundle.release\"}}' | sort";
    let running = machine.sh(containers);
    let boot = "cat /proc/sys/kernel/random/boot_id; docker inspect --format '{{.State.StartedAt}}' postgres";
    let (life, began) = (machine.sh(boot), Instant::now());
    machine.reboot();
    let booted = began.elapsed();
    let count = await_count(machine, &door(machine), REBOOT.saturating_sub(booted));
    println!(
        "reboot: down and up in {:.1} s, serving after {:.1} s",
        booted.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(count, posted, "what was stored is stored");
    let after = await_healthy(machine, REBOOT.saturating_sub(began.elapsed()));
    println!("reboot: healthy after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!((&after["record"], &after["current"]), (&before["record"], &before["current"]));
    assert_eq!(machine.sh(containers), running, "the same containers of the same release");
    assert_ne!(machine.sh(boot), life, "it did go down");
    post(&door(machine), 2 * FIRST_UPDATE).unwrap();
}
