//! The first boot up to the hand-over: a droplet with nothing but the user-data that `bundle cloud-init` prints fetches
//! the activator and calls it. A script that writes down how it was called stands for the activator here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::droplet::Droplet;
use crate::registry::Registry;
use crate::seed::Options;
use crate::slot::stdout;

/// Stands for the activator: ends as `/root/codes` says, a code for each call, at the end with the last one again.
const STAND_IN: &str = "#!/bin/sh
echo \"$@\" >>/root/calls
code=$(head -n 1 /root/codes 2>/dev/null || echo 0)
[ \"$(wc -l </root/codes 2>/dev/null || echo 0)\" -le 1 ] || sed -i 1d /root/codes
[ \"$code\" -eq 0 ] || printf 'error: the stand-in ends with %s\\n  - as it was told\\n\\nhint: none\\n' \"$code\" >&2
exit \"$code\"
";

/// A registry with the activator in it, and the builder's files.
struct Yard {
    registry: Registry,
    dir: tempfile::TempDir,
}

impl Yard {
    fn open(closed: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("registry");
        fs::create_dir(&store).unwrap();
        let registry = if closed { Registry::start(&store) } else { Registry::start_open(&store) };
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
image = "debian-13-x64"

[firewall]
ssh_from = ["10.213.0.0/16"]

[services.web]
image = "{host}/web@sha256:0000000000000000000000000000000000000000000000000000000000000001"
user = "1000:1000"
"#
        );
        fs::write(yard.path("profile.toml"), profile).unwrap();
        fs::copy(yard.registry.ca_path(), yard.path("ca.pem")).unwrap();
        fs::write(yard.path("activator"), STAND_IN).unwrap();
        yard.bundle(&["lock", "profile.toml", "--activator", "activator"]);
        yard
    }

    /// One to which the activator has been pushed.
    fn pushed() -> Self {
        let yard = Self::open(false);
        yard.push();
        yard
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

    fn options(&self, user_data: &str) -> Options {
        let seed = "/var/lib/cloud/seed/nocloud";
        Options::default().seed(format!("{seed}/meta-data"), 0o644, "instance-id: one\n").seed(
            format!("{seed}/user-data"),
            0o644,
            user_data,
        )
    }

    fn boot(&self, user_data: &str, codes: &str) -> Droplet {
        Droplet::boot(&self.options(user_data).seed("/root/codes", 0o644, codes))
    }

    /// The file in which the registry keeps the activator's bytes.
    fn blob(&self) -> PathBuf {
        let lock = fs::read_to_string(self.path("bundle.lock")).unwrap();
        let digest = lock.split("[activator]\ndigest = \"sha256:").nth(1).unwrap()[..64].to_owned();
        let path = format!("registry/storage/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]);
        self.path(&path)
    }
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
    let mut droplet = yard.boot(&user_data, "0\n");
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
