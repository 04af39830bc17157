//! How fast a release serves, how fast the old one is back without a registry, and how much memory that takes.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::poster::Door;
use crate::site::Site;
use crate::steps::Steps;

/// Far above what is to be reached, and what a busy machine may take.
const LONGEST: Duration = Duration::from_secs(20);
/// Far above what is to be reached, in kB.
const LARGEST: u64 = 64 * 1024;

fn release(name: &str) -> String {
    format!("\n[services.backend.environment]\nGREETING = \"{name}\"\n")
}

/// Somebody outside who asks all the time, each time on a new connection, for the release that answers.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, String)>>,
}

impl Onlooker {
    fn at(door: &Door) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (door, stopped) = (door.clone(), stop.clone());
        let thread = spawn(move || {
            let mut seen: Vec<(Instant, String)> = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let answer = door.get("/healthz").unwrap();
                let release = answer.header("x-bundle-release").unwrap_or_default().to_owned();
                if seen.last().is_none_or(|(_, last)| *last != release) {
                    seen.push((Instant::now(), release));
                }
                sleep(Duration::from_millis(40));
            }
            seen
        });
        Self { stop, thread }
    }

    fn saw(self) -> Vec<(Instant, String)> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// What a command of `bundle` that moves the machine took.
#[derive(Debug)]
struct Pace {
    /// Until somebody outside had an answer of the other release.
    serves: Duration,
    whole: Duration,
    /// The most memory that the process itself had, in kB.
    peak: u64,
}

/// Runs a command of `bundle` and looks at it from all sides. What its children take is not its own: hence the kernel's
/// word for the one process while it lives (`VmHWM`, proc_pid_status(5)).
fn run(site: &Site, what: &str, arguments: &[&str]) -> Pace {
    let watched = r#"
        bundle "$@" & pid=$!; peak=0
        while line=$(grep VmHWM "/proc/$pid/status" 2>/dev/null); do peak=${line#*:}; sleep 0.02; done
        echo "${peak%kB}"; wait "$pid""#;
    let onlooker = Onlooker::at(&site.door());
    sleep(Duration::from_millis(200));
    let mut command = site.droplet.command(&[&["sh", "-uc", watched, "sh"], arguments].concat());
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut steps = Steps::of(child.stderr.take().unwrap());
    let output = child.wait_with_output().unwrap();
    let whole = started.elapsed();
    steps.to_the_end();
    let seen = onlooker.saw();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{what}");
    for (when, line) in &steps.seen {
        println!("{:>7.2} s {line}", when.saturating_duration_since(started).as_secs_f64());
    }
    assert!(output.status.success(), "{said}");
    let [_, (serves, _)] = &seen[..] else { panic!("one release after the other: {seen:?}") };
    let peak = said.lines().filter_map(|line| line.trim().parse().ok()).next_back().unwrap();
    let pace = Pace { serves: serves.saturating_duration_since(started), whole, peak };
    println!(
        "{what}: serves after {:.2} s, ended after {:.2} s, memory at most {:.1} MB",
        pace.serves.as_secs_f64(),
        pace.whole.as_secs_f64(),
        f64::from(u32::try_from(pace.peak).unwrap()) / 1024.0,
    );
    assert!(pace.serves < LONGEST && pace.peak < LARGEST, "{pace:?}");
    pace
}

#[test]
fn a_rollback_without_a_registry_serves_soon_and_a_switch_stays_small() {
    let mut site = Site::open();
    let first = site.publish(&release("first"));
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], b"12345:token");
    let switched = site.switch(&first);
    assert_eq!(switched.code, 0, "{switched:?}");
    let second = site.publish(&release("second"));
    let repository = format!("{}/team/bundles", site.registry.host_port());
    run(&site, "switch", &["switch", &second, "--repository", &repository]);
    site.registry.stop();
    run(&site, "rollback without a registry", &["rollback"]);
    run(&site, "forward again without a registry", &["switch", "--generation", "2"]);
}
