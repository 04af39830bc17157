//! What an X.509 certificate says of itself (RFC 5280): for which names, from whom, from when until when. It proves
//! nothing: nobody's signature is looked at here.

use serde::Serialize;
use x509_cert::Certificate as X509;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Digest;

const DAY: u64 = 24 * 60 * 60;

/// The parts of a certificate that matter to whoever serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The SHA-256 of its DER form, which browsers call its fingerprint.
    pub fingerprint: Digest,
    /// The host names that it is for, in their order. `*.` stands for one label.
    pub names: Vec<String>,
    /// Who issued it, as RFC 4514 writes names.
    pub issuer: String,
    /// Whether its issuer is itself.
    pub self_signed: bool,
    /// From when, in seconds since 1970.
    pub not_before: u64,
    /// Until when, in seconds since 1970.
    pub not_after: u64,
}

/// These bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct ParseCertificateError(String);

impl Certificate {
    /// Reads the DER form.
    pub fn from_der(der: &[u8]) -> Result<Self, ParseCertificateError> {
        let fail = |error: x509_cert::der::Error| ParseCertificateError(error.to_string());
        let whole = X509::from_der(der).map_err(fail)?;
        let body = whole.tbs_certificate();
        let found = body.get_extension::<SubjectAltName>().map_err(fail)?;
        let mut names = Vec::new();
        for name in found.iter().flat_map(|(_, names)| &names.0) {
            if let GeneralName::DnsName(name) = name {
                names.push(name.to_string().to_ascii_lowercase());
            }
        }
        let (issuer, subject) = (body.issuer(), body.subject());
        Ok(Self {
            fingerprint: Digest::of(der),
            names,
            issuer: issuer.to_string(),
            self_signed: issuer.to_der().map_err(fail)? == subject.to_der().map_err(fail)?,
            not_before: body.validity().not_before.to_unix_duration().as_secs(),
            not_after: body.validity().not_after.to_unix_duration().as_secs(),
        })
    }

    /// Whether a client that asked for `domain` would accept its names (RFC 9525, section 6.3).
    pub fn is_for(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            *name == domain
                || name.strip_prefix("*.").is_some_and(|wild| !wild.is_empty() && parent == Some(wild))
        })
    }

    /// How long it lasts from its first second to its last.
    pub fn life(&self) -> i64 {
        i64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(i64::MAX)
    }

    /// Whole days until it ends, at `now` in seconds since 1970; below 0 if it has ended.
    pub fn days_left(&self, now: u64) -> i64 {
        let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
        if self.not_after >= now { days(self.not_after - now) } else { -1 - days(now - self.not_after) }
    }

    /// Whether it has ended at `now`.
    pub fn has_ended(&self, now: u64) -> bool {
        now > self.not_after
    }

    /// Whether it has not begun at `now`.
    pub fn has_not_begun(&self, now: u64) -> bool {
        now < self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> Certificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Certificate::from_der(made.cert.der()).unwrap()
    }

    #[test]
    fn names_and_dates_are_read() {
        let read = made(&["Bot.example.com", "*.example.org"]);
        assert_eq!(read.names, ["bot.example.com", "*.example.org"]);
        assert!(read.self_signed && read.issuer.contains("rcgen"), "{read:?}");
        // rcgen's own: 1975-01-01 to 4096-01-01.
        assert_eq!((read.not_before, read.not_after), (157_766_400, 67_090_118_400));
        for garbage in [&b""[..], b"\x30\x80", b"-----BEGIN CERTIFICATE-----"] {
            assert!(Certificate::from_der(garbage).is_err());
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let read = made(&["bot.example.com", "*.example.org"]);
        for (domain, good) in [
            ("bot.example.com", true),
            ("BOT.example.com", true),
            ("other.example.com", false),
            ("a.example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
        ] {
            assert_eq!(read.is_for(domain), good, "{domain}");
        }
    }

    #[test]
    fn days_are_whole_and_fall_below_zero_at_once() {
        let mut read = made(&["a"]);
        read.not_after = 10 * DAY;
        for (now, days) in [(0, 10), (1, 9), (10 * DAY, 0), (10 * DAY + 1, -1), (11 * DAY + 1, -2)] {
            assert_eq!(read.days_left(now), days, "{now}");
            assert_eq!(read.has_ended(now), days < 0, "{now}");
        }
    }
}
