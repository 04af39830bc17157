//! The whole path on a droplet: what the scripted machine only pretends is done here by systemd, Docker, nftables and
//! `HAProxy`, while clients post.

use std::process::Stdio;
use std::time::Instant;

use crate::poster::Posters;
use crate::site::Site;

/// A release of its own: the same image, one more variable.
fn release(name: &str) -> String {
    format!("\n[services.backend.environment]\nGREETING = \"{name}\"\n")
}

#[test]
fn ten_switches_lose_no_request_and_a_bad_release_goes_back_by_itself() {
    let site = Site::open();
    let first = site.publish(&release("first"));

    let refused = site.switch(&first);
    assert_eq!(refused.code, 20, "{refused:?}");
    assert!(refused.err.contains("telegram_bot_token"), "{refused:?}");
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], b"12345:token");

    let started = Instant::now();
    let switched = site.switch(&first);
    assert_eq!(
        switched.code,
        0,
        "{}\n{}",
        switched.err,
        site.droplet.sh("docker ps -a; journalctl -n 60 --no-pager")
    );
    println!("switch 0 → 1: {:.1} s", started.elapsed().as_secs_f64());
    println!("{}", site.bundle(&["status"]).out);
    println!(
        "versions: {}",
        site.droplet
            .sh("docker exec postgres postgres --version; docker exec redis redis-server --version; \
                 docker exec backend-blue python3 --version; docker --version; docker compose version; \
                 haproxy -v | head -1; nft --version; systemctl --version | head -1")
            .replace('\n', "; ")
    );

    the_servers_run_on_what_was_rendered(&site);
    let door = site.door();
    let state = [site.life("postgres"), site.life("redis")];
    let posters = Posters::start(&door, 8);
    for number in 2..=11 {
        let digest = site.publish(&release(&number.to_string()));
        let started = Instant::now();
        let switched = site.switch(&digest);
        assert_eq!(switched.code, 0, "switch to {number}: {switched:?}");
        println!("switch {} → {number}: {:.1} s", number - 1, started.elapsed().as_secs_f64());
    }
    let seen = posters.end();
    println!(
        "ten switches: {} answered, {} failed, slowest {:?}",
        seen.answered,
        seen.failed.len(),
        seen.slowest
    );
    assert!(seen.failed.is_empty(), "{:#?}", &seen.failed[..seen.failed.len().min(20)]);
    assert_eq!(seen.releases.len(), 11, "each release answered: {:?}", seen.releases);
    assert_eq!([site.life("postgres"), site.life("redis")], state, "the databases were not touched");
    let count = door.get("/messages/count").unwrap();
    assert!(
        count.body.contains(&format!(":{}", seen.answered))
            || count.body.contains(&format!(": {}", seen.answered)),
        "{} were answered, stored are {}",
        seen.answered,
        count.body
    );

    a_bad_release_goes_back(&site);
    a_killed_switch_is_settled_by_pid_1(&site);
    going_back_and_forth(&site);
    everything_goes_down_and_comes_back(&site);
    a_crash_of_the_machine_changes_nothing(site, &state);
}

/// Redis and Postgres have no dry run; they are asked what they read.
fn the_servers_run_on_what_was_rendered(site: &Site) {
    let redis = |command: &str| {
        let password = "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli --user app";
        site.droplet.run_ok(&["docker", "exec", "redis", "sh", "-c", &format!("{password} {command}")])
    };
    let memory = redis("info memory");
    assert!(
        memory.contains("maxmemory:268435456") && memory.contains("maxmemory_policy:noeviction"),
        "{memory}"
    );
    let denied = site.droplet.run(&["docker", "exec", "redis", "redis-cli", "ping"]);
    assert!(String::from_utf8_lossy(&denied.stdout).contains("NOAUTH"), "{denied:?}");
    let sql = |query: &str| {
        let psql = "PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h 127.0.0.1 -U app -d app -Atc";
        site.droplet.run_ok(&["docker", "exec", "postgres", "sh", "-c", &format!("{psql} \"{query}\"")])
    };
    let settings = sql("select count(*), count(error), count(distinct sourcefile) from pg_file_settings");
    let settings: Vec<_> = settings.trim().split('|').collect();
    assert!(settings[0].parse::<u32>().unwrap() > 20 && settings[1..] == ["0", "1"], "{settings:?}");
    assert_eq!(sql("select count(*) > 0, count(error) from pg_hba_file_rules").trim(), "t|0");
    for container in ["postgres", "redis", "backend-blue", "worker-blue"] {
        is_hardened(site, container);
    }
}

/// What the compose file says of limits and rights is what the kernel enforces; and the log is in the journal, where it
/// outlives the container.
fn is_hardened(site: &Site, container: &str) {
    let status = site.droplet.run_ok(&["docker", "exec", container, "cat", "/proc/1/status"]);
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{container}: {line:?} is not in {status}");
    }
    let written = site.droplet.run(&["docker", "exec", container, "sh", "-c", ": >/etc/written"]);
    assert!(
        String::from_utf8_lossy(&written.stderr).contains("Read-only file system"),
        "{container}: {written:?}"
    );
    let limits = site.droplet.run_ok(&["docker", "exec", container, "cat", "/proc/1/limits"]);
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert!(core.split_whitespace().eq(["0", "0", "bytes"]), "{container}: {limits}");
    assert_eq!(
        site.droplet.run_ok(&["docker", "port", container]).trim(),
        "",
        "{container} publishes a port"
    );
    let shown = site.droplet.sh(&format!(
        "docker logs {container} 2>&1 | tail -n 1; journalctl --quiet --output=cat --lines=1 CONTAINER_NAME={container}"
    ));
    assert!(shown.lines().count() >= 2, "{container}: nothing of it is in the journal: {shown:?}");
}

fn a_bad_release_goes_back(site: &Site) {
    let door = site.door();
    let before = site.bundle(&["generations", "--json"]).out;
    let posters = Posters::start(&door, 4);
    let bad = site.publish("\n[services.backend.environment]\nFAIL_READY = \"1\"\n");
    let started = Instant::now();
    let switched = site.switch(&bad);
    println!("a bad release: exit {} after {:.1} s", switched.code, started.elapsed().as_secs_f64());
    let seen = posters.end();
    assert_eq!(switched.code, 30, "{switched:?}");
    assert!(switched.err.contains("route backend"), "{switched:?}");
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert_eq!(seen.releases.len(), 1, "only the old release answered");
    let current = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["current"].clone();
    assert_eq!(current(&before), current(&site.bundle(&["generations", "--json"]).out));
}

/// The process dies in the trial. What PID 1 was told to do then is done now, because nobody waits minutes for a test.
fn a_killed_switch_is_settled_by_pid_1(site: &Site) {
    let door = site.door();
    let before = site.droplet.run_ok(&["readlink", "/var/lib/bundle/current"]);
    let posters = Posters::start(&door, 4);
    let next = site.publish(&format!("{}\n[switch]\ntrial = \"60s\"\n", release("killed")));
    let repository = format!("{}/team/bundles", site.registry.host_port());
    let mut switch = site.droplet.command(&["bundle", "switch", &next, "--repository", &repository]);
    let mut switch = switch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let phase = "until grep -q '\"phase\":\"trial\"' /var/lib/bundle/lock; do sleep 0.1; done; \
                 sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p' /var/lib/bundle/lock";
    let pid = site.droplet.sh(phase);
    assert_ne!(site.droplet.run_ok(&["readlink", "/var/lib/bundle/current"]), before, "it has flipped");
    site.droplet.run_ok(&["kill", "-9", pid.trim()]);
    switch.wait().unwrap();
    let timer = site
        .droplet
        .sh("systemctl list-timers --no-legend 'bundle-trial-*' | grep -o 'bundle-trial-[0-9]*' | head -1");
    let status = site.bundle(&["status"]);
    assert!(status.out.contains("recover"), "it says what is pending: {status:?}");
    site.droplet.run_ok(&["systemctl", "start", &format!("{}.service", timer.trim())]);
    let settled =
        "until ! bundle status | grep -q pending; do sleep 0.2; done; readlink /var/lib/bundle/current";
    assert_eq!(site.droplet.sh(settled), before, "the generation before is back");
    let seen = posters.end();
    println!("a killed switch: {} answered, {} failed", seen.answered, seen.failed.len());
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert_eq!(
        site.droplet.sh("systemctl list-timers --no-legend 'bundle-trial-*'"),
        "",
        "nothing goes off later"
    );
    assert_eq!(site.bundle(&["recover"]).code, 10);
}

fn going_back_and_forth(site: &Site) {
    let door = site.door();
    let posters = Posters::start(&door, 4);
    let started = Instant::now();
    let back = site.bundle(&["rollback"]);
    println!("rollback: {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(back.code, 0, "{back:?}");
    let first = site.bundle(&["switch", "--generation", "1"]);
    assert_eq!(first.code, 0, "{first:?}");
    let seen = posters.end();
    println!("going back twice: {} answered, {} failed", seen.answered, seen.failed.len());
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    let environment =
        site.droplet.sh("docker inspect --format '{{.Config.Env}}' $(docker ps -q --filter name=backend-)");
    assert!(environment.contains("GREETING=first"), "{environment}");
}

fn everything_goes_down_and_comes_back(site: &Site) {
    let count = site.door().get("/messages/count").unwrap().body;
    let down = site.bundle(&["switch", "--generation", "0"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert!(!down.err.contains("warning"), "{down:?}");
    assert_eq!(site.droplet.sh("docker ps -q; find /etc/systemd/system -lname '*bundle*'"), "");
    let tables = site.droplet.run_ok(&["nft", "list", "tables"]);
    assert!(tables.contains("inet bundle"), "going down must not open the machine: {tables}");
    assert_eq!(site.bundle(&["recover"]).code, 10, "nothing is left to do");
    let up = site.bundle(&["switch", "--generation", "1"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(site.door().get("/messages/count").unwrap().body, count, "what was stored is stored");
}

fn a_crash_of_the_machine_changes_nothing(mut site: Site, state: &[String; 2]) {
    let count = site.door().get("/messages/count").unwrap().body;
    site.droplet.kill();
    let started = Instant::now();
    site.droplet.boot_again();
    let door = site.door();
    let ready = loop {
        match door.get("/messages/count") {
            Ok(answer) if answer.status == 200 => break answer,
            last => assert!(
                started.elapsed().as_secs() < 90,
                "not back: {last:?}\n{}",
                site.droplet.sh(
                    "systemctl --failed; docker ps -a; journalctl -b -u 'bundle-*' --no-pager | tail -50"
                )
            ),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    println!("after a crash of the machine it serves again in {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(ready.body, count, "what was stored is stored");
    assert_ne!(site.life("postgres"), state[0], "the machine did crash");
    let status = site.bundle(&["status"]);
    assert!(status.out.contains("generation 1"), "{status:?}");
    let settled = site.bundle(&["recover"]);
    assert_eq!(settled.code, 10, "{settled:?}");
}
