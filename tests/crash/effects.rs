//! Killed before and after each effect on the machine.

use serde_json::json;

use crate::scene::Scene;

fn killed_around_every_effect(scene: &Scene) {
    let effects = scene.effects();
    let mut outcomes = [0, 0];
    for number in 1..=effects {
        for moment in ["die_before", "die_after"] {
            let machine = scene.machine();
            machine.script(&json!({ moment: number }));
            let run = machine.run(&scene.arguments()).ends(-9);
            machine.mend();
            let is_new = scene.settles(&machine, &run, &format!("{moment} {number}"));
            outcomes[usize::from(is_new)] += 1;
        }
    }
    println!("{}: {effects} effects, {} times old, {} times new", scene.name, outcomes[0], outcomes[1]);
    assert!(effects > 5 && outcomes.iter().all(|&count| count > 0));
}

#[test]
fn a_switch_killed_around_any_effect_is_old_or_new() {
    killed_around_every_effect(&Scene::switch());
}

#[test]
fn a_rollback_killed_around_any_effect_is_old_or_new() {
    killed_around_every_effect(&Scene::rollback());
}

#[test]
fn a_first_switch_killed_around_any_effect_is_old_or_new() {
    killed_around_every_effect(&Scene::first());
}

#[test]
fn a_change_of_one_setting_killed_around_any_effect_is_old_or_new() {
    killed_around_every_effect(&Scene::setting());
}

#[test]
fn taking_everything_down_killed_around_any_effect_is_old_or_new() {
    killed_around_every_effect(&Scene::down());
}

#[test]
fn a_switch_killed_while_it_waits_for_its_confirmation_is_old() {
    let scene = Scene::switch();
    let arguments = ["switch", "--confirm", "5", scene.arguments[2].as_str()];
    // The waits of the trial come first; confirmed in the moment in which it dies is too late.
    for (script, code) in [
        (json!({ "die_at_wait": 9 }), -9),
        (json!({ "die_at_wait": 20 }), -9),
        (json!({ "confirm_at_wait": 20, "die_at_wait": 20 }), -9),
        (json!({ "confirm_at_wait": 20, "die_at_wait": 22 }), 0),
        (json!({}), 30),
    ] {
        let machine = scene.machine();
        machine.script(&script);
        let run = machine.run(&arguments).ends(code);
        machine.mend();
        let is_new = scene.settles(&machine, &run, &script.to_string());
        assert_eq!(is_new, code == 0, "{script}");
    }
}
