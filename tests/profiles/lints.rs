//! Every lint: a profile in which it finds something, word for word, and the same with an exception, in which it does
//! not.

use std::collections::{BTreeMap, BTreeSet};

use bundle::artifacts::KINDS;
use bundle::profile::{Diagnostics, Sources, check, lints};

/// A lint and what, laid over the sound profile, sets it off. `allow` comes first in a file, so that a case begins with
/// keys of the profile itself, if it has any.
const CASES: &[(&str, &str)] = &[
    ("build-time-variable", "[services.web.environment]\nNEXT_PUBLIC_API = 'https://api.example.com'"),
    (
        "cache-fills-its-container",
        "[services.db]\nmem_limit = '512m'\n[redis]\nservice = 'db'\nmaxmemory = '400mb'\npassword = 'db_password'",
    ),
    ("dangerous-capability", "[services.web]\ncap_add = ['NET_BIND_SERVICE', 'CAP_SYS_ADMIN']"),
    ("data-without-volume", "[services.db]\nvolumes = []"),
    (
        "debug-in-production",
        "environment = 'production'\n[services.web]\nenvironment = ['A=1', 'DEBUG=True']",
    ),
    ("dockerfile-base-by-tag", "[images.app]\ndockerfile = 'app/Dockerfile'"),
    ("dockerignore-not-read", "[images.app]\ndockerfile = 'app/Dockerfile'\ncontext = '.'"),
    ("docker-socket", "[services.web]\nvolumes = ['/srv/../var/run/docker.sock:/var/run/docker.sock:ro']"),
    ("documentation-address", "[firewall]\nssh_from = ['198.51.100.7/32', '195.0.2.0/24', '2001:db8::/48']"),
    ("exempt-everybody", "[proxy]\nexempt = ['0.0.0.0/0']"),
    ("health-check-over-socket", "[services.db.healthcheck]\ntest = ['CMD-SHELL', 'pg_isready -U app']"),
    ("host-device", "[services.web]\ndevices = ['/dev/sda:/dev/sda']"),
    ("host-namespace", "[services.web]\npid = 'host'"),
    ("host-path", "[services.web]\nvolumes = ['/srv/uploads:/uploads']"),
    (
        "localhost-in-container",
        "[secrets.db_url]\ntemplate = 'postgres://app:{{ db_password }}@localhost:5432/app'",
    ),
    ("memory-during-switch", "[services.web]\nmem_limit = '1600m'"),
    ("memory-reserve", "[services.web]\nmem_limit = '1200m'"),
    (
        "migration-at-start",
        "[services.web]\ncommand = ['sh', '-c', 'alembic upgrade head && exec uvicorn app:app']",
    ),
    (
        "migrations-through-pool",
        "migrations = 'web'\nroutes = {}\n[services.web.environment]\n\
         DATABASE_URL = 'postgresql+psycopg://db-1.example.com:25061/app?sslmode=require'",
    ),
    ("moving-tag", "[services.web]\nimage = 'ghcr.io/example/web:latest'"),
    ("no-health-check", ""),
    ("no-limits", "[services.more]\nimage = 'ghcr.io/example/web:1'\nmem_limit = '64m'"),
    ("no-routes", ""),
    (
        "no-start-interval",
        "[droplet]\nimage = 'ubuntu-24-04-x64'\n[services.db.healthcheck]\nstart_interval = '1s'",
    ),
    ("oom-kill-disabled", "[services.web]\noom_kill_disable = true"),
    ("open-firewall", ""),
    ("placeholder-image", ""),
    ("plain-connection", "[services.web.environment]\nCACHE = 'redis://cache.example.com:6379/0'"),
    ("polling-bot", "[services.web]\ncommand = ['python', '-m', 'bot', '--mode=polling']"),
    ("postgres-data-path", "[services.db]\nvolumes = ['db:/var/lib/postgresql']"),
    (
        "private-port-public",
        "[firewall]\npublic_tcp = [80, 443, 9100]\n[firewall.vpc]\ninterface = 'eth1'\nsubnet = '10.110.0.0/20'\n\
         tcp = [9100]",
    ),
    ("public-data-port", "[firewall]\npublic_tcp = [80, 443, 5432]"),
    (
        "queue-in-evicting-cache",
        "[services.web]\ncommand = ['celery', '-A', 'app', 'worker']\n[redis]\nservice = 'db'\nmaxmemory = '64mb'\n\
         policy = 'allkeys-lru'\npassword = 'db_password'",
    ),
    ("scheduler-not-singleton", "[services.web]\ncommand = 'celery -A app beat'"),
    ("secret-in-clear", "[services.db.environment]\nPOSTGRES_PASSWORD = 'hunter2'"),
    ("singleton-route", "singletons = ['web']"),
    ("ssh-from-everywhere", "[firewall]\nssh_from = ['195.0.113.0/24', '0.0.0.0/0']"),
    ("starts-as-root", ""),
    ("system-path", "[services.web]\nvolumes = ['/etc/ssl:/etc/ssl:ro']"),
    ("trusts-everybody", "[services.db.environment]\nPOSTGRES_HOST_AUTH_METHOD = 'trust'"),
    ("unused-allow", "allow = [{ lint = 'host-path', at = 'services.db', reason = 'it was so once' }]"),
    ("unused-env-file", "[env_files.\"web.env\".values]\nA = 'b'"),
    ("unused-secret", "[secrets.nobodys]"),
    ("webhook-not-exempt", "[services.web.environment]\nWEBHOOK_PATH = '/telegram/webhook'"),
    ("webhook-tls-floor", "[proxy]\nexempt = ['149.154.160.0/20']"),
];

const DIGEST: &str = "sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b";

/// Those that look at rendered files are tested beside their source.
const OF_FILES: [&str; 2] = ["user-data-not-ascii", "user-data-size"];

fn sound(lint: &str) -> String {
    let sound = include_str!("malformed/parts/sound.toml");
    let without = |from: &str, to: &str| {
        let (before, rest) = sound.split_once(from).unwrap();
        format!("{before}{}", rest.split_once(to).map_or("", |(_, after)| after))
    };
    match lint {
        "no-routes" => without("[routes.web]\n", "/readyz\"\n"),
        "open-firewall" => without("[firewall]\n", "]\n"),
        "no-health-check" => without("healthcheck = ", "}\n"),
        "starts-as-root" => {
            without("user = \"999:999\"\n", "secrets = [\"db_password\"]\n") + "\n[secrets.nobody]\n"
        }
        _ => sound.to_owned(),
    }
}

/// What is said of the sound profile with `more` laid over it.
fn said(lint: &str, more: &str) -> Diagnostics {
    let mut sources = Sources::new("p.toml");
    sources.add("p.toml", &format!("extends = 'sound.toml'\n{more}"));
    sources.add("sound.toml", &sound(lint));
    // One image and one service more than the sound profile has.
    let lock =
        include_str!("malformed/bundle.lock").replace(
            "\n[hosts]",
            &format!(
                "\n\"ghcr.io/example/web:latest\" = {{ digest = \"{DIGEST}\" }}\n\
             [hosts]\nmore = {{ data_blue = 20, data_green = 21, slot = 20 }}"
            ),
        ) + &format!("\n[dockerfiles.app]\ninputs = \"{DIGEST}\"\ndigest = \"{DIGEST}\"\nbuilder = \"\"\n");
    sources.add_contents("app/Dockerfile", [(String::new(), b"FROM debian:13\n".to_vec())].into());
    sources.add_contents(".dockerignore", BTreeMap::new());
    let lock = match lint {
        "placeholder-image" => lock.replacen("\" }", "\", placeholder = true }", 1),
        _ => lock,
    };
    sources.add("bundle.lock", &lock);
    match check(&sources, KINDS) {
        Ok(resolved) => resolved.warnings,
        Err(faults) => faults,
    }
}

fn names(found: &Diagnostics) -> BTreeSet<&'static str> {
    found.iter().filter_map(bundle::profile::Diagnostic::lint).collect()
}

#[test]
fn every_lint_finds_what_it_is_there_for() {
    let mut all = String::new();
    for (lint, more) in CASES {
        let found = said(lint, more);
        assert!(names(&found).contains(lint), "`{lint}` finds nothing:\n{more}\n\n{found}");
        let text = found.render(false);
        let own = text.split("\n\n").filter(|finding| finding.contains(&format!("[{lint}]: ")));
        for finding in own {
            all.push_str(finding.trim_end());
            all.push_str("\n\n");
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_lint_can_be_told_that_one_knows() {
    for (lint, more) in CASES.iter().filter(|(lint, _)| *lint != "unused-allow") {
        let allowed = format!("allow = [{{ lint = '{lint}', reason = 'this is a test' }}]\n{more}");
        let found = said(lint, &allowed);
        let names = names(&found);
        assert!(!names.contains(lint) && !names.contains("unused-allow"), "`{lint}`:\n{found}");
    }
}

#[test]
fn every_lint_has_a_case() {
    let known: BTreeSet<&str> = lints().iter().map(|lint| lint.name).collect();
    let cases: BTreeSet<&str> = CASES.iter().map(|(lint, _)| *lint).chain(OF_FILES).collect();
    assert_eq!(known, cases);
}

#[test]
fn the_sound_profile_sets_off_none() {
    assert!(said("", "").is_empty(), "{}", said("", ""));
}

#[test]
fn env_files_are_looked_at_too() {
    let found = said(
        "",
        "environment = 'production'\n[env_files.\"web.env\".values]\nNEXT_PUBLIC_A = 'b'\nDEBUG = '1'\n\
         API_TOKEN = 'hunter2'\nURL = 'postgres://app:{{ db_password }}@db/app'\n\
         [services.web]\nenv_file = ['web.env']",
    );
    let expected = ["build-time-variable", "debug-in-production", "secret-in-clear"];
    assert_eq!(names(&found), BTreeSet::from(expected), "{found}");
    assert!(!found.render(false).contains("hunter2"));
}

#[test]
fn an_exception_is_for_one_place_and_what_is_below_it() {
    let two = "[services.db]\nvolumes = ['/srv/db:/var/lib/postgresql/data']\n[services.web]\nvolumes = ['/srv/web:/x']";
    let left = |at: &str| {
        let allow =
            format!("allow = [{{ lint = 'host-path', at = '{at}', reason = 'this is a test' }}]\n{two}");
        let found = said("", &allow);
        found.iter().map(|item| item.message().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(left("services.db"), ["`/srv/web` is a path of the machine"]);
    assert_eq!(left("services.web.volumes"), ["`/srv/db` is a path of the machine"]);
    assert!(left("services").is_empty());
    assert_eq!(
        left("services.w").len(),
        3,
        "a part of a name is not a place, and the exception finds nothing"
    );
}

#[test]
fn exceptions_are_checked() {
    insta::assert_snapshot!(
        said(
            "",
            "allow = [
    { lint = 'host-paht', reason = 'a misspelling' },
    { lint = 'host-path' },
    { lint = 'host-path', reason = '  ' },
    { lint = 'host-path', reason = 'x', at = '' },
    { lint = 'host-path', reason = 'x', where = 'services.db' },
    'host-path',
]"
        )
        .render(false)
    );
}
