//! `cloud-init/user-data`: what a fresh droplet is given.
//!
//! The line `#cloud-config`, a comment, and one line of JSON, which YAML contains, in ASCII. It lays files down and starts one
//! program, `cloud-init/bootstrap.sh`, which installs the packages, fetches the activator by digest and hands over.
//! cloud-init installs nothing itself: it would try once, and a mirror that is not there yet would be the end. It has two
//! blanks, because a bundle cannot contain its own digest; [`fill`] fills them.
//!
//! Nothing is said about root's login over SSH: the platform's own settings count, by which `DigitalOcean`'s images let
//! root in with a key, and stock Debian has a user `debian` with sudo.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::format::shell::Assignments;
use super::format::{self, Refused};
use super::{Artifact, Entry, RenderError, Section, Tree, docker, literal, nftables, tree};
use crate::model::{Digest, Slot};
use crate::spec::{DockerRepository, OsRelease, Registry, Spec};

/// The kind `cloud-init`; it has no table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {}

/// The file's place in a view.
pub const PATH: &str = "cloud-init/user-data";

/// Stands for the bundle's own digest.
pub const BUNDLE_BLANK: &str = "@BUNDLE_DIGEST@";

/// Stands for the digest of the activator's program.
pub const ACTIVATOR_BLANK: &str = "@ACTIVATOR_DIGEST@";

/// `DigitalOcean`'s limit is 64 KiB; this leaves room.
pub const LIMIT: usize = 60_000;

const BOOTSTRAP: &str = include_str!("../../cloud-init/bootstrap.sh");
const BOOTSTRAP_UNIT: &str = include_str!("../../cloud-init/bootstrap.service");
const GROUND_UNIT: &str = include_str!("../../cloud-init/ground.service");

/// What has to be there before a bundle can be switched to; Compose is asked for by itself.
const PROGRAMS: &str = "curl docker dockerd haproxy nft";

impl Section for CloudInit {
    const KIND: &'static str = "cloud-init";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for CloudInit {
    /// Without a registry there is nothing that a droplet could fetch, so there is no user-data.
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let Some(registry) = &spec.registry else { return Ok(()) };
        let ground = tree.get(nftables::GROUND, Slot::Blue).map(|entry| entry.content.clone());
        let text = user_data(spec, registry, ground, tree).map_err(|refused| refused.at(PATH))?;
        if text.len() > LIMIT {
            let reason =
                format!("{} bytes are more than the {LIMIT} that a droplet's user-data may have", text.len());
            return Err(RenderError::Format { path: PATH.to_owned(), reason });
        }
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text).check(&[
            "cloud-init",
            "schema",
            "--config-file",
            "{}",
        ]);
        // Its first line says what it is; the header is the second.
        let entry = entry.bare();
        tree.insert(entry).map(drop)
    }
}

/// Fills the two blanks.
pub fn fill(user_data: &str, bundle: Digest, activator: Digest) -> String {
    user_data.replace(BUNDLE_BLANK, &bundle.to_string()).replace(ACTIVATOR_BLANK, &activator.to_string())
}

fn user_data(
    spec: &Spec,
    registry: &Registry,
    ground: Option<Vec<u8>>,
    tree: &Tree,
) -> Result<String, Refused> {
    let mut files = Vec::new();
    // Docker reads it when it starts for the first time.
    files.push(file("/etc/docker/daemon.json", "0644", &docker_settings(tree)?));
    if let Some(ca) = &registry.ca {
        let hosts: BTreeSet<&str> = [&*registry.repository, registry.activator_repository()].map(host).into();
        files
            .extend(hosts.iter().map(|host| file(&format!("/etc/docker/certs.d/{host}/ca.crt"), "0644", ca)));
    }
    if let Some(docker) = &spec.docker_repository {
        files.push(file("/etc/apt/keyrings/docker.asc", "0644", &docker.key));
        files.push(file(
            "/etc/apt/sources.list.d/docker.sources",
            "0644",
            &sources(docker, spec.droplet.release)?,
        ));
    }
    files.push(file("/etc/bundle/registry.toml", "0644", &registry_toml(registry)?));
    files.push(file("/etc/bundle/bootstrap.conf", "0644", &settings(spec, registry, tree)?));
    if let Some(ground) = ground {
        let ground = String::from_utf8(ground).map_err(|error| Refused(error.to_string()))?;
        files.push(file("/etc/bundle/ground.nft", "0644", &ground));
        files.push(file("/etc/systemd/system/bundle-ground.service", "0644", GROUND_UNIT));
    }
    files.push(file("/etc/systemd/system/bundle-bootstrap.service", "0644", BOOTSTRAP_UNIT));
    files.push(file("/usr/local/sbin/bundle-bootstrap", "0755", BOOTSTRAP));
    let document = json!({
        // A list reaches the program as it is, without a shell.
        "runcmd": [["/usr/local/sbin/bundle-bootstrap", "--start"]],
        "ssh_pwauth": false,
        "write_files": files,
    });
    Ok(format!("#cloud-config\n{}{}\n", tree::header(&spec.name), format::json::ascii(&document)?))
}

/// An entry of `write_files`. The mode is a string, quoted: a number would be read as a decimal one; the owner is root,
/// who exists when files are written (cloud-init documentation, module "Write Files").
fn file(path: &str, permissions: &str, content: &str) -> Value {
    json!({ "path": path, "owner": "root:root", "permissions": permissions, "content": content })
}

/// Docker's own settings, as the kind `docker` has rendered them.
fn docker_settings(tree: &Tree) -> Result<String, Refused> {
    let entry = tree.get(docker::PATH, Slot::Blue);
    let content = entry.map(|entry| entry.content.clone()).unwrap_or_default();
    String::from_utf8(content).map_err(|error| Refused(error.to_string()))
}

/// What the bootstrap reads: how long it waits, in seconds, and what differs between machines.
fn settings(spec: &Spec, registry: &Registry, tree: &Tree) -> Result<String, Refused> {
    let repository = registry.activator_repository();
    let name = repository.split_once('/').map_or("", |(_, name)| name);
    // Docker Hub's registry has another name than its images.
    let host = if host(repository) == "docker.io" { "registry-1.docker.io" } else { host(repository) };
    let mut file = Assignments::default();
    file.comment("Read by /usr/local/sbin/bundle-bootstrap.")
        .set("bundle", BUNDLE_BLANK)?
        .set("activator", ACTIVATOR_BLANK)?
        .set("host", host)?
        .set("name", name)?
        .set(
            "programs",
            &[PROGRAMS, if tree.packages().any(|name| name == "lego") { " lego" } else { "" }].concat(),
        )?
        .set("packages", &packages(spec, tree)?.join(" "))?
        .comment("Seconds between two tries, at first and at most, and how long each step is tried.")
        .set("first_pause", "2")?
        .set("longest_pause", "60")?
        .set("patience", "1800")?
        .comment("How often the registry may send other bytes than those of the digest.")
        .set("most_wrong", "5")?;
    Ok(file.finish())
}

fn host(repository: &str) -> &str {
    repository.split_once('/').map_or(repository, |(host, _)| host)
}

/// What the activator reads on the machine: where bundles are, and with which secret they are read.
fn registry_toml(registry: &Registry) -> Result<String, Refused> {
    let mut table = toml::Table::new();
    table.insert("repository".to_owned(), registry.repository.clone().into());
    if let Some(activator) = &registry.activator {
        table.insert("activator".to_owned(), activator.clone().into());
    }
    if let Some(login) = &registry.login {
        table.insert("user".to_owned(), login.user.clone().into());
        table.insert("token".to_owned(), login.token.to_string().into());
    }
    toml::to_string(&table).map_err(|error| Refused(error.to_string()))
}

/// Docker's package repository, as apt reads it (`sources.list(5)`, "DEB822-STYLE FORMAT").
fn sources(docker: &DockerRepository, release: OsRelease) -> Result<String, Refused> {
    if docker.url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Refused(format!("{:?} is not an address that apt can read", docker.url)));
    }
    Ok(format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: stable\nArchitectures: amd64\nSigned-By: /etc/apt/keyrings/docker.asc\n",
        docker.url,
        release.codename()
    ))
}

/// Docker, Compose v2, the proxy, the firewall, what the script needs, and what other kinds ask for.
fn packages<'t>(spec: &Spec, tree: &'t Tree) -> Result<Vec<&'t str>, Refused> {
    let docker: &[&'static str] = match (&spec.docker_repository, spec.droplet.release) {
        (Some(_), _) => &["containerd.io", "docker-ce", "docker-ce-cli", "docker-compose-plugin"],
        (None, OsRelease::Debian13) => &["docker-cli", "docker-compose", "docker.io"],
        (None, OsRelease::Ubuntu2404) => &["docker-compose-v2", "docker.io"],
        (None, OsRelease::Debian12) => {
            return Err(Refused("Debian 12 has no Compose v2 of its own".to_owned()));
        }
    };
    let mut packages = [&["ca-certificates", "curl"], docker, &["haproxy", "nftables"]].concat();
    packages.extend(tree.packages().filter(|package| !packages.contains(package)).collect::<Vec<_>>());
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::spec::Login;

    fn rendered(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = fixture::spec();
        change(&mut spec);
        fixture::text(&fixture::render(&spec), PATH, Slot::Blue)
    }

    fn written(user_data: &str) -> Vec<(String, String)> {
        let (header, json) = user_data.strip_prefix("#cloud-config\n").unwrap().split_once('\n').unwrap();
        assert!(header.starts_with("# ") && header.contains("`production`"), "{header}");
        let document: Value = serde_json::from_str(json).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let files = document["write_files"].as_array().unwrap();
        files.iter().map(|file| (text(&file["path"]), text(&file["content"]))).collect()
    }

    fn content(user_data: &str, path: &str) -> String {
        let files = written(user_data);
        files.into_iter().find(|(there, _)| there == path).unwrap_or_else(|| panic!("no `{path}`")).1
    }

    #[test]
    fn renders() {
        let text = rendered(|_| ());
        insta::assert_snapshot!("user-data", text);
        assert!(text.is_ascii());
        assert!(text.len() < 32_000, "{} bytes are not far below 64 KiB", text.len());
        insta::assert_snapshot!("bootstrap.conf", content(&text, "/etc/bundle/bootstrap.conf"));
    }

    #[test]
    fn what_a_registry_asks_for_is_laid_down_and_no_value_of_a_secret() {
        let ca = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let text = rendered(|spec| {
            spec.registry = Some(Registry {
                repository: "registry.example.com:5000/team/app".to_owned(),
                ca: Some(ca.to_owned()),
                login: Some(Login { user: "deploy".to_owned(), token: "registry_token".parse().unwrap() }),
                activator: Some("open.example.com/bundle".to_owned()),
            });
        });
        assert_eq!(
            content(&text, "/etc/bundle/registry.toml"),
            "activator = \"open.example.com/bundle\"\nrepository = \"registry.example.com:5000/team/app\"\ntoken = \"registry_token\"\nuser = \"deploy\"\n"
        );
        for host in ["registry.example.com:5000", "open.example.com"] {
            assert_eq!(content(&text, &format!("/etc/docker/certs.d/{host}/ca.crt")), ca);
        }
        let settings = content(&text, "/etc/bundle/bootstrap.conf");
        assert!(settings.contains("host='open.example.com'\nname='bundle'\n"), "{settings}");
    }

    #[test]
    fn docker_comes_from_docker_where_the_profile_says_so() {
        let text = rendered(|spec| {
            spec.droplet.release = OsRelease::Debian12;
            let url = "https://download.docker.com/linux/debian".to_owned();
            spec.docker_repository = Some(DockerRepository { url, key: "a key\n".to_owned() });
        });
        assert_eq!(content(&text, "/etc/apt/keyrings/docker.asc"), "a key\n");
        insta::assert_snapshot!("docker.sources", content(&text, "/etc/apt/sources.list.d/docker.sources"));
        let settings = content(&text, "/etc/bundle/bootstrap.conf");
        assert!(settings.contains(" docker-ce docker-ce-cli docker-compose-plugin "), "{settings}");
    }

    #[test]
    fn each_blank_stands_once_and_is_filled() {
        let text = rendered(|spec| spec.droplet.release = OsRelease::Ubuntu2404);
        for blank in [BUNDLE_BLANK, ACTIVATOR_BLANK] {
            assert_eq!(text.matches(blank).count(), 1, "{blank}");
        }
        let filled = fill(&text, Digest::of(b"bundle"), Digest::of(b"activator"));
        assert!(filled.contains(&Digest::of(b"bundle").to_string()) && !filled.contains("_DIGEST@"));
    }

    #[test]
    fn without_a_registry_there_is_no_user_data() {
        let mut spec = fixture::spec();
        spec.registry = None;
        let mut tree = Tree::default();
        CloudInit {}.render(&spec, &mut tree).unwrap();
        assert_eq!(tree.entries().count(), 0);
    }
}
