//! `bundle certs`: which certificate clients meet on 443, which ones lie on the disk, and what is to be done about it.
//! `bundle status` has its note from here.

use std::fmt;

use serde_json::json;

use super::generations::time;
use super::machine::now;
use super::report::{Code, Failure};
use super::{Context, print};
use crate::activate::Host;
use crate::model::Certificate;
use crate::store::certs::Kept;
use crate::store::{Store, StoreError};

/// A certificate that ends sooner than this is worth a word. Whoever renews by machine does so 30 days ahead.
const SOON_DAYS: i64 = 14;
/// What is said when HAProxy should read the directory again.
const RELOAD: &str = "`systemctl reload bundle-haproxy.service`";

/// What clients meet and what lies on the disk.
pub(super) struct Look {
    /// Whom clients ask for; `None` if nothing serves by now.
    domain: Option<String>,
    /// What is shown on 443; `None` if nobody was asked.
    shown: Option<Result<Certificate, String>>,
    kept: Vec<Kept>,
    directory: String,
    now: u64,
}

/// Something that is not as it should be.
pub(super) struct Note {
    pub(super) what: String,
    /// What to do.
    advice: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.advice)
    }
}

pub(super) fn run(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let mut host = context.host(&store);
    let generation = match store.current()? {
        Some(view) => Some(super::machine::generation(&store, view.generation)?),
        None => None,
    };
    let domain = generation.and_then(|generation| Some(generation.manifest?.domain));
    let look = Look::at(&store, host.as_mut(), domain)?;
    print(context, look.json(), || look.text());
    Ok(Code::Done)
}

impl Look {
    pub(super) fn at(store: &Store, host: &mut dyn Host, domain: Option<String>) -> Result<Self, StoreError> {
        let shown = domain.as_deref().and_then(|domain| host.shown_certificate(domain)).map(|shown| {
            shown.and_then(|der| Certificate::from_der(&der).map_err(|error| error.to_string()))
        });
        let directory = store.home().join("certs").display().to_string();
        Ok(Self { domain, shown, kept: store.certificates()?, directory, now: now() })
    }

    /// The file of the certificate that is shown.
    fn file(&self) -> Option<&Kept> {
        let shown = self.shown.as_ref()?.as_ref().ok()?;
        self.kept.iter().find(|kept| kept.certificate.as_ref() == Ok(shown))
    }

    /// Whether the placeholder serves: as clients see it, or, if none could be asked, as the disk has it.
    pub(super) fn is_placeholder(&self) -> bool {
        match self.shown {
            Some(Ok(_)) => self.file().is_some_and(Kept::is_placeholder),
            _ => self.kept.first().is_some_and(Kept::is_placeholder),
        }
    }

    /// What is not as it should be, the most pressing first.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if let (Some(shown), Some(domain)) = (&self.shown, &self.domain) {
            match shown {
                Ok(certificate) => self.about(certificate, domain, &mut notes),
                Err(why) => notes.push(Note {
                    what: format!("no certificate serves: {why}"),
                    advice: "`systemctl status bundle-haproxy.service` says more".to_owned(),
                }),
            }
        }
        if self.is_placeholder() {
            let directory = &self.directory;
            notes.push(Note {
                what: "a self-signed placeholder certificate serves, which clients do not trust".to_owned(),
                advice: format!(
                    "put a certificate with its key as one PEM file there (`install -m 640 -g haproxy FILE \
                     {directory}/`), remove `placeholder.pem`, then {RELOAD}"
                ),
            });
        }
        for Kept { file, certificate, readable } in &self.kept {
            let place = format!("{}/{file}", self.directory);
            if !readable {
                notes.push(Note {
                    what: format!("HAProxy cannot read `{place}`, and would not start"),
                    advice: format!("`chgrp haproxy {place}` and `chmod 640 {place}`"),
                });
            }
            if let Err(why) = certificate {
                notes.push(Note {
                    what: format!("`{place}` would keep HAProxy from starting: {why}"),
                    advice: "replace or remove it".to_owned(),
                });
            }
        }
        notes
    }

    fn about(&self, certificate: &Certificate, domain: &str, notes: &mut Vec<Note>) {
        let renew = format!("`install -m 640 -g haproxy FILE {}/`, then {RELOAD}", self.directory);
        let mut note = |what: String, advice: &str| notes.push(Note { what, advice: advice.to_owned() });
        let days = certificate.days_left(self.now);
        if certificate.has_ended(self.now) {
            note(format!("the certificate ended on {}", day(certificate.not_after)), &renew);
        } else if certificate.has_not_begun(self.now) {
            let what = format!("the certificate begins on {} only", day(certificate.not_before));
            note(what, "look at this machine's clock with `timedatectl`");
        } else if days < SOON_DAYS {
            note(format!("the certificate ends in {days} days"), &renew);
        }
        if !certificate.is_for(domain) {
            let names = certificate.names.join(", ");
            note(format!("the certificate is for {names}, not for `{domain}`"), &renew);
        }
        if self.file().is_none() {
            let what = format!("the certificate that serves is not one that lies in `{}`", self.directory);
            note(what, &format!("{RELOAD} has them read again"));
        }
    }

    fn json(&self) -> serde_json::Value {
        let Self { domain, shown, kept, now, .. } = self;
        let about = |certificate: &Certificate, file: Option<&str>| {
            json!({
                "file": file,
                "certificate": certificate,
                "days_left": certificate.days_left(*now),
                "expired": certificate.has_ended(*now),
            })
        };
        let serves = shown.as_ref().map(|shown| match shown {
            Ok(certificate) => about(certificate, self.file().map(|kept| kept.file.as_str())),
            Err(why) => json!({ "error": why }),
        });
        let kept: Vec<_> = kept
            .iter()
            .map(|kept| match &kept.certificate {
                Ok(certificate) => about(certificate, Some(&kept.file)),
                Err(why) => json!({ "file": kept.file, "error": why }),
            })
            .collect();
        json!({
            "domain": domain,
            "serves": serves,
            "placeholder": self.is_placeholder(),
            "kept": kept,
            "notes": self.notes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        match (&self.domain, &self.shown) {
            (None, _) => lines.push("nothing serves yet: `bundle switch REF` makes it so".to_owned()),
            (Some(domain), None) => lines.push(format!("{domain} was not asked: nothing runs here")),
            (Some(domain), Some(Err(_))) => lines.push(format!("{domain} shows nothing on 443")),
            (Some(domain), Some(Ok(certificate))) => {
                lines.push(format!("{domain} shows on 443"));
                lines.push(format!("  file     {}", self.file().map_or("-", |kept| kept.file.as_str())));
                let issuer = if certificate.self_signed { "itself" } else { certificate.issuer.as_str() };
                lines.push(format!("  from     {issuer}"));
                lines.push(format!("  until    {}", self.line(certificate)));
                lines.push(format!("  begins   {}", time(certificate.not_before)));
                lines.push(format!("  sha-256  {}", certificate.fingerprint.hex()));
            }
        }
        lines.push(format!("in {}", self.directory));
        for Kept { file, certificate, .. } in &self.kept {
            let said = match certificate {
                Ok(certificate) => format!("until {}", self.line(certificate)),
                Err(why) => why.clone(),
            };
            lines.push(format!("  {file:<24} {said}"));
        }
        if self.kept.is_empty() {
            lines.push("  nothing".to_owned());
        }
        lines.extend(self.notes().into_iter().map(|note| format!("note: {note}")));
        lines.join("\n")
    }

    /// Until when, and for whom.
    fn line(&self, certificate: &Certificate) -> String {
        let days = certificate.days_left(self.now);
        let left = if days < 0 { "ended".to_owned() } else { format!("{days} days left") };
        format!("{}, {left}, for {}", time(certificate.not_after), certificate.names.join(", "))
    }
}

/// The day of a moment in UTC.
fn day(seconds: u64) -> String {
    time(seconds).split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    const DAY: u64 = 24 * 60 * 60;
    const NOW: u64 = 20_000 * DAY;

    fn certificate(name: &str, days: u64) -> Certificate {
        Certificate {
            fingerprint: Digest::of(name.as_bytes()),
            names: vec![name.to_owned()],
            issuer: "CN=somebody".to_owned(),
            self_signed: false,
            not_before: NOW - 90 * DAY,
            not_after: NOW + days * DAY,
        }
    }

    fn look(shown: Option<Result<Certificate, String>>, kept: &[(&str, Certificate)]) -> Look {
        Look {
            domain: Some("bot.example.com".to_owned()),
            shown,
            kept: kept
                .iter()
                .map(|(file, certificate)| Kept {
                    file: (*file).to_owned(),
                    certificate: Ok(certificate.clone()),
                    readable: true,
                })
                .collect(),
            directory: "/certs".to_owned(),
            now: NOW,
        }
    }

    #[test]
    fn a_good_certificate_needs_no_words() {
        let good = certificate("bot.example.com", 60);
        let look = look(Some(Ok(good.clone())), &[("bot.pem", good)]);
        assert!(look.notes().is_empty());
        assert!(!look.is_placeholder() && look.text().contains("60 days left"), "{}", look.text());
        assert_eq!(look.json()["serves"]["file"], "bot.pem");
    }

    #[test]
    fn each_thing_that_is_wrong_is_said_with_what_to_do() {
        let good = certificate("bot.example.com", 60);
        let notes = |shown: Result<Certificate, String>, kept: &[(&str, Certificate)]| {
            look(Some(shown), kept).notes().iter().map(ToString::to_string).collect::<String>()
        };
        let says = |certificate: Certificate| notes(Ok(certificate.clone()), &[("bot.pem", certificate)]);
        assert!(says(certificate("bot.example.com", 13)).contains("ends in 13 days"));
        let ended = Certificate { not_after: NOW - 1, ..good.clone() };
        assert!(says(ended).contains("ended on 2024-10-03"));
        assert!(says(Certificate { not_before: NOW + 1, ..good.clone() }).contains("clock"));
        assert!(says(certificate("other.example.com", 60)).contains("not for `bot.example.com`"));
        let other = certificate("bot.example.com", 20);
        assert!(notes(Ok(good.clone()), &[("bot.pem", other)]).contains("is not one that lies in"));
        assert!(notes(Err("no answer".to_owned()), &[]).contains("no certificate serves: no answer"));
        let mut hidden = look(Some(Ok(good.clone())), &[("bot.pem", good.clone())]);
        hidden.kept[0].readable = false;
        assert!(hidden.text().contains("cannot read `/certs/bot.pem`"), "{}", hidden.text());
        let said = notes(Ok(good.clone()), &[("placeholder.pem", good)]);
        assert!(said.contains("do not trust") && said.contains("systemctl reload"), "{said}");
    }

    #[test]
    fn what_could_not_be_asked_is_judged_by_the_disk() {
        let good = certificate("bot.example.com", 60);
        assert!(look(None, &[("placeholder.pem", good.clone())]).is_placeholder());
        let both = look(None, &[("bot.pem", good.clone()), ("placeholder.pem", good)]);
        assert!(!both.is_placeholder(), "the first is the one that HAProxy serves");
        assert!(look(None, &[]).text().contains("nothing"));
    }
}
