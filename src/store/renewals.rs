//! What came of obtaining a host name's certificate: kept beside the certificates, by whoever renews them, so that
//! `bundle certs` can say what the machine did in the night.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, durable};
use crate::model::Digest;

/// What is remembered about one host name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewal {
    /// The directory of the authority that issued the last certificate.
    pub directory: Option<String>,
    /// The fingerprint of that certificate.
    pub fingerprint: Option<Digest>,
    /// The last try, if it failed.
    pub failed: Option<Failed>,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Since when every try has, in seconds since 1970.
    pub since: u64,
    /// When it was tried last.
    pub at: u64,
    /// Why.
    pub why: String,
}

impl Store {
    /// What is remembered about `host`; nothing, if nothing can be read.
    pub fn renewal(&self, host: &str) -> Result<Renewal, StoreError> {
        let bytes = durable::read(&self.at("certs/acme").join(format!("{host}.json")))?;
        // It only explains. What is damaged explains nothing, and must not keep a certificate from being renewed.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Remembers it.
    pub fn set_renewal(&self, host: &str, renewal: &Renewal) -> Result<(), StoreError> {
        let directory = self.at("certs/acme");
        durable::make_dir(&directory, 0o700)?;
        let path = directory.join(format!("{host}.json"));
        let text = serde_json::to_vec(renewal)
            .map_err(|error| StoreError::damaged(&path, format!("it cannot be written: {error}")))?;
        durable::write(&path, &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_again_and_damage_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        assert_eq!(store.renewal("bot.example.com").unwrap(), Renewal::default());
        let failed = Failed { since: 1, at: 2, why: "no answer".to_owned() };
        let renewal = Renewal { failed: Some(failed), ..Renewal::default() };
        store.set_renewal("bot.example.com", &renewal).unwrap();
        assert_eq!(store.renewal("bot.example.com").unwrap(), renewal);
        std::fs::write(store.at("certs/acme/bot.example.com.json"), "{").unwrap();
        assert_eq!(store.renewal("bot.example.com").unwrap(), Renewal::default());
    }
}
