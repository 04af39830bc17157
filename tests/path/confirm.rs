//! A change of the firewall stays only if somebody says so over another connection.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::machine::{Built, Machine, Profiles, Run, differences};
use crate::settled::assert_settled;

const APP: &str = "[services.backend.environment]\nGREETING = \"hello\"\n";
const DOOR: &str = "[firewall]\nssh_from = [\"198.51.100.0/24\"]\n";

fn first() -> (Profiles, Machine, Built) {
    let profiles = Profiles::new();
    let machine = Machine::with_secrets();
    machine.run(&["switch", &profiles.built("first", "").reference()]).ends(0);
    let next = profiles.built("next", &format!("{DOOR}{APP}"));
    (profiles, machine, next)
}

/// A switch that goes on while the test does something else.
fn begin(machine: &Machine, arguments: &[&str]) -> Child {
    let mut command = machine.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Run {
    use std::os::unix::process::ExitStatusExt;
    let output = child.wait_with_output().unwrap();
    Run {
        command: "a switch".to_owned(),
        code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap()),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn until_it_waits(machine: &Machine) {
    let began = Instant::now();
    while machine.status()["pending"]["phase"] != "confirm" {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", machine.status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_change_of_the_firewall_is_committed_when_it_is_confirmed() {
    let (_profiles, machine, next) = first();
    machine.run(&["confirm"]).ends(20).says(&["nothing waits", "no switch is under way"]);
    machine.script(&json!({ "wait_ms": 20 }));
    let switch = begin(&machine, &["switch", &next.reference()]);
    until_it_waits(&machine);
    let status = machine.run(&["status"]).ends(0).stdout;
    assert!(status.contains("waits for `bundle confirm`"), "{status}");
    // It serves, and is not yet what one goes back to.
    assert_eq!((machine.current().as_str(), machine.link("last-good").as_str()), ("2/green", "1/blue"));
    let other = format!("sha256:{}", "0".repeat(64));
    machine.run(&["confirm", "--bundle", &other]).ends(22).says(&["waits for a confirmation, not"]);
    machine.run(&["switch", "--generation", "1"]).ends(21);
    let confirmed = machine.run(&["confirm", "--bundle", &next.digest]).ends(0);
    assert!(confirmed.stdout.contains("generation 2 in green is confirmed"), "{}", confirmed.stdout);
    let switch = end(switch).ends(0).says(&["waiting for confirmation: ", "committed"]);
    assert!(switch.stdout.contains("generation 2 in green is current"));
    assert_settled(&machine, "a confirmed switch");
    machine.run(&["confirm"]).ends(20);
}

#[test]
fn what_nobody_confirms_goes_back_by_itself_and_says_why() {
    let (_profiles, machine, next) = first();
    machine
        .run(&["switch", &next.reference()])
        .ends(30)
        .says(&["it was not confirmed within 120 s", "generation 1 in blue serves"]);
    assert_eq!(machine.current(), "1/blue");
    assert_settled(&machine, "a switch that nobody confirmed");
    assert!(machine.record(2)["outcome"]["failed"].as_str().unwrap().contains("not confirmed"));
}

/// The first boot's script ignores the signal, so that it does not end before the switch does.
#[test]
fn a_switch_that_was_started_with_the_signal_ignored_is_stopped_by_it_all_the_same() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "wait_ms": 20 }));
    let switch = machine.command(&["switch", &next.reference()]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT TERM; exec \"$0\" \"$@\""]).arg(switch.get_program());
    command.args(switch.get_args()).envs(switch.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let switch = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_it_waits(&machine);
    let pid = rustix::process::Pid::from_child(&switch);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    end(switch).ends(30).says(&["it was stopped by a signal"]);
    assert_settled(&machine, "stopped while it waited");
}

#[test]
fn it_is_watched_while_it_waits_and_ctrl_c_goes_back() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "wait_ms": 20 }));
    let switch = begin(&machine, &["switch", &next.reference()]);
    until_it_waits(&machine);
    let pid = rustix::process::Pid::from_child(&switch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    end(switch).ends(30).says(&["it was stopped by a signal"]);
    assert_settled(&machine, "stopped while it waited");

    let switch = begin(&machine, &["switch", &next.reference()]);
    until_it_waits(&machine);
    let pid = rustix::process::Pid::from_child(&switch);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    end(switch).ends(-9);
    machine.mend();
    // The one that waited is dead: what is said now is said to nobody, and nothing of it stays.
    machine.run(&["recover"]).ends(0);
    assert_eq!(machine.current(), "1/blue");
    assert_settled(&machine, "killed while it waited");

    machine.script(&json!({ "red": ["service worker in green"], "red_from_wait": 30 }));
    machine
        .run(&["switch", &next.reference()])
        .ends(30)
        .says(&["waiting for confirmation", "service worker"]);
    assert_settled(&machine, "turned red while it waited");
}

#[test]
fn a_confirmation_of_another_switch_is_none() {
    let (_profiles, machine, next) = first();
    let stale = machine.path("run/bundle/confirmed");
    std::fs::write(&stale, "2").unwrap();
    machine.run(&["switch", &next.reference()]).ends(30).says(&["not confirmed"]);
    assert!(!stale.exists());
    std::fs::write(&stale, "4").unwrap();
    machine.run(&["switch", &next.reference()]).ends(30).says(&["not confirmed"]);
    assert_settled(&machine, "after two stale confirmations");
}

#[test]
fn who_is_asked_and_who_is_not() {
    let (profiles, machine, next) = first();
    let plan = machine.run(&["plan", &next.reference()]).ends(0).stdout;
    assert!(
        plan.contains("wait for confirmation   up to 120 s") && plan.contains("`nftables/bundle.nft`"),
        "{plan}"
    );
    let json = machine.run(&["plan", &next.reference(), "--json"]).ends(0).json();
    assert_eq!(
        (&json["needs_confirmation"], &json["plan"]["doors"]),
        (&json!(true), &json!(["nftables/bundle.nft", "nftables/ground.nft"]))
    );
    let digest = json["digest"].as_str().unwrap();
    // How it is confirmed is no part of what is done to the machine.
    machine.run(&["switch", &next.reference(), "--confirmed", "--expect-plan", digest]).ends(0);
    // Whoever goes back is not asked to come through the door that may be shut.
    machine.run(&["rollback"]).ends(0);
    machine.run(&["switch", "--generation", "2"]).ends(0);
    // Nothing but the application: only if asked for.
    let other = profiles.built("other", &format!("{DOOR}[services.backend.environment]\nGREETING = \"a\"\n"));
    let before = machine.snapshot();
    machine.run(&["switch", &other.reference(), "--confirm", "5", "--confirmed"]).ends(2);
    machine.run(&["switch", &other.reference(), "--confirm", "0"]).ends(2);
    assert_eq!(differences(&before, &machine.snapshot()), Vec::<String>::new());
    machine.run(&["switch", &other.reference(), "--confirm", "5"]).ends(30).says(&["within 5 s"]);
    machine.run(&["switch", &other.reference()]).ends(0);
    assert_settled(&machine, "after all of this");
}

#[test]
fn the_timer_of_pid_1_leaves_time_to_confirm() {
    let (_profiles, machine, next) = first();
    let seconds = |machine: &Machine| -> u64 {
        let effects = machine.state()["effects"].to_string();
        let last = effects.rsplit("arm going back          in ").next().unwrap();
        last.split(' ').next().unwrap().parse().unwrap()
    };
    let usual = seconds(&machine);
    machine.run(&["switch", &next.reference(), "--confirm", "600"]).ends(30);
    assert_eq!(seconds(&machine), usual + 600);
}
