//! A site whose first release serves: what the tests of a running machine start from, and the questions they ask it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::Machine;
use crate::poster::Door;
use crate::site::Site;

/// What the operator sends as the bot's token: also with signs that change when it is percent-encoded or in base64.
pub(crate) const TOKEN: &str = "8123456789:AAF+z/q%7Zs=&Kd ~w?Vb\"mX";

/// How often is asked while something is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// A release of its own: the same image, one more variable. `more` is further TOML.
pub(crate) fn release(name: &str, more: &str) -> String {
    format!("\n[services.backend.environment]\nGREETING = \"{name}\"\n{more}")
}

/// Sends the operator's secret and makes this bundle the first generation.
pub(crate) fn first_switch(site: &Site, digest: &str) {
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], TOKEN.as_bytes());
    let started = Instant::now();
    let switched = site.switch(digest);
    assert_eq!(switched.code, 0, "{switched:?}\n{}", circumstances(&site.droplet));
    println!("switch 0 → 1: {:.1} s", started.elapsed().as_secs_f64());
}

/// `bundle status --json`.
pub(crate) fn status(site: &Site) -> Value {
    let said = site.bundle(&["--json", "status"]);
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// Whether `bundle status` says that all is well and nothing pending.
pub(crate) fn is_healthy(status: &Value) -> bool {
    status["degraded"] == false
        && status["pending"].is_null()
        && status["missing_secrets"] == Value::Array(vec![])
}

/// What is wrong, by a status.
pub(crate) fn red(status: &Value) -> Vec<String> {
    let checks = status["health"].as_array().unwrap().iter().filter(|check| !check["red"].is_null());
    checks.map(|check| format!("{}: {}", check["subject"], check["red"])).collect()
}

/// Waits until the status is healthy; gives it.
pub(crate) fn await_healthy(site: &Site, limit: Duration) -> Value {
    let started = Instant::now();
    loop {
        let last = status(site);
        if is_healthy(&last) {
            return last;
        }
        let late = started.elapsed() > limit;
        assert!(!late, "not healthy after {limit:?}: {last:#}\n{}", circumstances(&site.droplet));
        std::thread::sleep(PAUSE);
    }
}

/// Waits until the door answers with the number of messages; gives it.
pub(crate) fn await_count(site: &Site, door: &Door, limit: Duration) -> u64 {
    let started = Instant::now();
    loop {
        let last = match door.get("/messages/count") {
            Ok(answer) if answer.status == 200 => return number(&answer.body, "count"),
            last => last,
        };
        let late = started.elapsed() > limit;
        assert!(!late, "no answer after {limit:?}: {last:?}\n{}", circumstances(&site.droplet));
        std::thread::sleep(PAUSE);
    }
}

/// Posts an update, once, over a connection of its own; gives the number of the message that was stored.
pub(crate) fn post(door: &Door, update: u64) -> Result<u64, String> {
    let body = format!(r#"{{"update_id":{update},"text":"hello"}}"#);
    let answer = door.connect()?.ask("POST", "/webhook", &body)?;
    if answer.status == 200 {
        Ok(number(&answer.body, "stored"))
    } else {
        Err(format!("{} {}", answer.status, answer.body))
    }
}

/// Waits until the worker has processed a message.
pub(crate) fn await_processed(door: &Door, message: u64, limit: Duration) {
    let started = Instant::now();
    loop {
        let last = door.get(&format!("/messages/{message}"));
        let processed =
            |body: &str| serde_json::from_str::<Value>(body).is_ok_and(|json| json["processed"] == true);
        if last.as_ref().is_ok_and(|answer| answer.status == 200 && processed(&answer.body)) {
            return;
        }
        assert!(started.elapsed() < limit, "message {message} is not processed after {limit:?}: {last:?}");
        std::thread::sleep(PAUSE);
    }
}

fn number(body: &str, key: &str) -> u64 {
    let json: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    json[key].as_u64().unwrap_or_else(|| panic!("no number `{key}` in {body}"))
}

/// What a person wants to see when a site does not serve.
pub(crate) fn circumstances(droplet: &dyn Machine) -> String {
    let script = "bundle status; bundle generations; tail -n 12 /var/lib/bundle/journal | tr -d '\\0'; docker ps -a; \
                  systemctl --failed --no-legend; journalctl -b -n 60 --no-pager";
    let output = droplet.run(&["sh", "-c", script]);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
