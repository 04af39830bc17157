//! What is decided: what stays, what is started, in which order, and that it is what the plan said.

use serde_json::{Value, json};

use crate::machine::{Built, Machine, Profiles, differences};
use crate::settled::assert_settled;

const APP: &str = "[services.backend.environment]\nGREETING = \"hello\"\n";
const DATA: &str = "[redis]\nmaxmemory = \"200mb\"\n";

/// A machine in its first generation.
fn first(profiles: &Profiles) -> (Machine, Built) {
    let built = profiles.built("first", "");
    let machine = Machine::with_secrets();
    machine.switch(&built).ends(0);
    (machine, built)
}

fn effects(state: &Value) -> Vec<String> {
    state["effects"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|effect| effect.as_str().unwrap().to_owned())
        .collect()
}

/// The lines of a printed plan that are effects on the machine, in the words in which the machine notes them.
fn planned(text: &str) -> Vec<String> {
    let own =
        ["write  ", "wait for", "add links", "flip", "drop links", "trial", "commit", "+ ", "~ ", "- ", "= "];
    text.lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !own.iter().any(|word| line.starts_with(word)))
        .map(str::to_owned)
        .collect()
}
#[test]
fn what_was_planned_is_what_was_done() {
    let profiles = Profiles::new();
    let first = profiles.built("first", "");
    let both = profiles.built("both", &format!("{DATA}{APP}"));
    let fewer = profiles.built("fewer", "[firewall]\nssh_from = [\"198.51.100.0/24\"]\n");
    let machine = Machine::with_secrets();
    let goals = [Some(&first), Some(&both), Some(&fewer), None];
    for goal in goals {
        let reference = goal.map(Built::reference);
        let arguments = match &reference {
            Some(reference) => vec![reference.as_str()],
            None => vec!["--generation", "0"],
        };
        let run = |verb: &str| machine.run(&[&[verb], &arguments[..]].concat()).ends(0);
        let mut plan = planned(&run("plan").stdout);
        let before = effects(&machine.state()).len();
        machine.script(&json!({ "confirm_at_wait": 100 }));
        run("switch");
        let mut done = effects(&machine.state()).split_off(before);
        // The dead man's timer is no decision: every switch has it.
        let (timer, rest): (Vec<_>, Vec<_>) =
            done.drain(..).partition(|effect| effect.contains("arm going back"));
        assert_eq!(timer.len(), 2, "{timer:?}");
        assert!(!plan.is_empty());
        plan.retain(|line| !line.starts_with("plan "));
        assert_eq!(rest, plan, "to {arguments:?}");
        assert_settled(&machine, &format!("{arguments:?}"));
    }
    assert!(machine.current().starts_with("0/"));
}

#[test]
fn migrations_run_on_the_way_forward_only() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    let migrations = || effects(&machine.state()).iter().filter(|e| e.contains("run to its end")).count();
    assert_eq!(migrations(), 1);
    let second = profiles.built("second", APP);
    // Its migrations may have run, or not, before it failed: the next attempt runs them.
    machine.script(&json!({ "red": ["route backend in green"] }));
    machine.switch(&second).ends(30);
    machine.mend();
    machine.run(&["switch", "--generation", "2"]).ends(0);
    assert_eq!(migrations(), 3);
    // Both have been good by now. An older program must not meddle with what a newer one has migrated.
    machine.run(&["rollback"]).ends(0);
    machine.run(&["switch", "--generation", "2"]).ends(0);
    assert_eq!(migrations(), 3);
    assert_settled(&machine, "after going back and forth");
}

#[test]
fn data_is_restarted_only_when_its_file_changed() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    let id = |name: &str| machine.state()["containers"][name]["id"].as_u64().unwrap();
    let (postgres, redis) = (id("postgres"), id("redis"));
    for text in [
        APP.to_owned(),
        "[firewall]\nssh_from = [\"198.51.100.0/24\"]\n".to_owned(),
        "[proxy]\nrequests_per_minute = 77\n".to_owned(),
    ] {
        machine.switch(&profiles.built("next", &text)).ends(0);
        assert_eq!((id("postgres"), id("redis")), (postgres, redis), "{text}");
        assert!(!effects(&machine.state()).iter().skip(20).any(|e| e.contains("data: postgres")), "{text}");
    }
    machine.switch(&profiles.built("next", DATA)).ends(0);
    assert_ne!(id("redis"), redis);
    assert_settled(&machine, "after a change of data");
}

#[test]
fn nothing_to_change_is_said_with_ten_and_changes_nothing() {
    let profiles = Profiles::new();
    let (machine, built) = first(&profiles);
    let before = machine.snapshot();
    machine.switch(&built).ends(10);
    machine.run(&["switch", "--generation", "1"]).ends(10);
    let json = machine.run(&["switch", &built.reference(), "--json"]).ends(10).json();
    assert_eq!(json["changed"], false);
    machine.run(&["recover"]).ends(10);
    assert_eq!(differences(&before, &machine.snapshot()), Vec::<String>::new());
}

#[test]
fn a_rollback_of_a_rollback_goes_further_back_and_never_in_a_circle() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    machine.switch(&profiles.built("b", APP)).ends(0);
    machine.switch(&profiles.built("c", DATA)).ends(0);
    let digest = machine.bundle().unwrap();
    machine.run(&["rollback", "--expect-current", &digest]).ends(0);
    assert_eq!(machine.current().split_once('/').unwrap().0, "2");
    machine.run(&["rollback", "--expect-current", &digest]).ends(22).says(&["generation 2"]);
    machine.run(&["rollback"]).ends(0);
    assert_eq!(machine.current().split_once('/').unwrap().0, "1");
    machine.run(&["rollback"]).ends(20).says(&["no earlier generation", "--generation 0"]);
    assert_settled(&machine, "at the end of the way back");
}

#[test]
fn an_attempt_to_return_that_failed_does_not_change_where_rollback_goes() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    machine.switch(&profiles.built("b", APP)).ends(0);
    machine.switch(&profiles.built("c", DATA)).ends(0);
    machine.script(&json!({ "red": ["route backend in green"] }));
    assert_eq!(machine.current(), "3/blue");
    machine.run(&["switch", "--generation", "2"]).ends(30);
    machine.mend();
    assert_eq!(machine.record(2)["previous"], 1, "as when it was made");
    assert_eq!(machine.record(2)["outcome"], "good", "it was good once");
    machine.run(&["rollback"]).ends(0);
    machine.run(&["rollback"]).ends(0);
    assert_eq!(machine.current(), "1/blue");
}

#[test]
fn generation_zero_takes_everything_down_and_one_can_come_back_from_it() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    machine.run(&["switch", "--generation", "0"]).ends(0);
    assert!(machine.current().starts_with("0/"));
    assert_settled(&machine, "on the bare machine");
    let state = machine.state();
    assert_eq!(state["containers"]["backend-blue"]["running"], false);
    assert_eq!(state["units"]["bundle-haproxy.service"], "inactive");
    let json = machine.status();
    assert_eq!(json["record"]["bundle"], Value::Null);
    machine.run(&["switch", "--generation", "1"]).ends(0);
    assert_settled(&machine, "back from the bare machine");
}

#[test]
fn a_singleton_never_runs_twice_at_once() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    for (name, text) in [("b", APP), ("c", ""), ("d", APP), ("e", DATA)] {
        machine.run(&["switch", &profiles.built(name, text).reference()]);
    }
    machine.script(&json!({ "red": ["service worker"] }));
    machine.switch(&profiles.built("f", "[services.worker.environment]\nX = \"1\"\n")).ends(0);
    machine.script(
        &json!({ "fail": { "trial": "no" }, "red": ["route backend in green", "route backend in blue"] }),
    );
    machine.switch(&profiles.built("g", "[services.worker.environment]\nX = \"2\"\n"));
    machine.mend();
    let overlaps = machine.state()["overlaps"].clone();
    assert_eq!(overlaps, json!(["backend"]), "and what is no singleton did run twice");
}

#[test]
fn services_that_come_and_go_leave_nothing_behind() {
    let profiles = Profiles::new();
    let (machine, _) = first(&profiles);
    profiles.lay("wider", crate::machine::WIDER);
    profiles.lock("wider");
    machine.switch(&profiles.build("wider")).ends(0);
    assert_settled(&machine, "with more services");
    let state = machine.state();
    assert_eq!(state["containers"]["cache"]["running"], true);
    assert_eq!(state["containers"]["extra-green"]["running"], true);
    machine.run(&["rollback"]).ends(0);
    assert_settled(&machine, "with fewer services");
    assert_eq!(machine.state()["containers"]["cache"]["running"], false);
}

#[test]
fn every_verb_that_reports_does_so_in_json() {
    let profiles = Profiles::new();
    let machine = Machine::new();
    assert_eq!(machine.run(&["status", "--json"]).ends(0).json()["current"], Value::Null);
    assert_eq!(machine.run(&["generations", "--json"]).ends(0).json()["generations"], json!([]));
    let (machine, built) = first(&profiles);
    let reference = built.reference();
    for arguments in [
        vec!["plan", "--generation", "0"],
        vec!["plan", reference.as_str()],
        vec!["show", reference.as_str()],
        vec!["status"],
        vec!["generations"],
        vec!["switch", "--generation", "0"],
        vec!["switch", "--generation", "1"],
        vec!["pull", reference.as_str()],
    ] {
        machine.run(&[&arguments[..], &["--json"]].concat()).ends(0).json();
    }
    assert_eq!(machine.run(&["recover", "--json"]).ends(10).json()["recovery"], "nothing");
    machine.switch(&profiles.built("next", APP)).ends(0);
    assert_eq!(machine.run(&["rollback", "--json"]).ends(0).json()["current"]["generation"], 1);
    let mut command = profiles.command("first", &["build", "first", "--json"]);
    let json = crate::machine::Run::of(&mut command).ends(0).json();
    assert_eq!(json["bundle"], built.digest.as_str());
}
