//! Nothing secret anywhere: after switches that went well, one that failed, secrets that were sent and a way back, no
//! value of any secret stands where it does not belong, neither as it is nor percent-encoded nor in base64.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::machine::Machine;
use crate::serving::{TOKEN, first_switch, release};
use crate::site::{Ran, Site};

/// Where the forms of the secrets lie while they are looked for: in memory, for root alone.
const NEEDLES: &str = "/run/bundle-test-needles";

/// A newer token, sent while the site serves.
const NEWER: &str = "9876543210:BBX/y+w%41v=&Ut ~r?Qp\"oN";

/// A migration that takes another secret for the address of its database, and fails with it in its words (libpq quotes
/// what it cannot read): what programs say is quoted in errors.
const CHATTY: &str = "\n[services.migrate.environment]\nDATABASE_URL_FILE = \"/run/secrets/redis_url\"\n";

/// Each place, and the command that prints everything in it.
const PLACES: &[(&str, &str)] = &[
    // But what the chatty migration printed itself: a container's own words are kept as they are.
    (
        "the journal",
        r#"journalctl --output export | awk 'BEGIN { RS = ""; ORS = "\n\n" } !/\nCONTAINER_NAME=migrate-/'"#,
    ),
    (
        "docker inspect",
        "for kind in container image network volume; do docker $kind ls -q | xargs -r docker $kind inspect; done; \
         docker ps -aq | xargs -r docker inspect",
    ),
    ("docker logs", "for id in $(docker ps -aq); do docker logs $id 2>&1; done"),
    // Without the program that looks, which is told the file and not what is in it.
    ("arguments and environments", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>&1 | tr '\\0' '\\n'"),
    ("systemctl show", "systemctl show '*' 2>&1"),
    (
        "what bundle tells",
        "bundle status; bundle --json status; bundle --json generations; bundle generations",
    ),
];

/// Directories, with what in them is allowed to hold secrets.
const DIRECTORIES: &[(&str, &str)] = &[
    ("/var/lib/cloud", ""),
    ("/etc", ""),
    // The journal's files are looked at as entries, above.
    ("/var/log", "--exclude-dir=journal"),
    ("/var/lib/bundle", "--exclude-dir=secrets"),
    ("/var/cache", ""),
    ("/var/tmp", ""),
    ("/tmp", ""),
    ("/root", ""),
    ("/run", "--exclude-dir=secrets --exclude-dir=netns --exclude=bundle-test-needles"),
    // What Docker remembers of containers, and what they wrote; a volume is the database's own.
    ("/var/lib/docker/containers", ""),
    ("/var/lib/docker/image", ""),
    ("/var/lib/docker/network", ""),
];

#[test]
fn no_secret_stands_where_it_does_not_belong() {
    let site = Site::open();
    let first = site.publish(&release("first", ""));
    first_switch(&site, &first);
    let mut said = vec![feed(&site, NEWER)];
    let second = site.publish(&release("second", ""));
    said.push(site.switch(&second));
    let failing = site.publish(&release("failing", CHATTY));
    let failed = site.switch(&failing);
    assert_eq!(failed.code, 30, "{failed:?}");
    assert!(failed.err.contains("redis://app:…@redis"), "the migration did talk: {failed:?}");
    said.push(failed);
    said.push(site.bundle(&["rollback"]));
    let codes: Vec<_> = said.iter().map(|ran| ran.code).collect();
    assert_eq!(codes, [0, 0, 30, 0], "{said:?}");
    let spoken = said.iter().flat_map(|ran| [ran.out.as_str(), ran.err.as_str()]).collect::<String>();

    let needles = nothing_secret_stands_anywhere(&site.droplet, &first, &spoken);
    a_planted_value_is_found(&site, &needles);
}

/// Looks on a machine for all its values of the secrets that a bundle names, and in what its commands printed.
pub(crate) fn nothing_secret_stands_anywhere(machine: &dyn Machine, digest: &str, spoken: &str) -> Needles {
    let needles = needles(machine, digest);
    println!("words: {} forms of {} values are looked for", needles.forms.len(), needles.values.len());
    let told = needles.forms.iter().filter(|(_, form)| spoken.contains(form.as_str())).collect::<Vec<_>>();
    assert!(told.is_empty(), "the commands printed {told:?}");
    assert_eq!(found(machine), Vec::<String>::new());
    needles
}

fn feed(site: &Site, value: &str) -> Ran {
    let out = site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], value.as_bytes());
    Ran { code: 0, out, err: String::new() }
}

/// The forms of all secrets, which a file in the droplet holds too.
pub(crate) struct Needles {
    /// Name and value.
    values: Vec<(String, String)>,
    /// Name of the secret, and what is looked for.
    forms: Vec<(String, String)>,
}

/// All values that the machine has of the secrets a bundle names: kept, replaced, and put together.
fn needles(droplet: &dyn Machine, digest: &str) -> Needles {
    let shown = droplet
        .run_ok(&["cat", &format!("/var/lib/bundle/bundles/{}", digest.trim_start_matches("sha256:"))]);
    let manifest: Value = serde_json::from_str(&shown).unwrap();
    let mut values = vec![("telegram_bot_token".to_owned(), TOKEN.to_owned())];
    for name in manifest["secrets"].as_object().unwrap().keys() {
        let find =
            format!("find /var/lib/bundle/secrets /run/bundle/secrets -type f -name {name} -print -quit");
        let file = droplet.sh(&find);
        assert!(!file.is_empty(), "the machine has no value of `{name}`");
        values.push((name.clone(), droplet.run_ok(&["cat", file.trim()])));
    }
    assert!(values.len() >= 6, "{}", values.len());
    let forms: Vec<_> = values
        .iter()
        .flat_map(|(name, value)| forms(value).into_iter().map(move |form| (name.clone(), form)))
        .collect();
    assert!(forms.iter().all(|(_, form)| form.len() >= 12), "too short to look for");
    let lines = forms.iter().flat_map(|(_, form)| [form.as_str(), "\n"]).collect::<String>();
    droplet.write_file(NEEDLES, lines.as_bytes(), 0o600);
    Needles { values, forms }
}

/// A value as it is, percent-encoded, escaped for JSON, and in base64 at each of the three places it may have in a text
/// that was encoded as a whole.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap();
    let mut forms = vec![
        value.to_owned(),
        utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        json[1..json.len() - 1].to_owned(),
    ];
    for offset in 0..3 {
        let bytes = [vec![0; offset], value.as_bytes().to_vec()].concat();
        // Six bits a sign: those that the neighbours have a part in are left out.
        let (from, to) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&bytes)[from..to].to_owned());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The places in which any of the forms is found, each with where.
fn found(droplet: &dyn Machine) -> Vec<String> {
    // Which of them is never printed here either. Exit status 1 is "nothing found" (grep(1)).
    let quiet = "|| [ $? = 1 ]";
    let mut found = Vec::new();
    for (place, command) in PLACES {
        // No needle in the arguments: they would be found there.
        let count = droplet
            .sh(&format!("{{ {command}; }} >/run/bundle-test-haystack; wc -c </run/bundle-test-haystack"));
        assert!(count.trim().parse::<u64>().unwrap() > 500, "there is nothing in {place}");
        let hits = droplet.sh(&format!("grep -acF -f {NEEDLES} /run/bundle-test-haystack {quiet}"));
        if hits.trim() != "0" {
            found.push(format!("{place}: {} lines", hits.trim()));
        }
    }
    droplet.sh("rm /run/bundle-test-haystack");
    for (directory, options) in DIRECTORIES {
        let hits = droplet.sh(&format!(
            "[ ! -e {directory} ] || grep -raFl --devices=skip {options} -f {NEEDLES} {directory} {quiet}"
        ));
        found.extend(hits.lines().map(|file| format!("{directory}: {file}")));
    }
    found
}

/// The search itself: each place, each form.
fn a_planted_value_is_found(site: &Site, needles: &Needles) {
    let droplet = &site.droplet;
    let url = &needles.values.iter().find(|(name, _)| name == "database_url").unwrap().1;
    droplet.feed(&["logger", "--tag", "planted"], format!("the token is {TOKEN}").as_bytes());
    let encoded = utf8_percent_encode(NEWER, NON_ALPHANUMERIC).to_string();
    droplet.write_file("/var/log/planted/deep", format!("GET /?token={encoded}").as_bytes(), 0o644);
    let basic = STANDARD_NO_PAD.encode(format!("user:{url}:and more"));
    droplet.write_file("/etc/planted", format!("Authorization: Basic {basic}").as_bytes(), 0o644);
    droplet.write_file("/run/planted.env", format!("URL={url}\n").as_bytes(), 0o600);
    droplet.sh(
        "image=$(docker inspect --format '{{.Image}}' redis); \
         docker run --name planted --env-file /run/planted.env --entrypoint sh $image -c 'echo $URL'; rm /run/planted.env",
    );
    let mut sleeping = droplet.command(&["env", &format!("PLANTED={TOKEN}"), "sleep", "60"]);
    let mut sleeping = sleeping.spawn().unwrap();
    let found = found(droplet);
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    println!("words: planted values are found: {found:?}");
    for place in [
        "the journal:",
        "docker inspect:",
        "docker logs:",
        "arguments and environments:",
        "/var/log: /var/log/planted/deep",
        "/etc: /etc/planted",
        "/var/lib/docker/containers:",
    ] {
        assert!(
            found.iter().any(|found| found.starts_with(place)),
            "what was planted in {place} is not found"
        );
    }
}
