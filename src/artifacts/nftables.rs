//! `[firewall]` → `nftables/bundle.nft`: one table, IPv4 and IPv6, replaced in one transaction.
//!
//! The chain `door` judges the port that the client dialled, before Docker's address translation: a port that a
//! container publishes by mistake stays closed. Nothing of Docker's is touched (Docker documentation, "Packet filtering
//! and firewalls").

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::Deserialize;

use super::format::Refused;
use super::format::nft::{Table, interface};
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::OnChange;
use crate::spec::Spec;

/// Who may come in. Without this table there is no firewall, and `check` warns of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// Who may come in over SSH: networks and single addresses of both protocols.
    #[schemars(with = "Vec<String>", example = ["203.0.113.0/24", "2001:db8::/32"])]
    ssh_from: Vec<Source>,
    /// The TCP ports that everybody may reach.
    #[serde(default = "default_public_tcp")]
    public_tcp: Vec<u16>,
    /// The UDP ports that everybody may reach.
    #[serde(default)]
    public_udp: Vec<u16>,
    /// What the private network may reach. Default: nothing.
    vpc: Option<Vpc>,
    /// Users, by number, who may ask the metadata service beside root, such as DigitalOcean's monitoring agent (`id -u do-agent`
    /// on the machine). Default: none.
    #[serde(default)]
    metadata_uids: Vec<u32>,
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Source(IpNet);

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| {
            format!("`{text}` is not a network or an address: write `203.0.113.0/24` or `203.0.113.7`")
        })
    }
}

/// The private network between droplets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Vpc {
    /// Its interface; `eth1` on a droplet.
    #[schemars(example = &"eth1")]
    interface: String,
    /// Its subnet.
    #[schemars(with = "String", example = &"10.110.0.0/20")]
    subnet: Ipv4Net,
    /// The TCP ports that are open to it.
    #[schemars(example = [9100])]
    tcp: Vec<u16>,
}

fn default_public_tcp() -> Vec<u16> {
    vec![80, 443]
}

/// The file's place in a view.
pub const PATH: &str = "nftables/bundle.nft";

/// The ruleset of a machine that has no generation yet: SSH, and nothing for the public. The user-data carries it.
pub const GROUND: &str = "nftables/ground.nft";

impl Section for Firewall {
    const KIND: &'static str = "firewall";
    const TABLE: Option<&'static str> = Some("firewall");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Firewall {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.ssh_from.is_empty() {
            let hint = "name the networks that operators come from, as in `[\"203.0.113.0/24\"]`".to_owned();
            let message = "nobody could reach the machine over SSH".to_owned();
            problems.push(literal::problem("ssh_from", message, Some(hint)));
        }
        if self.public_tcp.contains(&22) {
            let hint = "leave it to `ssh_from`".to_owned();
            let message = "port 22 would be open to everybody".to_owned();
            problems.push(literal::problem("public_tcp", message, Some(hint)));
        }
        if let Some(vpc) = &self.vpc {
            if let Err(Refused(message)) = interface(&vpc.interface) {
                problems.push(Problem { at: vec!["vpc".into(), "interface".into()], message, hint: None });
            } else if vpc.interface == spec.droplet.public_interface {
                let message = "this is the public interface".to_owned();
                problems.push(Problem { at: vec!["vpc".into(), "interface".into()], message, hint: None });
            }
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let interface = &spec.droplet.public_interface;
        let ground = Self {
            ssh_from: self.ssh_from.clone(),
            public_tcp: vec![],
            public_udp: vec![],
            vpc: None,
            metadata_uids: vec![],
        };
        let text = ground.ruleset(interface).map_err(|refused| refused.at(GROUND))?;
        tree.insert(Entry::text(Self::KIND, literal::path(GROUND)?, text).check(&["nft", "-c", "-f", "{}"]))?;
        let text = self.ruleset(interface).map_err(|refused| refused.at(PATH))?;
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text)
            .check(&["nft", "-c", "-f", "{}"])
            .on_change(OnChange::Reload(literal::unit("bundle-firewall.service")?));
        tree.insert(entry).map(drop)
    }
}

impl Firewall {
    fn ruleset(&self, public_interface: &str) -> Result<String, Refused> {
        let (mut ssh4, mut ssh6) = (Vec::new(), Vec::new());
        for Source(network) in &self.ssh_from {
            match network {
                IpNet::V4(network) => ssh4.push(*network),
                IpNet::V6(network) => ssh6.push(*network),
            }
        }
        let vpc = self.vpc.as_ref();
        let mut table = Table::inet("bundle");
        table
            .set("public", "type ifname;", [interface(public_interface)?])
            .set("vpc", "type ifname;", vpc.map(|vpc| interface(&vpc.interface)).transpose()?)
            .set("ssh4", "type ipv4_addr; flags interval;", Ipv4Net::aggregate(&ssh4))
            .set("ssh6", "type ipv6_addr; flags interval;", Ipv6Net::aggregate(&ssh6))
            .set("vpc4", "type ipv4_addr; flags interval;", vpc.map(|vpc| vpc.subnet.trunc()))
            .set("public_tcp", "type inet_service;", ports(&self.public_tcp))
            .set("public_udp", "type inet_service;", ports(&self.public_udp))
            .set("vpc_tcp", "type inet_service;", vpc.map(|vpc| ports(&vpc.tcp)).unwrap_or_default())
            // By number: a name that does not exist yet would keep the whole table from loading.
            .set("metadata_uid", "type uid;", uids(&self.metadata_uids))
            .set("ssh_rate4", RATE4, [] as [u16; 0])
            .set("ssh_rate6", RATE6, [] as [u16; 0])
            .chain("door", DOOR)
            .chain("input", INPUT)
            .chain("ssh", SSH)
            .chain("forward", FORWARD)
            .chain("output", OUTPUT);
        table.finish()
    }
}

/// Sorted, each once: nft refuses a set that names an element twice.
fn ports(ports: &[u16]) -> Vec<u16> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Root and these, each once.
fn uids(uids: &[u32]) -> std::collections::BTreeSet<u32> {
    uids.iter().copied().chain([0]).collect()
}

const RATE4: &str = "type ipv4_addr; size 65535; flags dynamic,timeout; timeout 2m;";
const RATE6: &str = "type ipv6_addr; size 65535; flags dynamic,timeout; timeout 2m;";

/// After connection tracking and before address translation. `iifname`, never `iif`: that needs the interface to exist.
const DOOR: &[&str] = &[
    "type filter hook prerouting priority mangle; policy accept;",
    "iifname != @public accept",
    "ct state established,related accept",
    "ct state invalid counter drop",
    "fib saddr . iif oif missing counter drop",
    "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, packet-too-big, destination-unreachable, time-exceeded, parameter-problem } accept",
    "fib daddr type unicast counter drop comment \"no direct routing to containers\"",
    "meta l4proto { icmp, icmpv6 } accept",
    "tcp dport @public_tcp accept",
    "udp dport @public_udp accept",
    "tcp dport 22 ip saddr @ssh4 accept",
    "tcp dport 22 ip6 saddr @ssh6 accept",
    "udp sport 67 udp dport 68 accept",
    "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
    "counter drop",
];

const INPUT: &[&str] = &[
    "type filter hook input priority filter; policy drop;",
    "iifname \"lo\" accept",
    "ct state established,related accept",
    "ct state invalid drop",
    "ip6 hoplimit 255 icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept",
    "icmpv6 type { packet-too-big, destination-unreachable, time-exceeded, parameter-problem } accept",
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "icmp type echo-request limit rate 20/second accept",
    "icmpv6 type echo-request limit rate 20/second accept",
    "udp sport 67 udp dport 68 accept",
    "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
    "iifname @public tcp dport @public_tcp accept",
    "iifname @public udp dport @public_udp accept",
    "iifname \"br-*\" tcp dport @public_tcp accept comment \"containers reach what everybody reaches\"",
    "iifname @public tcp dport 22 jump ssh",
    "iifname @vpc ip saddr @vpc4 tcp dport @vpc_tcp accept",
    "limit rate 10/minute burst 5 packets log prefix \"bundle-drop \" level info",
    "counter drop",
];

/// Ten new connections a minute for an address; in IPv6 for a /64, which is what one customer has.
const SSH: &[&str] = &[
    "ct state new ip saddr @ssh4 add @ssh_rate4 { ip saddr limit rate over 10/minute burst 10 packets } counter drop",
    "ct state new ip6 saddr @ssh6 add @ssh_rate6 { ip6 saddr and ffff:ffff:ffff:ffff:: limit rate over 10/minute burst 10 packets } counter drop",
    "ip saddr @ssh4 accept",
    "ip6 saddr @ssh6 accept",
    "counter drop",
];

/// Ahead of Docker's chain. A drop is final, an accept goes on to Docker's rules; container bridges reach out freely,
/// but not to the metadata service.
const FORWARD: &[&str] = &[
    "type filter hook forward priority filter - 10; policy accept;",
    "ip daddr 169.254.0.0/16 counter drop",
    "ct state established,related accept",
    "iifname @public counter drop",
    "iifname @vpc counter drop",
];

/// User-data and tokens are read from the metadata service by root alone.
const OUTPUT: &[&str] = &[
    "type filter hook output priority filter; policy accept;",
    "ip daddr 169.254.169.254 meta skuid != @metadata_uid counter reject with icmpx admin-prohibited",
];

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("bundle.nft", fixture::text(&tree, PATH, Slot::Blue));
        insta::assert_snapshot!("ground.nft", fixture::text(&tree, GROUND, Slot::Blue));
    }

    #[test]
    fn networks_that_overlap_become_one_element() {
        let text = "ssh_from = ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32']\npublic_tcp = [443, 80, 443]";
        let firewall: Firewall = toml::from_str(text).unwrap();
        let ruleset = firewall.ruleset("eth0").unwrap();
        assert!(ruleset.contains("elements = { 10.0.0.0/8 }"), "{ruleset}");
        assert!(ruleset.contains("elements = { 80, 443 }"), "{ruleset}");
    }

    #[test]
    fn a_single_address_is_a_source_too() {
        let firewall: Firewall =
            toml::from_str("ssh_from = ['203.0.113.7', '2001:db8::7']\nmetadata_uids = [998, 0]").unwrap();
        let ruleset = firewall.ruleset("eth0").unwrap();
        for set in ["{ 203.0.113.7/32 }", "{ 2001:db8::7/128 }", "{ 0, 998 }"] {
            assert!(ruleset.contains(set), "{set}: {ruleset}");
        }
        let wrong = toml::from_str::<Firewall>("ssh_from = ['example.com']").unwrap_err();
        assert!(wrong.message().contains("`example.com` is not a network"), "{wrong}");
    }

    #[test]
    fn a_door_without_a_key_is_a_problem() {
        let firewall: Firewall = toml::from_str("ssh_from = []\npublic_tcp = [22]").unwrap();
        let at: Vec<String> =
            firewall.check(&fixture::spec()).into_iter().flat_map(|problem| problem.at).collect();
        assert_eq!(at, ["ssh_from", "public_tcp"]);
    }

    #[test]
    fn nothing_of_dockers_is_flushed() {
        let text = fixture::text(&fixture::tree(), PATH, Slot::Blue);
        assert!(!text.contains("flush ruleset"));
    }
}
