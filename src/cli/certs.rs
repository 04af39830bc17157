//! `bundle certs`: which certificate clients meet on 443, which ones lie on the disk, and what is to be done about it.
//! `bundle status` has its note from here.

use std::fmt;

use clap::{Args, Subcommand};
use serde_json::json;

use super::generations::time;
use super::machine::now;
use super::report::{Code, Failure};
use super::{Context, print, renew};
use crate::activate::Host;
use crate::bundle::Manifest;
use crate::model::Certificate;
use crate::store::certs::Kept;
use crate::store::renewals::{Failed, Renewal};
use crate::store::{Store, StoreError};

/// A certificate that ends sooner than this is worth a word. Whoever renews by machine does so 30 days ahead.
const SOON_DAYS: i64 = 14;
/// What is said when HAProxy should read a certificate again.
const RELOAD: &str = "`systemctl reload bundle-haproxy.service`";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Obtain the certificates that are missing or due, as the timer of a bundle does every hour
    #[command(hide = true)]
    Renew,
}

/// What clients meet and what lies on the disk.
pub(super) struct Look {
    /// Whom clients ask for, the domain first; empty if nothing serves by now.
    served: Vec<Served>,
    kept: Vec<Kept>,
    /// The names for which the machine obtains certificates itself.
    renewed: Vec<String>,
    directory: String,
    now: u64,
}

/// A host name that clients ask for.
struct Served {
    host: String,
    /// What is shown on 443; `None` if nobody was asked.
    shown: Option<Result<Certificate, String>>,
    renewal: Renewal,
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

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if let Some(Command::Renew) = arguments.command {
        return renew::run(context);
    }
    let store = context.store();
    let mut host = context.host(&store);
    let generation = match store.current()? {
        Some(view) => Some(super::machine::generation(&store, view.generation)?),
        None => None,
    };
    let manifest = generation.and_then(|generation| generation.manifest);
    let hosts = manifest.as_ref().map(names).unwrap_or_default();
    let look = Look::at(&store, host.as_mut(), hosts)?;
    print(context, look.json(), || look.text());
    Ok(Code::Done)
}

/// The host names of a bundle, its domain first.
pub(super) fn names(manifest: &Manifest) -> Vec<String> {
    let others = manifest.hosts().into_iter().filter(|host| *host != manifest.domain);
    [manifest.domain.as_str()].into_iter().chain(others).map(str::to_owned).collect()
}

impl Look {
    pub(super) fn at(store: &Store, host: &mut dyn Host, hosts: Vec<String>) -> Result<Self, StoreError> {
        let mut served = Vec::new();
        for name in hosts {
            let shown = host.shown_certificate(&name).map(|shown| {
                shown.and_then(|der| Certificate::from_der(&der).map_err(|error| error.to_string()))
            });
            let renewal = store.renewal(&name)?;
            served.push(Served { host: name, shown, renewal });
        }
        // What is wrong with that file `renew` says.
        let wanted = renew::wanted(store).ok().flatten();
        Ok(Self {
            served,
            kept: store.certificates()?,
            renewed: wanted.map(|wanted| wanted.names).unwrap_or_default(),
            directory: store.home().join("certs").display().to_string(),
            now: now(),
        })
    }

    /// The file of the certificate that is shown for a name.
    fn file(&self, served: &Served) -> Option<&Kept> {
        let shown = served.shown.as_ref()?.as_ref().ok()?;
        let own = |kept: &&Kept| kept.host() == served.host && kept.certificate.as_ref() == Ok(shown);
        self.kept.iter().find(own)
    }

    /// Whether a placeholder serves a name: as clients see it, or, if none could be asked, as the disk has it.
    fn has_placeholder(&self, served: &Served) -> bool {
        match served.shown {
            Some(Ok(_)) => self.file(served).is_some_and(Kept::is_placeholder),
            _ => self.kept.iter().any(|kept| kept.host() == served.host && kept.is_placeholder()),
        }
    }

    /// Whether a placeholder serves any name.
    pub(super) fn is_placeholder(&self) -> bool {
        self.served.iter().any(|served| self.has_placeholder(served))
    }

    /// What is not as it should be, the most pressing first.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for served in &self.served {
            match &served.shown {
                Some(Ok(certificate)) => self.about(certificate, served, &mut notes),
                Some(Err(why)) => notes.push(Note {
                    what: format!("no certificate serves `{}`: {why}", served.host),
                    advice: "`systemctl status bundle-haproxy.service` says more".to_owned(),
                }),
                None => {}
            }
            if self.has_placeholder(served) {
                notes.push(self.placeholder(&served.host));
            }
            if let Some(Failed { since, at, why }) = &served.renewal.failed {
                notes.push(Note {
                    what: format!(
                        "no certificate could be obtained for `{}` since {}, last tried {}: {why}",
                        served.host,
                        time(*since),
                        time(*at),
                    ),
                    advice: "what served before still does; it is tried again every hour, or now by \
                             `systemctl start bundle-certificates.service`; the name has to lead here by DNS, and port \
                             80 has to be open to the authority"
                        .to_owned(),
                });
            }
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

    fn placeholder(&self, host: &str) -> Note {
        let what =
            format!("a self-signed placeholder certificate serves `{host}`, which clients do not trust");
        let advice = if self.renewed.iter().any(|name| name == host) {
            "the machine obtains one by itself; `journalctl -u bundle-certificates.service` says how far it is".to_owned()
        } else {
            format!(
                "write `[certificates]` into the profile, and the machine obtains one by itself; or put a certificate \
                 with its key as one PEM file there ({}), then {RELOAD}",
                self.install(host)
            )
        };
        Note { what, advice }
    }

    fn install(&self, host: &str) -> String {
        format!("`install -m 640 -g haproxy FILE {}/{host}.pem`", self.directory)
    }

    fn about(&self, certificate: &Certificate, served: &Served, notes: &mut Vec<Note>) {
        let host = &served.host;
        let renew = if self.renewed.contains(host) {
            "`systemctl start bundle-certificates.service` has the machine obtain another".to_owned()
        } else {
            format!("{}, then {RELOAD}", self.install(host))
        };
        let mut note = |what: String, advice: &str| notes.push(Note { what, advice: advice.to_owned() });
        let days = certificate.days_left(self.now);
        if certificate.has_ended(self.now) {
            note(format!("the certificate of `{host}` ended on {}", day(certificate.not_after)), &renew);
        } else if certificate.has_not_begun(self.now) {
            let what = format!("the certificate of `{host}` begins on {} only", day(certificate.not_before));
            note(what, "look at this machine's clock with `timedatectl`");
        } else if days < SOON_DAYS && (days + 1) * 86_400 < certificate.life() / 3 {
            note(format!("the certificate of `{host}` ends in {days} days"), &renew);
        }
        if !certificate.is_for(host) {
            let names = certificate.names.join(", ");
            note(format!("the certificate is for {names}, not for `{host}`"), &renew);
        }
        if self.file(served).is_none() {
            let what = format!(
                "the certificate that serves `{host}` is not the one in `{}/{host}.pem`",
                self.directory
            );
            note(what, &format!("{RELOAD} has it read again"));
        }
    }

    fn json(&self) -> serde_json::Value {
        let Self { served, kept, now, .. } = self;
        let about = |certificate: &Certificate, file: Option<&str>| {
            json!({
                "file": file,
                "certificate": certificate,
                "days_left": certificate.days_left(*now),
                "expired": certificate.has_ended(*now),
            })
        };
        let shown = |served: &Served| {
            served.shown.as_ref().map(|shown| match shown {
                Ok(certificate) => about(certificate, self.file(served).map(|kept| kept.file.as_str())),
                Err(why) => json!({ "error": why }),
            })
        };
        let kept: Vec<_> = kept
            .iter()
            .map(|kept| match &kept.certificate {
                Ok(certificate) => about(certificate, Some(&kept.file)),
                Err(why) => json!({ "file": kept.file, "error": why }),
            })
            .collect();
        let host = |served: &Served| {
            json!({
                "host": served.host,
                "serves": shown(served),
                "placeholder": self.has_placeholder(served),
                "renewed_by_the_machine": self.renewed.contains(&served.host),
                "renewal": served.renewal,
            })
        };
        json!({
            "domain": served.first().map(|served| &served.host),
            "serves": served.first().and_then(shown),
            "placeholder": self.is_placeholder(),
            "hosts": served.iter().map(host).collect::<Vec<_>>(),
            "kept": kept,
            "notes": self.notes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.served.is_empty() {
            lines.push("nothing serves yet: `bundle switch REF` makes it so".to_owned());
        }
        for served in &self.served {
            let host = &served.host;
            match &served.shown {
                None => lines.push(format!("{host} was not asked: nothing runs here")),
                Some(Err(_)) => lines.push(format!("{host} shows nothing on 443")),
                Some(Ok(certificate)) => {
                    lines.push(format!("{host} shows on 443"));
                    lines.push(format!(
                        "  file     {}",
                        self.file(served).map_or("-", |kept| kept.file.as_str())
                    ));
                    let issuer = if certificate.self_signed { "itself" } else { certificate.issuer.as_str() };
                    lines.push(format!("  from     {issuer}"));
                    lines.push(format!("  until    {}", self.line(certificate)));
                    lines.push(format!("  begins   {}", time(certificate.not_before)));
                    lines.push(format!("  sha-256  {}", certificate.fingerprint.hex()));
                    let who = if self.renewed.contains(host) { "by the machine" } else { "by you" };
                    lines.push(format!("  renewed  {who}"));
                }
            }
        }
        lines.push(format!("in {}", self.directory));
        for kept in &self.kept {
            let said = match &kept.certificate {
                Ok(_) if kept.is_placeholder() => "a placeholder".to_owned(),
                Ok(certificate) => format!("until {}", self.line(certificate)),
                Err(why) => why.clone(),
            };
            lines.push(format!("  {:<24} {said}", kept.file));
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

    fn placeholder() -> Certificate {
        let issuer = "CN=bundle placeholder".to_owned();
        Certificate { self_signed: true, issuer, ..certificate("bot.example.com", 60) }
    }

    fn look(shown: Option<Result<Certificate, String>>, kept: &[(&str, Certificate)]) -> Look {
        Look {
            served: vec![Served { host: "bot.example.com".to_owned(), shown, renewal: Renewal::default() }],
            renewed: Vec::new(),
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
        let look = look(Some(Ok(good.clone())), &[("bot.example.com.pem", good)]);
        assert!(look.notes().is_empty());
        assert!(!look.is_placeholder() && look.text().contains("60 days left"), "{}", look.text());
        assert_eq!(look.json()["serves"]["file"], "bot.example.com.pem");
    }

    #[test]
    fn each_thing_that_is_wrong_is_said_with_what_to_do() {
        let good = certificate("bot.example.com", 60);
        let notes = |shown: Result<Certificate, String>, kept: &[(&str, Certificate)]| {
            look(Some(shown), kept).notes().iter().map(ToString::to_string).collect::<String>()
        };
        let says = |certificate: Certificate| {
            notes(Ok(certificate.clone()), &[("bot.example.com.pem", certificate)])
        };
        assert!(says(certificate("bot.example.com", 13)).contains("ends in 13 days"));
        let ended = Certificate { not_after: NOW - 1, ..good.clone() };
        assert!(says(ended).contains("ended on 2024-10-03"));
        assert!(says(Certificate { not_before: NOW + 1, ..good.clone() }).contains("clock"));
        assert!(says(certificate("other.example.com", 60)).contains("not for `bot.example.com`"));
        let other = certificate("bot.example.com", 20);
        assert!(notes(Ok(good.clone()), &[("bot.example.com.pem", other)]).contains("is not the one in"));
        assert!(
            notes(Err("no answer".to_owned()), &[])
                .contains("no certificate serves `bot.example.com`: no answer")
        );
        let mut hidden = look(Some(Ok(good.clone())), &[("bot.example.com.pem", good.clone())]);
        hidden.kept[0].readable = false;
        assert!(hidden.text().contains("cannot read `/certs/bot.example.com.pem`"), "{}", hidden.text());
        let said = notes(Ok(placeholder()), &[("bot.example.com.pem", placeholder())]);
        assert!(said.contains("do not trust") && said.contains("systemctl reload"), "{said}");
    }

    #[test]
    fn what_the_machine_renews_itself_has_other_advice() {
        let mut look = look(Some(Ok(placeholder())), &[("bot.example.com.pem", placeholder())]);
        look.renewed = vec!["bot.example.com".to_owned()];
        let why = "acme: error: 400 :: refused".to_owned();
        look.served[0].renewal.failed = Some(Failed { since: NOW - DAY, at: NOW, why });
        let said = look.text();
        assert!(said.contains("obtains one by itself") && !said.contains("systemctl reload"), "{said}");
        assert!(said.contains("since 2024-10-03 00:00:00Z, last tried 2024-10-04 00:00:00Z: acme"), "{said}");
        assert_eq!(look.json()["hosts"][0]["renewed_by_the_machine"], true);
    }

    #[test]
    fn a_short_life_is_not_near_its_end_all_the_time() {
        let short = Certificate {
            not_before: NOW - DAY,
            not_after: NOW + 5 * DAY,
            ..certificate("bot.example.com", 0)
        };
        let notes = |certificate: Certificate| {
            look(Some(Ok(certificate.clone())), &[("bot.example.com.pem", certificate)]).notes().len()
        };
        assert_eq!(notes(short.clone()), 0);
        assert_eq!(notes(Certificate { not_after: NOW + DAY / 2, not_before: NOW - 6 * DAY, ..short }), 1);
    }

    #[test]
    fn what_could_not_be_asked_is_judged_by_the_disk() {
        let good = certificate("bot.example.com", 60);
        assert!(look(None, &[("bot.example.com.pem", placeholder())]).is_placeholder());
        let both = look(None, &[("bot.example.com.pem", good), ("other.example.com.pem", placeholder())]);
        assert!(!both.is_placeholder(), "nobody asks for the other name");
        assert!(look(None, &[]).text().contains("nothing"));
    }
}
