//! How far a transfer is, for people who wait: a bar on a terminal, plain lines elsewhere, nothing for what takes less than
//! a second. On stderr.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Digest;
use crate::registry::Progress;

/// What takes less is not worth a word.
const QUIET: Duration = Duration::from_secs(1);
/// How often a bar is drawn, and how often a line is written.
const DRAWN: Duration = Duration::from_millis(100);
const WRITTEN: Duration = Duration::from_secs(5);
/// How long the bar is, in characters.
const WIDTH: u64 = 24;
/// Goes to the line's beginning and erases it (ECMA-48, "EL").
const ERASE: &str = "\r\x1b[K";

/// Whether the last line of the terminal is a bar.
static BAR: AtomicBool = AtomicBool::new(false);

/// Shows transfers on stderr.
#[derive(Debug)]
pub(super) struct Shown {
    bar: bool,
    began: Instant,
    transfers: Mutex<Transfers>,
}

/// Transfers that follow each other without a pause, as one.
#[derive(Debug, Default)]
struct Transfers {
    /// What has moved of each blob, and how large it is.
    blobs: BTreeMap<Digest, (u64, u64)>,
    began: Duration,
    moved: Duration,
    said: Duration,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self { bar: stderr().is_terminal(), began: Instant::now(), transfers: Mutex::default() }
    }
}

impl Progress for Shown {
    fn moved(&self, blob: Digest, bytes: u64, of: u64) {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.began.elapsed();
        let every = if self.bar { DRAWN } else { WRITTEN };
        let text = transfers.moved(blob, (bytes, of), now, every);
        if self.bar && transfers.all_done() {
            erase();
        } else if let Some((done, all, text)) = text {
            let line = if self.bar {
                BAR.store(true, Ordering::SeqCst);
                let full = usize::try_from(done * WIDTH / all.max(1)).unwrap_or_default();
                format!("{ERASE}[{:<24}] {text}", "#".repeat(full))
            } else {
                format!("{text}\n")
            };
            let mut out = stderr().lock();
            drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
        }
    }
}

/// Takes a bar away, so that something else can be said.
pub(super) fn erase() {
    if BAR.swap(false, Ordering::SeqCst) {
        drop(stderr().write_all(ERASE.as_bytes()));
    }
}

impl Transfers {
    fn all_done(&self) -> bool {
        self.blobs.values().all(|(done, all)| done == all)
    }

    /// What is to be said now, with the bytes that have moved and all that are on their way.
    fn moved(
        &mut self,
        blob: Digest,
        moved: (u64, u64),
        now: Duration,
        every: Duration,
    ) -> Option<(u64, u64, String)> {
        if self.all_done() && now.saturating_sub(self.moved) > QUIET {
            *self = Self { began: now, ..Self::default() };
        }
        self.moved = now;
        self.blobs.insert(blob, moved);
        let took = now.saturating_sub(self.began);
        let first = self.said <= self.began;
        if took < QUIET || !first && now.saturating_sub(self.said) < every {
            return None;
        }
        self.said = now;
        let sum = |one: fn(&(u64, u64)) -> u64| self.blobs.values().map(one).fold(0, u64::saturating_add);
        let (done, all) = (sum(|(done, _)| *done), sum(|(_, all)| *all));
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let pace = done.saturating_mul(1000) / milliseconds;
        Some((done, all, format!("{} of {} MiB, {} MiB/s", mib(done), mib(all), mib(pace))))
    }
}

/// With one digit after the point.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_short_is_silent_and_what_is_long_is_said_now_and_then() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut transfers = Transfers::default();
        let mut said = Vec::new();
        for tenth in 1..=120_u32 {
            let (now, bytes) = (Duration::from_millis(100) * tenth, u64::from(tenth) * MIB / 2);
            said.extend(transfers.moved(one, (bytes, 60 * MIB), now, WRITTEN).map(|(_, _, text)| text));
            said.extend(transfers.moved(two, (0, 4 * MIB), now, WRITTEN).map(|(_, _, text)| text));
        }
        let expected =
            ["5.0 of 64.0 MiB, 5.0 MiB/s", "30.0 of 64.0 MiB, 5.0 MiB/s", "55.0 of 64.0 MiB, 5.0 MiB/s"];
        assert_eq!(said, expected);
    }

    #[test]
    fn after_a_pause_it_begins_anew() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut transfers = Transfers::default();
        let at = Duration::from_millis;
        assert_eq!(transfers.moved(one, (MIB, MIB), at(500), DRAWN), None);
        assert!(transfers.all_done());
        assert_eq!(transfers.moved(two, (1, MIB), at(9000), DRAWN), None, "it has just begun");
        let (done, all, _) = transfers.moved(two, (MIB / 2, MIB), at(10_000), DRAWN).unwrap();
        assert_eq!((done, all), (MIB / 2, MIB), "what was before is over");
    }
}
