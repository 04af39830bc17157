//! What a project may have that is easily lost: each told by one short file.

use serde_json::Value;

use crate::project::Project;

/// The text of the base, and the report's to-dos.
fn base(project: &Project) -> (toml::Table, Vec<String>) {
    let printed = project.imported();
    let todo = printed["todo"].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned());
    (project.read("profiles/base.toml").parse().unwrap(), todo.collect())
}

fn says(todo: &[String], words: &[&str]) -> bool {
    todo.iter().any(|item| words.iter().all(|word| item.contains(word)))
}

#[test]
fn no_secret_value_is_in_anything_that_is_written_or_printed() {
    for (name, values) in [
        ("django", &["correct-horse", "battery staple", "mail-secret"][..]),
        ("rails", &["s3cr3t", "rediss3cr3t"]),
        ("laravel", &["hunter22", "0123456789abcdef"]),
        ("gitea", &["gitea-pass"]),
        ("monitoring", &["admin123"]),
        ("rabbit", &["bunny-bunny"]),
        ("elastic", &["elastic-pw", "kibana-pw"]),
        ("synapse", &["change,me"]),
        ("vaultwarden", &["argon2id"]),
        ("supabase", &["your-super-secret", "eyJhbGciOiJIUzI1NiJ9"]),
        ("n8n", &["changePassword", "changeEncryptionKey"]),
        ("directus", &["directus-pw", "d1r3ctu5"]),
        ("metabase", &["pg-secret"]),
        ("caddy", &["dev-only-secret"]),
    ] {
        let project = Project::shipped(name);
        let output = project.import();
        let mut texts =
            vec![String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()];
        for file in ["base.toml", "production.toml", "IMPORT.md", "bundle.lock"] {
            texts.push(project.read(&format!("profiles/{file}")));
        }
        for value in values {
            assert!(!texts.iter().any(|text| text.contains(value)), "`{value}` of {name} is in clear");
            // No mark is left either.
            assert!(!texts.iter().any(|text| text.contains("bndlsecret")), "{name}");
        }
    }
}

#[test]
fn the_same_secret_is_one_secret_wherever_it_flows() {
    let project = Project::shipped("rails");
    let (base, _) = base(&project);
    let env = |name: &str| base["env_files"][name]["values"].as_table().unwrap().clone();
    let url = env("app.env")["DATABASE_URL"].as_str().unwrap().to_owned();
    assert_eq!(url, "postgresql://rails:{{ postgres_password }}@postgres/rails_production");
    assert_eq!(
        base["services"]["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"].as_str().unwrap(),
        "/run/secrets/postgres_password"
    );
    let command = base["services"]["redis"]["command"].to_string();
    assert!(command.contains("$${REDIS_PASSWORD}"), "{command}");
    assert_eq!(env("redis.env")["REDIS_PASSWORD"].as_str().unwrap(), "{{ redis_password }}");
    assert_eq!(
        env("sidekiq.env")["REDIS_URL"].as_str().unwrap(),
        "redis://:{{ redis_password }}@redis:6379/1"
    );
}

#[test]
fn variables_of_the_shell_have_no_say() {
    let run = |shell: &[(&str, &str)]| {
        let project = Project::shipped("mattermost");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.args(["init", "--from-compose", "docker-compose.yml"]).current_dir(project.path());
        command.env("BUNDLE_COMPOSE", crate::project::plugin().join(" ")).envs(shell.iter().copied());
        assert!(command.output().unwrap().status.success());
        project.read("profiles/base.toml") + &project.read("profiles/production.toml")
    };
    let plain = run(&[]);
    assert_eq!(
        plain,
        run(&[("DOMAIN", "other.example"), ("TZ", "Asia/Tokyo"), ("COMPOSE_PROFILES", "x"), ("LC_ALL", "C")])
    );
    assert!(!plain.contains("other.example"));
}

#[test]
fn services_of_profiles_are_taken_in_when_asked_for() {
    let mut project = Project::shipped("keycloak");
    let (without, _) = base(&project);
    assert!(!without["services"].as_table().unwrap().contains_key("shell"));
    std::fs::remove_dir_all(project.path().join("profiles")).unwrap();
    project.arguments = vec!["--profile".to_owned(), "debug".to_owned()];
    let (with, _) = base(&project);
    assert!(with["services"].as_table().unwrap().contains_key("shell"));
}

#[test]
fn variables_come_from_the_env_file_that_is_named_and_paths_from_the_directory_that_is() {
    let mut project =
        Project::of("services: {web: {image: 'x:${VERSION:?}', volumes: ['./conf:/etc/x:ro']}}");
    project.write("staging.env", "VERSION=7.7\n");
    project.write("deep/conf/a.conf", "a\n");
    project.arguments =
        ["--env-file", "staging.env", "--project-directory", "deep"].map(str::to_owned).to_vec();
    let printed = project.imported();
    assert!(printed["profile"].as_str().unwrap().ends_with("deep/profiles/production.toml"));
    let base: toml::Table = project.read("deep/profiles/base.toml").parse().unwrap();
    assert_eq!(base["services"]["web"]["image"].as_str().unwrap(), "x:7.7");
    assert_eq!(base["files"]["web:/etc/x"]["source"].as_str().unwrap(), "../conf");
    let built = project.bundle(&["build", "deep/profiles/production.toml"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
fn what_compose_refuses_is_said_in_its_own_words_and_nothing_is_written() {
    for (text, words) in [
        ("services: {web: {image: x, imgae: y}}", "imgae"),
        ("services:\n  web: [\n", "yaml"),
        ("services: {a: {image: x, depends_on: [b]}}", "b"),
        ("services: {a: {image: x, extends: {file: gone.yaml, service: b}}}", "gone.yaml"),
    ] {
        let project = Project::of(text);
        let output = project.import();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Compose does not accept the project") && said.contains(words), "{said}");
        assert!(!project.path().join("profiles").exists());
    }
    let project = Project::of("");
    let gone = project.bundle(&["init", "--from-compose", "gone.yaml"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8(gone.stderr).unwrap().contains("gone.yaml` cannot be read"));
}

#[test]
fn nothing_is_overwritten() {
    let project = Project::shipped("umami");
    project.imported();
    let before = project.read("profiles/base.toml");
    let again = project.import();
    assert_eq!(again.status.code(), Some(20));
    assert_eq!(project.read("profiles/base.toml"), before);
}

#[test]
fn names_of_containers_and_aliases_become_names_of_services() {
    let project = Project::shipped("gitea");
    let (base, _) = base(&project);
    let environment = &base["services"]["server"]["environment"];
    assert_eq!(environment["GITEA__database__HOST"].as_str().unwrap(), "db:5432");
    // A database may well be called as a container is.
    assert_eq!(environment["GITEA__database__NAME"].as_str().unwrap(), "gitea");
}

#[test]
fn what_only_a_person_can_do_is_named() {
    let todo = |name: &str| base(&Project::shipped(name)).1;
    assert!(says(&todo("traefik"), &["network `web`", "external"]));
    assert!(says(&todo("nextcloud"), &["volume `db`", "external"]));
    assert!(says(&todo("telegram"), &["bot.env.example", "read in its place"]));
    assert!(says(&todo("telegram"), &["built from source", "registry.example.com/telegram/bot"]));
    let mail = todo("mail");
    assert!(says(&mail, &["`25/tcp`", "do not speak HTTP"]) && says(&mail, &["volumes_from"]), "{mail:?}");
    assert!(says(&todo("monitoring"), &["`cadvisor` is privileged"]));
    assert!(says(&todo("vaultwarden"), &["copy what is in `vw-data`"]));
    assert!(says(&todo("rails"), &["`RAILS_LOG_TO_STDOUT`", "shell"]));
    assert!(says(&todo("elastic"), &["9200", "`es01`"]) || !says(&todo("elastic"), &["nothing of it"]));
}

#[test]
fn ports_and_labels_become_routes() {
    let routes = |name: &str| {
        let project = Project::shipped(name);
        let (base, _) = base(&project);
        let production: toml::Table = project.read("profiles/production.toml").parse().unwrap();
        (base["routes"].clone(), production)
    };
    let (traefik, production) = routes("traefik");
    assert_eq!(traefik["api"]["port"].as_integer(), Some(8080));
    assert_eq!(traefik["site"]["service"].as_str(), Some("site"));
    assert!(["api.example.net", "example.net"].contains(&production["domain"].as_str().unwrap()));
    let (monitoring, _) = routes("monitoring");
    assert_eq!(monitoring["grafana"]["health"].as_str(), Some("/api/health"));
    // It was bound to the loopback.
    assert!(monitoring.get("prometheus").is_none());
    let (nextcloud, _) = routes("nextcloud");
    assert_eq!(nextcloud["app"]["port"].as_integer(), Some(80));
    let (django, _) = routes("django");
    assert_eq!(django["web"]["health"].as_str(), Some("/healthz"));
}

#[test]
fn the_report_stands_beside_the_profile_and_says_how_to_undo() {
    let project = Project::shipped("django");
    let printed = project.imported();
    let report = project.read("profiles/IMPORT.md");
    for heading in [
        "## What to do",
        "## Secrets",
        "## What was hardened, and how to undo it",
        "## What stays behind, and why",
    ] {
        assert!(report.contains(heading), "{report}");
    }
    assert!(report.contains("`cap_drop = []`"), "{report}");
    // Each finding's key is in it.
    for finding in printed["findings"].as_array().unwrap() {
        let path: Vec<&str> = finding["path"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let shown = path.strip_prefix(&["services"]).unwrap_or(&path).join(".");
        assert!(report.contains(&format!("`{shown}`")), "{shown}");
    }
}
