//! Another deployment than the marketplace: the web application of `profiles/vulcan`, with databases of its own, two host
//! names and env files. Its images are the marketplace's; everything else is what is shipped.

use crate::serving::{TOKEN, circumstances};
use crate::site::Site;

const PROFILE: &str = "/root/site/vulcan/droplet.toml";
const ENV: &str = "/opt/vulcan/env/backend.env";

/// Sent by the operator; the second has signs that env files, Compose and shells would each like to read.
const SECRETS: &[(&str, &str)] =
    &[("secret_key", "s3cret-key-of-the-backend"), ("supabase_secret", TOKEN), ("ghcr_token", "unused")];

/// The overlay: images, addresses and commands that suit them, and no limit that this machine's kernel cannot set.
fn overlay(site: &Site, more: &str) {
    let host = site.registry.host_port();
    let text = format!(
        r#"extends = "staging.toml"

[registry]
repository = "{host}/team/bundles"
activator = "{host}/team/bundles"

[droplet]
image = "debian-13-x64"

[firewall]
ssh_from = ["10.213.0.0/16", "fd62:756e:646c::/48"]

[switch]
trial = "2s"
health = "30s"
drain = "1s"

[services.postgres]
image = "{host}/postgres:latest"
cpus = "0"

[services.redis]
image = "{host}/redis:latest"
cpus = "0"

[services.backend]
image = "{host}/marketplace:latest"
command = ["python3", "-m", "marketplace", "web"]
cpus = "0"

[services.backend.healthcheck]
test = ["CMD", "python3", "-m", "marketplace", "health"]

[services.frontend]
image = "{host}/marketplace:latest"
command = ["python3", "-m", "http.server", "3000", "--directory", "/tmp"]
tmpfs = ["/tmp:size=16m,mode=1777"]
cpus = "0"

[services.frontend.healthcheck]
test = ["CMD", "true"]

[services.migrate]
image = "{host}/marketplace:latest"
command = ["python3", "-m", "marketplace", "migrate"]
cpus = "0"

[routes.backend]
health = "/readyz"

[env_files."{ENV}".values]
{more}
"#
    );
    site.droplet.write_file(PROFILE, text.as_bytes(), 0o644);
}

fn switch(site: &Site, more: &str) {
    overlay(site, more);
    for verb in ["lock", "push"] {
        let ran = site.bundle(&["--root", "/root/builder", verb, PROFILE]);
        assert!([0, 10].contains(&ran.code), "{verb}: {ran:?}");
    }
    let built = site.bundle(&["--root", "/root/builder", "build", PROFILE]);
    assert_eq!(built.code, 0, "{built:?}");
    let switched = site.switch(built.out.trim());
    assert_eq!(switched.code, 0, "{switched:?}\n{}", circumstances(&site.droplet));
}

fn variable(site: &Site, container: &str, name: &str) -> String {
    let value = site.droplet.run_ok(&["docker", "exec", container, "printenv", name]);
    value.strip_suffix('\n').unwrap_or(&value).to_owned()
}

/// The status and the first line that a host name answers with, asked for on the machine itself.
fn asked(site: &Site, host: &str, path: &str) -> String {
    let resolve = format!("{host}:443:127.0.0.1");
    let url = format!("https://{host}{path}");
    let argv = ["curl", "-sk", "--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code}", &url];
    let output = site.droplet.run(&argv);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_web_application_with_env_files_and_two_names_is_released_and_taken_back() {
    let site = Site::open();
    site.droplet.run_ok(&["rm", "/root/site/vulcan/bundle.lock"]);
    for (name, value) in SECRETS {
        site.droplet.feed(&["bundle", "secrets", "set", name], value.as_bytes());
    }
    switch(&site, "GREETING = 'first'");
    println!("{}", site.bundle(&["status"]).out);

    assert_eq!(asked(&site, "api.staging.example.com", "/readyz"), "200");
    assert_eq!(asked(&site, "staging.example.com", "/"), "200");
    assert_eq!(asked(&site, "staging.example.com", "/readyz"), "404", "that is the other service's");

    // Root's alone, found where people look for it, and every value arrives as it was sent.
    assert_eq!(site.droplet.run_ok(&["stat", "-Lc", "%a %u %g", ENV]).trim(), "400 0 0");
    let env = site.droplet.run_ok(&["cat", ENV]);
    assert!(env.starts_with("# Written by bundle from the profile `droplet`"), "{env}");
    for (name, value) in [("SECRET_KEY", SECRETS[0].1), ("SUPABASE_SECRET", TOKEN), ("GREETING", "first")] {
        assert_eq!(variable(&site, "backend-blue", name), value);
    }
    assert_eq!(variable(&site, "backend-blue", "BACKEND_CORS_ORIGINS"), r#"["https://staging.example.com"]"#);
    assert!(variable(&site, "backend-blue", "DATABASE_URL").starts_with("postgresql://app:"));

    // Another value is another release, and the way back brings back the old one.
    let data = site.life("postgres");
    switch(&site, "GREETING = 'second $ \"quoted\" # one'");
    assert_eq!(variable(&site, "backend-green", "GREETING"), r#"second $ "quoted" # one"#);
    assert_eq!(site.life("postgres"), data, "no release touches the database");
    let back = site.bundle(&["rollback"]);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(variable(&site, "backend-blue", "GREETING"), "first");
    assert!(site.droplet.run_ok(&["cat", ENV]).contains("GREETING=\"first\""));
    assert_eq!(asked(&site, "api.staging.example.com", "/readyz"), "200");
}
