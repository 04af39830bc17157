//! A bundle that comes over an operator's connection instead of through a registry.

use std::fs::File;
use std::process::Stdio;

use bundle::bundle::Layout;
use bundle::bundle::parcel::Writer;

use crate::machine::{Built, Machine, Profiles, Run, differences, program};
use crate::settled::assert_settled;

/// The bundle as a parcel without images, as a droplet gets it that has them all.
fn parcel(built: &Built) -> Vec<u8> {
    let layout = Layout::open(&built.layout).unwrap();
    let manifest = layout.entries().unwrap()[0].manifest;
    let mut bytes = Vec::new();
    Writer::begin(&mut bytes, &layout, manifest).unwrap().end().unwrap();
    bytes
}

fn receive(machine: &Machine, digest: &str, parcel: &[u8]) -> Run {
    let file = machine.root().with_extension("parcel");
    std::fs::write(&file, parcel).unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" < \"$0\""]).arg(&file).arg(program());
    Run::of(command.arg("--root").arg(machine.root()).args(["receive", digest]))
}

#[test]
fn what_was_sent_is_switched_to_without_a_registry() {
    let profiles = Profiles::new();
    let built = profiles.built("first", "");
    let machine = Machine::with_secrets();
    machine.run(&["switch", &built.digest]).ends(20).says(&["does not say where the bundle is"]);
    receive(&machine, &built.digest, &parcel(&built)).ends(0);
    machine.run(&["plan", &built.digest]).ends(0);
    machine.run(&["switch", &built.digest]).ends(0);
    assert_eq!(machine.bundle().as_deref(), Some(built.digest.as_str()));
    assert_settled(&machine, "a bundle that was sent");
    // Another takes its place, and what was sent before is in the store by now.
    let next = profiles.built("next", "[redis]\nmaxmemory = \"200mb\"\n");
    receive(&machine, &next.digest, &parcel(&next)).ends(0);
    machine.run(&["switch", &next.digest]).ends(0);
    machine.run(&["rollback"]).ends(0);
    assert_settled(&machine, "back from there");
}

#[test]
fn what_is_not_what_was_announced_changes_nothing_that_serves() {
    let profiles = Profiles::new();
    let (first, next) =
        (profiles.built("first", ""), profiles.built("next", "[redis]\nmaxmemory = \"200mb\"\n"));
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    let good = parcel(&next);
    let before = machine.snapshot();
    receive(&machine, &first.digest, &good).ends(20).says(&["holds the bundle", &next.digest]);
    receive(&machine, &next.digest, &good[..good.len() / 2]).ends(20);
    let mut bad = good.clone();
    let last = bad.len() - 10;
    bad[last] ^= 1;
    receive(&machine, &next.digest, &bad).ends(20);
    receive(&machine, &next.digest, b"").ends(20);
    let changed = differences(&before, &machine.snapshot());
    let outside: Vec<_> =
        changed.iter().filter(|line| !line.starts_with("var/lib/bundle/received")).collect();
    assert!(outside.is_empty(), "{outside:#?}");
    machine.run(&["switch", &next.digest]).ends(20);
    assert_settled(&machine, "after four bad parcels");
}

#[test]
fn one_sends_at_a_time_and_going_back_is_possible_meanwhile() {
    let profiles = Profiles::new();
    let (first, next) =
        (profiles.built("first", ""), profiles.built("next", "[redis]\nmaxmemory = \"200mb\"\n"));
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    machine.switch(&next).ends(0);
    // One that is sending, slowly.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = machine.command(&["receive", &first.digest]);
    let mut slow = command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let lock = machine.path("var/lib/bundle/received/lock");
    while File::open(&lock).is_ok_and(|file| file.try_lock().is_ok()) || !lock.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    receive(&machine, &first.digest, &parcel(&first)).ends(21).says(&["somebody else is sending"]);
    machine.run(&["rollback"]).ends(0);
    drop(writer);
    assert_eq!(slow.wait().unwrap().code(), Some(20));
}

#[test]
fn a_machine_says_which_images_and_which_secrets_it_has() {
    let profiles = Profiles::new();
    let built = profiles.built("first", "");
    let machine = Machine::with_secrets();
    machine.switch(&built).ends(0);
    let there = machine.state()["images"][0].as_str().unwrap().to_owned();
    let gone = format!("bundle.local/gone:{}", "0".repeat(64));
    let json = machine.run(&["--json", "receive", "--missing", &there, &gone]).ends(0).json();
    assert_eq!(json["missing"], serde_json::json!([gone]));
    machine.run(&["receive", "--missing", "docker.io/library/redis:7"]).ends(1);
    let listed = machine.run(&["secrets", "list"]).ends(0).stdout;
    assert_eq!(listed.lines().filter(|line| *line == "telegram_bot_token").count(), 1, "{listed}");
    assert!(!listed.contains("123:abc"));
    let json = machine.run(&["--json", "secrets", "list"]).ends(0).json();
    assert!(json["secrets"].as_array().unwrap().contains(&"postgres_password".into()), "{json}");
    Machine::new().run(&["secrets", "list"]).ends(0);
}
