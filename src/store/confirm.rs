//! The operator's word that a switch has not shut them out: a file below `/run` with the number of the transaction.
//!
//! It is for a switch that lives and waits. A machine that went down forgets it, and then the switch goes back; so it
//! is not synced, and needs no byte of a disk that may be full. A stale one confirms nothing: the switch removes what is
//! there before its journal says that it waits, and nobody writes one before the journal says so.

use std::fs;
use std::path::PathBuf;

use super::{Doing, Store, StoreError, TransactionId, durable};

impl Store {
    fn confirmation(&self) -> PathBuf {
        self.below("/run/bundle/confirmed")
    }

    /// Says that this transaction may stay. The caller has seen in the journal that it waits.
    pub fn confirm(&self, transaction: TransactionId) -> Result<(), StoreError> {
        let path = self.confirmation();
        durable::make_parents(&path)?;
        let beside = durable::beside(&path);
        durable::write_new(&beside, transaction.0.to_string().as_bytes(), 0o600)?;
        fs::rename(&beside, &path).doing("replacing", &path)
    }

    /// Whether this transaction was confirmed.
    pub fn is_confirmed(&self, transaction: TransactionId) -> Result<bool, StoreError> {
        let said = durable::read(&self.confirmation())?;
        Ok(said.is_some_and(|said| said == transaction.0.to_string().as_bytes()))
    }

    /// Forgets what was said before.
    pub(crate) fn withdraw_confirmation(&self) -> Result<(), StoreError> {
        durable::remove_if_there(&self.confirmation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_for_one_transaction_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(!store.is_confirmed(TransactionId(3)).unwrap());
        store.confirm(TransactionId(3)).unwrap();
        assert!(store.is_confirmed(TransactionId(3)).unwrap());
        assert!(
            !store.is_confirmed(TransactionId(4)).unwrap() && !store.is_confirmed(TransactionId(33)).unwrap()
        );
        store.withdraw_confirmation().unwrap();
        store.withdraw_confirmation().unwrap();
        assert!(!store.is_confirmed(TransactionId(3)).unwrap());
    }
}
