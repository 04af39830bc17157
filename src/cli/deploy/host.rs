//! One droplet of a deploy: its secrets, its switch, the confirmation over a fresh connection, and its way back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::look::{Seen, look};
use super::ssh::{Connection, Destination, LOST, Said, Ssh};
use super::table::{Outcome, State};
use super::values::{Values, as_sent};
use crate::cli::tell;
use crate::model::{Digest, PROGRAM};
use crate::store::View;

/// How often a lost droplet is looked for, and a busy one asked again.
pub(super) const PAUSE: Duration = Duration::from_secs(3);
/// How long after a connection that failed the next is tried: a firewall of ours lets an address try ten in a minute.
const RETRY: Duration = Duration::from_secs(6);
/// How long a droplet may be busy with something else: its own first boot, most likely.
pub(super) const BUSY: Duration = Duration::from_mins(3);
/// What a switch may take besides waiting for the confirmation, when nobody sees any more how far it is.
const GRACE: Duration = Duration::from_mins(4);

/// A droplet that is being deployed to.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) ssh: &'a Ssh,
    pub(super) to: &'a Destination,
    /// What it was before this deploy.
    pub(super) seen: Seen,
    pub(super) bundle: Digest,
    /// Where it finds the bundle; `None`: it was sent.
    pub(super) repository: Option<String>,
    /// How long it waits for the confirmation, in seconds.
    pub(super) confirm: u64,
    /// Set when the operator wants to stop.
    pub(super) stop: &'a AtomicBool,
}

/// Whether the operator, who wants to stop, is heeded: not on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Heeded,
    Ignored,
}

/// What `bundle switch --json` prints.
#[derive(Deserialize)]
struct Switched {
    current: View,
}

impl Host<'_> {
    pub(super) fn before(&self) -> State {
        state(&self.seen)
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
            let began = Instant::now();
            let said = loop {
                let said = self.ssh.run(self.to, Connection::Any, &words, as_sent(value).as_bytes());
                let said = self.understood(said);
                if !self.again(&said, began, Stop::Heeded) {
                    break said;
                }
            };
            if said.code != 0 {
                self.tell(&format!("the secret `{name}` was not taken: {}", said.complaint()));
                return Err(said.code);
            }
            self.tell(said.out.trim());
        }
        Ok(())
    }

    /// On a droplet without a generation its own first boot may be under way, or have begun with the last secret. What
    /// comes of that is waited for, and is what was there before this deploy.
    pub(super) fn catch_up(&mut self) {
        if self.had_something() {
            return;
        }
        if let Some(seen) = self.look_until(BUSY, Stop::Heeded, |seen| !seen.moves()) {
            if seen.view.generation != View::BARE.generation {
                self.tell(&format!("meanwhile it has got {} by itself", seen.view));
            }
            self.seen = seen;
        }
    }

    /// Looks until it has seen enough, and says nothing of looks that fail; `None` after the limit, or when stopped.
    fn look_until(&self, limit: Duration, stop: Stop, enough: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let began = Instant::now();
        let mut told = false;
        while began.elapsed() < limit && (stop == Stop::Ignored || !self.stopped()) {
            if let Ok(seen) = look(self.ssh, self.to, Connection::Any) {
                if enough(&seen) {
                    return Some(seen);
                }
                if !told {
                    let who = seen.busy.as_deref().unwrap_or("its own first boot, or an interrupted switch");
                    self.tell(&format!("under way there, and waited for: {who}"));
                    told = true;
                }
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    /// Whether to ask again what was asked of a busy droplet; then a pause has been made.
    fn again(&self, said: &Said, began: Instant, stop: Stop) -> bool {
        let stopped = stop == Stop::Heeded && self.stopped();
        if said.code != 21 || began.elapsed() > BUSY || stopped {
            return false;
        }
        self.tell("busy; asked again in a moment");
        std::thread::sleep(PAUSE);
        true
    }

    /// Switches it. Gives what came of it, and what it runs now.
    pub(super) fn switch(&mut self) -> (Outcome, Option<State>) {
        let began = Instant::now();
        let said = loop {
            let said = self.try_switch();
            if !self.again(&said, began, Stop::Heeded) {
                break said;
            }
            self.catch_up();
            if self.stopped() {
                break said;
            }
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

    fn try_switch(&self) -> Said {
        let (digest, seconds) = (self.bundle.to_string(), self.confirm.to_string());
        let expected = self.seen.bundle.map(|bundle| bundle.to_string());
        let mut words = self.words(&["--json", "switch", &digest, "--confirm", &seconds]);
        if let Some(repository) = &self.repository {
            words.extend(["--repository", repository]);
        }
        if let Some(expected) = &expected {
            words.extend(["--expect-current", expected]);
        }
        self.understood(self.ssh.follow(self.to, &words, |line| {
            self.tell(line);
            if line.contains("waiting for confirmation: ") {
                self.confirm();
            }
        }))
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
            std::thread::sleep(RETRY);
        }
        self.tell("not confirmed, because the deploy was stopped: it goes back by itself");
    }

    /// After the connection was lost in the middle: the switch there goes on, nobody confirms it, and it goes back.
    fn find_again(&self) -> (Outcome, Option<State>) {
        let limit = Duration::from_secs(self.confirm) + GRACE;
        self.tell(&format!(
            "the connection was lost; nobody confirms, so it goes back by itself within {} s after its trial",
            self.confirm
        ));
        std::thread::sleep(PAUSE);
        match self
            .look_until(limit, Stop::Heeded, |seen| has_ended(seen, self.bundle))
            .map(|seen| state(&seen))
        {
            Some(now) if now.bundle == Some(self.bundle) => (Outcome::Switched, Some(now)),
            Some(now) if now == self.before() => (Outcome::WentBack, Some(now)),
            None if self.stopped() => (Outcome::Left, None),
            now => (Outcome::Stuck, now),
        }
    }

    /// Takes it back to what it was before this deploy. Nobody is asked to confirm that.
    pub(super) fn take_back(&self) -> (Outcome, Option<State>) {
        let number = self.seen.view.generation;
        self.tell(&format!("taken back to generation {number}, because another droplet failed"));
        let (number, bundle) = (number.to_string(), self.bundle.to_string());
        let words = self.words(&["--json", "switch", "--generation", &number, "--expect-current", &bundle]);
        let began = Instant::now();
        loop {
            let said = self.understood(self.ssh.follow(self.to, &words, |line| self.tell(line)));
            if self.again(&said, began, Stop::Ignored) {
                continue;
            }
            match said.code {
                // Its slot may be another than before.
                0 => {
                    let view = view(&said).unwrap_or(self.seen.view);
                    return (Outcome::TakenBack, Some(State { view, bundle: self.seen.bundle }));
                }
                LOST => {}
                _ => return (Outcome::NotTakenBack, None),
            }
            self.tell("the connection was lost; what has come of it is looked at");
            std::thread::sleep(PAUSE);
            let ended = |seen: &Seen| self.seen.bundle.is_some_and(|before| has_ended(seen, before));
            match self.look_until(GRACE, Stop::Ignored, ended).map(|seen| state(&seen)) {
                Some(now) if self.is_back(now) => return (Outcome::TakenBack, Some(now)),
                // It has not begun, or was interrupted.
                Some(now) if now.bundle == Some(self.bundle) && began.elapsed() < BUSY => {}
                now => return (Outcome::NotTakenBack, now),
            }
        }
    }

    /// Whether there is anything that it could be taken back to: generation 0 serves nobody.
    pub(super) fn had_something(&self) -> bool {
        self.seen.view.generation != View::BARE.generation
    }

    fn is_back(&self, now: State) -> bool {
        now.view.generation == self.seen.view.generation && now.bundle == self.seen.bundle
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

/// Whether a switch that nobody follows has ended, as far as a look can tell. Before its journal begins only the lock
/// says that it is under way; once what it goes to has committed, it only clears up.
fn has_ended(seen: &Seen, to: Digest) -> bool {
    !seen.pending && (seen.busy.is_none() || seen.bundle == Some(to))
}

fn state(seen: &Seen) -> State {
    State { view: seen.view, bundle: seen.bundle }
}

/// What is current after a switch, by its own word.
fn view(said: &Said) -> Option<View> {
    let json = said.out.lines().rev().find(|line| line.starts_with('{'))?;
    serde_json::from_str(json).ok().map(|Switched { current }| current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GenerationNumber, Slot};

    fn seen(number: u64, bundle: &[u8], pending: bool, busy: bool) -> Seen {
        Seen {
            sudo: false,
            view: View { generation: GenerationNumber(number), slot: Slot::Blue },
            bundle: Some(Digest::of(bundle)),
            pending,
            busy: busy.then(|| "`bundle switch` by root: stage".to_owned()),
            first_boot: false,
            secrets: Vec::new(),
        }
    }

    #[test]
    fn a_switch_that_has_not_begun_its_journal_has_not_ended() {
        let new = Digest::of(b"new");
        assert!(!has_ended(&seen(1, b"old", false, true), new), "it is in stage or prepare");
        assert!(!has_ended(&seen(2, b"new", true, true), new), "it is not committed");
        assert!(has_ended(&seen(2, b"new", false, true), new), "it is clearing up");
        assert!(has_ended(&seen(1, b"old", false, false), new), "it went back");
    }

    #[test]
    fn only_what_a_droplet_served_before_is_gone_back_to() {
        let ssh = Ssh::new(Vec::new()).unwrap();
        let to = "web1".parse().unwrap();
        let stop = AtomicBool::new(false);
        let host = |seen| Host {
            ssh: &ssh,
            to: &to,
            seen,
            bundle: Digest::of(b"new"),
            repository: None,
            confirm: 1,
            stop: &stop,
        };
        let old = host(seen(3, b"old", false, false));
        assert!(old.had_something());
        let mut there = old.before();
        assert!(old.is_back(there));
        there.view.slot = Slot::Green;
        assert!(old.is_back(there), "its slot may be another");
        there.view.generation = GenerationNumber(4);
        assert!(!old.is_back(there));
        assert!(!host(Seen { view: View::BARE, bundle: None, ..seen(0, b"", false, false) }).had_something());
    }
}
