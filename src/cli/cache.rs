//! Clearing the builder's cache. All in it can be fetched or made again, so age decides: packages and results are as old
//! as their last use, and a layer that a result leads to stays with it.
//!
//! Whoever works with the cache holds a shared lock on it, so nothing goes that a build beside this needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::report::{Code, Failure};
use super::{Context, print};
use crate::bundle::Layout;
use crate::image::MAX_RESULT;

/// Directories with blobs: what was built, and images of others on their way through.
const LAYOUTS: [&str; 2] = ["layout", "images"];
/// What was begun and not touched for so long has nobody who goes on with it.
const STALE: Duration = Duration::from_hours(24);
/// What the directories are called in which images of Dockerfiles are built.
pub(super) const SCRATCH: &str = "dockerfile.";

/// What has gone, or would go.
#[derive(Default)]
struct Freed {
    packages: usize,
    results: usize,
    blobs: usize,
    parts: usize,
    bytes: u64,
}

/// Takes the lock that lets others work with the cache, but not clear it. Where that cannot be, clearing it cannot either.
pub(super) fn share(cache: &Path) -> Option<File> {
    fs::create_dir_all(cache).ok()?;
    let file = open(cache).ok()?;
    flock(&file, FlockOperation::LockShared).ok()?;
    Some(file)
}

fn open(cache: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(cache.join("lock"))
}

/// Removes what an earlier run began and nobody goes on with.
pub(super) fn tidy(cache: &Path) {
    let mut freed = Freed::default();
    // What cannot be removed is no reason not to build.
    drop(Sweep { now: SystemTime::now(), older: STALE, dry: false, freed: &mut freed }.parts(cache));
}

/// Removes what was not used for that long.
pub(super) fn clear(context: &Context<'_>, older: Duration, dry: bool) -> Result<Code, Failure> {
    let cache = context.cache_directory()?;
    let cannot = |error: io::Error| {
        Failure::new(Code::Refused, format!("the cache `{}` cannot be cleared: {error}", cache.display()))
    };
    let mut freed = Freed::default();
    if cache.is_dir() {
        let lock = open(&cache).map_err(cannot)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::new(
                Code::Busy,
                format!("somebody is using the cache `{}`", cache.display()),
            )
            .hint("wait until the build, push or lock there has ended"));
        }
        let now = SystemTime::now();
        let mut sweep = Sweep { now, older, dry, freed: &mut freed };
        sweep.packages(&cache.join("debs")).map_err(cannot)?;
        let kept = sweep.results(&cache.join("actions")).map_err(cannot)?;
        for name in LAYOUTS {
            sweep.blobs(&cache.join(name), &kept).map_err(cannot)?;
        }
        Sweep { older: older.min(STALE), ..sweep }.parts(&cache).map_err(cannot)?;
    }
    let Freed { packages, results, blobs, parts, bytes } = freed;
    let nothing = packages + results + blobs + parts == 0;
    let value = json!({
        "packages": packages, "results": results, "blobs": blobs, "partial": parts, "bytes": bytes, "dry_run": dry,
    });
    print(context, value, || {
        if nothing {
            return format!("everything in `{}` was used lately", cache.display());
        }
        let done = if dry { "nothing was removed" } else { "removed" };
        let mib = bytes.div_ceil(1 << 20);
        format!(
            "{packages} packages, {blobs} layers and documents, {results} results, {parts} begun files, {mib} MiB\n{done}"
        )
    });
    Ok(if nothing { Code::NothingToChange } else { Code::Done })
}

struct Sweep<'f> {
    now: SystemTime,
    older: Duration,
    dry: bool,
    freed: &'f mut Freed,
}

impl Sweep<'_> {
    fn is_old(&self, about: &Metadata) -> bool {
        about.modified().is_ok_and(|then| self.now.duration_since(then).is_ok_and(|age| age >= self.older))
    }

    fn remove(&mut self, path: &Path, about: &Metadata) -> io::Result<()> {
        self.freed.bytes += about.len();
        if self.dry { Ok(()) } else { fs::remove_file(path) }
    }

    /// A package goes with what was decoded from it.
    fn packages(&mut self, folder: &Path) -> io::Result<()> {
        let mut all: BTreeMap<String, Vec<(PathBuf, Metadata)>> = BTreeMap::new();
        for (name, path, about) in files(folder)? {
            let digest = name.split('.').next().unwrap_or_default();
            if digest.len() == 64 && !is_part(&name) {
                all.entry(digest.to_owned()).or_default().push((path, about));
            }
        }
        for group in all.into_values() {
            if !group.iter().all(|(_, about)| self.is_old(about)) {
                continue;
            }
            self.freed.packages += 1;
            for (path, about) in &group {
                self.remove(path, about)?;
            }
        }
        Ok(())
    }

    /// Returns the digests that the results that stay speak of.
    fn results(&mut self, folder: &Path) -> io::Result<BTreeSet<String>> {
        let mut kept = BTreeSet::new();
        for (name, path, about) in files(folder)? {
            if is_part(&name) {
                continue;
            }
            if self.is_old(&about) {
                self.freed.results += 1;
                self.remove(&path, &about)?;
            } else if about.len() <= MAX_RESULT
                && let Ok(result) = serde_json::from_slice(&fs::read(&path)?)
            {
                digests(&result, &mut kept);
            }
        }
        Ok(kept)
    }

    fn blobs(&mut self, layout: &Path, kept: &BTreeSet<String>) -> io::Result<()> {
        for (name, path, about) in files(&layout.join("blobs/sha256"))? {
            if self.is_old(&about) && !is_part(&name) && !kept.contains(&name) {
                self.freed.blobs += 1;
                self.remove(&path, &about)?;
            }
        }
        if let Ok(layout) = Layout::open(layout)
            && !self.dry
        {
            layout.forget_missing().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn parts(&mut self, cache: &Path) -> io::Result<()> {
        for entry in directories(cache)? {
            let about = fs::metadata(&entry)?;
            if self.is_old(&about) {
                self.freed.parts += 1;
                if !self.dry {
                    fs::remove_dir_all(&entry)?;
                }
            }
        }
        let blobs = LAYOUTS.map(|name| cache.join(name).join("blobs/sha256"));
        for folder in [cache.join("debs"), cache.join("actions")].iter().chain(&blobs) {
            for (name, path, about) in files(folder)? {
                if is_part(&name) && self.is_old(&about) {
                    self.freed.parts += 1;
                    self.remove(&path, &about)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a file is one that was begun: it has its name only when it is complete.
fn is_part(name: &str) -> bool {
    name.strip_suffix(".partial").is_some() || name.starts_with(".tmp")
}

/// Where the images of Dockerfiles were built by a lock that was broken off.
fn directories(cache: &Path) -> io::Result<Vec<PathBuf>> {
    let all: io::Result<Vec<_>> = fs::read_dir(cache)?.collect();
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(SCRATCH);
    Ok(all?.iter().filter(|entry| ours(entry)).map(fs::DirEntry::path).collect())
}

/// The files of a directory, which need not be there.
fn files(folder: &Path) -> io::Result<Vec<(String, PathBuf, Metadata)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        let about = entry.metadata()?;
        if let (Ok(name), true) = (entry.file_name().into_string(), about.is_file()) {
            all.push((name, entry.path(), about));
        }
    }
    Ok(all)
}

fn digests(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => into.extend(text.strip_prefix("sha256:").map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| digests(item, into)),
        Value::Object(fields) => fields.values().for_each(|value| digests(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `30d`, `12h`, `0d`: days or hours.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let hours = |count: Option<&str>, each: u64| count?.parse::<u64>().ok()?.checked_mul(each);
    let found = hours(text.strip_suffix('d'), 24).or_else(|| hours(text.strip_suffix('h'), 1));
    let seconds = found.and_then(|hours| hours.checked_mul(3600));
    seconds.map(Duration::from_secs).ok_or_else(|| "it is days or hours, such as `30d` or `12h`".to_owned())
}
