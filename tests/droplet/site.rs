//! A droplet with the shipped production profile on it: an overlay names the test's images and registry and shortens
//! the waits, with a lock of its own; everything else is what is shipped.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use tempfile::TempDir;

use crate::droplet::Droplet;
use crate::poster::{DOMAIN, Door};
use crate::registry::Registry;
use crate::seed::Options;
use crate::slot::stdout;

/// Where the builder's side works inside the droplet.
const SITE: &str = "/root/site";

/// A droplet, a registry at the other end of its wire, and the site's profiles in it.
pub(crate) struct Site {
    pub(crate) droplet: Droplet,
    pub(crate) registry: Registry,
    _dir: TempDir,
}

/// One command of `bundle`, ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program under test: the static release binary if it was built, as it is what droplets get.
pub(crate) fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_bundle"));
    let statically =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/x86_64-unknown-linux-gnu/release/bundle");
    let statically = std::env::var_os("BUNDLE_STATIC").map_or(statically, PathBuf::from);
    if statically.exists() { statically } else { built }
}

/// Puts the program and the shipped profiles into a droplet.
pub(crate) fn install(droplet: &Droplet) {
    let program = program();
    println!("site: the program is {}", program.display());
    droplet.copy_in(&program, "/usr/local/bin/bundle");
    droplet.copy_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles"), SITE);
}

impl Site {
    /// Registry, images, droplet, program, profiles, lock.
    pub(crate) fn open() -> Self {
        let started = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/build");
        print!("{}", stdout(Command::new(script).arg(&images)));
        let store = dir.path().join("registry");
        fs::create_dir(&store).unwrap();
        let registry = Registry::start(&store);
        for image in ["postgres", "redis", "marketplace"] {
            registry.push_image(&images.join(image), "latest", image);
        }
        let daemon = bundle::artifacts::docker::daemon_json().unwrap();
        let options = Options::default().seeds(registry.seeds()).seed(
            "/etc/docker/daemon.json",
            0o644,
            daemon.as_bytes(),
        );
        let droplet = Droplet::boot(&options);
        let site = Self { droplet, registry, _dir: dir };
        install(&site.droplet);
        site.droplet.run_ok(&["rm", &format!("{SITE}/bundle.lock")]);
        site.overlay("");
        let locked = site.bundle(&["lock", &format!("{SITE}/droplet.toml")]);
        assert_eq!(locked.code, 0, "{locked:?}");
        println!("site: open after {:.1} s\n{}", started.elapsed().as_secs_f64(), locked.out);
        site
    }

    /// Writes the overlay profile, with `extra` at its end. The kernel that droplets in namespaces run on may have no
    /// CPU controller, and Docker refuses a limit that it cannot set: 0 is none (Docker Engine API, `NanoCpus`).
    pub(crate) fn overlay(&self, extra: &str) {
        let host = self.registry.host_port();
        // TOML has each table once: an overlay with waits of its own brings all of them.
        let waits = "[switch]\ntrial = \"2s\"\nhealth = \"15s\"\ndrain = \"5s\"\n";
        let waits = if extra.contains("[switch]") { "" } else { waits };
        let text = format!(
            r#"extends = "production.toml"
domain = "{DOMAIN}"

[registry]
repository = "{host}/team/bundles"

[firewall]
ssh_from = ["10.213.0.0/16", "fd62:756e:646c::/48"]

[proxy]
exempt = ["10.213.0.0/16", "fd00::/8"]

{waits}
[services.postgres]
image = "{host}/postgres:latest"
cpus = "0"

[services.redis]
image = "{host}/redis:latest"
cpus = "0"

[services.backend]
image = "{host}/marketplace:latest"
cpus = "0"

[services.worker]
image = "{host}/marketplace:latest"
cpus = "0"

[services.migrate]
image = "{host}/marketplace:latest"
cpus = "0"
{extra}"#
        );
        self.droplet.write_file(&format!("{SITE}/droplet.toml"), text.as_bytes(), 0o644);
    }

    /// Runs `bundle` in the droplet.
    pub(crate) fn bundle(&self, arguments: &[&str]) -> Ran {
        let argv: Vec<_> = ["bundle"].iter().chain(arguments).copied().collect();
        self.droplet.run(&argv).into()
    }

    /// Builds and pushes the overlay with `extra`; gives the bundle's digest.
    pub(crate) fn publish(&self, extra: &str) -> String {
        self.overlay(extra);
        let profile = format!("{SITE}/droplet.toml");
        let builder = ["--root", "/root/builder"];
        let built = self.bundle(&[&builder[..], &["build", &profile]].concat());
        assert_eq!(built.code, 0, "{built:?}");
        let pushed = self.bundle(&[&builder[..], &["push", &profile]].concat());
        assert_eq!(pushed.code, 0, "{pushed:?}");
        built.out.trim().to_owned()
    }

    /// Where its bundles are.
    pub(crate) fn repository(&self) -> String {
        format!("{}/team/bundles", self.registry.host_port())
    }

    /// Switches to a bundle by its own digest.
    pub(crate) fn switch(&self, digest: &str) -> Ran {
        self.bundle(&[
            "switch",
            digest,
            "--repository",
            &format!("{}/team/bundles", self.registry.host_port()),
        ])
    }

    /// The HTTPS door, with the certificate that the machine made for itself.
    pub(crate) fn door(&self) -> Door {
        let pem = self.droplet.run_ok(&["cat", &format!("/var/lib/bundle/certs/{DOMAIN}.pem")]);
        Door::new(IpAddr::V4(self.droplet.addr()), &pem)
    }

    /// ID and start time of a container: equal as long as nobody restarted or recreated it.
    pub(crate) fn life(&self, container: &str) -> String {
        self.droplet.run_ok(&["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", container])
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
