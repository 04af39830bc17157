//! Certificates from Debian's ACME test server, pebble: obtained and renewed by Debian's client, as the timer's unit has
//! it done, and served without a reload or a failed request.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bundle::model::Certificate;
use serde_json::{Value, json};

use crate::authority::issue;
use crate::client::Client;
use crate::room::{needs, sh};
use crate::site::{CLIENT, DOMAIN, HOOK, OTHER, Site, as_haproxy, project};

const DIRECTORY: &str = "/run/pebble";
/// How long its certificates last, in seconds. Two thirds of that must be enough for two tries.
const LIFE: u64 = 24;

/// pebble, and the name server that it asks.
struct Authority(Vec<Child>);

impl Authority {
    /// Writes the certificates that its own door has; the authority's goes beside the profile.
    fn prepare() {
        for program in ["pebble", "pebble-challtestsrv", "lego"] {
            needs(program);
        }
        fs::create_dir_all(DIRECTORY).unwrap();
        sh(&format!("mount -t tmpfs none {DIRECTORY}"));
        let door = issue("127.0.0.1");
        fs::write(format!("{DIRECTORY}/cert.pem"), door.certificate).unwrap();
        fs::write(format!("{DIRECTORY}/key.pem"), door.key).unwrap();
        fs::create_dir_all(project()).unwrap();
        fs::write(format!("{}/authority.pem", project()), door.authority).unwrap();
        let config = json!({ "pebble": {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": format!("{DIRECTORY}/cert.pem"),
            "privateKey": format!("{DIRECTORY}/key.pem"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": LIFE,
        } });
        fs::write(format!("{DIRECTORY}/config.json"), config.to_string()).unwrap();
    }

    fn start() -> Self {
        let names = [
            "-management",
            "127.0.0.1:8055",
            "-dns01",
            "127.0.0.1:8053",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ];
        let names = Command::new("pebble-challtestsrv")
            .args(names)
            .args(["-defaultIPv4", CLIENT, "-defaultIPv6", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let authority = Command::new("pebble")
            .args(["-config", &format!("{DIRECTORY}/config.json"), "-dnsserver", "127.0.0.1:8053"])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect("127.0.0.1:14000").is_err() {
            assert!(Instant::now() < end, "pebble has not come up");
            thread::sleep(Duration::from_millis(50));
        }
        Self(vec![names.unwrap(), authority.unwrap()])
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The program, where HAProxy's user can run it.
const PROGRAM: &str = "/run/bundle-haproxy/bundle";

/// What the timer's unit runs.
fn renew() -> Output {
    let output = as_haproxy(&[PROGRAM, "certs", "renew"]).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What clients of a name are shown.
fn shown(name: &str) -> Certificate {
    Certificate::from_der(&Client::connect(CLIENT, name).unwrap().certificate()).unwrap()
}

/// What the machine says about it.
fn certs() -> Value {
    let output = Command::new(PROGRAM).args(["certs", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// New connections and open ones ask all the time; how many answers came, and what went wrong.
fn under_load(stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<(u32, Vec<String>)>> {
    let ask = |new: bool, stop: Arc<AtomicBool>| {
        thread::spawn(move || {
            let (mut answers, mut failures) = (0, Vec::new());
            let mut client = Client::connect(OTHER, DOMAIN).unwrap();
            while !stop.load(Ordering::SeqCst) {
                let answer = if new {
                    Client::connect(OTHER, DOMAIN).and_then(|mut client| client.get("/"))
                } else {
                    client.get("/")
                };
                match answer {
                    Ok(answer) if answer.status == 200 => answers += 1,
                    other => failures.push(format!("{other:?}")),
                }
                thread::sleep(Duration::from_millis(3));
            }
            (answers, failures)
        })
    };
    [true, true, false, false].map(|new| ask(new, stop.clone())).into()
}

in_a_room! {
    fn a_certificate_is_obtained_renewed_and_served_without_a_reload_or_a_failed_request() {
        Authority::prepare();
        let site = Site::open(&format!(
            "[certificates]\nemail = \"ops@bot.test\"\ndirectory = \"https://127.0.0.1:14000/dir\"\nca = \"authority.pem\"\n\
             names = [\"{DOMAIN}\"]\n[proxy]\nexempt = [\"{OTHER}/32\"]\n"
        ));
        fs::copy(env!("CARGO_BIN_EXE_bundle"), PROGRAM).unwrap();
        let worker = Site::worker();
        assert_eq!(shown(DOMAIN).issuer, "CN=bundle placeholder");
        assert_eq!(certs()["placeholder"], true);
        let stop = Arc::new(AtomicBool::new(false));
        let load = under_load(&stop);

        // Nobody answers yet.
        let output = renew();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("it is tried again in an hour") && said.contains("127.0.0.1:14000"), "{said}");
        assert_eq!(shown(DOMAIN).issuer, "CN=bundle placeholder");

        let authority = Authority::start();
        let began = Instant::now();
        assert!(renew().status.success());
        println!("a certificate obtained and served in {:.1?}", began.elapsed());
        let first = shown(DOMAIN);
        assert!(first.issuer.contains("Pebble") && first.is_for(DOMAIN) && !first.has_ended(now()), "{first:?}");
        assert_eq!(shown(HOOK).issuer, "CN=bundle placeholder", "it is not asked for");
        // The files are what will be read at the next start.
        let file = sh(&format!("openssl x509 -noout -issuer -in /var/lib/bundle/certs/{DOMAIN}.pem; stat -c '%A %U %G' /var/lib/bundle/certs/{DOMAIN}.pem"));
        assert!(file.contains("Pebble") && file.contains("-rw-r----- haproxy haproxy"), "{file}");
        assert_eq!(sh("find /var/lib/bundle/certs/acme -name '*.key' | grep -v /accounts/ || true"), "", "no second key");
        let said = certs();
        assert_eq!(said["hosts"][0]["renewed_by_the_machine"], true, "{said}");
        assert_eq!(said["hosts"][0]["renewal"]["failed"], Value::Null, "{said}");

        assert!(renew().status.success());
        assert_eq!(shown(DOMAIN), first, "nothing is due");

        // The last third of its life.
        while now() < first.not_after - LIFE / 3 + LIFE / 20 + 1 {
            thread::sleep(Duration::from_millis(200));
        }
        drop(authority);
        let output = renew();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(shown(DOMAIN), first, "what served before still does");
        let notes = certs()["notes"].to_string();
        assert!(notes.contains("no certificate could be obtained for `bot.test` since"), "{notes}");
        let authority = Authority::start();
        assert!(renew().status.success());
        let second = shown(DOMAIN);
        assert!(second.not_after > first.not_after, "{second:?}");
        assert_eq!(certs()["hosts"][0]["renewal"]["failed"], Value::Null);

        stop.store(true, Ordering::SeqCst);
        let (mut answers, mut failures) = (0, Vec::new());
        for thread in load {
            let (answered, failed) = thread.join().unwrap();
            answers += answered;
            failures.extend(failed);
        }
        println!("{answers} requests meanwhile, {} failed", failures.len());
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(answers > 500, "{answers}");
        assert_eq!(Site::worker(), worker, "no reload");
        let reloads = crate::site::runtime("show info");
        println!("{}", reloads.lines().find(|line| line.starts_with("Uptime:")).unwrap());
        drop((site, authority));
    }
}
