//! The ledger: what we put outside `/var/lib/bundle`, written down before it is put there, so that nothing of ours is
//! forgotten and nothing of anybody else is removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, durable};

/// What is ours outside our directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Symbolic links by absolute path, with their targets.
    pub links: BTreeMap<String, String>,
}

impl Store {
    /// Reads the ledger; one that is not there is empty.
    pub fn ledger(&self) -> Result<Ledger, StoreError> {
        let path = self.at("ledger");
        let Some(bytes) = durable::read(&path)? else { return Ok(Ledger::default()) };
        serde_json::from_slice(&bytes).map_err(|error| StoreError::damaged(&path, error))
    }

    /// Replaces the ledger.
    pub(super) fn write_ledger(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let path = self.at("ledger");
        let json = serde_json::to_vec_pretty(ledger).map_err(|error| StoreError::damaged(&path, error))?;
        durable::write(&path, &json, 0o644)
    }
}
