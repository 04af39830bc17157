//! Certificates, outside every generation: going back must not bring back one that has expired. Each host name has one in
//! `certs/NAME.pem`. Until there is a real one, a self-signed placeholder serves, because HAProxy does not start without.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Doing, Store, StoreError, durable};
use crate::model::Certificate;

/// By whom a placeholder says that it was issued, itself.
const PLACEHOLDER: &str = "bundle placeholder";

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
    /// Whether it is a placeholder that we made.
    pub fn is_placeholder(&self) -> bool {
        let ours = |certificate: &Certificate| {
            certificate.self_signed && certificate.issuer == format!("CN={PLACEHOLDER}")
        };
        self.certificate.as_ref().is_ok_and(ours)
    }

    /// The host name that it is kept for.
    pub fn host(&self) -> &str {
        self.file.strip_suffix(".pem").unwrap_or(&self.file)
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
    /// What lies in the directory of certificates, in the order of names.
    pub fn certificates(&self) -> Result<Vec<Kept>, StoreError> {
        let directory = self.at("certs");
        let reader = self.haproxy()?;
        let mut kept = Vec::new();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(kept),
            entries => entries.doing("listing", &directory)?,
        };
        for entry in entries {
            let path = entry.doing("listing", &directory)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                kept.push(look(&path, reader));
            }
        }
        kept.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(kept)
    }

    /// The certificate of one host name, if a file is there.
    pub fn certificate(&self, host: &str) -> Result<Option<Kept>, StoreError> {
        let path = self.certificate_path(host);
        let there = path.try_exists().doing("looking for", &path)?;
        Ok(there.then_some(look(&path, self.haproxy()?)))
    }

    /// Where the certificate of a host name lies, with its key.
    pub fn certificate_path(&self, host: &str) -> PathBuf {
        self.at("certs").join(format!("{host}.pem"))
    }

    /// Replaces a host name's certificate and key, at once or not at all.
    pub fn put_certificate(&self, host: &str, pem: &str) -> Result<(), StoreError> {
        let path = self.certificate_path(host);
        let beside = durable::beside(&path);
        durable::write_new(&beside, pem.as_bytes(), 0o640)?;
        if let (Some(Account { gid, .. }), true) = (self.haproxy()?, rustix::process::geteuid().is_root()) {
            // The directory is HAProxy's to write, too: what it might put in this place meanwhile is not followed.
            lchown(&beside, None, Some(gid)).doing("changing the group of", &beside)?;
        }
        fs::rename(&beside, &path).doing("replacing", &path)?;
        durable::sync_dir(durable::parent(&path))
    }

    /// Makes a placeholder for each host name that has no certificate. One near its end is replaced. `now` is in seconds
    /// since 1970. Readable for HAProxy's group and nobody else.
    pub fn ensure_certificates<'h>(
        &self,
        hosts: impl IntoIterator<Item = &'h str>,
        now: u64,
    ) -> Result<(), StoreError> {
        let directory = self.at("certs");
        if let (Some(Account { gid, .. }), true) = (self.haproxy()?, rustix::process::geteuid().is_root()) {
            chown(&directory, None, Some(gid)).doing("changing the group of", &directory)?;
        }
        for host in hosts {
            // What somebody else put there is theirs to renew.
            if self.certificate(host)?.is_some_and(|kept| !kept.is_placeholder() || kept.will_do(host, now)) {
                continue;
            }
            let path = self.certificate_path(host);
            let pem = placeholder(host, now).map_err(|error| {
                StoreError::damaged(&path, format!("no placeholder for `{host}`: {error}"))
            })?;
            self.put_certificate(host, &pem)?;
        }
        Ok(())
    }

    /// HAProxy's user, from the machine's own `/etc/passwd`; a machine without it has no HAProxy that could be kept out.
    fn haproxy(&self) -> Result<Option<Account>, StoreError> {
        let Some(bytes) = durable::read(&self.below("/etc/passwd"))? else { return Ok(None) };
        Ok(String::from_utf8_lossy(&bytes).lines().find_map(|line| {
            let mut fields = line.split(':');
            let ours = fields.next() == Some("haproxy");
            ours.then(|| {
                Some(Account { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
            })?
        }))
    }
}

/// A user's numbers.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// Looks at one file. What is odd about it is said, and is no reason to be blind or to stay where one is.
fn look(path: &Path, reader: Option<Account>) -> Kept {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) => return Kept { file, certificate: Err(error.to_string()), readable: false },
    };
    // The first of the three that fits counts, even where a later one would allow more (path_resolution(7)).
    let readable = match reader {
        Some(Account { uid, .. }) if about.uid() == uid => about.mode() & 0o400 != 0,
        Some(Account { gid, .. }) if about.gid() == gid => about.mode() & 0o040 != 0,
        Some(_) => about.mode() & 0o004 != 0,
        None => true,
    };
    let certificate = match durable::read(path) {
        Ok(Some(bytes)) => first_of(&bytes),
        Ok(None) => Err("it is not there".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Kept { file, certificate, readable }
}

/// Certificate and key in one text, because HAProxy reads both from one file.
fn placeholder(domain: &str, now: u64) -> Result<String, rcgen::Error> {
    let mut wanted = CertificateParams::new([domain.to_owned()])?;
    wanted.distinguished_name.push(DnType::CommonName, PLACEHOLDER);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    wanted.not_before = epoch + Duration::from_secs(now.saturating_sub(EARLIER).min(FLOOR));
    wanted.not_after = epoch + Duration::from_secs(now.max(FLOOR).saturating_add(YEARS).min(LAST));
    let key = KeyPair::generate()?;
    let made = wanted.self_signed(&key)?;
    Ok(format!("{}{}", made.pem(), key.serialize_pem()))
}

/// 9999-12-31, the last day that a certificate can name (RFC 5280, section 4.1.2.5).
const LAST: u64 = 253_402_214_400;

/// The first certificate of a text in PEM, which is the one that it is for; or why there is none.
pub fn first_of(pem: &[u8]) -> Result<Certificate, String> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| "there is no certificate in it".to_owned())?;
    Certificate::from_der(&der).map_err(|error| error.to_string())
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
    fn each_name_has_a_placeholder_until_it_has_a_real_one() {
        let (_dir, store) = store();
        let names = ["bot.example.com", "hook.example.com"];
        store.ensure_certificates(names, NOW).unwrap();
        let texts = names.map(|name| fs::read_to_string(store.certificate_path(name)).unwrap());
        assert!(texts.iter().all(|text| text.contains("BEGIN CERTIFICATE") && text.contains("PRIVATE KEY")));
        let kept = store.certificates().unwrap();
        assert_eq!(kept.iter().map(Kept::host).collect::<Vec<_>>(), names);
        assert!(kept.iter().all(Kept::is_placeholder));
        store.ensure_certificates(names, NOW + 9 * 365 * DAY).unwrap();
        assert_eq!(names.map(|name| fs::read_to_string(store.certificate_path(name)).unwrap()), texts);
        let real = rcgen::generate_simple_self_signed(["hook.example.com".to_owned()]).unwrap();
        store.put_certificate("hook.example.com", &real.cert.pem()).unwrap();
        store.ensure_certificates(names, u64::MAX / 4).unwrap();
        let kept = store.certificate("hook.example.com").unwrap().unwrap();
        assert!(!kept.is_placeholder(), "it is somebody else's to renew");
    }

    #[test]
    fn a_placeholder_is_renewed_near_its_end() {
        let (_dir, store) = store();
        store.ensure_certificates(["bot.example.com"], NOW).unwrap();
        let first = made(&store);
        assert_eq!(first.names, ["bot.example.com"]);
        store.ensure_certificates(["bot.example.com"], first.not_after - 29 * DAY).unwrap();
        assert!(made(&store).not_after > first.not_after);
        // It may be a key that is not readable for us: it is said, and never overwritten.
        let path = store.certificate_path("bot.example.com");
        fs::write(&path, "damaged").unwrap();
        store.ensure_certificates(["bot.example.com"], NOW).unwrap();
        assert_eq!(
            store.certificates().unwrap()[0].certificate,
            Err("there is no certificate in it".to_owned())
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(store.certificate("bot.example.com").unwrap(), None);
    }

    #[test]
    fn what_haproxy_cannot_read_is_seen() {
        let (dir, store) = store();
        fs::create_dir(dir.path().join("etc")).unwrap();
        store.ensure_certificates(["bot.example.com"], NOW).unwrap();
        let readable = || store.certificates().unwrap()[0].readable;
        assert!(readable(), "there is no such user");
        let about = fs::metadata(store.certificate_path("bot.example.com")).unwrap();
        let (uid, gid) = (about.uid(), about.gid());
        for (uid, gid, good) in [(uid, gid + 1, true), (uid + 1, gid, true), (uid + 1, gid + 1, false)] {
            let passwd = format!("root:x:0:0:root:/root:/bin/sh\nhaproxy:x:{uid}:{gid}::/:/bin/false\n");
            fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
            assert_eq!(readable(), good, "{uid} {gid}");
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
