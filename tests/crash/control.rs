//! The checker has teeth: damage done by hand is found, each kind in its own words.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::machine::Machine;
use crate::scene::Scene;
use crate::settled::damage;

type Hand = fn(&Machine);

fn state(machine: &Machine, change: impl FnOnce(&mut serde_json::Value)) {
    let mut state = machine.state();
    change(&mut state);
    machine.set_state(&state);
}

fn point(machine: &Machine, link: &str, target: &str) {
    let path = machine.path(link);
    drop(fs::remove_file(&path));
    symlink(target, path).unwrap();
}

const DAMAGE: &[(&str, Hand)] = &[
    ("last good", |m| point(m, "var/lib/bundle/current", "generations/1/blue")),
    ("last good", |m| point(m, "var/lib/bundle/last-good", "generations/1/blue")),
    ("/etc has", |m| fs::remove_file(m.path("etc/systemd/system/bundle-early.service")).unwrap()),
    ("/etc has", |m| point(m, "etc/systemd/system/stray.service", "/dev/null")),
    ("left over", |m| point(m, "etc/systemd/system/.x.service.new", "/dev/null")),
    ("left over", |m| point(m, "var/lib/bundle/current.back", "generations/1/blue")),
    ("in staging", |m| fs::write(m.path("var/lib/bundle/staging/x"), "").unwrap()),
    ("the ledger says", |m| fs::write(m.path("var/lib/bundle/ledger"), "{\"links\":{}}").unwrap()),
    ("not what its hash says", |m| {
        let object = fs::canonicalize(m.path("var/lib/bundle/current/redis/redis.conf")).unwrap();
        fs::write(object, "").unwrap();
    }),
    ("the view is", |m| fs::remove_file(m.path("var/lib/bundle/current/redis/redis.conf")).unwrap()),
    ("secret files", |m| fs::remove_file(m.path("run/bundle/secrets/backend/database_url")).unwrap()),
    ("644 or empty", |m| {
        let file = m.path("run/bundle/secrets/backend/database_url");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }),
    ("not the value of", |m| {
        fs::write(m.path("var/lib/bundle/secrets/telegram_bot_token"), "other").unwrap();
    }),
    ("container backend-green is", |m| state(m, |s| s["containers"]["backend-green"]["keep"] = json!(false))),
    ("container postgres is", |m| state(m, |s| s["containers"]["postgres"]["running"] = json!(false))),
    ("of nobody and runs", |m| state(m, |s| s["containers"]["backend-blue"]["running"] = json!(true))),
    ("has a policy", |m| state(m, |s| s["containers"]["worker-blue"]["keep"] = json!(true))),
    ("route backend", |m| state(m, |s| s["routes"]["backend"] = json!("blue"))),
    ("timers are armed", |m| state(m, |s| s["timers"] = json!([3]))),
    ("active are", |m| state(m, |s| s["units"]["bundle-haproxy.service"] = json!("inactive"))),
    ("runs with nftables/bundle.nft", |m| {
        state(m, |s| s["loaded"]["bundle-firewall.service"]["nftables/bundle.nft"] = json!("x/bundle.nft"));
    }),
    ("PID 1 knows", |m| state(m, |s| s["daemon"] = json!({}))),
    ("ran twice", |m| state(m, |s| s["overlaps"] = json!(["worker"]))),
    ("has not ended", |m| {
        let path = m.path("var/lib/bundle/generations/1/record.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"good\"", "\"pending\"");
        fs::write(path, text).unwrap();
    }),
];

#[test]
fn the_checker_finds_what_is_broken_by_hand() {
    let scene = Scene::rollback();
    assert_eq!(damage(&scene.machine()), Vec::<String>::new(), "and nothing where nothing is broken");
    for (number, (words, hand)) in DAMAGE.iter().enumerate() {
        let machine = scene.machine();
        hand(&machine);
        let found = damage(&machine);
        assert!(found.iter().any(|line| line.contains(words)), "{number}: no `{words}` in {found:#?}");
    }
}

#[test]
fn a_switch_under_way_is_no_settled_machine() {
    let scene = Scene::switch();
    let machine = scene.machine();
    machine.script(&json!({ "die_after": 8 }));
    machine.run(&scene.arguments()).ends(-9);
    machine.mend();
    let found = damage(&machine);
    assert!(found.iter().any(|line| line.contains("pending")), "{found:?}");
}
