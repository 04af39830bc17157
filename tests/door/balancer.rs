//! Behind a load balancer that speaks the PROXY protocol.

use std::io::{Read as _, Write as _};

use crate::client::{Client, Way, open, read_answer};
use crate::room::address;
use crate::site::{CLIENT, DOMAIN, Site};

/// An address of the balancer's network.
const BALANCER: &str = "10.110.0.5";
const PROFILE: &str =
    "[proxy]\nrequests_per_minute = 20\nbalancer = \"10.110.0.0/20\"\nbalancer_health_port = 8404\n";

/// From the balancer, for this client.
fn behind(client: &str) -> Result<Client, String> {
    let header = format!("PROXY TCP4 {client} 203.0.113.80 40000 443\r\n");
    Way { before: header.as_bytes(), ..Way::new(BALANCER, DOMAIN) }.connect()
}

/// The second version (HAProxy's `doc/proxy-protocol.txt`, section 2.2).
fn behind_binary(client: [u8; 4]) -> Result<Client, String> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([203, 0, 113, 80, 0x9c, 0x40, 1, 187]);
    Way { before: &header, ..Way::new(BALANCER, DOMAIN) }.connect()
}

in_a_room! {
    fn clients_behind_one_balancer_are_told_apart_and_nobody_else_may_say_who_they_are() {
        let _site = Site::open(PROFILE);
        address(BALANCER);
        let mut first = behind("192.0.2.1").unwrap();
        let statuses: Vec<u16> = (0..25).map(|_| first.get("/headers").unwrap().status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
        let mut second = behind("192.0.2.2").unwrap();
        let seen = second.get("/headers").unwrap();
        assert_eq!(seen.status, 200, "it has its own count");
        assert!(seen.body.to_ascii_lowercase().contains("x-forwarded-for: 192.0.2.2\r\n"), "{}", seen.body);
        let seen = behind_binary([192, 0, 2, 3]).unwrap().get("/headers").unwrap();
        assert!(seen.body.to_ascii_lowercase().contains("x-forwarded-for: 192.0.2.3\r\n"), "{}", seen.body);

        // A stranger who says who they are gets no answer, and one who does not is who they are.
        let header = b"PROXY TCP4 192.0.2.9 203.0.113.80 40000 443\r\n";
        assert!(Way { before: header, ..Way::new(CLIENT, DOMAIN) }.connect().is_err());
        let seen = Site::client().get("/headers").unwrap();
        assert!(seen.body.to_ascii_lowercase().contains(&format!("x-forwarded-for: {CLIENT}\r\n")));
        // The balancer has to say it.
        assert!(Client::connect(BALANCER, DOMAIN).is_err());
        // And nobody is this machine who is not: its own questions are not for others.
        let loopback = behind("127.0.0.1").and_then(|mut client| client.get("/.bundle/backend/health"));
        assert!(loopback.is_err(), "{loopback:?}");
        let mut here = Client::connect("127.0.0.1", DOMAIN).unwrap();
        assert_eq!(here.get("/.bundle/backend/health").unwrap().status, 200);

        // The clear door is the same.
        for (from, header, status) in [
            (BALANCER, "PROXY TCP4 192.0.2.1 203.0.113.80 40000 80\r\n", Some(308)),
            (BALANCER, "", None),
            (CLIENT, "PROXY TCP4 192.0.2.1 203.0.113.80 40000 80\r\n", Some(400)),
            (CLIENT, "", Some(308)),
        ] {
            let mut stream = open(from, 80).unwrap();
            stream.write_all(format!("{header}GET / HTTP/1.1\r\nHost: bot.test\r\n\r\n").as_bytes()).unwrap();
            let answer = read_answer(&mut stream, &mut Vec::new());
            assert_eq!(answer.as_ref().ok().map(|answer| answer.status), status, "{from} {header}: {answer:?}");
        }
    }
}

in_a_room! {
    fn the_balancer_asks_whether_every_route_has_a_server() {
        let _site = Site::open(PROFILE);
        address(BALANCER);
        let ask = |from: &str| {
            let mut stream = open(from, 8404).unwrap();
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
            let mut said = String::new();
            drop(stream.read_to_string(&mut said));
            said
        };
        assert!(ask(BALANCER).starts_with("HTTP/1.1 200"), "{}", ask(BALANCER));
        assert_eq!(ask(CLIENT), "", "it is nobody else's");
        crate::site::runtime("disable server hook/blue");
        assert!(ask(BALANCER).starts_with("HTTP/1.1 503"), "{}", ask(BALANCER));
    }
}
