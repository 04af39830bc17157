//! A site: a profile, built and laid down by the program, its door open, and servers where its containers would be.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bundle::activate::{Effect, Host as _};
use bundle::host::Droplet;
use bundle::model::{RouteName, Slot};
use serde_json::Value;

use crate::backend::Backend;
use crate::client::Client;
use crate::room::{address, needs, sh};

/// The site's domain.
pub(crate) const DOMAIN: &str = "bot.test";
/// A host name whose floor is TLS 1.2.
pub(crate) const HOOK: &str = "hook.test";
/// A host name with one route below a path, and nothing else.
pub(crate) const PART: &str = "part.test";

/// Where the door is reached from, and who one is then.
pub(crate) const CLIENT: &str = "198.51.100.7";
/// Another one.
pub(crate) const OTHER: &str = "198.51.100.8";

/// A profile of three host names, four routes and three services that answer.
const PROFILE: &str = r#"
extends = "production.toml"
domain = "bot.test"

[droplet]
image = "ubuntu-24-04-x64"
size = "s-4vcpu-8gb"

[services.front]
image = "ghcr.io/example/marketplace:1.0.0"
mem_limit = "64m"

[services.edge]
image = "ghcr.io/example/marketplace:1.0.0"
mem_limit = "64m"

[routes.front]
service = "front"
port = 3000
path = "/app"
health = "/readyz"

[routes.inner]
service = "edge"
port = 4000
path = "/app/inner"
health = "/readyz"

[routes.hook]
service = "front"
port = 3000
host = "hook.test"
health = "/readyz"

[routes.part]
service = "edge"
port = 4000
host = "part.test"
path = "/only"
health = "/readyz"

[proxy.hosts."hook.test"]
min_tls = "1.2"
"#;

/// Where the profile is built, and laid down.
const BUILT: &str = "/var/lib/bundle/.built";

/// A site whose door is open.
pub(crate) struct Site {
    haproxy: Child,
    /// A server for each address of each slot.
    backends: Vec<Backend>,
    routes: Vec<RouteName>,
}

impl Site {
    /// With these lines after the profile.
    pub(crate) fn open(more: &str) -> Self {
        let manifest = lay_down(more);
        let mut backends = Vec::new();
        let routes = manifest["routes"].as_object().unwrap();
        for slot in ["blue", "green"] {
            let place = |route: &Value| {
                let port = route["port"].as_u64().unwrap();
                (
                    route["service"].as_str().unwrap().to_owned(),
                    format!("{}:{port}", route[slot].as_str().unwrap()),
                )
            };
            for (service, place) in routes.values().map(place).collect::<BTreeSet<_>>() {
                address(place.split_once(':').unwrap().0);
                backends.push(Backend::start(&place, &service, slot));
            }
        }
        for place in [CLIENT, OTHER] {
            address(place);
        }
        let routes = routes.keys().map(|name| name.parse().unwrap()).collect();
        let site = Self { haproxy: start(), backends, routes };
        let end = Instant::now() + Duration::from_secs(30);
        let up = |name: &RouteName| runtime(&format!("show stat {name} 4 -1")).contains(",UP,");
        while !site.routes.iter().all(up) {
            assert!(Instant::now() < end, "HAProxy sees no server: {}", runtime("show stat"));
            std::thread::sleep(Duration::from_millis(50));
        }
        site
    }

    /// Moves requests to `slot`, as a switch does.
    pub(crate) fn flip(&self, slot: Slot) {
        let effect = Effect::Route { routes: self.routes.clone(), to: slot };
        Droplet::default().perform(&effect).unwrap();
    }

    /// The process that serves.
    pub(crate) fn worker() -> String {
        let said = runtime("show info");
        said.lines().find_map(|line| line.strip_prefix("Pid: ")).unwrap().to_owned()
    }

    /// Every server.
    pub(crate) fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// A client from [`CLIENT`] for the domain.
    pub(crate) fn client() -> Client {
        Client::connect(CLIENT, DOMAIN).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.haproxy.kill());
        drop(self.haproxy.wait());
    }
}

/// Where the profile is.
pub(crate) fn project() -> String {
    format!("{BUILT}/project/profiles")
}

/// Builds the profile and lays it down as on a droplet; gives its manifest.
fn lay_down(more: &str) -> Value {
    needs("haproxy");
    let project = project();
    fs::create_dir_all(&project).unwrap();
    fs::create_dir_all(format!("{BUILT}/etc")).unwrap();
    fs::copy("/etc/passwd", format!("{BUILT}/etc/passwd")).unwrap();
    for file in ["base.toml", "production.toml", "bundle.lock"] {
        fs::copy(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(file),
            format!("{project}/{file}"),
        )
        .unwrap();
    }
    fs::write(format!("{project}/door.toml"), format!("{PROFILE}\n{more}")).unwrap();
    bundle(&["lock", &format!("{project}/door.toml")], "");
    bundle(&["build", &format!("{project}/door.toml")], "");
    bundle(&["secrets", "set", "telegram_bot_token"], "12345:token");
    let layout = format!("oci:{BUILT}/var/cache/bundle/layout");
    bundle(&["switch", &layout], "");
    let shown = bundle(&["show", &layout, "--json"], "");
    // A copy, not a mount: a droplet's directory is one file system.
    sh(&format!("cp -a {BUILT}/var/lib/bundle/. /var/lib/bundle/"));
    serde_json::from_str::<Value>(&shown).unwrap()["manifest"].clone()
}

/// Runs the program below [`BUILT`].
fn bundle(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bundle"))
        .args(["--root", BUILT])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bundle {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command of HAProxy's own user, with what its unit lets it do.
pub(crate) fn as_haproxy(command: &[&str]) -> Command {
    let mut started = Command::new("setpriv");
    started
        .args(["--reuid=haproxy", "--regid=haproxy", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"])
        .args(["--bounding-set=-all,+net_bind_service"])
        .args(command);
    started
}

/// The configuration, as the unit names it.
pub(crate) const CONFIG: &str = "/var/lib/bundle/current/haproxy/haproxy.cfg";

/// Starts HAProxy as its unit does.
fn start() -> Child {
    let mut command = as_haproxy(&["haproxy", "-Ws", "-f", CONFIG]);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect("/run/bundle-haproxy/admin.sock").is_err() {
        assert!(Instant::now() < end, "HAProxy has not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Asks HAProxy's Runtime API.
pub(crate) fn runtime(line: &str) -> String {
    let mut socket = UnixStream::connect("/run/bundle-haproxy/admin.sock").unwrap();
    writeln!(socket, "{line}").unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    said
}

/// Lines of names and values as a table that a person can read.
pub(crate) fn table(title: &str, lines: &[(String, String)]) -> String {
    let mut text = format!("{title}\n");
    for (name, value) in lines {
        writeln!(text, "  {name:<44} {value}").unwrap();
    }
    text
}
