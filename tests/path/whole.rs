//! The whole path in one test, with the real registry.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::machine::{Machine, Profiles, Run};
use crate::registry::{PASSWORD, Registry};
use crate::settled::assert_settled;

/// A command with what it needs to reach the registry.
fn reaching(mut command: Command, registry: &Registry) -> Run {
    drop(registry.options(PASSWORD));
    let directory = registry.certificates();
    let logins = fs::read_dir(directory.parent().unwrap()).unwrap().flatten();
    let login = logins.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "json"));
    let ca = directory.join("ca.crt").display().to_string();
    Run::of(command.env("REGISTRY_AUTH_FILE", login.unwrap()).args(["--registry-ca", &ca]))
}

fn ids(state: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| state["containers"][name]["id"].as_u64().unwrap()).collect()
}

const ALL: [&str; 4] = ["postgres", "redis", "backend-blue", "worker-blue"];

#[test]
fn one_profile_becomes_a_digest_travels_and_becomes_a_generation_and_back() {
    let registry = Registry::with_tls();
    let profiles = Profiles::new();
    let repository = format!("{}/team/marketplace", registry.host());
    let here = format!("[registry]\nrepository = \"{repository}\"\n");

    // Build; push with the password and not without; pull somewhere else, by tag, manifest and the bundle's own digest.
    let first = profiles.built("shop", &here);
    assert_eq!(profiles.build("shop").digest, first.digest);
    let ca = registry.certificates().join("ca.crt").display().to_string();
    let anonymous = profiles.command("shop", &["push", "shop", "--registry-ca", &ca]);
    Run::of({ anonymous }.env("REGISTRY_AUTH_FILE", "/nonexistent")).ends(20);
    assert_eq!(registry.writes(), 0, "nothing was sent");
    let untrusted = Run::of(&mut profiles.command("shop", &["push", "shop"])).ends(20);
    assert!(untrusted.stderr.contains("certificate"), "{}", untrusted.stderr);
    let pushed = reaching(profiles.command("shop", &["push", "shop", "--json"]), &registry).ends(0).json();
    assert_eq!(pushed["bundle"], first.digest.as_str());
    let manifest = format!("{repository}@{}", pushed["manifest"].as_str().unwrap());
    let again = reaching(profiles.command("shop", &["push", "shop", "--json"]), &registry).ends(0).json();
    assert_eq!((&again["blobs_sent"], &again["manifest"]), (&0.into(), &pushed["manifest"]));
    for reference in [format!("{repository}:shop"), manifest, first.digest.clone()] {
        let elsewhere = Machine::new();
        let pull = elsewhere.command(&["pull", &reference, "--repository", &repository]);
        assert_eq!(reaching(pull, &registry).ends(0).stdout, format!("{}\n", first.digest));
    }

    // The first generation.
    let machine = Machine::with_secrets();
    let from_registry = |verb: &str, digest: &str, more: &[&str]| {
        let arguments = [&[verb, digest, "--repository", &repository], more].concat();
        reaching(machine.command(&arguments), &registry)
    };
    let before = machine.snapshot();
    from_registry("plan", &first.digest, &[]).ends(0);
    assert_eq!(machine.snapshot(), before, "a plan touches nothing");
    from_registry("switch", &first.digest, &[]).ends(0);
    assert_eq!((machine.current().as_str(), machine.bundle()), ("1/blue", Some(first.digest.clone())));
    assert_settled(&machine, "after the first switch");
    let of_first = ids(&machine.state(), &ALL);

    // One setting of Redis: it is restarted, Postgres is asked to stay, the slot does stay.
    let second = profiles.built("shop", &format!("{here}[redis]\nmaxmemory = \"200mb\"\n"));
    assert_ne!(second.digest, first.digest);
    reaching(profiles.command("shop", &["push", "shop"]), &registry).ends(0);
    let plan = from_registry("plan", &second.digest, &["--json"]).ends(0).json();
    assert_eq!(plan["plan"]["slot_stays"], true);
    let changed: Vec<_> =
        plan["plan"]["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(changed, ["MANIFEST", "compose/data.yaml", "redis/redis.conf"]);
    let digest = plan["digest"].as_str().unwrap();
    from_registry("switch", &second.digest, &["--expect-plan", digest, "--expect-current", &first.digest])
        .ends(0);
    assert_eq!((machine.current().as_str(), machine.bundle()), ("2/blue", Some(second.digest.clone())));
    assert_settled(&machine, "after a change of Redis");
    let of_second = ids(&machine.state(), &ALL);
    assert_eq!(of_second[2..], of_first[2..], "the slot's containers stay");
    assert_ne!(of_second[1], of_first[1], "Redis is started with its new file");

    // The application: the other slot, and the data stays.
    let text = format!(
        "{here}[redis]\nmaxmemory = \"200mb\"\n[services.backend.environment]\nGREETING = \"hello\"\n"
    );
    let third = profiles.built("shop", &text);
    reaching(profiles.command("shop", &["push", "shop"]), &registry).ends(0);
    from_registry("switch", &third.digest, &[]).ends(0);
    assert_eq!((machine.current().as_str(), machine.bundle()), ("3/green", Some(third.digest.clone())));
    assert_settled(&machine, "after a change of the application");
    let state = machine.state();
    assert_eq!(ids(&state, &ALL[..2]), of_second[..2], "the data's containers stay");
    assert_eq!(state["routes"]["backend"], "green");
    assert_eq!(state["containers"]["backend-blue"]["running"], false);

    // Back, without a network.
    machine.run(&["rollback"]).ends(0);
    assert_eq!((machine.current().as_str(), machine.bundle()), ("2/blue", Some(second.digest.clone())));
    assert_settled(&machine, "after a rollback");
    let state = machine.state();
    assert_eq!(ids(&state, &ALL), of_second, "going back started the stopped containers again");
    machine.run(&["switch", "--generation", "1"]).ends(0);
    assert_eq!((machine.current().as_str(), machine.bundle()), ("1/blue", Some(first.digest.clone())));
    assert_settled(&machine, "after a switch to generation 1");
    assert_eq!(ids(&machine.state(), &ALL[2..]), of_first[2..], "the slot stayed");

    // What is said of it.
    let listed = machine.run(&["generations", "--json"]).ends(0).json();
    let outcomes: Vec<_> =
        listed["generations"].as_array().unwrap().iter().map(|g| g["outcome"].clone()).collect();
    assert_eq!(outcomes, ["good", "good", "good", "good"]);
    assert_eq!(listed["current"]["generation"], 1);
    let status = machine.status();
    assert_eq!((&status["degraded"], &status["pending"]), (&false.into(), &Value::Null));
    assert_eq!(status["record"]["bundle"], first.digest.as_str());
    assert_eq!(status["placeholder_certificate"], true);
    for text in [machine.run(&["status"]).ends(0).stdout, machine.run(&["generations"]).ends(0).stdout] {
        assert!(!text.contains("123:abc") && text.contains("blue"), "{text}");
    }
}
