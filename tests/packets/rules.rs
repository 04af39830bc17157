//! The table as a whole: it is replaced in one transaction or not at all, and nobody else's is touched.

use std::io::{Read as _, Write as _};

use bundle::artifacts::nftables::{Firewall, PATH};
use bundle::artifacts::{Artifact as _, Tree};
use bundle::model::Slot;

use crate::probe::{stay, tcp};
use crate::sample;
use crate::wires::Wires;

/// What the matrix is about.
pub(crate) const FIREWALL: &str = "
ssh_from = ['203.0.113.10/32', '2001:db8::10/128']
public_tcp = [80, 443]
public_udp = [443]
vpc = { interface = 'eth1', subnet = '10.110.0.0/20', tcp = [9100] }
";

/// The rules that a profile's table `[firewall]` gives.
pub(crate) fn ruleset(table: &str) -> String {
    let firewall: Firewall = toml::from_str(table).unwrap();
    let mut tree = Tree::default();
    firewall.render(&sample::spec(), &mut tree).unwrap();
    String::from_utf8(tree.get(PATH, Slot::Blue).unwrap().content.clone()).unwrap()
}

fn load(wires: &Wires, rules: &str) -> (bool, String) {
    wires.machine.try_sh(&format!("nft -f - <<'END'\n{rules}\nEND"))
}

#[test]
fn rules_that_do_not_load_change_nothing() {
    let wires = Wires::lay();
    let good = ruleset(FIREWALL);
    assert!(load(&wires, &good).0);
    let before = wires.machine.sh("nft list ruleset");
    let last = good.rfind('}').unwrap();
    for (what, broken) in [
        ("a chain that is not there", good.replace("jump ssh", "jump nowhere")),
        ("half a file", good[..good.len() / 2].to_owned()),
        ("an unknown word", good.replacen("policy drop;", "policy drip;", 1)),
        ("two elements that overlap", good.replacen("203.0.113.10", "203.0.113.0/24, 203.0.113.10", 1)),
        ("a rule after all others", format!("{}\tchain late {{ frobnicate }}\n}}", &good[..last])),
    ] {
        assert_ne!(broken, good, "{what}");
        let (ok, said) = load(&wires, &broken);
        assert!(!ok, "{what} was loaded: {said}");
        assert_eq!(wires.machine.sh("nft list ruleset"), before, "{what}");
    }
}

#[test]
fn loading_again_replaces_our_table_and_leaves_every_other_alone() {
    let wires = Wires::lay();
    let foreign = |wires: &Wires| wires.machine.sh("nft list table ip nat; nft list table ip6 nat");
    let before = foreign(&wires);
    assert!(load(&wires, &ruleset(FIREWALL)).0);
    let first = wires.machine.sh("nft -s list table inet bundle");
    for _ in 0..3 {
        let (ok, said) = load(&wires, &ruleset(FIREWALL));
        assert!(ok, "{said}");
    }
    assert_eq!(wires.machine.sh("nft -s list table inet bundle"), first);
    let smaller = ruleset("ssh_from = ['203.0.113.10']\npublic_tcp = [443]");
    assert!(load(&wires, &smaller).0);
    let second = wires.machine.sh("nft -s list table inet bundle");
    assert!(second.contains("elements = { 443 }") && !second.contains("9100"), "{second}");
    assert_eq!(foreign(&wires), before, "byte by byte");
    assert_eq!(
        wires.machine.sh("nft list tables | sort"),
        "table inet bundle\ntable ip nat\ntable ip6 nat\n"
    );
}

#[test]
fn a_session_outlives_new_rules_that_would_not_let_it_in() {
    let wires = crate::matrix::served();
    assert!(load(&wires, &ruleset(FIREWALL)).0);
    let (from, to) = ("203.0.113.10".parse().unwrap(), "203.0.113.1:22".parse().unwrap());
    let mut session = stay(&wires.public, from, to);
    assert!(load(&wires, &ruleset("ssh_from = ['198.51.100.1/32']")).0);
    let mut letter = [0];
    session.write_all(b"x").unwrap();
    session.read_exact(&mut letter).unwrap();
    assert_eq!(&letter, b"x");
    assert!(!tcp(&wires.public, from, to), "a new one is not let in");
}
