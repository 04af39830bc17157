//! The durable record of a switch under way: append-only, preallocated, one synced record per intent.
//!
//! The file is written full of zeros before it is used, so that appending allocates nothing, not even on a full disk.
//! A record is a line: sixteen hex digits of the SHA-256 of its JSON, a space, the JSON. Only the last can be torn, and
//! then its digits do not fit and it never was. A line that does not fit and has another after it is damage: what
//! stands before it would tell of an old switch that never ended.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Doing, Store, StoreError, View, durable};
use crate::model::{Digest, GenerationNumber};

/// The number of a transaction on this machine; they only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(pub u64);

/// What a switch is about to do. Written and synced before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Networks, and the project `data` if its inputs changed.
    Data,
    /// Migrations.
    Migrate,
    /// The idle slot comes up and must become healthy.
    Slot,
    /// The dead man's timer, the links for both directions.
    Arm,
    /// The rename of `current`.
    Flip,
    /// `/etc`, units, routes, singletons, restart policies.
    Reconcile,
    /// The last good generation stands by.
    Trial,
    /// It still does, until the operator says over a fresh connection that the new one may stay.
    Confirm,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A switch begins. Nothing is touched before this is on disk.
    Begin {
        /// Where the machine is, which is where it goes back to.
        from: View,
        /// Where it is to go.
        to: View,
        /// Whether the project `data` is brought up on the way, so that going back must do so too.
        data: bool,
        /// What `rollback` goes to from there once it has committed; `None` leaves what the record says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<GenerationNumber>,
    },
    /// This phase is about to begin.
    Intent {
        /// Which.
        phase: Phase,
    },
    /// From here on only going back. Written once per attempt, which is how attempts are counted.
    Undo {
        /// Why.
        reason: String,
    },
    /// The new generation is the last good one; what remains is clearing up.
    Commit,
    /// Nothing is left to do.
    Settled {
        /// Whether the new generation stayed.
        committed: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    txn: TransactionId,
    #[serde(flatten)]
    event: Event,
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    last: TransactionId,
}

/// A transaction that was begun and never settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub id: TransactionId,
    /// Where the machine was.
    pub from: View,
    /// Where it was to go.
    pub to: View,
    /// Whether the project `data` was to be brought up.
    pub data: bool,
    /// What `rollback` is to go to from there.
    pub previous: Option<GenerationNumber>,
    /// The last phase that was announced.
    pub phase: Option<Phase>,
    /// Whether it committed.
    pub committed: bool,
    /// How often going back was begun.
    pub attempts: usize,
    /// Why it was begun the first time.
    pub reason: Option<String>,
}

/// 64 KiB hold some ten switches.
const SIZE: u64 = 64 * 1024;
/// What one switch and three attempts at going back may need.
const RESERVE: u64 = 16 * 1024;
/// The longest reason that is kept; the journal must not fill up with the words of a failing program.
const LONGEST_REASON: usize = 600;

impl Store {
    /// Reads the journal without changing anything. `None`: nothing is pending.
    pub fn pending(&self) -> Result<Option<Pending>, StoreError> {
        let path = self.at("journal");
        let Some(bytes) = durable::read(&path)? else { return Ok(None) };
        Ok(fold(&parse(&bytes, &path)?.lines))
    }

    /// Opens the journal for writing, making it if it is not there.
    pub fn journal(&self) -> Result<Journal, StoreError> {
        let path = self.at("journal");
        if !path.exists() {
            durable::write(&path, &vec![0; usize::try_from(SIZE).unwrap_or(usize::MAX)], 0o600)?;
        }
        let bytes = fs::read(&path).doing("reading the journal", &path)?;
        let parsed = parse(&bytes, &path)?;
        let file = OpenOptions::new().write(true).open(&path).doing("opening the journal", &path)?;
        let last = parsed.lines.last().map_or(TransactionId(0), |line| line.txn);
        Ok(Journal { file, path, end: parsed.end, last })
    }
}

impl Journal {
    /// Begins a transaction. The one before must be settled; its lines make room when the file runs full.
    pub fn begin(
        &mut self,
        from: View,
        to: View,
        data: bool,
        previous: Option<GenerationNumber>,
    ) -> Result<TransactionId, StoreError> {
        let txn = TransactionId(self.last.0 + 1);
        if self.end + RESERVE > SIZE {
            self.start_over()?;
        }
        self.last = txn;
        self.append(txn, Event::Begin { from, to, data, previous })?;
        Ok(txn)
    }

    /// Appends and syncs one record.
    pub fn append(&mut self, txn: TransactionId, event: Event) -> Result<(), StoreError> {
        let event = match event {
            Event::Undo { reason } => Event::Undo { reason: reason.chars().take(LONGEST_REASON).collect() },
            other => other,
        };
        let json =
            serde_json::to_string(&Line { txn, event }).map_err(|e| StoreError::damaged(&self.path, e))?;
        let line = format!("{} {json}\n", &Digest::of(json.as_bytes()).hex()[..16]);
        self.file.write_all_at(line.as_bytes(), self.end).doing("appending to the journal", &self.path)?;
        self.file.sync_data().doing("syncing the journal", &self.path)?;
        self.end += line.len() as u64;
        Ok(())
    }

    /// A new file whose only line keeps the numbers growing.
    fn start_over(&mut self) -> Result<(), StoreError> {
        let json = serde_json::to_string(&Line { txn: self.last, event: Event::Settled { committed: true } })
            .map_err(|e| StoreError::damaged(&self.path, e))?;
        let mut bytes = format!("{} {json}\n", &Digest::of(json.as_bytes()).hex()[..16]).into_bytes();
        self.end = bytes.len() as u64;
        bytes.resize(usize::try_from(SIZE).unwrap_or(usize::MAX), 0);
        durable::write(&self.path, &bytes, 0o600)?;
        self.file =
            OpenOptions::new().write(true).open(&self.path).doing("opening the journal", &self.path)?;
        Ok(())
    }
}

struct Parsed {
    lines: Vec<Line>,
    end: u64,
}

fn parse(bytes: &[u8], path: &Path) -> Result<Parsed, StoreError> {
    let mut parsed = Parsed { lines: Vec::new(), end: 0 };
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    for line in lines.by_ref() {
        let Some(read) = parse_line(line) else { break };
        parsed.lines.push(read);
        parsed.end += line.len() as u64;
    }
    if lines.any(|line| parse_line(line).is_some()) {
        let number = parsed.lines.len() + 1;
        return Err(StoreError::damaged(path, format!("line {number} is not what was written")));
    }
    Ok(parsed)
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (check, json) = text.split_once(' ')?;
    (check == &Digest::of(json.as_bytes()).hex()[..16]).then(|| serde_json::from_str(json).ok())?
}

fn fold(lines: &[Line]) -> Option<Pending> {
    let mut pending: Option<Pending> = None;
    for Line { txn, event } in lines {
        match (event, &mut pending) {
            (Event::Begin { from, to, data, previous }, _) => {
                pending = Some(Pending {
                    id: *txn,
                    from: *from,
                    to: *to,
                    data: *data,
                    previous: *previous,
                    phase: None,
                    committed: false,
                    attempts: 0,
                    reason: None,
                });
            }
            (Event::Settled { .. }, _) => pending = None,
            (Event::Intent { phase }, Some(open)) => open.phase = Some(*phase),
            (Event::Commit, Some(open)) => open.committed = true,
            (Event::Undo { reason }, Some(open)) => {
                open.attempts += 1;
                open.reason.get_or_insert_with(|| reason.clone());
            }
            (_, None) => {}
        }
    }
    pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Slot;

    fn view(number: u64, slot: Slot) -> View {
        View { generation: GenerationNumber(number), slot }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        (dir, store)
    }

    #[test]
    fn what_was_begun_and_not_settled_is_pending() {
        let (_dir, store) = store();
        assert_eq!(store.pending().unwrap(), None);
        let mut journal = store.journal().unwrap();
        let txn = journal.begin(view(1, Slot::Blue), view(2, Slot::Green), true, None).unwrap();
        journal.append(txn, Event::Intent { phase: Phase::Flip }).unwrap();
        let pending = store.pending().unwrap().unwrap();
        assert_eq!((pending.phase, pending.committed, pending.attempts), (Some(Phase::Flip), false, 0));
        let mut journal = store.journal().unwrap();
        journal.append(txn, Event::Undo { reason: "x".repeat(10_000) }).unwrap();
        assert_eq!(store.pending().unwrap().unwrap().attempts, 1);
        journal.append(txn, Event::Settled { committed: false }).unwrap();
        assert_eq!(store.pending().unwrap(), None);
    }

    #[test]
    fn a_torn_last_line_never_was() {
        let (dir, store) = store();
        let mut journal = store.journal().unwrap();
        let txn = journal.begin(view(0, Slot::Blue), view(1, Slot::Blue), false, None).unwrap();
        let before = journal.end;
        journal.append(txn, Event::Commit).unwrap();
        let path = dir.path().join("var/lib/bundle/journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(before).unwrap() + 30] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(!store.pending().unwrap().unwrap().committed);
        let mut journal = store.journal().unwrap();
        assert_eq!(journal.end, before);
        journal.append(txn, Event::Commit).unwrap();
        assert!(store.pending().unwrap().unwrap().committed);
    }

    #[test]
    fn a_line_that_rotted_in_the_middle_is_damage_and_not_the_end() {
        let (dir, store) = store();
        let mut journal = store.journal().unwrap();
        let txn = journal.begin(view(0, Slot::Blue), view(1, Slot::Blue), false, None).unwrap();
        let middle = usize::try_from(journal.end).unwrap() + 20;
        journal.append(txn, Event::Settled { committed: true }).unwrap();
        journal.begin(view(1, Slot::Blue), view(2, Slot::Green), false, None).unwrap();
        let path = dir.path().join("var/lib/bundle/journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(store.pending(), Err(StoreError::Damaged { .. })));
        assert!(matches!(store.journal(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn numbers_grow_and_the_file_does_not() {
        let (dir, store) = store();
        for round in 1..=300 {
            let mut journal = store.journal().unwrap();
            let txn = journal.begin(view(0, Slot::Blue), view(1, Slot::Blue), false, None).unwrap();
            assert_eq!(txn, TransactionId(round));
            journal.append(txn, Event::Undo { reason: "x".repeat(600) }).unwrap();
            journal.append(txn, Event::Settled { committed: true }).unwrap();
        }
        assert_eq!(fs::metadata(dir.path().join("var/lib/bundle/journal")).unwrap().len(), SIZE);
    }
}
