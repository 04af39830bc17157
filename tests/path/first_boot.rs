//! A fresh machine: it waits for what only the operator has, says so, and goes on by itself.

use std::fs;

use serde_json::{Value, json};

use crate::machine::{Machine, Profiles};

const TOKEN: &str = "[secrets.smtp_password]\n";

fn bootstrap(machine: &Machine) -> Value {
    machine.state()["units"]["bundle-bootstrap.service"].clone()
}

#[test]
fn a_first_boot_waits_for_every_secret_and_goes_on_after_the_last() {
    let profiles = Profiles::new();
    let bundle = profiles.built("first", TOKEN);
    let machine = Machine::new();
    let boot = || machine.run(&["switch", "--first-boot", &bundle.reference(), "--json"]);
    let waiting = boot().ends(40);
    assert_eq!(waiting.json()["waiting_for"], json!(["smtp_password", "telegram_bot_token"]));
    assert_eq!(machine.current(), "0/blue");
    let status = machine.run(&["status"]).ends(0);
    for words in ["missing  the secret `smtp_password`: `bundle secrets set smtp_password`", "by itself"] {
        assert!(status.stdout.contains(words), "{}", status.stdout);
    }

    // The machine makes this one itself, and says so before there is a generation to ask.
    machine.set_secret("postgres_password", "mine").ends(20).says(&["made on the machine"]);
    machine.set_secret("smtp_password", "x").ends(0).says(&["still waits for `telegram_bot_token`"]);
    assert_eq!(bootstrap(&machine), Value::Null);
    // Called again meanwhile, it waits for what is still missing.
    assert_eq!(boot().ends(40).json()["waiting_for"], json!(["telegram_bot_token"]));
    machine.set_secret("telegram_bot_token", "123:abc").ends(0).says(&["the first boot goes on"]);
    assert_eq!(bootstrap(&machine), "active");

    boot().ends(0);
    assert_eq!(machine.bundle().as_deref(), Some(bundle.digest.as_str()));
    assert_eq!(machine.status()["on_the_way"]["missing_secrets"], json!([]));
    machine.set_secret("telegram_bot_token", "456:def").ends(0);
    assert!(!machine.path("var/lib/bundle/waiting.json").exists());
}

#[test]
fn a_first_boot_never_takes_a_machine_back() {
    let profiles = Profiles::new();
    let first = profiles.built("first", "");
    let second = profiles.built("second", "[redis]\nmaxmemory = \"200mb\"\n");
    let machine = Machine::with_secrets();
    machine.run(&["switch", "--first-boot", &first.reference()]).ends(0);
    machine.switch(&second).ends(0);
    let before = machine.snapshot();
    machine.run(&["switch", "--first-boot", &first.reference()]).ends(10);
    assert_eq!(machine.bundle().as_deref(), Some(second.digest.as_str()));
    // Nor one that was taken down on purpose.
    assert_eq!(before, machine.snapshot());
    machine.run(&["switch", "--generation", "0"]).ends(0);
    machine.run(&["switch", "--first-boot", &first.reference()]).ends(10);
    assert!(machine.current().starts_with("0/"), "{}", machine.current());
}

#[test]
fn a_first_boot_whose_release_is_not_healthy_goes_back_and_may_be_tried_again() {
    let profiles = Profiles::new();
    let bundle = profiles.built("first", "");
    let machine = Machine::with_secrets();
    machine.script(&json!({ "red": ["route backend"] }));
    let failed = machine.run(&["switch", "--first-boot", &bundle.reference()]);
    assert_eq!(failed.code, 30, "{}", failed.stderr);
    assert_eq!(machine.current(), "0/blue");
    machine.mend();
    machine.run(&["switch", "--first-boot", &bundle.reference()]).ends(0);
    assert_eq!(machine.current().split('/').next(), Some("2"));
}

#[test]
fn a_registrys_token_is_waited_for_before_the_registry_is_asked() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("etc/bundle")).unwrap();
    let settings =
        "repository = \"registry.invalid/team/app\"\nuser = \"deploy\"\ntoken = \"registry_token\"\n";
    fs::write(machine.path("etc/bundle/registry.toml"), settings).unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    let waiting = machine.run(&["switch", "--first-boot", &digest, "--json"]).ends(40);
    assert_eq!(waiting.json()["waiting_for"], json!(["registry_token"]));
    machine.set_secret("registry_token", "hunter2").ends(0).says(&["the first boot goes on"]);
    let login = machine.path("run/bundle/secrets/.registry/registry.invalid/config.json");
    assert!(!login.exists());
    let refused = machine.run(&["switch", "--first-boot", &digest]).ends(20).says(&["registry.invalid"]);
    assert!(!refused.stderr.contains("hunter2"));
    assert!(login.exists());
}

#[test]
fn what_the_bootstrap_says_about_itself_is_in_the_status() {
    let machine = Machine::new();
    machine.run(&["status"]).ends(0);
    fs::create_dir_all(machine.path("var/lib/bundle")).unwrap();
    let words = "state=waiting\nsince=1700000000\nmessage=registry.example.com does not answer\n";
    fs::write(machine.path("var/lib/bundle/first-boot"), words).unwrap();
    let status = machine.run(&["status"]).ends(0).stdout;
    assert!(status.contains("waiting since 2023-11-14 22:13:20Z: registry.example.com does not"), "{status}");
    assert_eq!(machine.status()["on_the_way"]["first_boot"]["state"], "waiting");
}
