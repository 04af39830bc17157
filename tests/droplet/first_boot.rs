//! From power to generation 1: a stock machine that has never heard of us gets user-data, and serves.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::builder::{Builder, door, send, status};
use crate::machine::{Machine, Size, boot};
use crate::poster::Posters;
use crate::seed::Options;
use crate::serving::{TOKEN, release};
use crate::words::nothing_secret_stands_anywhere;

/// A machine on its way, and when it was switched on.
pub(crate) struct Start {
    power_on: Instant,
    clock: SystemTime,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self { power_on: Instant::now(), clock: SystemTime::now() }
    }

    /// One line of the timeline.
    pub(crate) fn tell(&self, what: &str) {
        println!("{:>8.1} s  {what}", self.power_on.elapsed().as_secs_f64());
    }

    /// What the bootstrap said, with the seconds since power-on.
    pub(crate) fn journal(&self, machine: &dyn Machine) {
        let began = self.clock.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let lines = machine.run_ok(&[
            "journalctl",
            "--unit=bundle-bootstrap",
            "--output=short-unix",
            "--no-pager",
            "--quiet",
        ]);
        for line in lines.lines() {
            let (time, rest) = line.trim_start().split_once(' ').unwrap_or(("0", line));
            let words = rest.split_once(": ").map_or(rest, |(_, words)| words);
            println!("{:>8.1} s  | {words}", time.parse::<f64>().unwrap_or(0.0) - began);
        }
    }
}

/// Waits until `bundle status` (once it is there) is as wanted.
pub(crate) fn until(machine: &dyn Machine, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + limit;
    let mut last = Value::Null;
    loop {
        if machine.run(&["test", "-x", "/usr/local/bin/bundle"]).status.success() {
            last = status(machine);
            if wanted(&last) {
                return;
            }
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} for {what}; the status is {last:#}\n{}\n{}",
            machine
                .sh("cat /var/lib/bundle/first-boot; journalctl -u bundle-bootstrap --no-pager --lines=60"),
            machine.complaints()
        );
        sleep(Duration::from_millis(500));
    }
}

/// Whether the machine waits for exactly these secrets, and its bootstrap says so.
pub(crate) fn waits_for(status: &Value, names: &[&str]) -> bool {
    let on_the_way = &status["on_the_way"];
    on_the_way["missing_secrets"] == json!(names)
        && on_the_way["first_boot"]["state"] == "waiting-for-secrets"
}

/// Boots a stock machine with nothing but user-data, and sends the two secrets when it asks for them.
pub(crate) fn boot_to_generation_one(builder: &Builder, size: Size) -> (Box<dyn Machine>, Start) {
    let bundle = builder.publish("");
    let user_data = builder.user_data();
    println!("user-data: {} bytes", user_data.len());
    let start = Start::now();
    let machine = boot(size, &Options::stock(user_data).memory(3072));
    let m = &*machine;
    start.tell("commands can be run inside");
    builder.serve_docker(m);
    let limit = m.patience(120);

    until(m, "asking for the registry's token", limit, |status| waits_for(status, &["registry_token"]));
    start.tell("waits for the registry's token");
    // The end of cloud-init's own work: what it says and what we say is the same.
    let said = m.first_boot(limit);
    let words = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(0), "{words}");
    assert!(words.contains("status: done"), "{words}");
    start.tell("cloud-init status --wait: done");
    let people = m.run_ok(&["bundle", "status"]);
    assert!(people.contains("missing  the secret `registry_token`"), "{people}");
    assert!(builder.registry.get("/v2/").is_some());

    send(m, "registry_token", builder.registry.password());
    until(m, "asking for the bot's token", limit, |status| waits_for(status, &["telegram_bot_token"]));
    start.tell("waits for the bot's token; bundle and images are there");
    send(m, "telegram_bot_token", TOKEN);
    until(m, "generation 1", limit, |status| {
        status["current"]["generation"] == 1 && status["on_the_way"]["first_boot"].is_null()
    });
    start.tell("generation 1 is current");
    assert_eq!(status(m)["record"]["bundle"], json!(bundle));
    until(m, "health", limit, |status| status["degraded"] == false && status["pending"].is_null());
    start.journal(m);
    println!("{}", m.run_ok(&["bundle", "status"]));
    let said = m.run(&["cloud-init", "schema", "--system"]);
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).to_lowercase();
    assert!(said.status.success() && !words.contains("deprecat") && !words.contains("warning"), "{words}");
    println!("{words}");
    nothing_secret_stands_anywhere(m, &bundle, "");
    (machine, start)
}

/// Something posted through the public door is in Postgres.
pub(crate) fn posts(machine: &dyn Machine, update: u64) {
    let body = format!(r#"{{"update_id":{update},"text":"hello {update}"}}"#);
    let answer = door(machine).connect().unwrap().ask("POST", "/webhook", &body).unwrap();
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"), "{answer:?}");
    has(machine, update);
}

/// What was posted is in Postgres.
pub(crate) fn has(machine: &dyn Machine, update: u64) {
    let query = format!("select count(*) from messages where update_id = {update}");
    let psql = "PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h 127.0.0.1 -U app -d app -Atc";
    let found = machine.run_ok(&["docker", "exec", "postgres", "sh", "-c", &format!("{psql} '{query}'")]);
    assert_eq!(found.trim(), "1", "update {update} is not in Postgres");
}

#[test]
fn a_stock_machine_boots_by_itself_into_generation_one_and_serves() {
    let builder = Builder::new(Size::Namespaces);
    let (mut machine, start) = boot_to_generation_one(&builder, Size::Namespaces);
    posts(&*machine, 1);
    start.tell("what was posted through 443 is in Postgres");
    // Port 80 leads there.
    let address = machine.addr().to_string();
    let moved = machine.run_ok(&[
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        &format!("http://{address}/x?y"),
    ]);
    assert_eq!(moved, "308 https://bot.test/x?y");
    // The activator is the one that the bundle names, and the ground's firewall has given way.
    let called = machine.run_ok(&["readlink", "/usr/local/bin/bundle"]);
    assert!(called.starts_with("/var/lib/bundle/store/"), "{called}");
    let disabled = machine.run(&["systemctl", "is-enabled", "bundle-bootstrap.service"]);
    assert_eq!(String::from_utf8_lossy(&disabled.stdout).trim(), "disabled");

    let rebooted = Instant::now();
    machine.reboot();
    until(&*machine, "health after a reboot", machine.patience(60), |status| {
        status["current"]["generation"] == 1 && status["degraded"] == false
    });
    println!("rebooted, and healthy after {:.1} s", rebooted.elapsed().as_secs_f64());
    has(&*machine, 1);
    posts(&*machine, 2);
    a_second_release_is_deployed(&builder, &*machine);
    another_activator_takes_over(&builder, &*machine);
}

/// Over ssh as the machine's own account, while clients post; and back without a registry.
fn a_second_release_is_deployed(builder: &Builder, machine: &dyn Machine) {
    let posters = Posters::start(&door(machine), 4);
    let began = Instant::now();
    let deployed = builder.deploy(machine, &release("second", ""));
    assert_eq!(deployed.code, 0, "{deployed:?}");
    println!("deployed in {:.1} s\n{}", began.elapsed().as_secs_f64(), deployed.out);
    let seen = posters.end();
    println!("{} answered, {} failed while a release was deployed", seen.answered, seen.failed.len());
    assert!(seen.answered > 100 && seen.failed.is_empty(), "{:?}", seen.failed);
    assert_eq!(seen.releases.len(), 2, "{:?}", seen.releases);
    assert_eq!(status(machine)["current"]["generation"], 2);
}

/// A bundle that names another activator is activated by that one, and going back brings back the one before.
fn another_activator_takes_over(builder: &Builder, machine: &dyn Machine) {
    let called = || machine.run_ok(&["readlink", "/usr/local/bin/bundle"]);
    let before = called();
    builder.pin_another_activator();
    let deployed = builder.deploy(machine, &release("third", ""));
    assert_eq!(deployed.code, 0, "{deployed:?}");
    assert!(deployed.err.contains("handing over to the activator"), "{deployed:?}");
    assert_ne!(called(), before);
    machine.run_ok(&["bundle", "rollback"]);
    assert_eq!(called(), before);
    assert_eq!(status(machine)["current"]["generation"], 2);
}

#[test]
fn a_registry_that_is_away_for_three_minutes_is_waited_for() {
    let mut builder = Builder::new(Size::Namespaces);
    let bundle = builder.publish("");
    builder.open.stop();
    let start = Start::now();
    let machine = boot(Size::Namespaces, &Options::stock(builder.user_data()));
    let m = &*machine;
    let says = |words: &str| {
        let file = m.run(&["cat", "/var/lib/bundle/first-boot"]);
        String::from_utf8_lossy(&file.stdout).contains(words)
    };
    let wait = |words: &str, limit: u64| {
        let began = Instant::now();
        while !says(words) {
            assert!(began.elapsed() < Duration::from_secs(limit), "no `{words}`\n{}", m.complaints());
            sleep(Duration::from_millis(500));
        }
        start.tell(words);
    };
    wait("no connection to the registry `registry.test:", 180);
    sleep(Duration::from_mins(3));
    assert!(says("state=fetching"), "it goes on trying");
    let cloud_init = m.run(&["cloud-init", "status"]);
    assert!(String::from_utf8_lossy(&cloud_init.stdout).contains("running"), "{cloud_init:?}");
    builder.open.start_again();
    wait("state=waiting-for-secrets", 180);
    // The other one goes away, too, now that the machine knows the way.
    builder.registry.stop();
    send(m, "registry_token", builder.registry.password());
    send(m, "telegram_bot_token", TOKEN);
    wait("connect", 60);
    builder.registry.start_again();
    until(m, "generation 1", Duration::from_mins(4), |status| status["record"]["bundle"] == json!(bundle));
    start.tell("generation 1 is current");
    let said = m.first_boot(Duration::from_mins(1));
    assert!(String::from_utf8_lossy(&said.stdout).contains("status: done"), "{said:?}");
    start.journal(m);
}
