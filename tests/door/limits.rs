//! How many requests an address may make in a minute.

use std::thread;

use bundle::model::Slot;

use crate::client::Client;
use crate::room::address;
use crate::site::{CLIENT, DOMAIN, OTHER, Site};

/// How many of so many requests pass, over four connections at once.
fn pass(address: &str, requests: u32) -> u32 {
    let of_a_few = |address: String, requests: u32| {
        thread::spawn(move || {
            let mut client = Client::connect(&address, DOMAIN).unwrap();
            let mut passed = 0;
            for _ in 0..requests {
                let answer = client.get("/").unwrap();
                assert!([200, 429].contains(&answer.status), "{answer:?}");
                passed += u32::from(answer.status == 200);
            }
            passed
        })
    };
    let share = requests / 4;
    let threads: Vec<_> = (0..4).map(|_| of_a_few(address.to_owned(), share)).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

in_a_room! {
    fn exactly_a_thousand_requests_pass_and_a_flip_does_not_begin_again() {
        let site = Site::open("[proxy]\nexempt = [\"198.51.100.8/32\"]\n");
        for six in ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"] {
            address(six);
        }
        assert_eq!(pass(CLIENT, 600), 600);
        site.flip(Slot::Green);
        assert_eq!(pass(CLIENT, 500), 400, "600 had passed before the flip");
        assert_eq!(pass(OTHER, 1100), 1100, "it is not counted");
        assert_eq!(pass("2001:db8:0:1::1", 600), 600);
        assert_eq!(pass("2001:db8:0:1::2", 600), 400, "it is one network with the one before");
        assert_eq!(pass("2001:db8:0:2::1", 100), 100, "and this is another");
    }
}
