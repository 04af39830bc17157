//! Certificates, outside every generation: going back must not bring back one that has expired. Until there is a real
//! one, a self-signed placeholder serves, because HAProxy does not start without.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Doing, Store, StoreError, durable};
use crate::model::Certificate;

/// The placeholder's file in the directory of certificates.
pub const PLACEHOLDER: &str = "placeholder.pem";

const DAY: u64 = 24 * 60 * 60;
/// How long a placeholder lasts.
const YEARS: u64 = 10 * 365 * DAY;
/// How far before the machine's clock it begins: the clock may be years ahead of everybody else's.
const EARLIER: u64 = 3 * 365 * DAY;
/// 2026-01-01. No clock that is right says less, so one that does is not believed.
const FLOOR: u64 = 1_767_225_600;
/// When a placeholder is so near its end, another is made.
const RENEW_DAYS: i64 = 30;

/// A file in the directory of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub file: String,
    /// The first certificate in it, which is the one it is kept for; or what is wrong with the file.
    pub certificate: Result<Certificate, String>,
    /// Whether HAProxy, which is not root, can read it.
    pub readable: bool,
}

impl Kept {
    /// Whether it is the placeholder.
    pub fn is_placeholder(&self) -> bool {
        self.file == PLACEHOLDER
    }

    /// Whether it is one for `domain` that has neither ended nor is about to, at `now` in seconds since 1970.
    fn will_do(&self, domain: &str, now: u64) -> bool {
        let good = |certificate: &Certificate| {
            certificate.is_for(domain)
                && !certificate.has_not_begun(now)
                && certificate.days_left(now) >= RENEW_DAYS
        };
        self.certificate.as_ref().is_ok_and(good)
    }
}

impl Store {
    /// What lies in the directory of certificates, in the order in which HAProxy loads it: by name.
    pub fn certificates(&self) -> Result<Vec<Kept>, StoreError> {
        let directory = self.at("certs");
        let group = self.group("haproxy")?;
        let mut kept = Vec::new();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(kept),
            entries => entries.doing("listing", &directory)?,
        };
        for entry in entries {
            let path = entry.doing("listing", &directory)?.path();
            if path.extension().is_none_or(|extension| extension != "pem") {
                continue;
            }
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // One odd file is said, and is no reason to be blind or to stay where one is.
            let about = match fs::metadata(&path) {
                Ok(about) => about,
                Err(error) => {
                    kept.push(Kept { file, certificate: Err(error.to_string()), readable: false });
                    continue;
                }
            };
            // A machine without that group has no HAProxy that could be kept out.
            let readable = match group {
                Some(gid) if about.gid() == gid => about.mode() & 0o040 != 0,
                Some(_) => about.mode() & 0o004 != 0,
                None => true,
            };
            kept.push(Kept {
                file,
                certificate: first(&path).unwrap_or_else(|error| Err(error.to_string())),
                readable,
            });
        }
        kept.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(kept)
    }

    /// Makes the placeholder for `domain`, unless there is a certificate. One for another domain, or near its end, is
    /// replaced. `now` is in seconds since 1970. Readable for HAProxy's group and nobody else.
    pub fn ensure_certificate(&self, domain: &str, now: u64) -> Result<(), StoreError> {
        let directory = self.at("certs");
        let group = self.group("haproxy")?;
        if let (Some(gid), true) = (group, rustix::process::geteuid().is_root()) {
            chown(&directory, None, Some(gid)).doing("changing the group of", &directory)?;
        }
        let kept = self.certificates()?;
        // What somebody else put there is theirs to renew.
        if kept.iter().any(|kept| !kept.is_placeholder() || kept.will_do(domain, now)) {
            return Ok(());
        }
        let path = directory.join(PLACEHOLDER);
        let pem = placeholder(domain, now)
            .map_err(|error| StoreError::damaged(&path, format!("no placeholder for `{domain}`: {error}")))?;
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

/// Certificate and key in one text, because HAProxy reads both from one file.
fn placeholder(domain: &str, now: u64) -> Result<String, rcgen::Error> {
    let mut wanted = CertificateParams::new([domain.to_owned()])?;
    wanted.distinguished_name.push(DnType::CommonName, "bundle placeholder");
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    wanted.not_before = epoch + Duration::from_secs(now.saturating_sub(EARLIER).min(FLOOR));
    wanted.not_after = epoch + Duration::from_secs(now.max(FLOOR).saturating_add(YEARS).min(LAST));
    let key = KeyPair::generate()?;
    let made = wanted.self_signed(&key)?;
    Ok(format!("{}{}", made.pem(), key.serialize_pem()))
}

/// 9999-12-31, the last day that a certificate can name (RFC 5280, section 4.1.2.5).
const LAST: u64 = 253_402_214_400;

/// The first certificate of a PEM file.
fn first(path: &Path) -> Result<Result<Certificate, String>, StoreError> {
    let Some(bytes) = durable::read(path)? else { return Ok(Err("it is not there".to_owned())) };
    let Ok(der) = CertificateDer::from_pem_slice(&bytes) else {
        return Ok(Err("there is no certificate in it".to_owned()));
    };
    Ok(Certificate::from_der(&der).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = FLOOR + 300 * DAY;

    fn made(store: &Store) -> Certificate {
        store.certificates().unwrap().remove(0).certificate.unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert_eq!(store.certificates().unwrap(), [], "before anything was made");
        store.prepare().unwrap();
        (dir, store)
    }

    #[test]
    fn the_placeholder_is_made_once_and_gives_way_to_a_real_one() {
        let (_dir, store) = store();
        let path = store.at("certs").join(PLACEHOLDER);
        store.ensure_certificate("bot.example.com", NOW).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("BEGIN CERTIFICATE") && text.contains("PRIVATE KEY"));
        store.ensure_certificate("bot.example.com", NOW + 9 * 365 * DAY).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::rename(&path, path.with_file_name("bot.example.com.pem")).unwrap();
        store.ensure_certificate("bot.example.com", NOW).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_placeholder_is_renewed_near_its_end_and_when_the_domain_changes() {
        let (_dir, store) = store();
        store.ensure_certificate("bot.example.com", NOW).unwrap();
        let first = made(&store);
        assert_eq!(first.names, ["bot.example.com"]);
        store.ensure_certificate("other.example.com", NOW).unwrap();
        let second = made(&store);
        assert_eq!(second.names, ["other.example.com"]);
        store.ensure_certificate("other.example.com", second.not_after - 29 * DAY).unwrap();
        assert!(made(&store).not_after > second.not_after);
        fs::write(store.at("certs").join(PLACEHOLDER), "damaged").unwrap();
        assert!(store.certificates().unwrap()[0].certificate.is_err());
        store.ensure_certificate("other.example.com", NOW).unwrap();
        assert_eq!(made(&store).names, ["other.example.com"]);
    }

    #[test]
    fn what_haproxy_cannot_read_is_seen() {
        let (dir, store) = store();
        fs::create_dir(dir.path().join("etc")).unwrap();
        store.ensure_certificate("bot.example.com", NOW).unwrap();
        let readable = || store.certificates().unwrap()[0].readable;
        assert!(readable(), "there is no such group");
        let path = store.at("certs").join(PLACEHOLDER);
        let mine = fs::metadata(&path).unwrap().gid();
        for (gid, good) in [(mine, true), (mine + 1, false)] {
            fs::write(dir.path().join("etc/group"), format!("root:x:0:\nhaproxy:x:{gid}:\n")).unwrap();
            assert_eq!(readable(), good);
        }
    }

    #[test]
    fn a_placeholder_is_valid_for_others_whatever_this_clock_says() {
        for clock in [0, NOW - 2 * 365 * DAY, NOW, NOW + 2 * 365 * DAY, u64::MAX / 2] {
            let pem = placeholder("bot.example.com", clock).unwrap();
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let read = Certificate::from_der(&der).unwrap();
            let range = read.not_before..read.not_after;
            assert!(range.contains(&NOW) && range.contains(&(NOW + 3 * 365 * DAY)), "{clock}: {read:?}");
            assert!(clock > NOW * 10 || range.contains(&clock.max(1)), "{clock}: {read:?}");
        }
    }
}
