//! Clients that take their time, and services that do.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, open};
use crate::site::{CLIENT, DOMAIN, OTHER, Site, table};

/// Says one byte a second until the other side has had enough; how long that took, and what it said.
fn drip(start: &[u8]) -> (Duration, String) {
    let mut client = Client::connect(CLIENT, DOMAIN).unwrap();
    client.send(start).unwrap();
    client.patience(Duration::from_secs(1));
    let began = Instant::now();
    loop {
        match client.answer() {
            Ok(answer) => return (began.elapsed(), answer.status.to_string()),
            Err(why) if why.contains("temporarily unavailable") || why.contains("os error 11") => {
                if client.send(b"x").is_err() {
                    return (began.elapsed(), "closed".to_owned());
                }
            }
            Err(why) => return (began.elapsed(), why),
        }
        assert!(began.elapsed() < Duration::from_mins(1), "nobody minds");
    }
}

in_a_room! {
    fn slow_clients_are_cut_and_slow_services_are_waited_for() {
        let _site = Site::open("");
        let header = thread::spawn(|| drip(b"GET / HTTP/1.1\r\nHost: bot.test\r\nX-Slow: "));
        let body = thread::spawn(|| drip(b"POST / HTTP/1.1\r\nHost: bot.test\r\nContent-Length: 1000\r\n\r\n"));
        let handshake = thread::spawn(|| {
            let (began, mut tcp) = (Instant::now(), open(CLIENT, 443).unwrap());
            drop(tcp.read_to_end(&mut Vec::new()));
            began.elapsed()
        });
        let waited = ["/late", "/pause"].map(|path| {
            thread::spawn(move || Client::connect(OTHER, DOMAIN).unwrap().get(path).unwrap())
        });
        let (header, said) = header.join().unwrap();
        assert_eq!(said, "408");
        assert!(header <= Duration::from_secs(8), "{header:?}");
        let (body, said) = body.join().unwrap();
        assert_eq!(said, "408");
        assert!(body <= Duration::from_secs(13), "{body:?}");
        let handshake = handshake.join().unwrap();
        assert!(handshake <= Duration::from_secs(24), "{handshake:?}");
        // Longer than a client may be silent while it is its turn.
        for (thread, body) in waited.into_iter().zip(["late", "halfhalf"]) {
            let answer = thread.join().unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, body));
        }
        let lines = [("header", header), ("body", body), ("handshake", handshake)];
        println!("{}", table("a slow client is cut after", &lines.map(|(name, time)| (name.to_owned(), format!("{time:.1?}")))));
    }
}
