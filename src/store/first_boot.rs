//! A fresh machine on its way to its first generation: how far the bootstrap is, and what it waits for.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, durable};
use crate::model::{Digest, SecretName};

/// What the bootstrap writes about itself, for people: it may be there before this program is.
const STATE: &str = "first-boot";
/// What the machine waits for.
const WAITING: &str = "waiting.json";

/// How far the bootstrap is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstBoot {
    /// One word: `waiting`, `fetching`, `switching`, `waiting-for-secrets`, `failed` or `done`.
    pub state: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// One line for people.
    pub message: String,
}

/// A first switch that is put off until the operator has sent what only the operator has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// What the machine is to become, as `switch` was given it.
    pub reference: String,
    /// The bundle, once it is in the store; until then its secrets are not known.
    pub bundle: Option<Digest>,
    /// What was missing when this was written.
    pub missing: Vec<SecretName>,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl Store {
    /// How far the bootstrap is; `None` on a machine that was not made by one.
    pub fn first_boot(&self) -> Result<Option<FirstBoot>, StoreError> {
        let Some(bytes) = durable::read(&self.at(STATE))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let field = |name: &str| {
            let mut values = text.lines().filter_map(|line| line.split_once('='));
            values.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
        };
        Ok(Some(FirstBoot {
            state: field("state").to_owned(),
            since: field("since").parse().unwrap_or_default(),
            message: field("message").to_owned(),
        }))
    }

    /// What the machine waits for, if it does.
    pub fn waiting(&self) -> Result<Option<Waiting>, StoreError> {
        let path = self.at(WAITING);
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::damaged(&path, error))
    }

    /// Remembers what the machine waits for.
    pub fn set_waiting(&self, waiting: &Waiting) -> Result<(), StoreError> {
        let path = self.at(WAITING);
        let json = serde_json::to_vec_pretty(waiting).map_err(|error| StoreError::damaged(&path, error))?;
        durable::write(&path, &json, 0o600)
    }

    /// The machine waits no longer.
    pub fn clear_waiting(&self) -> Result<(), StoreError> {
        durable::remove_if_there(&self.at(WAITING))
    }

    /// Of these, the secrets that nobody has sent.
    pub fn still_missing(&self, names: &[SecretName]) -> Result<Vec<SecretName>, StoreError> {
        let mut missing = Vec::new();
        for name in names {
            if self.secret(name)?.is_none() {
                missing.push(name.clone());
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::secrets::SecretValue;
    use super::*;

    #[test]
    fn what_is_waited_for_is_kept_until_it_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        assert_eq!(store.waiting().unwrap(), None);
        let names: Vec<SecretName> = ["a", "b"].iter().map(|name| name.parse().unwrap()).collect();
        let waiting =
            Waiting { reference: "sha256:00".to_owned(), bundle: None, missing: names.clone(), since: 7 };
        store.set_waiting(&waiting).unwrap();
        assert_eq!(store.waiting().unwrap().as_ref(), Some(&waiting));
        store.set_secret(&names[0], &SecretValue::new("x")).unwrap();
        assert_eq!(store.still_missing(&waiting.missing).unwrap(), names[1..]);
        store.clear_waiting().unwrap();
        store.clear_waiting().unwrap();
        assert_eq!(store.waiting().unwrap(), None);
    }

    #[test]
    fn the_bootstraps_words_are_read_as_it_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        assert_eq!(store.first_boot().unwrap(), None);
        let text = "state=fetching\nsince=1700000000\nmessage=registry.example.com does not answer (x=y)\n";
        std::fs::write(dir.path().join("var/lib/bundle/first-boot"), text).unwrap();
        let said = store.first_boot().unwrap().unwrap();
        assert_eq!((said.state.as_str(), said.since), ("fetching", 1_700_000_000));
        assert_eq!(said.message, "registry.example.com does not answer (x=y)");
    }
}
