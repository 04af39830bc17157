//! `cloud-init/user-data`: what a fresh droplet is given.
//!
//! The header `#cloud-config` and one line of JSON, which YAML contains, in ASCII. It lays down Docker's settings before
//! Docker is installed, installs the packages, and runs a short script that fetches the activator by digest and hands
//! over. It has two blanks, because a bundle cannot contain its own digest; [`fill`] fills them.

use serde::Deserialize;
use serde_json::json;

use super::{Artifact, Entry, RenderError, Section, Tree, docker, format, literal};
use crate::model::Digest;
use crate::spec::{OsRelease, Spec};

/// The kind `cloud-init`; it has no table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {}

/// The file's place in a view.
pub const PATH: &str = "cloud-init/user-data";

/// Stands for the bundle's own digest.
pub const BUNDLE_BLANK: &str = "@BUNDLE_DIGEST@";

/// Stands for the digest of the activator's program.
pub const ACTIVATOR_BLANK: &str = "@ACTIVATOR_DIGEST@";

/// `DigitalOcean`'s limit is 64 KiB; this leaves room.
const LIMIT: usize = 60_000;

const BOOTSTRAP: &str = include_str!("../../cloud-init/bootstrap.sh");

impl Section for CloudInit {
    const KIND: &'static str = "cloud-init";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for CloudInit {
    /// Without a repository there is nothing that a droplet could fetch, so there is no user-data.
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let Some(repository) = &spec.repository else { return Ok(()) };
        let text = user_data(repository, spec.droplet.release)?;
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
        tree.insert(entry).map(drop)
    }
}

/// Fills the two blanks.
pub fn fill(user_data: &str, bundle: Digest, activator: Digest) -> String {
    user_data.replace(BUNDLE_BLANK, &bundle.to_string()).replace(ACTIVATOR_BLANK, &activator.to_string())
}

fn user_data(repository: &str, release: OsRelease) -> Result<String, RenderError> {
    let file = |path: &str, permissions: &str, content: String| json!({ "path": path, "owner": "root:root", "permissions": permissions, "content": content });
    let document = json!({
        "disable_root": true,
        "package_update": true,
        "packages": packages(release),
        // A list reaches the program as it is, without a shell.
        "runcmd": [["/usr/local/sbin/bundle-bootstrap", repository, BUNDLE_BLANK, ACTIVATOR_BLANK]],
        "ssh_pwauth": false,
        "write_files": [
            file("/etc/docker/daemon.json", "0644", docker::daemon_json()?),
            file("/etc/bundle/repository", "0644", format!("{repository}\n")),
            file("/usr/local/sbin/bundle-bootstrap", "0755", BOOTSTRAP.to_owned()),
        ],
    });
    let json = format::json::ascii(&document).map_err(|refused| refused.at(PATH))?;
    Ok(format!("#cloud-config\n{json}\n"))
}

/// Docker, Compose v2, the proxy, the firewall, and what the script needs.
fn packages(release: OsRelease) -> &'static [&'static str] {
    match release {
        OsRelease::Debian13 => {
            &["ca-certificates", "curl", "docker-cli", "docker-compose", "docker.io", "haproxy", "nftables"]
        }
        OsRelease::Ubuntu2404 => {
            &["ca-certificates", "curl", "docker-compose-v2", "docker.io", "haproxy", "nftables"]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        let text = fixture::text(&fixture::tree(), PATH, Slot::Blue);
        insta::assert_snapshot!("user-data", text);
        assert!(text.is_ascii());
    }

    #[test]
    fn each_blank_stands_once_and_is_filled() {
        let text = user_data("registry.example.com/a", OsRelease::Ubuntu2404).unwrap();
        for blank in [BUNDLE_BLANK, ACTIVATOR_BLANK] {
            assert_eq!(text.matches(blank).count(), 1, "{blank}");
        }
        let filled = fill(&text, Digest::of(b"bundle"), Digest::of(b"activator"));
        assert!(filled.contains(&Digest::of(b"bundle").to_string()) && !filled.contains("_DIGEST@"));
    }

    #[test]
    fn without_a_repository_there_is_no_user_data() {
        let mut spec = fixture::spec();
        spec.repository = None;
        let mut tree = Tree::default();
        CloudInit {}.render(&spec, &mut tree).unwrap();
        assert_eq!(tree.entries().count(), 0);
    }
}
