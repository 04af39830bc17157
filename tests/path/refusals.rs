//! What is refused, in which words, and that nothing was touched.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::machine::{Machine, Profiles, differences};
use crate::settled::assert_settled;

const APP: &str = "[services.backend.environment]\nGREETING = \"hello\"\n";

/// No generation, no container, no file outside our own directory.
#[track_caller]
fn untouched(machine: &Machine) {
    let state = machine.state();
    assert!(state["effects"].as_array().is_none_or(Vec::is_empty), "{state}");
    assert_eq!(
        machine.run(&["generations", "--json"]).json()["generations"].as_array().map_or(0, Vec::len),
        1
    );
    assert_eq!(machine.current(), "0/blue");
    assert_settled(machine, "after a refusal");
}

#[test]
fn all_missing_secrets_are_named_and_nothing_is_touched() {
    let profiles = Profiles::new();
    let text = "[secrets.smtp_password]\n[services.backend]\n\
                secrets = [\"database_url\", \"redis_url\", \"telegram_bot_token\", \"smtp_password\"]\n";
    let built = profiles.built("mail", text);
    let machine = Machine::new();
    let refused = machine.switch(&built).ends(20);
    let refused =
        refused.says(&["`smtp_password`", "`telegram_bot_token`", "bundle secrets set smtp_password"]);
    assert_eq!(refused.stdout, "");
    untouched(&machine);
    assert!(!machine.path("run/bundle").exists() && !machine.path("var/lib/bundle/store").join("x").exists());
    machine.set_secret("smtp_password", "").ends(1).says(&["empty"]);
    machine.set_secret("smtp_password", "a\n").ends(0);
    machine.switch(&built).ends(20).says(&["`telegram_bot_token`"]);
    machine.set_secret("telegram_bot_token", "b").ends(0);
    machine.switch(&built).ends(0);
    assert_eq!(fs::read_to_string(machine.path("run/bundle/secrets/backend/smtp_password")).unwrap(), "a");
    assert_settled(&machine, "with all secrets");
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let profiles = Profiles::new();
    let built = profiles.built("first", "");
    let machine = Machine::with_secrets();
    let theirs = machine.path("etc/systemd/system/bundle-haproxy.service");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    machine.switch(&built).ends(20).says(&["/etc/systemd/system/bundle-haproxy.service", "not ours", "move"]);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    assert_eq!(machine.current(), "0/blue");
    fs::remove_file(&theirs).unwrap();
    machine.switch(&built).ends(0);
    // In place of a link of ours it is somebody's, too.
    fs::remove_file(&theirs).unwrap();
    fs::write(&theirs, "theirs again").unwrap();
    machine
        .switch(&profiles.built("second", "[redis]\nmaxmemory = \"200mb\"\n"))
        .ends(20)
        .says(&["not ours"]);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs again");
}

#[test]
fn a_plan_says_what_the_switch_would_refuse() {
    let profiles = Profiles::new();
    let built = profiles.built("first", "");
    let machine = Machine::new();
    let planned = machine.run(&["plan", &built.reference()]).ends(20).says(&["telegram_bot_token"]);
    assert!(planned.stdout.contains("flip"), "the plan is shown all the same: {}", planned.stdout);
    machine.set_secret("telegram_bot_token", "123").ends(0);
    machine.run(&["plan", &built.reference()]).ends(0);
    machine.switch(&built).ends(0);
    machine.run(&["plan", "--generation", "1"]).ends(10);
}

#[test]
fn only_what_an_operator_has_is_taken_from_an_operator() {
    let profiles = Profiles::new();
    let machine = Machine::with_secrets();
    machine.switch(&profiles.built("first", "")).ends(0);
    machine.set_secret("postgres_password", "hacked").ends(20).says(&["made on the machine"]);
    machine.set_secret("database_url", "postgresql://elsewhere").ends(20).says(&["put together"]);
    machine.set_secret("telegram_bot_tokne", "123").ends(0).says(&["has no secret `telegram_bot_tokne`"]);
}

#[test]
fn a_file_that_its_reader_refuses_and_an_image_that_is_not_to_be_had_start_nothing() {
    let profiles = Profiles::new();
    let built = profiles.built("first", "");
    let machine = Machine::with_secrets();
    machine
        .script(&json!({ "bad_file": ["haproxy.cfg", "bundle.nft"], "no_image": ["marketplace", "redis"] }));
    let refused = machine.switch(&built).ends(20);
    refused.says(&[
        "haproxy/haproxy.cfg",
        "nftables/bundle.nft",
        "marketplace@sha256",
        "redis@sha256",
        "docker login",
    ]);
    machine.mend();
    untouched(&machine);
}

#[test]
fn current_or_the_plan_having_moved_is_twenty_two() {
    let profiles = Profiles::new();
    let (first, next) = (profiles.built("first", ""), profiles.built("next", APP));
    let machine = Machine::with_secrets();
    let plan = machine.run(&["plan", &next.reference(), "--json"]).ends(0).json()["digest"].clone();
    machine
        .run(&["switch", &first.reference(), "--expect-current", &first.digest])
        .ends(22)
        .says(&["bare machine"]);
    machine.switch(&first).ends(0);
    let before = machine.snapshot();
    let reference = next.reference();
    machine
        .run(&["switch", &reference, "--expect-current", &next.digest])
        .ends(22)
        .says(&["is current, not"]);
    assert_eq!(differences(&before, &machine.snapshot()), Vec::<String>::new());
    machine
        .run(&["switch", &reference, "--expect-plan", plan.as_str().unwrap()])
        .ends(22)
        .says(&["the plan is now"]);
    assert_eq!(machine.current(), "1/blue");
    assert_settled(&machine, "after the plan had moved");
    machine.run(&["switch", &reference, "--expect-current", &first.digest]).ends(0);
}

#[test]
fn nobody_listening_changes_nothing_about_what_is_done() {
    let profiles = Profiles::new();
    let (first, next) = (profiles.built("first", ""), profiles.built("next", APP));
    let machine = Machine::with_secrets();
    // Every write to /dev/full fails (full(4)).
    let deaf = |arguments: &[&str]| {
        let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        machine.command(arguments).stdout(full()).stderr(full()).status().unwrap().code()
    };
    assert_eq!(deaf(&["switch", &first.reference()]), Some(0));
    machine.script(&json!({ "red": ["route backend in green"] }));
    assert_eq!(deaf(&["switch", &next.reference()]), Some(30));
    machine.mend();
    assert_eq!(deaf(&["switch", "--generation", "9"]), Some(20));
    // Its result is all that `status` does, and it is lost.
    assert_eq!(deaf(&["status"]), Some(20));
    assert_settled(&machine, "although nobody listened");
}

#[test]
fn of_two_switches_at_once_one_wins_and_the_other_is_told_who() {
    let profiles = Profiles::new();
    let (first, next) = (profiles.built("first", ""), profiles.built("next", APP));
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    machine.script(&json!({ "slow_ms": 80 }));
    let mut command = machine.command(&["switch", &next.reference()]);
    let mut winner = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let holder = format!("\"pid\":{}", winner.id());
    while !fs::read_to_string(machine.path("var/lib/bundle/lock")).unwrap().contains(&holder) {
        assert!(start.elapsed() < Duration::from_secs(10), "the first switch does not take the lock");
    }
    let told = machine.run(&["switch", "--generation", "0"]).ends(21);
    told.says(&["`bundle switch` by", &format!("process {}", winner.id()), "phase"]);
    machine.run(&["secrets", "set", "telegram_bot_token"]).ends(1);
    machine.run(&["rollback"]).ends(21);
    machine.run(&["recover"]).ends(21);
    // A value that is what it was gets in nobody's way.
    machine.set_secret("telegram_bot_token", "123:abc").ends(0);
    machine.set_secret("telegram_bot_token", "456:def").ends(21);
    // Who only looks is not kept waiting, and sees who is at work.
    let busy = &machine.run(&["--json", "status"]).ends(0).json()["busy"];
    assert_eq!((&busy["pid"], &busy["command"]), (&json!(winner.id()), &json!("bundle switch")));
    machine.run(&["status"]).ends(0);
    machine.run(&["generations"]).ends(0);
    assert!(winner.wait().unwrap().success());
    machine.mend();
    assert_eq!(machine.current(), "2/green");
    assert!(
        machine.run(&["--json", "status"]).ends(0).json()["busy"].is_null(),
        "nobody is at work any more"
    );
    assert_settled(&machine, "after two switches at once");
}

#[test]
fn damage_on_the_disk_is_said_in_words_before_anything_is_touched() {
    let profiles = Profiles::new();
    let (first, next) = (profiles.built("first", ""), profiles.built("next", APP));
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    machine.switch(&next).ends(0);

    // An object of the generation to which one would go back.
    let object =
        fs::canonicalize(machine.path("var/lib/bundle/generations/1/blue/redis/redis.conf")).unwrap();
    let good = fs::read(&object).unwrap();
    let effects = machine.state()["effects"].as_array().unwrap().len();
    fs::write(&object, "maxmemory 1").unwrap();
    machine.run(&["rollback"]).ends(20).says(&["redis/redis.conf", "damaged"]);
    fs::remove_file(&object).unwrap();
    machine.run(&["rollback"]).ends(20).says(&["redis/redis.conf"]);
    assert_eq!(machine.state()["effects"].as_array().unwrap().len(), effects, "nothing was touched");
    fs::write(&object, good).unwrap();

    // Its manifest.
    let digest = machine.record(1)["bundle"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let manifest = machine.path("var/lib/bundle/bundles").join(&digest);
    let good = fs::read(&manifest).unwrap();
    fs::write(&manifest, "{}").unwrap();
    machine.run(&["rollback"]).ends(20).says(&[&digest, "damaged"]);
    fs::write(&manifest, good).unwrap();

    // A record, the ledger, `current` itself.
    for file in ["generations/1/record.json", "ledger"] {
        let path = machine.path("var/lib/bundle").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "{\"half\":").unwrap();
        machine.run(&["rollback"]).ends(20).says(&[file, "damaged"]);
        fs::write(&path, good).unwrap();
    }
    let current = machine.path("var/lib/bundle/current");
    let good = fs::read_link(&current).unwrap();
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("/etc", &current).unwrap();
    machine.run(&["rollback"]).ends(20).says(&["current", "damaged", "/etc"]);
    machine.run(&["status"]).ends(20);
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(good, &current).unwrap();
    machine.run(&["rollback"]).ends(0);
}

#[test]
fn a_journal_that_rotted_is_not_taken_for_an_old_switch_under_way() {
    let profiles = Profiles::new();
    let machine = Machine::with_secrets();
    machine.switch(&profiles.built("first", "")).ends(0);
    machine.switch(&profiles.built("next", APP)).ends(0);
    let path = machine.path("var/lib/bundle/journal");
    let good = fs::read(&path).unwrap();
    // In the middle of the first switch: what is left of the file would say that it never ended.
    let mut rotten = good.clone();
    rotten[400] ^= 1;
    fs::write(&path, rotten).unwrap();
    for command in ["recover", "rollback", "status"] {
        machine.run(&[command]).ends(20).says(&["journal", "damaged"]);
    }
    assert_eq!(machine.current(), "2/green");
    fs::write(&path, good).unwrap();
    machine.run(&["rollback"]).ends(0);
}

#[test]
fn a_bundle_that_is_not_what_was_asked_for_writes_nothing() {
    let profiles = Profiles::new();
    let (first, next) = (profiles.built("first", ""), profiles.built("next", APP));
    let machine = Machine::with_secrets();
    machine.switch(&first).ends(0);
    let store = || fs::read_dir(machine.path("var/lib/bundle/store")).unwrap().count();
    let before = (store(), machine.snapshot().len(), machine.current());

    let missing = format!("sha256:{}", "ab".repeat(32));
    machine.run(&["switch", &missing]).ends(20);
    machine.run(&["switch", "--generation", "9"]).ends(20).says(&["no generation 9"]);
    machine.run(&["switch", "what:is:this"]).ends(2);
    machine.run(&["switch"]).ends(2);

    // Every file of the layout, with one bit turned.
    let blobs = next.layout.join("blobs/sha256");
    let mut turned = 0;
    for entry in fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        let refused = machine.switch(&next);
        assert_eq!(refused.code, 20, "{}: {}", path.display(), refused.stderr);
        assert!(refused.stdout.is_empty() && refused.stderr.starts_with("error: "), "{}", refused.stderr);
        fs::write(&path, good).unwrap();
        turned += 1;
    }
    assert!(turned >= 3, "manifest, config, layer");
    assert_eq!((store(), machine.snapshot().len(), machine.current()), before);
    assert_settled(&machine, "after forged bundles");
    machine.switch(&next).ends(0);
}
