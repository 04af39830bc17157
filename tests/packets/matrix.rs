//! What passes and what does not: a table, asked before the rules are loaded and after.

use std::net::{IpAddr, SocketAddr};

use crate::probe::{ping, serve, tcp, tcp_as, udp, unspecified};
use crate::rules::{FIREWALL, ruleset};
use crate::wires::{METADATA, Namespace, Wires};

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// The public side, from an address that may use SSH.
    Listed,
    /// The public side, from any other.
    Stranger,
    /// The private network.
    Vpc,
    /// A container.
    Container,
    /// The machine's root.
    Root,
    /// A user of the machine.
    Nobody,
}

/// How.
#[derive(Debug, Clone, Copy)]
enum How {
    Tcp,
    Udp,
    Ping,
}
use How::{Ping, Tcp, Udp};
use Who::{Container, Listed, Nobody, Root, Stranger, Vpc};

/// Who, how, where, and whether it passes through the rules. Without them all of it passes.
const TABLE: &[(Who, How, &str, bool)] = &[
    // SSH by source.
    (Listed, Tcp, "203.0.113.1:22", true),
    (Listed, Tcp, "[2001:db8::1]:22", true),
    (Stranger, Tcp, "203.0.113.1:22", false),
    (Stranger, Tcp, "[2001:db8::1]:22", false),
    (Vpc, Tcp, "10.110.0.2:22", false),
    (Vpc, Tcp, "[fd00:110::2]:22", false),
    // What the profile declares for everybody.
    (Stranger, Tcp, "203.0.113.1:80", true),
    (Stranger, Tcp, "[2001:db8::1]:80", true),
    (Stranger, Tcp, "203.0.113.1:443", true),
    (Stranger, Tcp, "[2001:db8::1]:443", true),
    (Stranger, Udp, "203.0.113.1:443", true),
    (Stranger, Udp, "[2001:db8::1]:443", true),
    (Container, Tcp, "172.20.0.1:443", true),
    (Container, Tcp, "203.0.113.1:443", true),
    // What listens by mistake, for whoever asks.
    (Listed, Tcp, "203.0.113.1:5433", false),
    (Listed, Tcp, "[2001:db8::1]:5433", false),
    (Stranger, Udp, "203.0.113.1:5353", false),
    (Stranger, Udp, "[2001:db8::1]:5353", false),
    (Container, Tcp, "172.20.0.1:5433", false),
    (Container, Tcp, "172.20.0.1:22", false),
    (Container, Tcp, "[fd00:20::1]:5433", false),
    (Vpc, Tcp, "10.110.0.2:5433", false),
    (Vpc, Tcp, "[fd00:110::2]:5433", false),
    // For the private network, and by its own address only.
    (Vpc, Tcp, "10.110.0.2:9100", true),
    (Stranger, Tcp, "203.0.113.1:9100", false),
    (Stranger, Tcp, "[2001:db8::1]:9100", false),
    (Vpc, Tcp, "10.110.0.2:80", false),
    // Published by mistake: behind Docker's address translation.
    (Stranger, Tcp, "203.0.113.1:8080", false),
    (Stranger, Tcp, "[2001:db8::1]:8080", false),
    (Listed, Tcp, "203.0.113.1:8080", false),
    (Vpc, Tcp, "10.110.0.2:8080", false),
    (Vpc, Tcp, "[fd00:110::2]:8080", false),
    // A container's own address, by a route that somebody laid.
    (Stranger, Tcp, "172.20.0.2:80", false),
    (Stranger, Tcp, "[fd00:20::2]:80", false),
    (Vpc, Tcp, "172.20.0.2:80", false),
    (Root, Tcp, "172.20.0.2:80", true),
    (Root, Tcp, "[fd00:20::2]:80", true),
    // Is it there?
    (Stranger, Ping, "203.0.113.1:0", true),
    (Stranger, Ping, "[2001:db8::1]:0", true),
    (Vpc, Ping, "10.110.0.2:0", true),
    // Out: the machine and its containers reach the world.
    (Root, Tcp, "203.0.113.254:7000", true),
    (Nobody, Tcp, "203.0.113.254:7000", true),
    (Container, Tcp, "203.0.113.254:7000", true),
    (Container, Tcp, "[2001:db8::fe]:7000", true),
    // The metadata service: root alone.
    (Root, Tcp, "169.254.169.254:80", true),
    (Nobody, Tcp, "169.254.169.254:80", false),
    (Container, Tcp, "169.254.169.254:80", false),
    // Itself.
    (Root, Tcp, "127.0.0.1:5433", true),
    (Root, Tcp, "[::1]:5433", true),
];

fn passes(wires: &Wires, (from, how, to, _): &(Who, How, &str, bool)) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    let own = |last: u16| match to {
        SocketAddr::V4(_) => IpAddr::from([203, 0, 113, u8::try_from(last).unwrap()]),
        SocketAddr::V6(_) => {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from_str_radix(&last.to_string(), 16).unwrap()])
        }
    };
    let (namespace, own): (&Namespace, IpAddr) = match from {
        Listed => (&wires.public, own(10)),
        Stranger => (&wires.public, own(20)),
        Vpc => (&wires.vpc, unspecified(to)),
        Container => (&wires.container, unspecified(to)),
        Root => (&wires.machine, unspecified(to)),
        Nobody => return tcp_as(&wires.machine, 65_534, to),
    };
    match how {
        Tcp => tcp(namespace, own, to),
        Udp => udp(namespace, own, to),
        Ping => ping(namespace, own, to.ip()),
    }
}

/// A machine with programs on all these ports, rules or not.
pub(crate) fn served() -> Wires {
    let wires = Wires::lay();
    serve(&wires.machine, &[22, 80, 443, 5433, 9100], &[443, 5353]);
    serve(&wires.container, &[80], &[]);
    serve(&wires.public, &[80, 7000], &[]);
    wires
}

#[test]
fn what_must_pass_passes_and_what_must_not_does_not() {
    let wires = served();
    let wrong = |with_rules: bool| -> Vec<String> {
        // Side by side: what is dropped takes its time.
        let asked: Vec<_> = std::thread::scope(|scope| {
            let wires = &wires;
            let asked = TABLE.iter().map(|entry| scope.spawn(move || (entry, passes(wires, entry))));
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let wrong = asked.into_iter().filter(|(entry, passed)| *passed != (entry.3 || !with_rules));
        wrong.map(|((from, how, to, _), passed)| format!("{from:?} {how:?} {to}: {passed}")).collect()
    };
    assert_eq!(
        wrong(false),
        [""; 0],
        "without rules everything passes, so that what does not is the rules' doing"
    );
    wires.machine.sh(&format!("nft -f - <<'END'\n{}\nEND", ruleset(FIREWALL)));
    assert_eq!(wrong(true), [""; 0], "with the rules");
    println!("packets: {} probes without rules and with them", TABLE.len());
}

#[test]
fn of_many_quick_logins_from_one_address_ten_come_through() {
    let wires = served();
    wires.machine.sh(&format!("nft -f - <<'END'\n{}\nEND", ruleset(FIREWALL)));
    for (from, to) in [("203.0.113.10", "203.0.113.1:22"), ("2001:db8::10", "[2001:db8::1]:22")] {
        let (from, to): (IpAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let through = (0..14).filter(|_| tcp(&wires.public, from, to)).count();
        // One more for every six seconds that it took.
        assert!((10..=11).contains(&through), "{through} of 14 from {from}");
    }
    let other = |to: &str| tcp(&wires.public, "203.0.113.20".parse().unwrap(), to.parse().unwrap());
    assert!(other("203.0.113.1:443"), "it is about SSH alone");
}

#[test]
fn a_source_that_is_not_where_it_says_gets_nothing() {
    let wires = served();
    wires.machine.sh(&format!("nft -f - <<'END'\n{}\nEND", ruleset(FIREWALL)));
    // An address of the private network, from the public side.
    wires.public.sh("ip address add 10.110.0.9/32 dev wire; ip route add 10.110.0.2 via 203.0.113.1");
    let from = "10.110.0.9".parse().unwrap();
    for to in ["10.110.0.2:9100", "203.0.113.1:80", "203.0.113.1:22"] {
        assert!(!tcp(&wires.public, from, to.parse().unwrap()), "{to}");
    }
    let dropped = wires.machine.sh("nft list chain inet bundle door | grep 'oif missing'");
    assert!(!dropped.contains("packets 0 "), "{dropped}");
}

#[test]
fn the_metadata_service_is_shut_for_what_a_container_sends_by_any_name() {
    let wires = served();
    wires.machine.sh(&format!("nft -f - <<'END'\n{}\nEND", ruleset(FIREWALL)));
    // Another link-local address is no way around.
    wires.public.sh("ip address add 169.254.1.1/32 dev wire");
    wires.machine.sh("ip route add 169.254.1.1 dev eth0");
    let to = |address: &str| SocketAddr::new(address.parse().unwrap(), 80);
    assert!(!tcp(&wires.container, unspecified(to(METADATA)), to("169.254.1.1")));
    let rejected = wires.machine.sh("nft list chain inet bundle forward");
    assert!(!rejected.contains("169.254.0.0/16 counter packets 0 "), "{rejected}");
}
