//! `bundle certs renew`: obtains the certificates that are missing or due, and has HAProxy show them without a reload.
//! A timer starts it every hour; it looks at files, and asks the authority only when there is something to ask for.

use super::machine::now;
use super::report::{Code, Failure};
use super::{Context, tell};
use crate::activate::HostError;
use crate::artifacts::certificates::{LISTEN, PATH, Wanted};
use crate::host::{Order, Shown, show_certificate};
use crate::model::Certificate;
use crate::store::certs::{Kept, first_of};
use crate::store::renewals::{Failed, Renewal};
use crate::store::{Store, durable};

pub(super) fn run(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    if !store.is_running_system() {
        let message = "certificates are obtained on the running system only";
        return Err(Failure::new(Code::Refused, message));
    }
    let Some(wanted) = wanted(&store)? else {
        tell("the current generation obtains no certificates: its profile has no `[certificates]`");
        return Ok(Code::NothingToChange);
    };
    let mut failed = Vec::new();
    for name in &wanted.names {
        let kept = store.certificate(name)?;
        let renewal = store.renewal(name)?;
        let Some(why) = due(name, kept.as_ref(), &renewal, &wanted.directory, now()) else {
            continue;
        };
        tell(&format!("{name}: {why}; asking {}", wanted.directory));
        match obtain(&store, &wanted, name) {
            Ok((certificate, shown)) => {
                let how = match shown {
                    Shown::Now => "clients meet it from now on, without a reload",
                    Shown::OnceItIsRead => "HAProxy will show it when it has read it",
                };
                let until = super::generations::time(certificate.not_after);
                tell(&format!("{name}: a certificate from {} until {until}; {how}", certificate.issuer));
                let directory = Some(wanted.directory.clone());
                let fingerprint = Some(certificate.fingerprint);
                store.set_renewal(name, &Renewal { directory, fingerprint, failed: None })?;
            }
            Err(error) => {
                let (at, why) = (now(), error.cause.clone());
                let since = renewal.failed.as_ref().map_or(at, |failed| failed.since);
                store.set_renewal(name, &Renewal { failed: Some(Failed { since, at, why }), ..renewal })?;
                failed.push(format!("{name}: {error}"));
            }
        }
    }
    if failed.is_empty() {
        return Ok(Code::Done);
    }
    let mut failure = Failure::new(Code::Input, "not every certificate that is due could be obtained");
    for line in failed {
        failure = failure.because(line);
    }
    Err(failure.hint(
        "what served before still does, and it is tried again in an hour; the name has to lead to this machine by DNS, \
         and the authority has to reach its port 80",
    ))
}

/// What the current generation wants; `None` if it wants nothing, or there is none.
pub(super) fn wanted(store: &Store) -> Result<Option<Wanted>, Failure> {
    let path = store.home().join("current").join(PATH);
    let Some(bytes) = durable::read(&path)? else { return Ok(None) };
    let wanted = Wanted::parse(&String::from_utf8_lossy(&bytes));
    wanted.map(Some).map_err(|error| Failure::of(Code::Input, &error))
}

/// Why a certificate has to be obtained; `None` if the one that is kept will do for now.
fn due(
    name: &str,
    kept: Option<&Kept>,
    renewal: &Renewal,
    directory: &str,
    now: u64,
) -> Option<&'static str> {
    let Some(kept) = kept else { return Some("there is none yet") };
    let Ok(certificate) = &kept.certificate else { return Some("what is kept for it is not a certificate") };
    if kept.is_placeholder() {
        return Some("it has a placeholder");
    }
    if !certificate.is_for(name) {
        return Some("its certificate is for other names");
    }
    // One that somebody put there is renewed when its time comes; one of another authority at once.
    if renewal.fingerprint == Some(certificate.fingerprint) && renewal.directory.as_deref() != Some(directory)
    {
        return Some("its certificate is from another authority than the profile names");
    }
    (now >= due_at(certificate)).then_some("its certificate is in the last third of its life")
}

/// When a certificate is due: with a third of its life left (Let's Encrypt's own advice), or up to a twentieth of it
/// later. Its own fingerprint says how much later, so that machines that began together do not stay together.
fn due_at(certificate: &Certificate) -> u64 {
    let life = certificate.not_after.saturating_sub(certificate.not_before);
    let byte = u64::from_str_radix(certificate.fingerprint.hex().get(..2).unwrap_or_default(), 16);
    let later = (life / 20).saturating_mul(byte.unwrap_or_default()) / 256;
    certificate.not_after - life / 3 + later
}

fn obtain(store: &Store, wanted: &Wanted, name: &str) -> Result<(Certificate, Shown), HostError> {
    let home = store.home().join("certs/acme/lego");
    let order = Order {
        email: &wanted.email,
        directory: &wanted.directory,
        ca: wanted.ca.as_deref(),
        listen: LISTEN,
        name,
        home: &home,
    };
    let pem = order.obtain()?;
    let refuse = |why: String| HostError::new(format!("looking at what came for `{name}`"), why);
    let certificate = first_of(pem.as_bytes()).map_err(refuse)?;
    if !certificate.is_for(name) || certificate.has_ended(now()) {
        return Err(refuse(format!("it is for {}", certificate.names.join(", "))));
    }
    let path = store.certificate_path(name);
    let keep = || {
        store.put_certificate(name, &pem).map_err(|error| {
            HostError::new(format!("keeping the certificate of `{name}`"), error.to_string())
        })
    };
    Ok((certificate, show_certificate(&path.to_string_lossy(), &pem, keep)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    const DAY: u64 = 24 * 60 * 60;
    const NOW: u64 = 20_000 * DAY;

    fn kept(byte: &str, not_before: u64, not_after: u64) -> Kept {
        let certificate = Certificate {
            fingerprint: format!("sha256:{byte}{}", "0".repeat(62)).parse().unwrap(),
            names: vec!["a.test".to_owned()],
            issuer: "CN=somebody".to_owned(),
            self_signed: false,
            not_before,
            not_after,
        };
        Kept { file: "a.test.pem".to_owned(), certificate: Ok(certificate), readable: true }
    }

    fn why(kept: &Kept, renewal: &Renewal) -> Option<&'static str> {
        due("a.test", Some(kept), renewal, "https://ca/dir", NOW)
    }

    #[test]
    fn a_certificate_is_due_in_the_last_third_of_its_life_and_not_all_at_once() {
        let none = Renewal::default();
        for (byte, left, due) in
            [("00", 31, false), ("00", 29, true), ("ff", 29, false), ("ff", 26, false), ("ff", 25, true)]
        {
            let kept = kept(byte, NOW - (90 - left) * DAY, NOW + left * DAY);
            assert_eq!(why(&kept, &none).is_some(), due, "{byte} {left}");
        }
        let short = kept("00", NOW - 3 * DAY, NOW + 3 * DAY);
        assert_eq!(why(&short, &none), None, "six days are a life, too");
    }

    #[test]
    fn what_is_no_certificate_of_that_name_and_authority_is_due_at_once() {
        let none = Renewal::default();
        assert!(due("a.test", None, &none, "https://ca/dir", NOW).is_some());
        let good = kept("00", NOW - DAY, NOW + 89 * DAY);
        assert_eq!(why(&good, &none), None);
        assert!(due("b.test", Some(&good), &none, "https://ca/dir", NOW).is_some());
        let fingerprint = good.certificate.as_ref().unwrap().fingerprint;
        let from = |directory: &str, fingerprint: Digest| Renewal {
            directory: Some(directory.to_owned()),
            fingerprint: Some(fingerprint),
            failed: None,
        };
        assert_eq!(why(&good, &from("https://ca/dir", fingerprint)), None);
        assert!(why(&good, &from("https://staging/dir", fingerprint)).is_some());
        let other = from("https://staging/dir", Digest::of(b"before"));
        assert_eq!(why(&good, &other), None, "somebody has put another one there");
        let broken = Kept { certificate: Err("no".to_owned()), ..good };
        assert!(why(&broken, &none).is_some());
    }
}
