//! The machine as the network sees it: every TCP port is tried over the wire, over both protocols. What the production
//! profile declares is open and nothing else, although containers publish ports by mistake; and only root reaches the
//! metadata service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::time::Instant;

use crate::image;
use crate::machine::Machine;
use crate::serving::{await_healthy, first_switch, release};
use crate::site::Site;
use crate::slot::stdout;

/// What the shipped profile declares, from an address that may use SSH and from any other.
pub(crate) const DECLARED: &[u16] = &[22, 80, 443];
const PUBLIC: &[u16] = &[80, 443];

/// What the containers publish by mistake: behind Docker's address translation, and on the machine itself.
const MISTAKES: &[u16] = &[5432, 5433];

/// UDP ports on which a machine like this might answer: DNS, DHCP, NTP, SNMP, QUIC, syslog, Docker's overlay networks
/// (Docker documentation, "Use overlay networks"), mDNS; the last has nobody behind it.
const UDP: &str = "53,67,69,111,123,137,161,443,500,514,2375,2377,4789,5353,5432,7946,33333";

/// The metadata service's address (DigitalOcean documentation, "Droplet Metadata").
const METADATA: &str = "169.254.169.254";

/// How long a healthy site needs at most after Docker was restarted.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn from_outside_what_the_profile_declares_is_open_and_nothing_else() {
    let site = Site::open();
    let digest = site.publish(&release("first", ""));
    first_switch(&site, &digest);
    let droplet = &site.droplet;
    let direct = publish_by_mistake(droplet);

    all_ports(droplet, DECLARED, "with mistakes");
    a_stranger_has_no_ssh(droplet);
    no_udp(droplet);
    assert!(!reaches(droplet, &direct), "nobody reaches a container behind its bridge");
    droplet.sh("systemctl restart docker");
    all_ports(droplet, DECLARED, "after a restart of Docker");
    assert!(!reaches(droplet, &direct), "nobody reaches a container behind its bridge");
    await_healthy(droplet, AGAIN);
    assert_eq!(site.door().get("/readyz").unwrap().status, 200);

    metadata_service(droplet);
    only_root_reaches_the_metadata_service(droplet);

    // The same questions without the table: they do see what is there.
    droplet.sh("nft delete table inet bundle");
    for address in addresses(droplet) {
        let seen = Scan::new(droplet, address).ports("5430-5440").run();
        let hidden: Vec<_> = MISTAKES.iter().filter(|port| !seen.open().contains(port)).collect();
        assert!(
            hidden.is_empty() || (address.is_ipv6() && hidden == [&MISTAKES[0]]),
            "without a firewall the mistakes are seen at {address}: {:?}",
            seen.states
        );
    }
    let udp = Scan::new(droplet, IpAddr::V4(droplet.addr())).udp(UDP).run();
    // The kernel says so a few times a second at most (icmp(7), `icmp_ratelimit`).
    let answers = udp.states.values().any(|state| state == "closed");
    assert!(answers, "without a firewall the machine answers: {:?}", udp.states);
    assert!(reaches(droplet, &direct), "without a firewall the container's own address is reached");
    for who in ["container", "nobody"] {
        assert!(asks_metadata(droplet, who), "without a firewall {who} reaches the metadata service");
    }
    droplet.sh("systemctl restart bundle-firewall");
    let shut = Scan::new(droplet, IpAddr::V4(droplet.addr())).ports("22,80,443,5430-5440").run();
    assert_eq!(shut.open(), DECLARED);
}

fn addresses(droplet: &dyn Machine) -> [IpAddr; 2] {
    [IpAddr::V4(droplet.addr()), IpAddr::V6(droplet.addr6())]
}

/// One container that publishes its port on every address, and one with the machine's own network that listens on both
/// protocols. Gives the first one's own address.
pub(crate) fn publish_by_mistake(droplet: &dyn Machine) -> String {
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["httpd", "-f", "-p", "[::]:5433"]);
    droplet.feed(&["docker", "load"], &image::archive(&layout, "1", "tiny:1"));
    // Docker publishes over IPv6 what has an address of it; before Docker 27 it only says so.
    droplet.sh("docker network create --ipv6 --subnet fd62:756e:6464::/64 six; \
         docker run --detach --restart unless-stopped --name mistake --network six \
           --publish 0.0.0.0:5432:5432 --publish '[::]:5432:5432' tiny:1 httpd -f -p 5432; \
         docker run --detach --restart unless-stopped --name mistaken --network host tiny:1");
    let published = droplet.sh("docker port mistake");
    assert!(published.contains("0.0.0.0:5432") && published.contains("[::]:5432"), "{published}");
    droplet
        .sh("for i in $(seq 100); do curl -s http://[::1]:5433/ >/dev/null && exit; sleep 0.1; done; exit 1");
    droplet
        .sh("docker inspect --format '{{.NetworkSettings.Networks.six.IPAddress}}' mistake")
        .trim()
        .to_owned()
}

/// Every TCP port of both addresses, both at once.
pub(crate) fn all_ports(droplet: &dyn Machine, declared: &[u16], when: &str) {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let scans = addresses(droplet).map(|address| {
            let scan = Scan::new(droplet, address);
            (address, scope.spawn(move || scan.run()))
        });
        for (address, scan) in scans {
            let seen = scan.join().unwrap();
            assert_eq!(seen.tried, 65_535, "nmap tried every port of {address}");
            assert_eq!(seen.open(), declared, "{when}, at {address}: {:?}", seen.states);
            // Nothing answers "closed" either: a port that is shut is one that nobody learns anything from.
            assert_eq!(seen.states.len(), declared.len(), "{when}, at {address}: {:?}", seen.states);
        }
    });
    println!("outside: all ports over both protocols {when} in {:.1} s", started.elapsed().as_secs_f64());
}

/// From an address that `ssh_from` does not name.
fn a_stranger_has_no_ssh(droplet: &dyn Machine) {
    let number = droplet.slot().number;
    let strangers = [format!("10.214.{number}.9"), format!("fd62:756e:6473:{number}::9")];
    for (stranger, address) in strangers.iter().zip(addresses(droplet)) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        // The address goes with the wire.
        stdout(
            Command::new("ip")
                .args(["address", "add", &format!("{stranger}/{bits}"), "dev"])
                .arg(droplet.slot().wire()),
        );
        let seen = Scan::new(droplet, address).from(stranger).ports("22,80,443,5432,5433").run();
        assert_eq!(seen.open(), PUBLIC, "{stranger} sees {:?}", seen.states);
        let known = Scan::new(droplet, address).ports("22").run();
        assert_eq!(known.open(), [22], "our own address does: {:?}", known.states);
    }
}

/// No port answers, and none says that it is closed.
fn no_udp(droplet: &dyn Machine) {
    for address in addresses(droplet) {
        let seen = Scan::new(droplet, address).udp(UDP).run();
        assert_eq!(seen.tried, UDP.split(',').count());
        let silent = seen.states.values().all(|state| state == "open|filtered");
        assert!(silent, "UDP at {address}: {:?}", seen.states);
    }
}

/// Whether an address behind a bridge of the machine can be reached by whoever sends packets for it over the wire. The
/// kernel takes every address to be on the link when a socket is bound to a device without a route.
fn reaches(droplet: &dyn Machine, container: &str) -> bool {
    let wire = droplet.slot().wire();
    let link = droplet.sh("cat /sys/class/net/eth0/address");
    stdout(Command::new("ip").args(["neighbour", "replace", container, "lladdr", link.trim(), "dev", &wire]));
    let url = format!("http://{container}:5432/");
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--output",
        "/dev/null",
        "--max-time",
        "3",
        "--noproxy",
        "*",
        "--interface",
        &wire,
        &url,
    ]);
    // Busybox answers 404, which is an answer.
    crate::slot::output(&mut curl).status.success()
}

/// A listener at the metadata service's address, on a wire of its own inside the droplet: nothing on this machine may
/// take that address.
pub(crate) fn metadata_service(droplet: &dyn Machine) {
    droplet.sh(&format!(
        "ip netns add metadata; ip link add meta0 type veth peer name meta1 netns metadata; \
         ip address add 169.254.169.1/24 dev meta0; ip link set meta0 up; \
         ip netns exec metadata sh -euc 'ip address add {METADATA}/24 dev meta1; ip link set meta1 up; \
           ip link set lo up; ip route add default via 169.254.169.1'; \
         mkdir -p /srv/metadata; echo user-data >/srv/metadata/index.html; \
         systemd-run --quiet --unit metadata --property NetworkNamespacePath=/run/netns/metadata \
           python3 -m http.server --directory /srv/metadata --bind {METADATA} 80; \
         for i in $(seq 100); do curl -sf -m 1 http://{METADATA}/ && exit; sleep 0.1; done; exit 1"
    ));
}

fn only_root_reaches_the_metadata_service(droplet: &dyn Machine) {
    assert!(asks_metadata(droplet, "root"));
    assert!(!asks_metadata(droplet, "nobody"), "a user reads the user-data");
    assert!(!asks_metadata(droplet, "container"), "a container reads the user-data");
    // Containers of the site have no curl, but Python.
    let script =
        format!("import urllib.request as r; print(r.urlopen('http://{METADATA}/', timeout=2).read())");
    for container in ["backend-blue", "worker-blue"] {
        let said = droplet.run(&["docker", "exec", container, "python3", "-c", &script]);
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(!out.contains("user-data") && err.contains("URLError"), "{container}: {out}{err}");
    }
}

/// Whether root, another user, root in a container of the machine, or one that is on the machine's own network (outside the
/// bundle's slice, or in it) gets an answer from the metadata service.
pub(crate) fn asks_metadata(droplet: &dyn Machine, who: &str) -> bool {
    let url = format!("http://{METADATA}/");
    let asks = match who {
        "root" => format!("curl -s -m 3 {url}"),
        "nobody" => format!("setpriv --reuid=65534 --regid=65534 --clear-groups curl -s -m 3 {url}"),
        "container" => format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | docker run --init --interactive --rm tiny:1 timeout 5 nc {METADATA} 80"
        ),
        "outsider" | "insider" => format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | docker run --init --interactive --rm --network host {} tiny:1 timeout 5 nc {METADATA} 80",
            if who == "insider" { "--cgroup-parent bundle-app.slice" } else { "" }
        ),
        _ => panic!("who is {who}?"),
    };
    droplet.sh(&format!("{asks} || true")).contains("user-data")
}

/// One run of nmap.
struct Scan {
    command: Command,
    target: IpAddr,
    ports: String,
    udp: bool,
}

/// What it saw.
#[derive(Debug)]
struct Seen {
    /// How many ports were tried.
    tried: usize,
    /// The state of each port that is not one of the many that said nothing.
    states: BTreeMap<String, String>,
}

impl Scan {
    /// All TCP ports, half-open, over the droplet's wire: packets that are dropped are sent once more, twenty thousand a
    /// second (nmap(1)); an emulated network card loses what comes faster than it can take.
    fn new(droplet: &dyn Machine, target: IpAddr) -> Self {
        let slow = droplet.patience(1).as_secs();
        let (rate, retries) = if slow > 1 { (20_000 / slow / 4, "3") } else { (20_000, "1") };
        let mut command = Command::new("nmap");
        command.args([
            "-Pn",
            "-n",
            "-e",
            &droplet.slot().wire(),
            "--min-rate",
            &rate.to_string(),
            "--max-retries",
            retries,
            "-oX",
            "-",
        ]);
        if target.is_ipv6() {
            command.arg("-6");
        }
        Self { command, target, ports: "1-65535".to_owned(), udp: false }
    }

    fn from(mut self, source: &str) -> Self {
        self.command.args(["-S", source]);
        self
    }

    fn ports(mut self, ports: &str) -> Self {
        ports.clone_into(&mut self.ports);
        self
    }

    fn udp(mut self, ports: &str) -> Self {
        self.udp = true;
        self.ports(ports)
    }

    fn run(mut self) -> Seen {
        let how = if self.udp { "-sU" } else { "-sS" };
        self.command.args([how, "-p", &self.ports, &self.target.to_string()]);
        Seen::read(&stdout(&mut self.command))
    }
}

impl Seen {
    /// Reads nmap's XML (nmap.dtd): anything but one host, scanned to the end, is a failure.
    fn read(xml: &str) -> Self {
        let one = |name: &str| {
            let mut found = elements(xml, name);
            match (found.next(), found.next()) {
                (Some(element), None) => element,
                _ => panic!("not one <{name}> in {xml}"),
            }
        };
        assert_eq!(attribute(one("finished"), "exit"), "success", "{xml}");
        assert_eq!(attribute(one("hosts"), "up"), "1", "{xml}");
        let tried = attribute(one("scaninfo"), "numservices").parse().unwrap();
        let mut states = BTreeMap::new();
        let (ports, states_of) = (elements(xml, "port"), elements(xml, "state"));
        for (port, state) in ports.zip(states_of) {
            states.insert(attribute(port, "portid").to_owned(), attribute(state, "state").to_owned());
        }
        let mut counted = states.len();
        for extra in elements(xml, "extraports") {
            let (state, count) = (attribute(extra, "state"), attribute(extra, "count"));
            assert!(["filtered", "open|filtered"].contains(&state), "many ports are {state}: {xml}");
            counted += count.parse::<usize>().unwrap();
        }
        assert_eq!(counted, tried, "a port is missing: {xml}");
        Self { tried, states }
    }

    fn open(&self) -> Vec<u16> {
        let mut open: Vec<u16> = self
            .states
            .iter()
            .filter(|(_, state)| *state == "open")
            .map(|(port, _)| port.parse().unwrap())
            .collect();
        open.sort_unstable();
        open
    }
}

/// The start tags of an element.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let mut tag = String::new();
    write!(tag, "<{name} ").unwrap();
    xml.split('<').filter_map(move |part| {
        let rest = part.strip_prefix(&tag[1..])?;
        Some(rest.split('>').next().unwrap_or(rest))
    })
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=\"");
    let found = element.split(&start).nth(1).and_then(|rest| rest.split('"').next());
    found.unwrap_or_else(|| panic!("no attribute `{name}` in <… {element}>"))
}
