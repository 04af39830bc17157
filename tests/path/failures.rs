//! What happens when a switch fails, and when going back fails too.

use serde_json::{Value, json};

use crate::machine::{Built, Machine, Profiles, differences};
use crate::settled::{assert_settled, damage};

const APP: &str = "[services.backend.environment]\nGREETING = \"hello\"\n";
const DATA: &str = "[redis]\nmaxmemory = \"200mb\"\n";

fn first() -> (Profiles, Machine, Built) {
    let profiles = Profiles::new();
    let machine = Machine::with_secrets();
    machine.switch(&profiles.built("first", "")).ends(0);
    let next = profiles.built("next", &format!("{DATA}{APP}"));
    (profiles, machine, next)
}

/// Still the first generation, complete; the attempt keeps its number and says why it failed.
#[track_caller]
fn still_first(machine: &Machine, why: &str) {
    assert_eq!(machine.current(), "1/blue");
    assert_settled(machine, why);
    let record = machine.record(2);
    let reason = record["outcome"]["failed"].as_str().unwrap_or_else(|| panic!("{record}"));
    assert!(reason.contains(why), "{reason}");
    let listed = machine.run(&["generations"]).ends(0).stdout;
    assert!(listed.contains(why) && listed.contains("failed"), "{listed}");
}

#[test]
fn an_unhealthy_release_never_gets_requests_and_the_old_one_serves() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "red": ["route backend in green"] }));
    machine.switch(&next).ends(30).says(&["scripted to be red", "generation 1 in blue serves"]);
    still_first(&machine, "not healthy after 3 s: route backend");
    let routed = machine.state()["effects"].to_string();
    assert!(!routed.contains("route to green"), "{routed}");
    machine.mend();
    machine.switch(&next).ends(0);
    assert_eq!(machine.current(), "3/green");
    assert_settled(&machine, "after the release was mended");
}

#[test]
fn what_turns_red_in_the_trial_brings_the_old_one_back() {
    let (profiles, machine, _) = first();
    // The worker is started after the flip only, so it can only be found out then.
    machine.script(&json!({ "red": ["service worker in green"] }));
    machine.switch(&profiles.built("b", APP)).ends(30).says(&["service worker"]);
    still_first(&machine, "service worker");
    assert!(machine.state()["effects"].to_string().contains("route to green"), "it had been routed to");
}

#[test]
fn what_dies_and_is_restarted_in_the_trial_brings_the_old_one_back() {
    let (profiles, machine, _) = first();
    // Green whenever it is asked, and never the same process twice.
    machine.script(&json!({ "restarting": ["worker-green"] }));
    machine.switch(&profiles.built("b", APP)).ends(30).says(&["died during the trial", "service worker"]);
    still_first(&machine, "service worker");
}

#[test]
fn a_bad_release_touches_nothing_of_what_serves() {
    let (_profiles, machine, next) = first();
    let before = machine.state()["effects"].as_array().unwrap().len();
    machine.script(&json!({ "red": ["route backend in green"] }));
    machine.switch(&next).ends(30);
    let state = machine.state();
    let effects = &state["effects"].as_array().unwrap()[before..];
    let touched = |effect: &&Value| {
        let words = effect.as_str().unwrap();
        words.contains(".service")
            || words.contains("blue: ")
            || words.contains("-blue")
            || words.starts_with("route")
    };
    assert_eq!(effects.iter().filter(touched).collect::<Vec<_>>(), Vec::<&Value>::new());
}

#[test]
fn a_secret_that_a_failing_program_prints_is_not_kept() {
    let (_profiles, machine, next) = first();
    let value = std::fs::read_to_string(machine.path("var/lib/bundle/secrets/postgres_password")).unwrap();
    machine.script(
        &json!({ "fail": { "run to its end": format!("cannot reach postgres://app:{value}@postgres") } }),
    );
    let run = machine.switch(&next).ends(30).says(&["cannot reach postgres://app:…@postgres"]);
    let kept = [machine.record(2).to_string(), machine.run(&["generations"]).stdout, run.stderr];
    let journal =
        String::from_utf8_lossy(&std::fs::read(machine.path("var/lib/bundle/journal")).unwrap()).into_owned();
    assert!(kept.iter().chain([&journal]).all(|text| !text.contains(&value)), "{kept:?}");
}

#[test]
fn what_was_red_before_cannot_fail_a_switch_and_what_was_not_can() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "red": ["service worker"] }));
    machine.switch(&next).ends(0).says(&["already red", "service worker"]);
    assert_eq!(machine.current(), "2/green");
    assert_eq!(machine.status()["degraded"], true);
    assert_settled(&machine, "red before, red after");
    machine.script(&json!({ "red": ["service worker", "route backend in blue"] }));
    machine.run(&["rollback"]).ends(30).says(&["route backend"]);
    assert_eq!(machine.current(), "2/green");
}

#[test]
fn every_effect_that_fails_brings_the_old_one_back() {
    let (_profiles, machine, next) = first();
    let clean = machine.copy();
    let before = clean.state()["effects"].as_array().unwrap().len();
    clean.switch(&next).ends(0);
    let effects: Vec<_> = clean.state()["effects"].as_array().unwrap()[before..].to_vec();
    let committed = effects.iter().position(|e| e.as_str().unwrap().starts_with("disarm")).unwrap();
    assert!(committed > 9, "{effects:?}");
    for (number, effect) in effects[..committed].iter().enumerate() {
        let machine = machine.copy();
        machine.script(&json!({ "fail_at": number + 1 }));
        let run = machine.switch(&next).ends(30);
        assert!(run.stderr.contains("scripted to fail"), "{effect}: {}", run.stderr);
        machine.mend();
        assert_eq!(machine.current(), "1/blue", "{effect}");
        assert_settled(&machine, &format!("`{effect}` failed"));
    }
    // After the commit a failure is a warning: the new generation is the last good one.
    for (number, effect) in effects.iter().enumerate().skip(committed) {
        let machine = machine.copy();
        machine.script(&json!({ "fail_at": number + 1 }));
        machine.switch(&next).ends(0).says(&["warning", "scripted to fail", "clearing up has not ended"]);
        assert_eq!(machine.current(), "2/green", "{effect}");
        // It is not forgotten: as long as it fails, recovery says so; then it is done.
        machine.script(&json!({ "fail": { "disarm": "x", "stop": "x" } }));
        assert_eq!(machine.run(&["recover", "--json"]).ends(31).json()["recovery"], "unfinished");
        machine.mend();
        assert_eq!(machine.status()["pending"]["committed"], true);
        machine.run(&["recover"]).ends(0);
        assert_settled(&machine, &format!("`{effect}` failed after the commit"));
        machine.run(&["recover"]).ends(10);
    }
}

#[test]
fn when_going_back_fails_it_is_said_and_settled_once_mended() {
    let (_profiles, machine, next) = first();
    machine.script(
        &json!({ "red": ["service worker in green"], "fail": { "route to blue": "the socket is gone",
        "bring up                blue": "no such image", "restart                 bundle-haproxy": "x" } }),
    );
    machine.switch(&next).ends(31).says(&["going back failed", "bundle recover"]);
    let status = machine.status();
    assert_eq!(status["pending"]["attempts"], 1);
    assert_eq!(status["pending"]["to"]["generation"], 2);
    assert!(status["pending"]["reason"].as_str().unwrap().contains("worker"), "{status}");
    assert!(machine.run(&["status"]).ends(0).stdout.contains("bundle recover"));
    assert_eq!(machine.current(), "1/blue", "what could be done was done");
    // A plan only reports; what changes the machine settles first, and cannot.
    machine.run(&["plan", &next.reference()]).ends(0);
    machine.run(&["recover"]).ends(31);
    machine.mend();
    let json = machine.run(&["recover", "--json"]).ends(0).json();
    assert_eq!(json["recovery"], "went_back");
    still_first(&machine, "worker");
    machine.run(&["recover"]).ends(10);
}

#[test]
fn going_back_is_given_up_after_three_tries_and_forced_by_a_person() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "red": ["service worker in green"], "fail": { "no longer restart": "no" } }));
    machine.switch(&next).ends(31);
    machine.run(&["recover"]).ends(31);
    machine.run(&["recover"]).ends(31);
    let before = machine.snapshot();
    machine.run(&["recover"]).ends(31).says(&["tried 3 times", "recover --force"]);
    machine.switch(&next).ends(31).says(&["tried 3 times"]);
    assert_eq!(differences(&before, &machine.snapshot()), Vec::<String>::new(), "no fourth try");
    machine.mend();
    machine.run(&["recover"]).ends(31);
    machine.run(&["recover", "--force"]).ends(0);
    still_first(&machine, "worker");
}

#[test]
fn the_timer_of_a_switch_that_died_settles_it_and_no_other() {
    let (_profiles, machine, next) = first();
    machine.script(&json!({ "die_after": 11 }));
    machine.switch(&next).ends(-9);
    machine.mend();
    let timers = machine.state()["timers"].clone();
    assert_eq!(timers.as_array().map(Vec::len), Some(1), "{timers}");
    let pending = machine.snapshot();
    machine.run(&["recover", "--transaction", "1"]).ends(0);
    assert_eq!(
        differences(&pending, &machine.snapshot()),
        Vec::<String>::new(),
        "that one has ended long ago"
    );
    machine.run(&["recover", "--transaction", &timers[0].to_string()]).ends(0);
    still_first(&machine, "interrupted");
}

#[test]
fn a_first_generation_that_fails_leaves_the_bare_machine() {
    let profiles = Profiles::new();
    let machine = Machine::with_secrets();
    machine.script(&json!({ "red": ["service worker in blue"] }));
    machine.switch(&profiles.built("first", "")).ends(30);
    assert_eq!(machine.current(), "0/blue");
    assert_settled(&machine, "a first generation that failed");
    machine.mend();
    machine.switch(&profiles.built("first", "")).ends(0);
    assert_eq!(machine.current(), "2/blue");
}

#[test]
fn a_link_that_somebody_removed_comes_back_with_the_next_switch() {
    let (profiles, machine, _) = first();
    let link = machine.path("etc/systemd/system/bundle-late.service");
    std::fs::remove_file(&link).unwrap();
    assert!(!damage(&machine).is_empty());
    machine.switch(&profiles.built("next", APP)).ends(0);
    assert!(link.symlink_metadata().is_ok());
    let state: Value = machine.state();
    assert_eq!(state["units"]["bundle-haproxy.service"], "active");
}
