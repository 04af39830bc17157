//! `bundle deploy` from this machine to droplets with the sshd that Debian ships: over real connections, through the
//! bundle's own firewall.

use std::fs;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::droplet::Droplet;
use crate::poster::{DOMAIN, Door, Posters};
use crate::registry::Registry;
use crate::seed::Options;
use crate::site::{Ran, install};
use crate::slot::stdout;

/// Two droplets with the program and nothing of a bundle, a registry, and a builder's directory here.
struct Fleet {
    droplets: Vec<Droplet>,
    registry: Registry,
    /// The registry as the builder and the droplets call it: they share no names, but this address.
    host: String,
    dir: TempDir,
}

fn release(name: &str) -> String {
    format!("\n[services.backend.environment]\nGREETING = \"{name}\"\n")
}

const TOKEN: &str = "12345:a-token-that-nobody-may-see";

impl Fleet {
    fn open(count: usize) -> Self {
        let started = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let images = at("images");
        stdout(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/build")).arg(&images));
        fs::create_dir(at("registry")).unwrap();
        let registry = Registry::start(&at("registry"));
        for image in ["postgres", "redis", "marketplace"] {
            registry.push_image(&images.join(image), "latest", image);
        }
        stdout(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("key")));
        let daemon = bundle::artifacts::docker::daemon_json().unwrap();
        let options = Options::default().seed("/etc/docker/daemon.json", 0o644, daemon.as_bytes()).seed(
            "/root/.ssh/authorized_keys",
            0o600,
            fs::read(at("key.pub")).unwrap(),
        );
        let droplets: Vec<_> = (0..count).map(|_| Droplet::boot(&options)).collect();
        let port = registry.loopback().rsplit_once(':').unwrap().1.to_owned();
        let host = format!("{}:{port}", droplets[0].slot().host_addr());
        for seed in registry.seeds() {
            let path = seed.path.to_str().unwrap().replace(&registry.host_port(), &host);
            let text = String::from_utf8(seed.bytes).unwrap().replace(&registry.host_port(), &host);
            for droplet in &droplets {
                droplet.write_file(&path, text.as_bytes(), seed.mode);
            }
            let here = if path.ends_with("ca.crt") { at("ca.pem") } else { at("auth.json") };
            fs::write(here, text).unwrap();
        }
        droplets.iter().for_each(install);
        stdout(
            Command::new("cp")
                .arg("-r")
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles"))
                .arg(at("profiles")),
        );
        fs::remove_file(at("profiles/bundle.lock")).unwrap();
        let fleet = Self { droplets, registry, host, dir };
        fleet.overlay("");
        let locked = fleet.bundle(&["lock", "--registry-ca", "ca.pem", "droplet"]);
        assert_eq!(locked.code, 0, "{locked:?}");
        println!("deploy: {count} droplets open after {:.1} s", started.elapsed().as_secs_f64());
        fleet
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn overlay(&self, extra: &str) {
        let host = &self.host;
        let firewall = "[firewall]\nssh_from = [\"10.213.0.0/16\"]\n";
        let firewall = if extra.contains("[firewall]") { "" } else { firewall };
        let services: String = ["postgres", "redis", "backend", "worker", "migrate"]
            .map(|service| {
                let image = if ["postgres", "redis"].contains(&service) { service } else { "marketplace" };
                format!("[services.{service}]\nimage = \"{host}/{image}:latest\"\ncpus = \"0\"\n\n")
            })
            .concat();
        let text = format!(
            "extends = \"production.toml\"\ndomain = \"{DOMAIN}\"\n\n[registry]\nrepository = \"{host}/team/bundles\"\n\n\
             {firewall}\n[proxy]\nexempt = [\"10.213.0.0/16\", \"fd00::/8\"]\n\n\
             [switch]\ntrial = \"2s\"\nhealth = \"15s\"\ndrain = \"5s\"\n\n{services}{extra}"
        );
        fs::write(self.at("profiles/droplet.toml"), text).unwrap();
    }

    /// The program here, as an operator runs it.
    fn bundle(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.dir.path());
        command.env("REGISTRY_AUTH_FILE", self.at("auth.json"));
        let ssh = "-F /dev/null -i key -o IdentitiesOnly=yes -o UserKnownHostsFile=/dev/null \
                   -o StrictHostKeyChecking=no -o LogLevel=ERROR";
        command.env("BUNDLE_SSH", ssh);
        command
    }

    fn name(&self, number: usize) -> String {
        format!("root@{}", self.droplets[number].addr())
    }

    /// Deploys the overlay with `extra` to all droplets in their order.
    fn deploy(&self, extra: &str, options: &[&str]) -> (Ran, Value) {
        self.overlay(extra);
        let names: Vec<_> = (0..self.droplets.len()).map(|number| self.name(number)).collect();
        let hosts = names.iter().flat_map(|name| ["--host", name]);
        let fixed = ["deploy", "droplet", "--json", "--registry-ca", "ca.pem"];
        let arguments: Vec<_> = fixed.into_iter().chain(hosts).chain(options.iter().copied()).collect();
        let started = Instant::now();
        let ran = self.bundle(&arguments);
        println!("deploy {options:?}: exit {} after {:.1} s", ran.code, started.elapsed().as_secs_f64());
        assert!(!format!("{ran:?}").contains(TOKEN), "{ran:?}");
        let json = serde_json::from_str(&ran.out).unwrap_or(Value::Null);
        for host in json["hosts"].as_array().into_iter().flatten() {
            println!("  {host}");
        }
        (ran, json)
    }

    fn current(&self, number: usize) -> String {
        self.droplets[number].sh("readlink /var/lib/bundle/current || echo none").trim().to_owned()
    }

    fn door(&self, number: usize) -> Door {
        let droplet = &self.droplets[number];
        let pem = droplet.run_ok(&["cat", &format!("/var/lib/bundle/certs/{DOMAIN}.pem")]);
        Door::new(IpAddr::V4(droplet.addr()), &pem)
    }

    /// What the application on this droplet greets with.
    fn greeting(&self, number: usize) -> String {
        let script = "docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' \
                      $(docker ps -q --filter name=backend-) | sed -n s/GREETING=//p";
        self.droplets[number].sh(script).trim().to_owned()
    }
}

fn outcomes(json: &Value) -> Vec<&str> {
    json["hosts"].as_array().unwrap().iter().map(|host| host["outcome"].as_str().unwrap()).collect()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn two_droplets_are_switched_in_turn_and_end_alike_whatever_happens() {
    let fleet = Fleet::open(2);
    let first = release("first");

    let (refused, _) = fleet.deploy(&first, &[]);
    assert_eq!(refused.code, 20, "{refused:?}");
    for words in [fleet.name(0), fleet.name(1), "`telegram_bot_token`".into(), "--secret NAME=FILE".into()] {
        assert!(refused.err.contains(&words), "{words}: {refused:?}");
    }
    let nobody = fleet.bundle(&["deploy", "droplet", "--host", "10.213.255.254:2", "--host", &fleet.name(0)]);
    assert!(nobody.code == 20 && nobody.err.contains("10.213.255.254:2: not reached"), "{nobody:?}");
    assert_eq!([fleet.current(0), fleet.current(1)], ["none", "none"], "nothing was touched");

    write_private(&fleet.at("token"), TOKEN);
    let (done, json) = fleet.deploy(&first, &["--secret", "telegram_bot_token=token"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(outcomes(&json), ["switched", "switched"]);
    assert!(done.err.matches("confirmed over a fresh connection").count() == 2, "{}", done.err);
    assert_eq!([fleet.greeting(0), fleet.greeting(1)], ["first", "first"]);

    let (same, json) = fleet.deploy(&first, &[]);
    assert_eq!((same.code, outcomes(&json)), (10, vec!["current", "current"]), "{}", same.err);

    // Somebody's container has the name that the second droplet's next one needs.
    let image = fleet.droplets[1].sh("docker inspect --format '{{.Image}}' backend-blue");
    fleet.droplets[1].run_ok(&["docker", "create", "--name", "backend-green", image.trim()]);
    let posters = Posters::start(&fleet.door(0), 4);
    let (bad, json) = fleet.deploy(&release("second"), &[]);
    let seen = posters.end();
    assert_eq!((bad.code, outcomes(&json)), (30, vec!["taken_back", "went_back"]), "{}", bad.err);
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert_eq!(seen.releases.len(), 2, "the second release had served on the first droplet");
    assert_eq!([fleet.greeting(0), fleet.greeting(1)], ["first", "first"]);
    assert!(json["hosts"][0]["after"]["view"]["generation"] == 1, "{json}");
    println!("taken back: {} answered, none failed", seen.answered);
    fleet.droplets[1].run_ok(&["docker", "rm", "backend-green"]);

    a_door_that_shuts_opens_again(&fleet);

    let (done, json) = fleet.deploy(&release("second"), &[]);
    assert_eq!((done.code, outcomes(&json)), (0, vec!["switched", "switched"]), "{}", done.err);
    assert_eq!([fleet.greeting(0), fleet.greeting(1)], ["second", "second"]);
}

/// The new firewall lets the builder's address in no more. The connection that is open stays open; a fresh one is not
/// made, nobody confirms, and the droplet goes back by itself.
fn a_door_that_shuts_opens_again(fleet: &Fleet) {
    let before = fleet.current(0);
    let posters = Posters::start(&fleet.door(0), 2);
    let shut = format!("{}\n[firewall]\nssh_from = [\"198.51.100.0/24\"]\n", release("shut"));
    let (lost, json) = fleet.deploy(&shut, &["--confirm", "15"]);
    let seen = posters.end();
    assert_eq!((lost.code, outcomes(&json)), (30, vec!["went_back", "not_tried"]), "{}", lost.err);
    for words in ["waiting for confirmation", "no fresh connection", "it was not confirmed within 15 s"] {
        assert!(lost.err.contains(words), "{words}: {}", lost.err);
    }
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert_eq!((fleet.current(0), fleet.greeting(0).as_str()), (before.clone(), "first"));

    // The same, and the connection of the switch breaks while it waits: it goes on without us, and goes back.
    let breaks = "until grep -q '\"phase\":\"confirm\"' /var/lib/bundle/lock; do sleep 0.1; done
                  for process in /proc/[0-9]*; do
                      if tr '\\0' ' ' <$process/cmdline | grep -q '^sshd-session: root'; then
                          kill ${process#/proc/} || true
                      fi
                  done";
    let (lost, json) = std::thread::scope(|scope| {
        let broken = scope.spawn(|| fleet.droplets[0].sh(breaks));
        let ended = fleet.deploy(&shut, &["--confirm", "5"]);
        broken.join().unwrap();
        ended
    });
    assert_eq!((lost.code, outcomes(&json)), (30, vec!["went_back", "not_tried"]), "{}", lost.err);
    assert!(lost.err.contains("the connection was lost"), "{}", lost.err);
    assert_eq!((fleet.current(0), fleet.greeting(0).as_str()), (before.clone(), "first"));

    // Ctrl-C reaches everything that the terminal started, `ssh` too.
    fleet.overlay(&release("stopped"));
    let mut command =
        fleet.command(&["deploy", "droplet", "--registry-ca", "ca.pem", "--host", &fleet.name(1)]);
    command.args(["--confirm", "5", "--host", &fleet.name(0)]).process_group(0);
    let deploy = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fleet.droplets[0].sh("until grep -q '\"phase\":\"slot\"' /var/lib/bundle/lock; do sleep 0.1; done");
    let group = rustix::process::Pid::from_child(&deploy);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let stopped: Ran = deploy.wait_with_output().unwrap().into();
    println!("stopped: {}", stopped.out);
    assert_eq!(stopped.code, 30, "{stopped:?}");
    assert!(stopped.out.contains("goes back by itself") && stopped.out.contains("taken back"), "{stopped:?}");
    let settled =
        "until bundle status | grep -q state && ! bundle status | grep -q pending; do sleep 0.5; done";
    fleet.droplets[0].sh(settled);
    assert_eq!((fleet.current(0), fleet.greeting(0).as_str()), (before, "first"));
    assert_eq!(fleet.greeting(1), "first");
}

#[test]
fn a_droplet_that_reaches_no_registry_gets_everything_over_the_connection() {
    let mut fleet = Fleet::open(1);
    let port = fleet.host.rsplit_once(':').unwrap().1.to_owned();
    fleet.droplets[0].sh(&format!(
        "nft 'add table inet offline; add chain inet offline out {{ type filter hook output priority 0; }}; \
         add rule inet offline out tcp dport {port} reject'"
    ));
    write_private(&fleet.at("token"), TOKEN);
    let secret = ["--secret", "telegram_bot_token=token"];

    let (refused, json) = fleet.deploy(&release("first"), &secret);
    assert_eq!((refused.code, outcomes(&json)), (20, vec!["refused"]), "{}", refused.err);

    let (done, json) = fleet.deploy(&release("first"), &[&["--copy"], &secret[..]].concat());
    assert_eq!((done.code, outcomes(&json)), (0, vec!["switched"]), "{}", done.err);
    println!("{}", done.err);
    assert_eq!(fleet.greeting(0), "first");
    let left =
        fleet.droplets[0].sh("ls /var/lib/bundle/received; docker image ls --format '{{.Repository}}'");
    assert!(!left.contains("images") && !left.contains("incoming"), "{left}");

    // What it has is not asked of anybody again.
    fleet.registry.stop();
    let posters = Posters::start(&fleet.door(0), 4);
    let (done, json) = fleet.deploy(&release("second"), &["--copy"]);
    let seen = posters.end();
    assert_eq!((done.code, outcomes(&json)), (0, vec!["switched"]), "{}", done.err);
    assert!(done.err.contains("the bundle and 0 images sent"), "{}", done.err);
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert_eq!(fleet.greeting(0), "second");
    let (same, json) = fleet.deploy(&release("second"), &["--copy"]);
    assert_eq!((same.code, outcomes(&json)), (10, vec!["current"]), "{}", same.err);
    let back = fleet.droplets[0].run(&["bundle", "rollback"]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(fleet.greeting(0), "first");
}
