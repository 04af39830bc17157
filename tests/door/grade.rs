//! What Debian's `testssl.sh` (testssl.sh, "Rating", after the guide of SSL Labs) makes of the door.

use std::fs;
use std::process::Command;

use bundle::host::show_certificate;
use serde_json::Value;

use crate::authority::issue;
use crate::room::needs;
use crate::site::{CLIENT, HOOK, Site, table};

const DIRECTORY: &str = "/run/bundle-haproxy";

in_a_room! {
    fn the_name_with_the_lowest_floor_has_an_a_plus() {
        needs("testssl");
        let _site = Site::open("");
        let issued = issue(HOOK);
        fs::write(format!("{DIRECTORY}/ca.pem"), &issued.authority).unwrap();
        let pem = [issued.certificate, issued.authority, issued.key].concat();
        show_certificate(&format!("/var/lib/bundle/certs/{HOOK}.pem"), &pem, || Ok(())).unwrap();

        let file = format!("{DIRECTORY}/grade.json");
        let output = Command::new("testssl")
            .args(["--quiet", "--color", "0", "--warnings", "off", "--ip", CLIENT, "--add-ca"])
            .args([&format!("{DIRECTORY}/ca.pem"), "--jsonfile", &file, &format!("https://{HOOK}:443/")])
            .env("TERM", "dumb")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let found: Vec<Value> = serde_json::from_str(&fs::read_to_string(&file).expect(&said)).expect(&said);
        let of = |id: &str| {
            let finding = found.iter().find(|finding| finding["id"] == id);
            finding.map(|finding| finding["finding"].as_str().unwrap().to_owned())
        };
        let (grade, score) = (of("overall_grade"), of("final_score"));
        assert!(grade.is_some(), "this testssl gives no grades; it must be 3.2 or later: run tests/setup");
        let bad: Vec<(String, String)> = found
            .iter()
            .filter(|finding| !["OK", "INFO", "DEBUG"].contains(&finding["severity"].as_str().unwrap()))
            .map(|finding| (finding["id"].to_string(), format!("{} {}", finding["severity"], finding["finding"])))
            .collect();
        println!("{}", table(&format!("grade {grade:?}, score {score:?}; not simply good:"), &bad));
        assert_eq!(grade.as_deref(), Some("A+"), "{said}");
        assert!(score.unwrap().parse::<u32>().unwrap() >= 95, "{said}");
    }
}
