//! The builder's side, on this machine: the shipped production profile under an overlay that names the test's registries,
//! and what a person there types. The bundles lie in a registry that asks for a password, the activator in an open one.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::machine::{Machine, Size};
use crate::poster::{DOMAIN, Door};
use crate::registry::Registry;
use crate::seed::Options;
use crate::site::{Ran, program};
use crate::slot::{output, script, stdout, tree};

/// The builder's files and registries.
pub(crate) struct Builder {
    pub(crate) registry: Registry,
    pub(crate) open: Registry,
    images: Vec<(&'static str, String)>,
    size: Size,
    dir: TempDir,
}

impl Builder {
    /// Registries with the images in them; profile and lock for machines of this size.
    pub(crate) fn new(size: Size) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let made = path("images");
        print!("{}", stdout(Command::new(repository().join("tests/images/build")).arg(&made)));
        fs::create_dir(path("closed")).unwrap();
        fs::create_dir(path("open")).unwrap();
        let (registry, open) = (Registry::start(&path("closed")), Registry::start_open(&path("open")));
        let images = ["postgres", "redis", "marketplace"];
        let images = images.map(|name| (name, registry.push_image(&made.join(name), "latest", name)));
        fs::create_dir(path("profiles")).unwrap();
        for name in ["base.toml", "production.toml"] {
            fs::copy(repository().join("profiles").join(name), path("profiles").join(name)).unwrap();
        }
        fs::write(path("profiles/ca.pem"), registry.ca_pem() + &open.ca_pem()).unwrap();
        fs::write(path("hosts"), "127.0.0.1 localhost registry.test\n").unwrap();
        fs::create_dir(path("docker")).unwrap();
        let auth = STANDARD.encode(format!("{}:{}", registry.user(), registry.password()));
        let logins = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host_port());
        fs::write(path("docker/config.json"), logins).unwrap();
        if Options::stock("").stock.as_deref() == Some("bookworm") {
            let out = path("profiles/docker");
            stdout(Command::new(script("docker-repository.sh")).arg(tree()).arg(out));
        }
        let builder = Self { registry, open, images: images.to_vec(), size, dir };
        builder.overlay("");
        let program = program();
        println!("builder: the activator is {}", program.display());
        builder.done(&["lock", &builder.profile(), "--activator", program.to_str().unwrap()]);
        builder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The overlay's file.
    pub(crate) fn profile(&self) -> String {
        self.path("profiles/droplet.toml").display().to_string()
    }

    /// Starts Docker's repository in the machine, if there is one; until it answers, the bootstrap waits for it.
    pub(crate) fn serve_docker(&self, machine: &dyn Machine) {
        if self.path("profiles/docker").exists() {
            machine.copy_in(&self.path("profiles/docker"), "/srv/docker");
            let serve = "python3 -m http.server --bind 127.0.0.1 --directory /srv/docker 8000";
            machine.sh(&format!("systemd-run --quiet --property=Restart=always {serve}"));
        }
    }

    /// Writes the overlay, with `extra` at its end.
    pub(crate) fn overlay(&self, extra: &str) {
        let (closed, open) = (self.registry.host_port(), self.open.host_port());
        let image = |name: &str| {
            let digest = &self.images.iter().find(|(known, _)| *known == name).unwrap().1;
            format!("{closed}/{name}@{digest}")
        };
        let mut services = String::new();
        for (service, name) in [
            ("postgres", "postgres"),
            ("redis", "redis"),
            ("backend", "marketplace"),
            ("worker", "marketplace"),
            ("migrate", "marketplace"),
        ] {
            writeln!(services, "[services.{service}]\nimage = \"{}\"", image(name)).unwrap();
            if self.size == Size::Namespaces {
                // The kernel that droplets in namespaces run on may have no CPU controller, and Docker refuses a limit
                // that it cannot set: 0 is none (Docker Engine API, `NanoCpus`).
                services += "cpus = \"0\"\n";
            }
        }
        let release = match Options::stock("").stock.as_deref() {
            Some("noble") => "image = \"ubuntu-24-04-x64\"",
            Some("bookworm") => {
                "image = \"debian-12-x64\"\n\n[docker.repository]\nurl = \"http://127.0.0.1:8000\"\nkey = \"docker/key.asc\""
            }
            _ => "image = \"debian-13-x64\"",
        };
        // An emulated machine takes its time.
        let health = if self.size == Size::Virtual { 180 } else { 20 };
        let text = format!(
            r#"extends = "production.toml"
domain = "{DOMAIN}"

[registry]
repository = "{closed}/team/bundles"
ca = "ca.pem"
user = "{user}"
token = "registry_token"
activator = "{open}/team/activator"

[secrets.registry_token]

[droplet]
{release}

[firewall]
ssh_from = ["10.213.0.0/16", "fd62:756e:646c::/48"]

[proxy]
exempt = ["10.213.0.0/16", "fd00::/8"]

[switch]
trial = "2s"
health = "{health}s"
drain = "5s"

{services}{extra}"#,
            user = self.registry.user(),
        );
        fs::write(self.profile(), text).unwrap();
    }

    /// `bundle` as a person on this machine calls it, logged in to the registry, ready to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        // A name for the registry, for this one process.
        command.args(["--mount", "sh", "-euc", "mount --bind \"$1\" /etc/hosts; shift; exec \"$@\"", "sh"]);
        command.arg(self.path("hosts")).arg(program()).args(arguments);
        command.env("DOCKER_CONFIG", self.path("docker")).env("XDG_CACHE_HOME", self.path("cache"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs it; it must succeed, or have nothing to do. Gives what it printed.
    fn done(&self, arguments: &[&str]) -> String {
        let said = output(&mut self.command(arguments));
        assert!(matches!(said.status.code(), Some(0 | 10)), "bundle {arguments:?}: {said:?}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// Builds and pushes the overlay with `extra`, and the activator with it; gives the bundle's digest.
    pub(crate) fn publish(&self, extra: &str) -> String {
        self.overlay(extra);
        let digest = self.done(&["build", &self.profile()]).trim().to_owned();
        // Its certificates are trusted because the profile names them.
        self.done(&["push", &self.profile()]);
        digest
    }

    /// Pins another activator: the same program with one more byte at its end, which nothing reads.
    pub(crate) fn pin_another_activator(&self) {
        let other = self.path("other-bundle");
        fs::write(&other, [fs::read(program()).unwrap(), vec![0]].concat()).unwrap();
        self.done(&["lock", &self.profile(), "--activator", other.to_str().unwrap()]);
    }

    /// `bundle deploy` of the overlay with `extra` to a machine, over a real ssh as its own account, which calls `sudo`.
    pub(crate) fn deploy(&self, machine: &dyn Machine, extra: &str) -> Ran {
        self.overlay(extra);
        let login = machine.login(machine.account());
        let (profile, to) = (self.profile(), login.destination());
        let mut arguments = vec!["deploy", &profile, "--host", &to];
        let options: Vec<_> = login.options().iter().map(|option| format!("--ssh-option={option}")).collect();
        arguments.extend(options.iter().map(String::as_str));
        output(&mut self.command(&arguments)).into()
    }

    /// What `bundle cloud-init` prints.
    pub(crate) fn user_data(&self) -> String {
        self.done(&["cloud-init", &self.profile()])
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The HTTPS door of a machine, with the certificate that it made for itself.
pub(crate) fn door(machine: &dyn Machine) -> Door {
    Door::new(
        IpAddr::V4(machine.addr()),
        &machine.run_ok(&["cat", &format!("/var/lib/bundle/certs/{DOMAIN}.pem")]),
    )
}

/// Sends a secret, as an operator does.
pub(crate) fn send(machine: &dyn Machine, name: &str, value: &str) {
    machine.feed(&["bundle", "secrets", "set", name], value.as_bytes());
}

/// What `bundle status --json` says.
pub(crate) fn status(machine: &dyn Machine) -> serde_json::Value {
    let said: Output = machine.run(&["bundle", "status", "--json"]);
    assert!(said.status.success(), "{said:?}");
    serde_json::from_slice(&said.stdout).unwrap()
}
