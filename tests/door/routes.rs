//! Which request reaches which service.

use crate::client::Client;
use crate::site::{CLIENT, DOMAIN, HOOK, PART, Site};
use bundle::model::Slot;

in_a_room! {
    fn the_longest_path_of_the_name_gets_the_request_on_both_slots() {
        let site = Site::open("");
        for slot in [Slot::Blue, Slot::Green, Slot::Blue] {
            site.flip(slot);
            for (host, path, service) in [
                (DOMAIN, "/", "backend"),
                (DOMAIN, "/application", "backend"),
                (DOMAIN, "/app", "front"),
                (DOMAIN, "/app?x=/app/inner", "front"),
                (DOMAIN, "/app/", "front"),
                (DOMAIN, "/app/innermost", "front"),
                (DOMAIN, "/app/inner", "edge"),
                (DOMAIN, "/app/inner/x", "edge"),
                (HOOK, "/app/inner", "front"),
                (PART, "/only/this", "edge"),
            ] {
                let answer = Client::connect(CLIENT, host).unwrap().get(path).unwrap();
                assert_eq!((answer.status, answer.body), (200, format!("{service} {slot} {path}")), "{host}");
            }
        }
        assert_eq!(Client::connect(CLIENT, PART).unwrap().get("/").unwrap().status, 404);
        for host in ["BOT.test", "bot.test:443", "bot.test.", "Bot.Test.:443"] {
            assert_eq!(Site::client().get_from(host, "/").unwrap().status, 200, "{host}");
        }
        for host in ["stranger.test", "bot.test.evil", "198.51.100.7", "hook.testx"] {
            assert_eq!(Site::client().get_from(host, "/").unwrap().status, 421, "{host}");
        }
    }
}

in_a_room! {
    fn what_a_client_says_about_itself_does_not_reach_the_service() {
        let _site = Site::open("");
        let mut client = Site::client();
        let lies = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nProxy: evil\r\nX-Forwarded-Proto: http\r\n";
        client.send(format!("GET /headers HTTP/1.1\r\nHost: bot.test\r\n{lies}\r\n").as_bytes()).unwrap();
        let seen = client.answer().unwrap().body.to_ascii_lowercase();
        assert!(seen.contains(&format!("x-forwarded-for: {CLIENT}\r\n")), "{seen}");
        assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
        assert!(!seen.contains("1.2.3.4") && !seen.contains("evil") && !seen.contains("proto: http\r"), "{seen}");
    }
}
