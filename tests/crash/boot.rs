//! The machine itself goes down in the middle, and comes up again with the two units of boot instead of a command.

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::scene::Scene;
use crate::world;

/// What a machine loses with its power, and what comes back by itself: the ramfs is empty, containers with a policy
/// run, timers are gone, PID 1 has read what lies in `/etc`.
fn power_cycle(machine: &Machine) {
    drop(std::fs::remove_dir_all(machine.path("run/bundle")));
    let mut state = machine.state();
    for container in state["containers"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        container["running"] = json!(container["running"] == true && container["keep"] == true);
    }
    state["timers"] = json!([]);
    state["loaded"] = json!({});
    state["routes"] = json!({});
    state["daemon"] = json!(world::units(machine.root()).unwrap());
    for unit in state["units"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        *unit = json!("inactive");
    }
    read_by(machine, &mut state, &EARLIEST);
    machine.set_state(&state);
}

/// The distribution's programs that have read their files before ours has settled which generation is current.
const EARLIEST: [&str; 2] = ["systemd-journald.service", "systemd-sysctl.service"];

/// Has these programs read what stands in `/etc` now.
fn read_by(machine: &Machine, state: &mut Value, units: &[&str]) {
    let Ok(view) = world::view(machine.root()) else { return };
    for unit in units {
        state["loaded"][unit] = json!(view);
    }
}

/// The units that a target wants are started, and read the current view; the proxy's configuration names its slot.
fn start_units(machine: &Machine) {
    let mut state = machine.state();
    read_by(machine, &mut state, &["ssh.service"]);
    for unit in wanted(machine) {
        state["units"][&unit] = json!("active");
        state["loaded"][&unit] = json!(world::view(machine.root()).unwrap());
    }
    let slot = machine.current().split_once('/').unwrap().1.to_owned();
    state["routes"] = json!({ "backend": slot });
    machine.set_state(&state);
}

/// Those that run on; the two of boot end.
fn wanted(machine: &Machine) -> Vec<String> {
    let links = world::units(machine.root()).unwrap();
    let names = links.iter().filter(|(path, to)| path.contains(".wants/") && *to != "nothing");
    let names = names.map(|(path, _)| path.rsplit_once('/').unwrap().1.to_owned());
    names.filter(|name| name != "bundle-early.service" && name != "bundle-late.service").collect()
}

/// Whether a boot would start this unit of ours.
fn wants(machine: &Machine, unit: &str) -> bool {
    let links = world::units(machine.root()).unwrap();
    links.iter().any(|(path, to)| path.contains(".wants/") && path.ends_with(unit) && to != "nothing")
}

/// Says whether the units of boot were there: before the first flip they are not.
fn boots(machine: &Machine) -> bool {
    power_cycle(machine);
    let early = wants(machine, "bundle-early.service");
    if early {
        machine.run(&["boot", "--early"]).ends(0);
    }
    start_units(machine);
    let late = wants(machine, "bundle-late.service");
    if late {
        machine.run(&["boot", "--late"]).ends(0);
    }
    early && late
}

fn power_lost_around_every_effect(scene: &Scene) {
    for number in 1..=scene.effects() {
        for moment in ["die_before", "die_after"] {
            let machine = scene.machine();
            machine.script(&json!({ moment: number }));
            let run = machine.run(&scene.arguments()).ends(-9);
            machine.mend();
            assert!(boots(&machine));
            scene.is_settled(&machine, &run, &format!("power lost, {moment} {number}"));
        }
    }
}

#[test]
fn a_machine_that_goes_down_in_a_switch_boots_into_old_or_new() {
    power_lost_around_every_effect(&Scene::switch());
}

#[test]
fn a_machine_that_goes_down_in_a_rollback_boots_into_old_or_new() {
    power_lost_around_every_effect(&Scene::rollback());
}

#[test]
fn a_machine_that_goes_down_in_a_change_of_one_setting_boots_into_old_or_new() {
    power_lost_around_every_effect(&Scene::setting());
}

#[test]
fn a_machine_that_goes_down_in_its_first_switch_is_settled_by_a_boot_or_the_next_command() {
    let scene = Scene::first();
    let mut by_boot = 0;
    for number in 1..=scene.effects() {
        let machine = scene.machine();
        machine.script(&json!({ "die_after": number }));
        let run = machine.run(&scene.arguments()).ends(-9);
        machine.mend();
        let when = format!("power lost, die_after {number}");
        if boots(&machine) {
            by_boot += 1;
            scene.is_settled(&machine, &run, &when);
        } else {
            scene.settles(&machine, &run, &when);
        }
    }
    println!("first: settled by the boot itself {by_boot} times");
    assert!(by_boot > 0);
}

#[test]
fn a_boot_without_a_switch_brings_up_what_was_current() {
    let scene = Scene::rollback();
    let machine = scene.machine();
    let ids = |machine: &Machine| -> Vec<Value> {
        machine.state()["containers"].as_object().unwrap().values().map(|c| c["id"].clone()).collect()
    };
    let before = ids(&machine);
    assert!(boots(&machine));
    crate::settled::assert_settled(&machine, "after a boot");
    assert_eq!(ids(&machine), before, "no container was made anew");
    // Even if Docker brought nothing back.
    let mut state = machine.state();
    for container in state["containers"].as_object_mut().unwrap().values_mut() {
        container["running"] = json!(false);
    }
    machine.set_state(&state);
    assert!(boots(&machine));
    let damage = crate::settled::damage(&machine);
    assert!(damage.is_empty(), "{damage:?}");
}
