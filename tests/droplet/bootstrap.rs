//! The first boot up to the hand-over: a droplet with nothing but the user-data that `bundle cloud-init` prints fetches
//! the activator and calls it. A script that writes down how it was called stands for the activator here.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::droplet::Droplet;
use crate::machine::Machine as _;
use crate::registry::Registry;
use crate::seed::Options;
use crate::site;
use crate::slot::{script, stdout, tree};

/// Stands for the activator: ends as `/root/codes` says, a code for each call, at the end with the last one again. Asked
/// for the status it says what is in `/root/status`, or that a secret is missing, and lingers as `/root/linger` says.
/// With the code `slow` it works until it is told to stop, and takes a while to go back.
const STAND_IN: &str = "#!/bin/sh
if [ \"$1\" = status ]; then
	cat /root/status 2>/dev/null || echo '{\"on_the_way\":{\"missing_secrets\":[\"token\"]},\"missing_secrets\":[]}'
	exec sleep \"$(cat /root/linger 2>/dev/null || echo 0)\"
fi
echo \"$@\" >>/root/calls
code=$(head -n 1 /root/codes 2>/dev/null || echo 0)
[ \"$(wc -l </root/codes 2>/dev/null || echo 0)\" -le 1 ] || sed -i 1d /root/codes
[ \"$code\" != slow ] || exec python3 /root/slow.py
[ \"$code\" -ne 40 ] || echo 'waiting for secrets: `bundle secrets set token`'
[ \"$code\" -eq 0 ] || printf 'error: the stand-in ends with %s\\n  - as it was told\\n\\nhint: none\\n' \"$code\" >&2
exit \"$code\"
";

/// Handles the signal although it was ignored when this was started, as the activator does.
const SLOW: &str = "import signal, sys, time
def back(*_):
    print('going back', file=sys.stderr, flush=True)
    time.sleep(4)
    open('/root/back', 'w').close()
    print('error: stopped, and gone back', file=sys.stderr, flush=True)
    sys.exit(30)
signal.signal(signal.SIGTERM, back)
open('/root/at-work', 'w').close()
while True:
    time.sleep(1)
";

/// A registry with the activator in it, and the builder's files.
struct Yard {
    registry: Registry,
    dir: tempfile::TempDir,
}

impl Yard {
    /// With these lines about the machine's image and about Docker.
    fn of(image: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("registry");
        fs::create_dir(&store).unwrap();
        let registry = Registry::start_open(&store);
        let yard = Self { registry, dir };
        let host = yard.registry.host_port();
        let profile = format!(
            r#"environment = "production"
domain = "bot.example.com"

[registry]
repository = "{host}/team/app"
ca = "ca.pem"

[droplet]
size = "s-2vcpu-4gb"
region = "fra1"
{image}

[firewall]
ssh_from = ["10.213.0.0/16"]

[services.web]
image = "{host}/web@sha256:0000000000000000000000000000000000000000000000000000000000000001"
user = "1000:1000"
"#
        );
        fs::write(yard.path("profile.toml"), profile).unwrap();
        if image.contains("docker/key.asc") {
            stdout(Command::new(script("docker-repository.sh")).arg(tree()).arg(yard.path("docker")));
        }
        fs::copy(yard.registry.ca_path(), yard.path("ca.pem")).unwrap();
        fs::write(yard.path("activator"), STAND_IN).unwrap();
        yard.bundle(&["lock", "profile.toml", "--activator", "activator"]);
        yard
    }

    /// One to which the activator has been pushed.
    fn pushed() -> Self {
        let yard = Self::of("image = \"debian-13-x64\"");
        yard.push();
        yard
    }

    /// One for the stock machine that is tested (see [`Options::stock`]). Debian 12 takes Docker from a repository of
    /// the form of Docker's own.
    fn stock() -> Self {
        let image = match release().as_str() {
            "noble" => "image = \"ubuntu-24-04-x64\"",
            "bookworm" => {
                "image = \"debian-12-x64\"\n\n[docker.repository]\nurl = \"http://127.0.0.1:8000\"\nkey = \"docker/key.asc\""
            }
            _ => "image = \"debian-13-x64\"",
        };
        let yard = Self::of(image);
        yard.push();
        yard
    }

    fn boot_stock(&self) -> Droplet {
        let options = Options::stock(self.user_data()).seed("/root/codes", 0o644, "0\n");
        let droplet = Droplet::boot(&options);
        if self.path("docker").exists() {
            droplet.copy_in(&self.path("docker"), "/srv/docker");
        }
        self.serve_docker(&droplet);
        droplet
    }

    /// Starts Docker's repository in the droplet, if there is one. Until it answers, the bootstrap waits for it.
    fn serve_docker(&self, droplet: &Droplet) {
        if self.path("docker").exists() {
            let serve = "python3 -m http.server --bind 127.0.0.1 --directory /srv/docker 8000";
            droplet.sh(&format!("systemd-run --quiet --property=Restart=always {serve}"));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn push(&self) {
        let repository = format!("{}/team/app", self.registry.loopback());
        let ca = self.registry.ca_path();
        self.bundle(&[
            "push",
            "profile.toml",
            "--repository",
            &repository,
            "--registry-ca",
            ca.to_str().unwrap(),
        ]);
    }

    /// Runs the builder's side, which must succeed.
    fn bundle(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.path("builder")).args(arguments);
        stdout(&mut command)
    }

    /// The user-data, with waits that suit a test.
    fn user_data(&self) -> String {
        let text = self.bundle(&["cloud-init", "profile.toml"]);
        text.replace("longest_pause='60'", "longest_pause='2'").replace("first_pause='2'", "first_pause='1'")
    }

    /// The file in which the registry keeps the activator's bytes.
    fn blob(&self) -> PathBuf {
        let lock = fs::read_to_string(self.path("bundle.lock")).unwrap();
        let digest = lock.split("[activator]\ndigest = \"sha256:").nth(1).unwrap()[..64].to_owned();
        let path = format!("registry/storage/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]);
        self.path(&path)
    }
}

/// The code name of the stock machine that is tested.
fn release() -> String {
    Options::stock("").stock.unwrap_or_default()
}

/// The prepared tree, which has all packages, with this user-data and these exit codes for the stand-in.
fn prepared(user_data: &str, codes: &str) -> Options {
    let seed = "/var/lib/cloud/seed/nocloud";
    Options::default()
        .seed(format!("{seed}/meta-data"), 0o644, "instance-id: one\n")
        .seed(format!("{seed}/user-data"), 0o644, user_data)
        .seed("/root/codes", 0o644, codes)
}

fn state(droplet: &Droplet) -> String {
    droplet.sh("sed -n 's/^state=//p' /var/lib/bundle/first-boot").trim().to_owned()
}

fn log(droplet: &Droplet) -> String {
    droplet.sh("journalctl --boot --no-pager --output=cat --unit=bundle-bootstrap.service")
}

/// What `cloud-init status` says, and how it ends.
fn cloud_init(droplet: &Droplet) -> (String, Option<i32>) {
    let said = droplet.run(&["cloud-init", "status", "--wait"]);
    (String::from_utf8_lossy(&said.stdout).trim_matches(['.', '\n']).to_owned(), said.status.code())
}

#[test]
fn a_droplet_with_nothing_but_user_data_fetches_the_activator_and_hands_over() {
    let yard = Yard::pushed();
    let user_data = yard.user_data();
    println!("user-data: {} bytes", user_data.len());
    let mut droplet = Droplet::boot(&prepared(&user_data, "0\n"));
    eprintln!("booted in {:?}\n{}", droplet.boot_time(), log(&droplet));
    assert_eq!(cloud_init(&droplet), ("status: done".to_owned(), Some(0)));
    assert_eq!(state(&droplet), "done");
    let bundle = yard.bundle(&["build", "profile.toml"]);
    assert_eq!(droplet.sh("cat /root/calls"), format!("switch --first-boot {bundle}"));
    assert_eq!(droplet.run_ok(&["cat", "/usr/local/bin/bundle"]), STAND_IN);
    assert_eq!(droplet.sh("stat -c %a,%U /usr/local/bin/bundle"), "755,root\n");
    // What was laid down for others, and the ground's firewall.
    droplet.sh("test -s /etc/docker/certs.d/*/ca.crt; grep -q live-restore /etc/docker/daemon.json");
    assert_eq!(
        droplet.sh("cat /etc/bundle/registry.toml"),
        format!("repository = \"{}/team/app\"\n", yard.registry.host_port())
    );
    droplet
        .sh("nft list table inet bundle | grep -q metadata_uid; systemctl is-active bundle-ground.service");
    // It has ended for good.
    assert_eq!(droplet.run(&["systemctl", "is-enabled", "bundle-bootstrap.service"]).stdout, b"disabled\n");
    droplet.sh("systemctl reboot");
    droplet.wait_down();
    droplet.boot_again();
    assert_eq!(droplet.sh("wc -l </root/calls"), "1\n");
    droplet.sh("systemctl is-active bundle-ground.service; nft list table inet bundle >/dev/null");
    assert_eq!(droplet.sh("systemctl is-system-running"), "running\n");
}

#[test]
fn a_stock_machine_installs_what_it_needs_behind_its_firewall() {
    let yard = Yard::stock();
    let droplet = yard.boot_stock();
    let first = droplet.first_boot(droplet.patience(300));
    let said = log(&droplet);
    println!("{said}");
    assert!(first.status.success(), "{}\n{}", String::from_utf8_lossy(&first.stdout), droplet.complaints());
    assert_eq!(state(&droplet), "done");
    droplet.sh("docker compose version; docker info --format '{{.LiveRestoreEnabled}}' | grep -x true");
    droplet
        .sh("nft list table inet bundle | grep -q metadata_uid; systemctl is-active bundle-ground.service");
    // The distribution's own proxy has not been started, and will not be.
    let haproxy = droplet
        .sh("systemctl is-enabled haproxy.service || :; systemctl show -p ActiveEnterTimestamp haproxy");
    assert_eq!(haproxy, "disabled\nActiveEnterTimestamp=\n");
    droplet.sh("! test -e /usr/sbin/policy-rc.d && ! test -e /usr/local/bin/bundle.new");
    assert_eq!(droplet.sh("systemctl --failed --no-legend"), "");
    let schema = droplet.run_ok(&["cloud-init", "schema", "--system"]);
    println!("{schema}");
    assert!(!schema.to_lowercase().contains("deprec") && !schema.to_lowercase().contains("warn"), "{schema}");
    // Who came in before still does.
    for user in ["root", droplet.account()] {
        stdout(&mut droplet.login(user).command("true"));
    }
}

#[test]
fn a_machine_that_loses_power_among_its_packages_goes_on_when_it_is_back() {
    let yard = Yard::stock();
    let mut droplet = yard.boot_stock();
    // HAProxy is unpacked, and not configured.
    let unpacked = "grep -qs 'status unpacked haproxy:' /var/log/dpkg.log";
    droplet.sh(&format!("timeout 200 sh -c \"until {unpacked}; do sleep 0.02; done\""));
    droplet.kill();
    droplet.boot_again();
    yard.serve_docker(&droplet);
    let left = droplet.sh("dpkg --audit | head -n 3");
    println!("{left}");
    let (state, message) = outcome(&droplet);
    println!("{}", log(&droplet));
    assert_eq!(state, "done", "{message}");
    assert_eq!(droplet.sh("dpkg --audit; systemctl --failed --no-legend; cat /root/calls | wc -l"), "1\n");
    droplet.sh("docker compose version; id haproxy; ! test -e /usr/sbin/policy-rc.d");
    let haproxy = droplet.run(&["systemctl", "is-enabled", "haproxy.service"]);
    assert_eq!(haproxy.stdout, b"disabled\n");
}

/// Starts the unit once more, without the activator if `fresh`, and gives state and message when it has come to one at
/// which it ends.
fn again(droplet: &Droplet, fresh: bool, codes: &str) -> (String, String) {
    restart(droplet, fresh, codes);
    outcome(droplet)
}

fn restart(droplet: &Droplet, fresh: bool, codes: &str) {
    let fresh = if fresh { "/usr/local/bin/bundle" } else { "" };
    droplet.sh(&format!(
        "rm -f /root/calls /var/lib/bundle/first-boot {fresh}; echo '{codes}' | tr ' ' '\\n' >/root/codes"
    ));
    droplet.sh("systemctl restart bundle-bootstrap.service");
}

/// What is said when the patience has an end: somebody should look, but the unit starts again.
const GOES_ON: &str = "tries again every minute";

fn outcome(droplet: &Droplet) -> (String, String) {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let text = droplet.sh("cat /var/lib/bundle/first-boot 2>/dev/null || :");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.to_owned()
        };
        let (state, message) = (field("state="), field("message="));
        let over = ["done", "waiting-for-secrets", "failed"].contains(&&*state);
        if over || message.contains(GOES_ON) {
            return (state, message);
        }
        assert!(Instant::now() < deadline, "no outcome: {text}\n{}", log(droplet));
        sleep(Duration::from_millis(200));
    }
}

fn calls(droplet: &Droplet) -> usize {
    droplet.sh("cat /root/calls 2>/dev/null || :").lines().count()
}

#[test]
fn a_droplet_waits_for_a_registry_that_is_away_and_goes_on_as_the_activator_says() {
    let mut yard = Yard::pushed();
    let user_data = yard.user_data();
    let droplet = Droplet::boot(&prepared(&user_data, "40\n"));
    // A machine that waits for secrets has done its part; whoever sends the last one starts the unit again.
    assert_eq!(cloud_init(&droplet), ("status: done".to_owned(), Some(0)));
    let waits =
        ("waiting-for-secrets".to_owned(), "waiting for secrets: `bundle secrets set token`".to_owned());
    assert_eq!(outcome(&droplet), waits);
    assert_eq!(droplet.run_ok(&["systemctl", "is-enabled", "bundle-bootstrap.service"]), "enabled\n");
    assert_eq!(again(&droplet, false, "0").0, "done");

    for (codes, state, count) in [
        ("20 21 20 0", "done", 4),
        ("30 30 0", "done", 3),
        ("30 30 30 0", "failed", 3),
        ("137 143 0", "done", 3),
        ("137 30 137 0", "failed", 3),
        ("31 0", "failed", 1),
        ("1 0", "failed", 1),
        ("22 0", "failed", 1),
        ("10", "done", 1),
    ] {
        let (got, message) = again(&droplet, false, codes);
        println!("{codes}: {got}: {message}");
        assert_eq!((&*got, calls(&droplet)), (state, count), "{codes}: {}", log(&droplet));
        if state == "failed" {
            let words = "the stand-in ends with ";
            assert!(message.starts_with(words) && message.contains("systemctl restart"), "{message}");
            let show = ["systemctl", "show", "--value", "--property=ActiveState", "bundle-bootstrap.service"];
            sleep(Duration::from_secs(1));
            assert_eq!(droplet.run_ok(&show), "failed\n");
        }
    }

    // The last secret comes while the switch is ending.
    droplet.write_file("/root/status", b"{\"on_the_way\":{\"missing_secrets\":[]}}\n", 0o644);
    assert_eq!((again(&droplet, false, "40 0").0.as_str(), calls(&droplet)), ("done", 2));
    droplet.sh("rm /root/status");

    yard.registry.stop();
    restart(&droplet, true, "0");
    let away = "grep -qs \"message=no connection to the registry\" /var/lib/bundle/first-boot";
    droplet.sh(&format!("timeout 100 sh -c 'until {away}; do sleep 0.2; done'"));
    droplet.sh("grep -qx state=fetching /var/lib/bundle/first-boot; sleep 5");
    yard.registry.start_again();
    assert_eq!(outcome(&droplet).0, "done");
    let said = log(&droplet);
    println!("{said}");
    assert_eq!(said.matches("no connection to the registry").count(), 1, "{said}");
    assert!(said.contains(" times: connect"), "{said}");

    // Twice at once is one after the other.
    droplet.sh(
        "rm /root/calls; echo 0 >/root/codes; for n in 1 2; do bundle-bootstrap 2>/dev/null & done; wait",
    );
    assert_eq!((state(&droplet).as_str(), calls(&droplet)), ("done", 2));

    // A machine with a generation keeps the activator that it has.
    droplet
        .sh("mkdir -p /var/lib/bundle/generations/7/blue; ln -s generations/7/blue /var/lib/bundle/current");
    droplet.sh("echo '# a later one' >>/usr/local/bin/bundle");
    assert_eq!(
        again(&droplet, false, "10"),
        ("done".into(), "the machine has a generation of its own".into())
    );
    assert_eq!(calls(&droplet), 1);
    droplet.sh("grep -q '# a later one' /usr/local/bin/bundle");
}

#[test]
fn what_a_registry_does_wrong_is_said_in_words_and_goes_on_when_it_is_mended() {
    let mut yard = Yard::pushed();
    let (blob, right) = (yard.blob(), fs::read(yard.blob()).unwrap());
    let mut wrong = right.clone();
    wrong[0] ^= 1;
    fs::write(&blob, &wrong).unwrap();
    let droplet = Droplet::boot(&prepared(&yard.user_data(), "0\n"));
    let (state, message) = outcome(&droplet);
    println!("{message}\n{}", log(&droplet));
    assert_eq!(state, "failed");
    assert!(
        message.starts_with("the registry sent other bytes than the user-data asks for: got sha256:"),
        "{message}"
    );
    assert!(message.contains("(5 times)"), "{message}");
    let (status, code) = cloud_init(&droplet);
    assert_eq!((&*status, code), ("status: error", Some(1)));
    droplet.sh("! test -e /usr/local/bin/bundle");
    assert_eq!(calls(&droplet), 0);
    fs::write(&blob, &right).unwrap();
    assert_eq!(again(&droplet, true, "0").0, "done");

    // From here on with little patience.
    droplet.sh("sed -i 's/^patience=.*/patience=3/' /etc/bundle/bootstrap.conf");
    yard.registry.close(true);
    let (state, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(state == "waiting" && message.contains(GOES_ON), "{state}: {message}");
    assert!(
        message.contains("wants a password for the activator (401): it must be readable without one"),
        "{message}"
    );
    // It tries again by itself; a test has no minute.
    let dropin = b"[Service]\nRestartSec=5\n";
    droplet.write_file("/etc/systemd/system/bundle-bootstrap.service.d/soon.conf", dropin, 0o644);
    droplet.sh("systemctl daemon-reload");
    assert_eq!(again(&droplet, true, "0").0, "waiting");
    yard.registry.close(false);
    let until_done =
        "timeout 60 sh -c 'until grep -qx state=done /var/lib/bundle/first-boot; do sleep 0.2; done'";
    droplet.sh(until_done);
    droplet.sh("rm -r /etc/systemd/system/bundle-bootstrap.service.d; systemctl daemon-reload");
    yard.registry.close(true);
    let netrc = format!(
        "machine registry.test login {} password {}\n",
        yard.registry.user(),
        yard.registry.password()
    );
    droplet.write_file("/etc/bundle/netrc", netrc.as_bytes(), 0o600);
    assert_eq!(again(&droplet, true, "0").0, "done");
    droplet.sh("rm /etc/bundle/netrc");
    yard.registry.close(false);

    yard.registry.age("+2 years");
    let (state, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(state == "waiting" && message.contains(GOES_ON), "{state}: {message}");
    assert!(
        message.contains("and this machine's clock says") && message.contains("`timedatectl`"),
        "{message}"
    );
    yard.registry.age("-1 days");
    assert_eq!(again(&droplet, true, "0").0, "done");

    droplet.sh("rm -r /etc/docker/certs.d");
    let (state, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(state == "waiting" && message.contains(GOES_ON), "{state}: {message}");
    assert!(message.contains("is not trusted:") && message.contains("`ca` of `[registry]`"), "{message}");

    let ca = yard.registry.ca_pem();
    let trust = format!("/etc/docker/certs.d/{}/ca.crt", yard.registry.host_port());
    droplet.write_file(&trust, ca.as_bytes(), 0o644);
    droplet.sh("sed -i 's|^name=.*|name=team/other|' /etc/bundle/bootstrap.conf");
    let (_, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(message.contains("does not have the activator"), "{message}");
    yard.registry.stop();
    let (_, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(message.contains("no connection to the registry"), "{message}");
    droplet.sh("sed -i 's/registry.test/nowhere.test/' /etc/bundle/bootstrap.conf");
    let (_, message) = again(&droplet, true, "0");
    println!("{message}");
    assert!(message.contains("is not found"), "{message}");
}

#[test]
fn a_registry_that_wants_a_token_from_everybody_gets_one_and_no_other_host_sees_it() {
    let yard = Yard::pushed();
    let droplet = Droplet::boot(&prepared(&yard.user_data(), "0\n"));
    for (name, mode) in [("server.crt", 0o644), ("server.key", 0o600)] {
        droplet.write_file(
            &format!("/root/{name}"),
            &fs::read(yard.path("registry").join(name)).unwrap(),
            mode,
        );
    }
    droplet.write_file("/root/blob", STAND_IN.as_bytes(), 0o644);
    droplet.write_file("/root/tokens.py", include_bytes!("tokens.py"), 0o644);
    let files = "/root/server.crt /root/server.key /root/blob /root/log";
    droplet.sh(&format!("systemd-run --quiet --unit=tokens python3 /root/tokens.py {files}"));
    droplet.sh("timeout 20 sh -c 'until curl -sk https://127.0.0.1:8444/ready >/dev/null; do sleep 0.1; done'; rm /root/log");
    droplet.write_file("/etc/docker/certs.d/localhost:8443/ca.crt", yard.registry.ca_pem().as_bytes(), 0o644);
    droplet.sh("sed -i 's|^host=.*|host=localhost:8443|' /etc/bundle/bootstrap.conf");
    let (state, message) = again(&droplet, true, "0");
    assert_eq!(state, "done", "{message}\n{}", log(&droplet));
    let requests = droplet.sh("cut -d ' ' -f 1,3- /root/log; grep -c 'service=localhost&scope=repository.*team.*app.*pull' /root/log");
    let token = "Bearer a.token-of_~+/characters=";
    assert_eq!(requests, format!("8443 -\n8443 -\n8443 {token}\n8444 -\n1\n"));
}

#[test]
fn a_switch_that_is_told_to_stop_goes_back_before_its_unit_ends() {
    let yard = Yard::pushed();
    let droplet = Droplet::boot(&prepared(&yard.user_data(), "40\n"));
    assert_eq!(outcome(&droplet).0, "waiting-for-secrets");
    droplet.write_file("/root/slow.py", SLOW.as_bytes(), 0o644);
    restart(&droplet, false, "slow");
    droplet.sh("timeout 60 sh -c 'until test -e /root/at-work; do sleep 0.1; done'");
    droplet.sh("systemctl stop bundle-bootstrap.service");
    let said = log(&droplet);
    println!("{said}");
    droplet.sh("test -e /root/back");
    assert!(said.contains("stopped, and gone back"), "{said}");
    assert_eq!(again(&droplet, false, "0").0, "done");
}

#[test]
fn a_registry_that_stays_away_is_an_error_for_cloud_init_and_the_unit_goes_on() {
    let mut yard = Yard::pushed();
    yard.registry.stop();
    let little = yard.user_data().replace("patience='1800'", "patience='3'");
    let droplet = Droplet::boot(&prepared(&little, "0\n"));
    let (status, code) = cloud_init(&droplet);
    assert_eq!((&*status, code), ("status: error", Some(1)));
    let (state, message) = outcome(&droplet);
    println!("{message}\n{}", log(&droplet));
    assert!(state == "waiting" && message.contains(GOES_ON), "{state}: {message}");
    yard.registry.start_again();
    let until_done = "until grep -qx state=done /var/lib/bundle/first-boot; do sleep 0.5; done";
    droplet.sh(&format!("timeout 120 sh -c '{until_done}'"));
}

#[test]
fn a_secret_that_comes_while_the_first_boot_is_ending_starts_it_again() {
    let yard = Yard::pushed();
    let droplet = Droplet::boot(&prepared(&yard.user_data(), "40\n"));
    assert_eq!(outcome(&droplet).0, "waiting-for-secrets");
    // The script has looked for the last time, and has not ended: starting its unit does nothing.
    droplet.write_file("/root/linger", b"5\n", 0o644);
    let waiting = b"{\"reference\":\"sha256:00\",\"bundle\":null,\"missing\":[\"token\"],\"since\":7}";
    droplet.write_file("/var/lib/bundle/waiting.json", waiting, 0o600);
    droplet.copy_in(&site::program(), "/root/bundle");
    restart(&droplet, false, "40 0");
    droplet.sh("timeout 60 sh -c 'until pgrep -fx \"sleep 5\" >/dev/null; do sleep 0.1; done'");
    let said = droplet.sh("printf x | /root/bundle secrets set token 2>&1");
    assert!(said.contains("the first boot goes on"), "{said}");
    let until_done = "until grep -qx state=done /var/lib/bundle/first-boot; do sleep 0.2; done";
    droplet.sh(&format!("timeout 30 sh -c '{until_done}'"));
    assert_eq!(calls(&droplet), 2);
}
