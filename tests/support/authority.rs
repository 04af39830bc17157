//! An authority that nobody knows, and certificates from it.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// What it has issued, in PEM.
pub(crate) struct Issued {
    /// Its own certificate.
    pub(crate) authority: String,
    /// The one that it has issued.
    pub(crate) certificate: String,
    /// The key to that.
    pub(crate) key: String,
}

/// A certificate for `name`, which may be an address, from yesterday for 90 days.
pub(crate) fn issue(name: &str) -> Issued {
    let own = KeyPair::generate().unwrap();
    let mut itself = CertificateParams::new(Vec::new()).unwrap();
    itself.distinguished_name.push(DnType::CommonName, "an authority");
    itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = itself.self_signed(&own).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new([name.to_owned()]).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (epoch, day) = (rcgen::date_time_ymd(1970, 1, 1), Duration::from_hours(24));
    wanted.not_before = epoch + now - day;
    wanted.not_after = epoch + now + 89 * day;
    let made = wanted.signed_by(&key, &Issuer::new(itself, own)).unwrap();
    Issued { authority: root.pem(), certificate: made.pem(), key: key.serialize_pem() }
}
