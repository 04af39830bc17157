//! `backups/`: copies of the services' data. A copy has its name only when it is whole and judged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::PathBuf;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Doing, Store, StoreError, durable};

/// How a copy's time stands in its name.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A copy that was found whole when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The service whose data it is.
    pub service: String,
    /// When it was begun, in seconds since 1970.
    pub made: u64,
    /// Its file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The right to make copies; it ends with the process. Not the lock of the machine: a switch need not wait for a copy.
#[derive(Debug)]
pub struct Copying {
    _file: File,
}

/// A copy on its way. Dropped, it is gone.
#[derive(Debug)]
pub struct Unfinished {
    beside: PathBuf,
    path: PathBuf,
    /// Where it is written.
    pub file: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nobody else makes copies; one that took its name is no longer there.
        drop(durable::remove_if_there(&self.beside));
    }
}

impl Unfinished {
    /// What was written, from its beginning.
    pub fn reread(&self) -> Result<File, StoreError> {
        self.file.sync_all().doing("syncing", &self.beside)?;
        File::open(&self.beside).doing("reading", &self.beside)
    }

    /// How much was written, in bytes.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.file.metadata().doing("looking at", &self.beside)?.len())
    }

    /// Gives it its name, durably.
    pub fn finish(self) -> Result<PathBuf, StoreError> {
        self.file.sync_all().doing("syncing", &self.beside)?;
        fs::rename(&self.beside, &self.path).doing("naming", &self.path)?;
        durable::sync_dir(durable::parent(&self.path))?;
        Ok(self.path.clone())
    }
}

impl Store {
    /// The right to make copies; `None`: somebody else is at it.
    pub fn copying(&self) -> Result<Option<Copying>, StoreError> {
        let path = self.at("backups/.lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open.doing("opening the lock", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Copying { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("locking", &path, error)),
        }
    }

    /// Begins a copy of a service's data. `now` is in seconds since 1970.
    pub fn begin_copy(
        &self,
        _: &Copying,
        service: &str,
        suffix: &str,
        now: u64,
    ) -> Result<Unfinished, StoreError> {
        let time = i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_second(now).ok());
        let time = time.unwrap_or(jiff::Timestamp::MAX).strftime(TIME);
        let path = self.at("backups").join(format!("{service}-{time}.{suffix}"));
        let beside = durable::beside(&path);
        durable::remove_if_there(&beside)?;
        let file = durable::create_new(&beside, 0o600)?;
        Ok(Unfinished { beside, path, file })
    }

    /// Every copy, the oldest first.
    pub fn copies(&self) -> Result<Vec<Copy>, StoreError> {
        let directory = self.at("backups");
        let mut copies = Vec::new();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(copies),
            entries => entries.doing("listing", &directory)?,
        };
        for entry in entries {
            let entry = entry.doing("listing", &directory)?;
            let path = entry.path();
            let Some((service, made)) = entry.file_name().to_str().and_then(parse) else { continue };
            let bytes = entry.metadata().doing("looking at", &path)?.len();
            copies.push(Copy { service, made, path, bytes });
        }
        copies.sort_by(|a, b| (a.made, &a.path).cmp(&(b.made, &b.path)));
        Ok(copies)
    }

    /// Removes copies that are older than `days`, but never the last one of a service. Gives those that it removed.
    pub fn prune_copies(&self, _: &Copying, days: u32, now: u64) -> Result<Vec<Copy>, StoreError> {
        let limit = now.saturating_sub(u64::from(days) * 86_400);
        let copies = self.copies()?;
        let newer =
            |copy: &Copy| copies.iter().any(|other| other.service == copy.service && other.made > copy.made);
        let old: Vec<_> = copies.iter().filter(|copy| copy.made < limit && newer(copy)).cloned().collect();
        for copy in &old {
            durable::remove_if_there(&copy.path)?;
        }
        if !old.is_empty() {
            durable::sync_dir(&self.at("backups"))?;
        }
        Ok(old)
    }
}

/// Service and time from `SERVICE-TIME.SUFFIX`. What has another name is not ours.
fn parse(name: &str) -> Option<(String, u64)> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (service, time) = stem.rsplit_once('-')?;
    if service.is_empty() || service.starts_with('.') || suffix.is_empty() {
        return None;
    }
    let time = DateTime::strptime(TIME, time).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some((service.to_owned(), u64::try_from(time.timestamp().as_second()).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const DAY: u64 = 86_400;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        (dir, store)
    }

    fn copy(store: &Store, service: &str, now: u64) {
        let copying = store.copying().unwrap().unwrap();
        let mut copy = store.begin_copy(&copying, service, "dump", now).unwrap();
        copy.file.write_all(b"data").unwrap();
        copy.finish().unwrap();
    }

    #[test]
    fn a_copy_has_its_name_only_when_it_is_finished() {
        let (_dir, store) = store();
        let copying = store.copying().unwrap().unwrap();
        let mut given_up = store.begin_copy(&copying, "postgres", "dump", 0).unwrap();
        given_up.file.write_all(b"half").unwrap();
        assert_eq!(given_up.bytes().unwrap(), 4);
        assert_eq!(store.copies().unwrap(), []);
        drop(given_up);
        assert_eq!(fs::read_dir(store.at("backups")).unwrap().count(), 1, "the lock alone");
        assert!(store.copying().unwrap().is_none(), "one at a time");
        drop(copying);
        copy(&store, "my-postgres", 1_700_000_000);
        let copies = store.copies().unwrap();
        assert!(copies[0].path.ends_with("my-postgres-20231114T221320Z.dump"), "{copies:?}");
        assert_eq!((copies[0].service.as_str(), copies[0].made), ("my-postgres", 1_700_000_000));
    }

    #[test]
    fn old_copies_go_and_the_last_one_never_does() {
        let (_dir, store) = store();
        for day in [1, 2, 9, 10] {
            copy(&store, "postgres", day * DAY);
        }
        copy(&store, "orders", DAY);
        fs::write(store.at("backups/notes.txt"), "mine").unwrap();
        let left = |store: &Store| {
            let copies = store.copies().unwrap();
            copies.into_iter().map(|copy| (copy.service, copy.made / DAY)).collect::<Vec<_>>()
        };
        let of = |service: &str, day| (service.to_owned(), day);
        let copying = store.copying().unwrap().unwrap();
        assert_eq!(store.prune_copies(&copying, 7, 10 * DAY).unwrap().len(), 2);
        assert_eq!(left(&store), [of("orders", 1), of("postgres", 9), of("postgres", 10)]);
        assert_eq!(store.prune_copies(&copying, 7, 1000 * DAY).unwrap().len(), 1);
        assert_eq!(left(&store), [of("orders", 1), of("postgres", 10)]);
        assert!(store.at("backups/notes.txt").exists());
    }
}
