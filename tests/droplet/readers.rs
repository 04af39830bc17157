//! Every generated file before the program that reads it, in the versions of the target release.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::droplet::Droplet;
use crate::site::install;

/// What no check of the manifest covers: files that are read before there is an activator.
const FIRST_BOOT: [(&str, &[&str]); 2] = [
    ("cloud-init/user-data", &["cloud-init", "schema", "--config-file", "{}"]),
    ("docker/daemon.json", &["dockerd", "--validate", "--config-file", "{}"]),
];

#[test]
fn the_programs_of_the_target_release_accept_every_file_of_the_shipped_profiles() {
    let droplet = Droplet::boot(&crate::seed::Options::default());
    install(&droplet);
    for profile in ["production", "staging", "development"] {
        let files = unpack(&droplet, profile);
        let (mut judged, mut unjudged) = (0, Vec::new());
        for (path, (file, check)) in &files {
            let first = FIRST_BOOT.iter().find(|(first, _)| first == path).map(|(_, argv)| *argv);
            let argv: Vec<String> = match (check, first) {
                (Some(check), _) => check.clone(),
                (None, Some(argv)) => argv.iter().map(|arg| (*arg).to_owned()).collect(),
                (None, None) => {
                    unjudged.push(path.as_str());
                    continue;
                }
            };
            let argv: Vec<_> = argv.iter().map(|arg| arg.replace("{}", file)).collect();
            let said = droplet.run_ok(&argv.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(!said.to_lowercase().contains("deprecat"), "{path}: {said}");
            judged += 1;
        }
        println!("{profile}: {judged} files accepted; judged by the running servers instead: {unjudged:?}");
        // Redis' and Postgres' files are asked back from the servers that run on them, in `switch`; the machine's own, which
        // have no dry run either, in `hardening`.
        let expected = [
            // For people.
            "MANIFEST",
            "etc/modprobe.d/bundle.conf",
            "etc/security/limits.d/bundle.conf",
            "etc/sysctl.d/90-bundle.conf",
            "etc/systemd/coredump.conf.d/bundle.conf",
            "etc/systemd/journald.conf.d/zz-bundle.conf",
            "etc/systemd/system/bundle-backup.timer",
            "etc/systemd/system/bundle-gc.timer",
            "etc/systemd/system/bundle-health.timer",
            "haproxy/certificates.list",
            "postgres/pg_hba.conf",
            "postgres/postgresql.conf",
            "redis/redis.conf",
            "redis/users.acl.template",
        ];
        assert_eq!(unjudged, expected, "a new file needs a reader here or a check of its own");
    }
}

/// The bundle's files below their store paths in the droplet, with a certificate for the proxy: path → (file, check).
fn unpack(droplet: &Droplet, profile: &str) -> BTreeMap<String, (String, Option<Vec<String>>)> {
    let root = format!("/root/{profile}");
    let layout = format!("oci:{root}/var/cache/bundle/layout");
    droplet.run_ok(&["bundle", "--root", &root, "build", &format!("/root/site/{profile}.toml")]);
    // Below a root that is not running a switch lays the files down and starts nothing.
    droplet.feed(&["bundle", "--root", &root, "secrets", "set", "telegram_bot_token"], b"12345:token");
    droplet.run_ok(&["bundle", "--root", &root, "switch", &layout]);
    // Rendered files name each other as they will lie on a running system.
    droplet.sh(&format!("mkdir -p /var/lib/bundle && cp -a {root}/var/lib/bundle/. /var/lib/bundle/"));
    let shown = droplet.run_ok(&["bundle", "--root", &root, "show", &layout, "--json"]);
    let manifest = &serde_json::from_str::<Value>(&shown).unwrap()["manifest"];
    let mut files = BTreeMap::new();
    for entry in manifest["artifacts"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        let slot = if entry["slots"] == "green" { "green" } else { "blue" };
        let file = droplet.run_ok(&["realpath", &format!("/var/lib/bundle/generations/1/{slot}/{path}")]);
        let check = entry["check"]
            .as_array()
            .map(|argv| argv.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect());
        let key = if slot == "green" { format!("{path} (green)") } else { path.to_owned() };
        files.insert(key, (file.trim().to_owned(), check));
    }
    files
}
