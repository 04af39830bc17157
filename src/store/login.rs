//! The machine's registry: what the first boot laid down about it, and the login that is made of it.
//!
//! A private registry opens with a token, which arrives as a secret. Docker and our own client both read it from a
//! `config.json` of the machine's own, so that it never stands in an argument.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Store, StoreError, durable};
use crate::model::{REGISTRY_LOGINS, SecretName};

/// What the first boot laid down.
const SETTINGS: &str = "/etc/bundle/registry.toml";

/// `/etc/bundle/registry.toml`: where this machine finds bundles, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineRegistry {
    /// The repository in which bundles are found by their own digest.
    pub repository: String,
    /// Another repository, in which the activator lies.
    pub activator: Option<String>,
    /// The user's name, if the registry asks for one.
    pub user: Option<String>,
    /// The secret that holds the user's token.
    pub token: Option<SecretName>,
}

impl MachineRegistry {
    /// The registry's host, with its port if it has one.
    pub fn host(&self) -> &str {
        self.repository.split('/').next().unwrap_or_default()
    }
}

/// How this machine is known to its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By nothing of its own; what `docker login` left may still count.
    None,
    /// By a token that nobody has sent yet.
    Missing(SecretName),
    /// By the token in this credential file.
    File(PathBuf),
}

impl Store {
    /// What the first boot laid down about the registry, if it did.
    pub fn machine_registry(&self) -> Result<Option<MachineRegistry>, StoreError> {
        let path = self.below(SETTINGS);
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        toml::from_str(&text).map(Some).map_err(|error| StoreError::damaged(&path, error.message()))
    }

    /// Writes the credential file, if the machine has a token. For root alone, where the other secrets are.
    pub fn registry_login(&self) -> Result<Login, StoreError> {
        let Some(registry) = self.machine_registry()? else { return Ok(Login::None) };
        let (Some(user), Some(name)) = (&registry.user, &registry.token) else { return Ok(Login::None) };
        let Some(token) = self.secret(name)? else { return Ok(Login::Missing(name.clone())) };
        self.mount_ramfs()?;
        let directory = self.below(REGISTRY_LOGINS).join(registry.host());
        durable::make_dir(durable::parent(&directory), 0o700)?;
        durable::make_dir(&directory, 0o700)?;
        let auth = STANDARD.encode(format!("{user}:{}", token.expose()));
        // Docker knows its own hub by an older name (docs.docker.com, "docker login").
        let key =
            if registry.host() == "docker.io" { "https://index.docker.io/v1/" } else { registry.host() };
        let json = json!({ "auths": { key: { "auth": auth } } }).to_string();
        let path = directory.join("config.json");
        if !has(&path, &json)? {
            durable::write(&path, json.as_bytes(), 0o600)?;
        }
        Ok(Login::File(path))
    }
}

fn has(path: &Path, content: &str) -> Result<bool, StoreError> {
    Ok(durable::read(path)?.as_deref() == Some(content.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::secrets::SecretValue;
    use super::*;

    fn machine(settings: &str) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/bundle")).unwrap();
        fs::write(dir.path().join("etc/bundle/registry.toml"), settings).unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        (dir, store)
    }

    #[test]
    fn a_token_becomes_a_login_for_its_host_alone() {
        let (dir, store) = machine(
            "repository = \"r.example:5000/team/app\"\nuser = \"deploy\"\ntoken = \"registry_token\"\n",
        );
        let name: SecretName = "registry_token".parse().unwrap();
        assert_eq!(store.registry_login().unwrap(), Login::Missing(name.clone()));
        store.set_secret(&name, &SecretValue::new("hunter2")).unwrap();
        let path = dir.path().join("run/bundle/secrets/.registry/r.example:5000/config.json");
        assert_eq!(store.registry_login().unwrap(), Login::File(path.clone()));
        let text = fs::read_to_string(&path).unwrap();
        // base64 of deploy:hunter2.
        assert_eq!(text, r#"{"auths":{"r.example:5000":{"auth":"ZGVwbG95Omh1bnRlcjI="}}}"#);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn dockers_own_hub_has_another_name_in_the_login() {
        let (dir, store) = machine("repository = \"docker.io/team/app\"\nuser = \"deploy\"\ntoken = \"t\"\n");
        store.set_secret(&"t".parse().unwrap(), &SecretValue::new("hunter2")).unwrap();
        store.registry_login().unwrap();
        let text = fs::read_to_string(dir.path().join("run/bundle/secrets/.registry/docker.io/config.json"))
            .unwrap();
        assert!(text.contains("https://index.docker.io/v1/"), "{text}");
    }

    #[test]
    fn a_machine_without_settings_has_no_login_and_wrong_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Store::new(dir.path()).registry_login().unwrap(), Login::None);
        let (_dir, store) = machine("repository = \"r.example/app\"\n");
        assert_eq!(store.registry_login().unwrap(), Login::None);
        assert_eq!(store.machine_registry().unwrap().unwrap().host(), "r.example");
        let (_dir, store) = machine("repositroy = \"r.example/app\"\n");
        let said = store.machine_registry().unwrap_err().to_string();
        assert!(said.contains("registry.toml") && said.contains("repositroy"), "{said}");
    }
}
