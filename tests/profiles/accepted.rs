//! What Compose lets one write in several ways, and what comes of it.

use bundle::model::User;
use bundle::profile::{Sources, check};
use bundle::spec::{Placement, Spec, Volume};
use serde_json::json;

use crate::kinds::KINDS;

const DIGEST: &str = "sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b";

/// The sound profile with `more` laid over it.
fn spec(more: &str) -> Spec {
    let mut sources = Sources::new("p.toml");
    sources.add("p.toml", &format!("extends = 'sound.toml'\n{more}"));
    sources.add("sound.toml", include_str!("malformed/parts/sound.toml"));
    sources.add("bundle.lock", include_str!("malformed/bundle.lock"));
    check(&sources, KINDS).unwrap_or_else(|faults| panic!("{faults}")).spec
}

#[test]
fn environment_is_a_table_or_a_list() {
    let table = spec("[services.web.environment]\nA = 1\nB = true\nC = 'x=y'\nD = 0.50");
    let list = spec("[services.web]\nenvironment = ['A=1', 'B=true', 'C=x=y', 'D=0.50']");
    assert_eq!(table, list);
    assert_eq!(table.services["web"].environment["C"], "x=y");
}

#[test]
fn volumes_are_names_or_absolute_paths() {
    let spec = spec("[services.db]\nvolumes = ['data:/data', '/srv/x:/x:ro']");
    let volume = |source: &str, target: &str, read_only| Volume {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    assert_eq!(spec.services["db"].volumes, [volume("data", "/data", false), volume("/srv/x", "/x", true)]);
}

#[test]
fn a_modelled_key_is_checked_and_another_is_carried_as_it_is() {
    let spec = spec(
        "[services.web]
cpus = 0.5
command = 'run $$HOME'
tmpfs = '/tmp'
ulimits = { nofile = { soft = 1024, hard = 2048 }, core = 0 }
sysctls = ['net.core.somaxconn=1024']
healthcheck = { disable = true }
oom_score_adj = -500
x-note = { by = ['me', 1, true] }
",
    );
    let compose = json!(spec.services["web"].compose);
    assert_eq!(
        compose,
        json!({
            "command": "run $$HOME",
            "cpus": "0.5",
            "healthcheck": { "disable": true },
            "mem_limit": "512m",
            "oom_score_adj": -500,
            "pids_limit": 256,
            "sysctls": { "net.core.somaxconn": "1024" },
            "tmpfs": "/tmp",
            "ulimits": { "core": 0, "nofile": { "hard": 2048, "soft": 1024 } },
            "x-note": { "by": ["me", 1, true] },
        })
    );
}

#[test]
fn without_secrets_a_user_may_have_a_name() {
    let named = spec("[services.web]\nsecrets = []\nuser = 'nobody'");
    assert_eq!(
        (named.services["web"].user, &named.services["web"].compose["user"]),
        (None, &json!("nobody"))
    );
    let numeric = spec("");
    assert_eq!(numeric.services["web"].user, Some(User { uid: 10001, gid: 10001 }));
    assert!(!numeric.services["web"].compose.contains_key("user"));
}

#[test]
fn an_image_with_a_digest_needs_no_pin() {
    let spec = spec(&format!("[services.web]\nimage = 'ghcr.io/example/other@{DIGEST}'"));
    assert_eq!(spec.services["web"].image.by_digest(), format!("ghcr.io/example/other@{DIGEST}"));
    assert_eq!(spec.services["web"].image.tag, None);
}

#[test]
fn a_singleton_and_defaults() {
    let spec = spec("singletons = ['web']\n[routes.web]\nport = 9000");
    assert_eq!(spec.services["web"].placement, Placement::SlotSingleton);
    assert_eq!(spec.networks.green.to_string(), "10.89.2.0/24");
    assert_eq!(spec.switching.trial_seconds, 30);
    assert_eq!((spec.routes["web"].port, spec.routes["web"].health.as_str()), (9000, "/readyz"));
}

#[test]
fn a_registry_may_have_an_authority_and_a_login() {
    let mut sources = Sources::new("profiles/p.toml");
    sources.add(
        "profiles/p.toml",
        "extends = '../sound.toml'\n[registry]\nrepository = 'registry.example.com:5000/team/app'\nca = '../ca.pem'\n\
         user = 'robot$deploy'\ntoken = 'registry_token'\n[secrets.registry_token]\n\
         [droplet]\nimage = 'debian-12-x64'\n[docker.repository]\nurl = 'https://download.docker.com/linux/debian'\n\
         key = 'docker.asc'",
    );
    sources.add("sound.toml", include_str!("malformed/parts/sound.toml"));
    sources.add("profiles/bundle.lock", include_str!("malformed/bundle.lock"));
    // Words around a certificate, and Windows' line ends, are left out.
    let block = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    sources.add("ca.pem", &format!("Prüfstelle\r\n{}\r\nand another\n{block}", block.replace('\n', "\r\n")));
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
    sources.add("profiles/docker.asc", key);
    let resolved = check(&sources, KINDS).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(resolved.warnings.render(false), "");
    let registry = resolved.spec.registry.unwrap();
    assert_eq!(registry.ca, Some(block.repeat(2)));
    assert_eq!(registry.activator_repository(), "registry.example.com:5000/team/app");
    let login = registry.login.unwrap();
    assert_eq!((&*login.user, login.token.as_str()), ("robot$deploy", "registry_token"));
    assert_eq!(resolved.spec.docker_repository.unwrap().key, key);
}
