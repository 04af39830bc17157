//! Certificates, outside every generation: going back must not bring back one that has expired. Until there is a real
//! one, a self-signed placeholder serves, because HAProxy does not start without.

use std::fs;
use std::os::unix::fs::chown;

use super::{Doing, Store, StoreError, durable};

/// The placeholder's file in the directory of certificates.
pub const PLACEHOLDER: &str = "placeholder.pem";

impl Store {
    /// Makes the placeholder for `domain`, unless there is a certificate. Readable for HAProxy's group and nobody else.
    pub fn ensure_certificate(&self, domain: &str) -> Result<(), StoreError> {
        let directory = self.at("certs");
        let group = self.group("haproxy")?;
        if let (Some(gid), true) = (group, rustix::process::geteuid().is_root()) {
            chown(&directory, None, Some(gid)).doing("changing the group of", &directory)?;
        }
        for entry in fs::read_dir(&directory).doing("listing", &directory)? {
            let path = entry.doing("listing", &directory)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                return Ok(());
            }
        }
        let path = directory.join(PLACEHOLDER);
        let made = rcgen::generate_simple_self_signed([domain.to_owned()])
            .map_err(|error| StoreError::damaged(&path, format!("no placeholder for `{domain}`: {error}")))?;
        // HAProxy reads certificate and key from one file.
        let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        let beside = durable::beside(&path);
        durable::write_new(&beside, pem.as_bytes(), 0o640)?;
        if let (Some(gid), true) = (group, rustix::process::geteuid().is_root()) {
            chown(&beside, None, Some(gid)).doing("changing the group of", &beside)?;
        }
        fs::rename(&beside, &path).doing("replacing", &path)?;
        durable::sync_dir(&directory)
    }

    /// A group's number, from the machine's own `/etc/group`.
    fn group(&self, name: &str) -> Result<Option<u32>, StoreError> {
        let Some(bytes) = durable::read(&self.below("/etc/group"))? else { return Ok(None) };
        Ok(String::from_utf8_lossy(&bytes).lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_is_made_once_and_gives_way_to_a_real_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let path = dir.path().join("var/lib/bundle/certs").join(PLACEHOLDER);
        store.ensure_certificate("bot.example.com").unwrap();
        let made = fs::read_to_string(&path).unwrap();
        assert!(made.contains("BEGIN CERTIFICATE") && made.contains("PRIVATE KEY"));
        store.ensure_certificate("bot.example.com").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), made);
        fs::rename(&path, path.with_file_name("bot.example.com.pem")).unwrap();
        store.ensure_certificate("bot.example.com").unwrap();
        assert!(!path.exists());
    }
}
