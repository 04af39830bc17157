//! Who may speak which TLS to which name, and what every answer says about it.

use std::process::Command;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::client::{Answer, Client, Way, open, read_answer};
use crate::site::{CLIENT, CONFIG, DOMAIN, HOOK, OTHER, PART, Site, as_haproxy};

fn year(answer: &Answer) {
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"), "{answer:?}");
}

in_a_room! {
    fn each_name_has_its_own_floor_and_no_way_around_it() {
        let _site = Site::open("");
        let with = |name, version: &'static SupportedProtocolVersion| {
            Way { versions: &[version], ..Way::new(CLIENT, name) }.connect()
        };
        for name in [DOMAIN, PART] {
            let refused = with(name, &TLS12).err().unwrap();
            assert!(refused.contains("ProtocolVersion"), "{name}: {refused}");
        }
        for name in [DOMAIN, PART, HOOK] {
            assert!(with(name, &TLS13).is_ok(), "{name}");
        }
        let mut old = with(HOOK, &TLS12).unwrap();
        assert_eq!(old.get("/").unwrap().body, "front blue /");
        // The connection is open; asking it for another name does not lower that name's floor.
        let other = old.get_from(DOMAIN, "/").unwrap();
        assert_eq!(other.status, 421, "{other:?}");
        year(&other);
        let mut new = with(HOOK, &TLS13).unwrap();
        assert_eq!(new.get_from(DOMAIN, "/").unwrap().status, 200);
        let refused = with("stranger.test", &TLS13).err().unwrap();
        assert!(refused.contains("UnrecognisedName") || refused.contains("alert"), "{refused}");
    }
}

in_a_room! {
    fn every_answer_says_that_there_is_only_tls() {
        let site = Site::open("[proxy]\nrequests_per_minute = 20\nexempt = [\"198.51.100.8/32\"]\n");
        let mut client = Client::connect(OTHER, DOMAIN).unwrap();
        for (path, status) in [("/", 200), ("/missing", 404), ("/.bundle/backend/health", 404), ("/broken", 502)] {
            let answer = client.get(path).unwrap();
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            year(&answer);
            assert_eq!((answer.header("server"), answer.header("x-content-type-options")), (None, Some("nosniff")));
        }
        let mut part = Client::connect(OTHER, PART).unwrap();
        let answer = part.get("/elsewhere").unwrap();
        assert_eq!(answer.status, 404);
        year(&answer);
        let mut limited = Client::connect(CLIENT, DOMAIN).unwrap();
        let answer = (0..21).map(|_| limited.get("/").unwrap()).last().unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
        year(&answer);
        for (request, status) in [
            ("TRACE / HTTP/1.1\r\nHost: bot.test\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\nHost: stranger.test\r\n\r\n", 421),
            ("POST / HTTP/1.1\r\nHost: bot.test\r\nContent-Length: 9\r\n\r\nx", 408),
        ] {
            let mut client = Client::connect(OTHER, DOMAIN).unwrap();
            client.send(request.as_bytes()).unwrap();
            let answer = client.answer().unwrap();
            assert_eq!(answer.status, status, "{request}");
            year(&answer);
        }
        for name in ["backend", "front", "inner", "hook", "part"] {
            crate::site::runtime(&format!("disable server {name}/blue"));
        }
        let answer = Client::connect(OTHER, DOMAIN).unwrap().get("/").unwrap();
        assert_eq!(answer.status, 503);
        year(&answer);
        drop(site);
    }
}

in_a_room! {
    fn the_clear_door_only_says_where_the_other_one_is() {
        let _site = Site::open("");
        for (host, to) in [(DOMAIN, DOMAIN), (HOOK, HOOK), ("PART.test.:80", PART), ("stranger.test", DOMAIN)] {
            let mut stream = open(CLIENT, 80).unwrap();
            let request = format!("POST /a?b=c HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            let answer = read_answer(&mut stream, &mut Vec::new()).unwrap();
            assert_eq!((answer.status, answer.header("location")), (308, Some(&*format!("https://{to}/a?b=c"))));
            // RFC 6797, section 7.2: not over what is not secure.
            assert_eq!(answer.header("strict-transport-security"), None);
        }
    }
}

in_a_room! {
    fn haproxy_has_nothing_to_complain_about() {
        let _site = Site::open("[certificates]\nemail = \"ops@bot.test\"\n[proxy]\nbalancer = \"10.110.0.0/20\"\nbalancer_health_port = 8404\n");
        let version = Command::new("haproxy").arg("-v").output().unwrap();
        println!("{}", String::from_utf8_lossy(&version.stdout).lines().next().unwrap());
        let output = as_haproxy(&["haproxy", "-c", "-dW", "-f", CONFIG]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
