//! One droplet of a deploy: its secrets, its switch, the confirmation over a fresh connection, and its way back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::look::{Seen, look};
use super::ssh::{Connection, Destination, LOST, PROGRAM, Said, Ssh};
use super::table::{Outcome, State};
use super::values::Values;
use crate::cli::tell;
use crate::model::Digest;
use crate::store::View;

/// How often a lost droplet is looked for, and a busy one asked again.
const PAUSE: Duration = Duration::from_secs(3);
/// How long a droplet may be busy with something else: its own first boot, most likely.
const BUSY: Duration = Duration::from_mins(3);
/// What a switch may take besides waiting for the confirmation, when nobody sees any more how far it is.
const GRACE: Duration = Duration::from_mins(4);

/// A droplet that is being deployed to.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) ssh: &'a Ssh,
    pub(super) to: &'a Destination,
    pub(super) seen: &'a Seen,
    pub(super) bundle: Digest,
    /// Where it finds the bundle; `None`: it was sent.
    pub(super) repository: Option<String>,
    /// How long it waits for the confirmation, in seconds.
    pub(super) confirm: u64,
    /// Set when the operator wants to stop.
    pub(super) stop: &'a AtomicBool,
}

/// What `bundle switch --json` prints.
#[derive(Deserialize)]
struct Switched {
    current: View,
}

impl Host<'_> {
    pub(super) fn before(&self) -> State {
        State { view: self.seen.view, bundle: self.seen.bundle }
    }

    /// The words of a command there.
    pub(super) fn words<'w>(&self, words: &[&'w str]) -> Vec<&'w str> {
        let sudo: &[&str] = if self.seen.sudo { &["sudo", "-n"] } else { &[] };
        [sudo, &[PROGRAM], words].concat()
    }

    pub(super) fn tell(&self, line: &str) {
        tell(&format!("{}: {line}", self.to));
    }

    /// Hands in the values, each on stdin. `Err` is the exit code of the first that was not taken.
    pub(super) fn hand_in(&self, values: &Values) -> Result<(), i32> {
        for (name, value) in values {
            let words = self.words(&["secrets", "set", name.as_str()]);
            let said = self.ssh.run(self.to, Connection::Any, &words, value.expose().as_bytes());
            let said = self.understood(said);
            if said.code != 0 {
                self.tell(&format!("the secret `{name}` was not taken: {}", said.complaint()));
                return Err(said.code);
            }
            self.tell(said.out.trim());
        }
        Ok(())
    }

    /// Switches it. Gives what came of it, and what it runs now.
    pub(super) fn switch(&self) -> (Outcome, Option<State>) {
        let (digest, seconds) = (self.bundle.to_string(), self.confirm.to_string());
        let expected = self.seen.bundle.map(|bundle| bundle.to_string());
        let mut words = self.words(&["--json", "switch", &digest, "--confirm", &seconds]);
        if let Some(repository) = &self.repository {
            words.extend(["--repository", repository]);
        }
        if let Some(expected) = &expected {
            words.extend(["--expect-current", expected]);
        }
        let began = Instant::now();
        let said = loop {
            let said = self.understood(self.ssh.follow(self.to, &words, |line| {
                self.tell(line);
                if line.contains("waiting for confirmation: ") {
                    self.confirm();
                }
            }));
            if said.code != 21 || began.elapsed() > BUSY || self.stopped() {
                break said;
            }
            self.tell("busy; asked again in a moment");
            std::thread::sleep(PAUSE);
        };
        let before = Some(self.before());
        match said.code {
            0 => (Outcome::Switched, self.now(&said)),
            10 => (Outcome::Current, self.now(&said)),
            1 | 2 | 20 | 21 | 22 => (Outcome::Refused(said.code), before),
            30 => (Outcome::WentBack, before),
            LOST => self.find_again(),
            _ => (Outcome::Stuck, None),
        }
    }

    /// Confirms over connections that nobody had open: only those prove that the droplet can still be reached.
    fn confirm(&self) {
        let bundle = self.bundle.to_string();
        let words = self.words(&["confirm", "--bundle", &bundle]);
        let began = Instant::now();
        let limit = Duration::from_secs(self.confirm);
        while !self.stopped() {
            let said = self.understood(self.ssh.run(self.to, Connection::Fresh, &words, b""));
            match said.code {
                0 => {
                    let took = began.elapsed().as_secs_f64();
                    return self.tell(&format!("confirmed over a fresh connection in {took:.1} s"));
                }
                LOST => self.tell(&format!("no fresh connection: {}", said.complaint())),
                _ => return self.tell(&format!("not confirmed: {}", said.complaint())),
            }
            if began.elapsed() > limit {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        self.tell("not confirmed, because the deploy was stopped: it goes back by itself");
    }

    /// After the connection was lost in the middle: the switch there goes on, nobody confirms it, and it goes back.
    fn find_again(&self) -> (Outcome, Option<State>) {
        let began = Instant::now();
        let limit = Duration::from_secs(self.confirm) + GRACE;
        self.tell(&format!(
            "the connection was lost; nobody confirms, so it goes back by itself within {} s after its trial",
            self.confirm
        ));
        while !self.stopped() && began.elapsed() < limit {
            std::thread::sleep(PAUSE);
            let Ok(seen) = look(self.ssh, self.to, Connection::Fresh) else { continue };
            if seen.pending {
                continue;
            }
            let now = State { view: seen.view, bundle: seen.bundle };
            return match now {
                now if now.bundle == Some(self.bundle) => (Outcome::Switched, Some(now)),
                now if now == self.before() => (Outcome::WentBack, Some(now)),
                _ => (Outcome::Stuck, Some(now)),
            };
        }
        (if self.stopped() { Outcome::Left } else { Outcome::Stuck }, None)
    }

    /// Takes it back to what it was before this deploy. Nobody is asked to confirm that.
    pub(super) fn take_back(&self) -> (Outcome, Option<State>) {
        let (number, bundle) = (self.seen.view.generation.to_string(), self.bundle.to_string());
        let words = self.words(&["--json", "switch", "--generation", &number, "--expect-current", &bundle]);
        let said = self.understood(self.ssh.follow(self.to, &words, |line| self.tell(line)));
        match said.code {
            // Its slot may be another than before.
            0 => {
                let view = view(&said).unwrap_or(self.seen.view);
                (Outcome::TakenBack, Some(State { view, bundle: self.seen.bundle }))
            }
            _ => (Outcome::NotTakenBack, None),
        }
    }

    /// A connection that could not even be tried is one that was lost.
    pub(super) fn understood(&self, said: Result<Said, String>) -> Said {
        said.unwrap_or_else(|why| {
            self.tell(&why);
            Said { code: LOST, out: String::new(), err: why }
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn now(&self, said: &Said) -> Option<State> {
        view(said).map(|view| State { view, bundle: Some(self.bundle) })
    }
}

/// What is current after a switch, by its own word.
fn view(said: &Said) -> Option<View> {
    let json = said.out.lines().rev().find(|line| line.starts_with('{'))?;
    serde_json::from_str(json).ok().map(|Switched { current }| current)
}
