//! Which certificate serves, as clients meet it and as `bundle certs` says; and what the clear-text door is for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::authority::issue;
use crate::poster::DOMAIN;
use crate::site::Site;

const DIRECTORY: &str = "/var/lib/bundle/certs";
const DAY: u64 = 24 * 60 * 60;

/// A certificate for the site that ends so many days from now, by an authority that nobody knows, with its key.
fn issued(days: i64) -> String {
    let (authority, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut itself = CertificateParams::new(["authority.test".to_owned()]).unwrap();
    itself.distinguished_name.push(DnType::CommonName, "an authority");
    let issuer = Issuer::new(itself, authority);
    let mut wanted = CertificateParams::new([DOMAIN.to_owned()]).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    wanted.not_before = epoch + Duration::from_secs(now - 90 * DAY);
    // Half a day more, so that the number of whole days does not hang on the second.
    wanted.not_after = epoch + Duration::from_secs((now + DAY / 2).strict_add_signed(days * 86400));
    let made = wanted.signed_by(&key, &issuer).unwrap();
    format!("{}{}", made.pem(), key.serialize_pem())
}

/// What `bundle certs` says, as JSON.
fn certs(site: &Site) -> Value {
    let ran = site.bundle(&["certs", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

/// The notes in one text.
fn notes(said: &Value) -> String {
    said["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

fn put(site: &Site, pem: &str) {
    let path = format!("{DIRECTORY}/{DOMAIN}.pem");
    site.droplet.feed(&["install", "-m", "640", "-g", "haproxy", "/dev/stdin", &path], pem.as_bytes());
}

fn reload(site: &Site) {
    site.droplet.run_ok(&["systemctl", "reload", "bundle-haproxy.service"]);
    // The old process hands over within a moment.
    std::thread::sleep(Duration::from_secs(1));
}

fn clear(site: &Site, path: &str) -> String {
    let mut stream = TcpStream::connect((site.droplet.addr(), 80)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "POST {path} HTTP/1.0\r\nHost: {DOMAIN}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_serves_on_443_is_what_the_machine_says_that_serves() {
    let site = Site::open();
    assert!(site.bundle(&["certs"]).out.contains("nothing serves yet"));
    let first = site.publish("");
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], b"12345:token");
    let switched = site.switch(&first);
    assert_eq!(switched.code, 0, "{switched:?}");

    let said = certs(&site);
    assert_eq!(
        (&said["placeholder"], &said["serves"]["file"]),
        (&true.into(), &format!("{DOMAIN}.pem").into())
    );
    assert!(said["serves"]["days_left"].as_u64().unwrap() > 3000, "{said}");
    assert!(notes(&said).contains("do not trust"), "{said}");
    println!("{}", site.bundle(&["certs"]).out);
    let started = Instant::now();
    site.droplet.sh("for i in 1 2 3 4 5 6 7 8 9 10; do bundle certs >/dev/null; done");
    println!("`bundle certs` takes {:?}: the process and a handshake", started.elapsed() / 10);
    assert!(site.bundle(&["status"]).out.contains("placeholder"));

    for path in ["/webhook", "/.bundle/backend/health"] {
        let answer = clear(&site, path);
        let to = format!("location: https://{DOMAIN}{path}");
        assert!(answer.starts_with("HTTP/1.1 308") && answer.contains(&to), "{answer}");
    }
    assert_eq!(
        site.door().get("/.bundle/backend/health").unwrap().status,
        404,
        "it is for the machine itself"
    );

    site.droplet.write_file(&format!("{DIRECTORY}/{DOMAIN}.pem"), issued(60).as_bytes(), 0o640);
    assert!(notes(&certs(&site)).contains("HAProxy cannot read"), "it is root's alone");
    put(&site, &issued(60));
    assert!(notes(&certs(&site)).contains("is not the one in"), "before it is read");
    reload(&site);
    let said = certs(&site);
    assert_eq!((&said["placeholder"], notes(&said).as_str()), (&false.into(), ""), "{said}");
    assert_eq!((&said["serves"]["file"], &said["serves"]["days_left"]), (&"bot.test.pem".into(), &60.into()));
    assert_eq!(said["serves"]["certificate"]["issuer"], "CN=an authority");
    let status = site.bundle(&["status"]).out;
    assert!(status.contains("healthy") && !status.contains("note"), "{status}");

    put(&site, &issued(5));
    reload(&site);
    assert!(notes(&certs(&site)).contains("ends in 5 days"));
    put(&site, &issued(-2));
    reload(&site);
    let said = certs(&site);
    assert!(notes(&said).contains("ended on") && said["serves"]["expired"] == true, "{said}");
    println!("{}", site.bundle(&["certs"]).out);
    let status = site.bundle(&["status"]).out;
    assert!(status.contains("healthy") && status.contains("ended on"), "no release mends that: {status}");

    site.droplet.run_ok(&["systemctl", "stop", "bundle-haproxy.service"]);
    let said = certs(&site);
    assert!(notes(&said).contains("no certificate serves"), "{said}");
    println!("{}", site.bundle(&["certs"]).out);
    let status = site.bundle(&["status"]).out;
    assert!(status.contains("degraded"), "{status}");

    the_machine_obtains_one_itself(&site);
}

/// From Debian's ACME test server, by the unit of the bundle in its sandbox, and shown without a reload.
fn the_machine_obtains_one_itself(site: &Site) {
    let droplet = &site.droplet;
    for program in ["lego", "pebble", "pebble-challtestsrv"] {
        let path = format!("/usr/bin/{program}");
        assert!(
            Path::new(&path).exists(),
            "there is no `{program}` on this machine: run tests/setup as root"
        );
        droplet.copy_in(Path::new(&path), &path);
    }
    let door = issue("127.0.0.1");
    droplet.write_file("/root/site/authority.pem", door.authority.as_bytes(), 0o644);
    droplet.write_file("/root/pebble.crt", door.certificate.as_bytes(), 0o644);
    droplet.write_file("/root/pebble.key", door.key.as_bytes(), 0o600);
    let config = json!({ "pebble": {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": "/root/pebble.crt",
        "privateKey": "/root/pebble.key",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
    } });
    droplet.write_file("/root/pebble.json", config.to_string().as_bytes(), 0o644);
    let address = droplet.addr();
    droplet.sh(&format!(
        "systemd-run --quiet --unit=names pebble-challtestsrv -management 127.0.0.1:8055 -dns01 127.0.0.1:8053 \
         -http01 '' -https01 '' -tlsalpn01 '' -defaultIPv4 {address} -defaultIPv6 ''
         systemd-run --quiet --unit=authority --setenv=PEBBLE_VA_NOSLEEP=1 pebble -config /root/pebble.json \
         -dnsserver 127.0.0.1:8053
         systemctl start bundle-haproxy.service"
    ));
    let second = site.publish(
        "\n[certificates]\nemail = \"ops@bot.test\"\ndirectory = \"https://127.0.0.1:14000/dir\"\nca = \"authority.pem\"\n",
    );
    let switched = site.switch(&second);
    assert_eq!(switched.code, 0, "{switched:?}");
    assert_eq!(droplet.run_ok(&["systemctl", "is-active", "bundle-certificates.timer"]).trim(), "active");
    // The master's only child.
    let worker = "pid=$(systemctl show --property=MainPID --value bundle-haproxy.service); \
                  cat /proc/$pid/task/$pid/children";
    let before = droplet.sh(worker);
    let started = Instant::now();
    droplet.sh("systemctl start bundle-certificates.service || { journalctl -u bundle-certificates.service; exit 1; } >&2");
    println!("obtained in its sandbox in {:.1?}", started.elapsed());
    let said = certs(site);
    let issuer = said["serves"]["certificate"]["issuer"].as_str().unwrap();
    assert!(issuer.contains("Pebble") && notes(&said).is_empty(), "{said}");
    assert_eq!(said["hosts"][0]["renewed_by_the_machine"], true);
    assert_eq!(droplet.sh(worker), before, "no reload");
    println!("{}", site.bundle(&["certs"]).out);
    let security = droplet.sh("systemd-analyze security --no-pager bundle-certificates.service | tail -1");
    println!("{security}");
    droplet.sh("systemd-analyze security --no-pager --threshold=15 bundle-certificates.service >&2");
    // A failure is left in the journal, in the unit's state and in what the machine says of itself.
    droplet.sh("systemctl stop authority.service; echo broken >/var/lib/bundle/certs/bot.test.pem");
    assert_ne!(droplet.run(&["systemctl", "start", "bundle-certificates.service"]).status.code(), Some(0));
    let said = certs(site);
    assert!(notes(&said).contains("no certificate could be obtained for `bot.test`"), "{said}");
    assert!(said["serves"]["certificate"]["issuer"].as_str().unwrap().contains("Pebble"), "it still serves");
}
